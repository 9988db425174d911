"""Certificates of made-up authorities, as files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton import pki
from pgbaton.agent.protocols.https import Identity
from pgbaton.components.base import Certificate

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Authority:
    """An authority that writes what it issues into a directory."""

    directory: Path
    issued: pki.Issued

    def identity(self, name: str, *, address: str = "127.0.0.1") -> Identity:
        """Issue a certificate for both ends of a connection."""
        wanted = Certificate(
            name, file=name, owner="me", common_name=name, addresses=(address,), server=True, client=True
        )
        new = pki.issue(self.issued, wanted, days=1)
        certificate, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        certificate.write_text(new.certificate)
        key.write_text(new.key)
        return Identity(str(self.directory / "ca.crt"), str(certificate), str(key))


def authority(directory: Path) -> Authority:
    """Make an authority that keeps its files in a directory of its own."""
    directory.mkdir()
    issued = pki.make_authority(directory.name)
    (directory / "ca.crt").write_text(issued.certificate)
    return Authority(directory, issued)
