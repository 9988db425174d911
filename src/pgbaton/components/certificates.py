"""Certificates and keys: in place before the services that need them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.components.base import TLS_DIRECTORY, Certificate, File
from pgbaton.references import secret

if TYPE_CHECKING:
    from collections.abc import Iterable


def files(certificates: Iterable[Certificate]) -> tuple[File, ...]:
    """Return the authorities' certificates, and each certificate with its key, as files."""
    wanted = tuple(certificates)
    authorities = {"ca", *(certificate.authority for certificate in wanted)} if wanted else set()
    return (
        *(File(f"{TLS_DIRECTORY}/{name}.crt", secret(name)) for name in sorted(authorities)),
        *(file for certificate in wanted for file in files_of(certificate)),
    )


def files_of(certificate: Certificate) -> tuple[File, ...]:
    """Return a certificate's files: two, or one when it is a bundle."""
    public, key = secret(f"certificate/{certificate.name}"), secret(f"key/{certificate.name}")
    stem = f"{TLS_DIRECTORY}/{certificate.file}"
    private = {
        "mode": 0o600,
        "owner": certificate.owner,
        "group": certificate.owner,
        "unit": certificate.unit,
        "on_change": certificate.on_change,
    }
    if certificate.bundle:
        return (File(f"{stem}.pem", public + key, **private),)  # type: ignore[arg-type]
    return (File(f"{stem}.crt", public), File(f"{stem}.key", key, **private))  # type: ignore[arg-type]
