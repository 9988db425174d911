"""Generated passwords and certificates, and the only code that puts them in the place of their references."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets as randomness
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from pgbaton import pki, references
from pgbaton.errors import UsageError
from pgbaton.state import read_json, write_private

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pgbaton.components.base import Certificate

#: Iterations of SCRAM-SHA-256, PostgreSQL's default.
SCRAM_ITERATIONS = 4096

#: Bytes of a key that hosts share.
SHARED_KEY_BYTES = 32

#: What the names of the authorities' keys begin with.
HIDDEN = "authority-key/"
#: What the names of applications' passwords begin with.
USERS = "password/user/"


class Vault:
    """The secrets of one cluster, kept in a directory that only its owner can read.

    Names: ``ca`` and the like (an authority's certificate), ``password/NAME``, ``certificate/NAME`` and ``key/NAME``,
    which is a certificate's or one that several hosts share.
    The authorities' own keys never leave the directory, and are not to be had by name.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def file(self) -> Path:
        """Return where the secrets are kept."""
        return self.directory / "vault.json"

    @cached_property
    def _values(self) -> dict[str, str]:
        return dict(read_json(self.file)) if self.file.exists() else {}

    def ensure(
        self,
        passwords: Iterable[str],
        certificates: Iterable[Certificate],
        *,
        shared_keys: Iterable[str] = (),
        days: int,
        save: bool = True,
    ) -> tuple[str, ...]:
        """Generate what is missing, renew what expires soon or names the wrong addresses; return what changed.

        Without ``save`` the new secrets live only as long as this object: for plans, which change nothing.
        """
        certificates = tuple(certificates)
        changed = [name for name in {"ca": 0} | {c.authority: 0 for c in certificates} if self._ensure_authority(name)]
        random = {f"password/{name}": randomness.token_urlsafe(24) for name in passwords}
        random |= {f"key/{name}": randomness.token_hex(SHARED_KEY_BYTES) for name in shared_keys}
        for name, value in random.items():
            if name not in self._values:
                self._values[name] = value
                changed.append(name)
        for certificate in certificates:
            if self._must_issue(certificate):
                self._issue(certificate, days)
                changed.append(f"certificate/{certificate.name}")
        if changed and save:
            self._save()
        return tuple(changed)

    def adopt(self, values: Mapping[str, str], *, save: bool = True) -> tuple[str, ...]:
        """Take in secrets that others made, in the place of earlier ones; return the names of those that are new.

        Without ``save`` they live only as long as this object.
        """
        changed = tuple(name for name, value in values.items() if self._values.get(name) != value)
        self._values.update(values)
        if changed and save:
            self._save()
        return changed

    def holds(self, name: str) -> bool:
        """Tell whether there is a secret of a name that may be shown."""
        return not name.startswith(HIDDEN) and name in self._values

    def renew(self, name: str) -> None:
        """Generate another value for a user's password, and keep it; raises UsageError for anything else."""
        self.value(name)
        if not name.startswith(USERS):
            message = f"{name} is not the password of a user of the topology"
            raise UsageError(message, hint=f"only {USERS}NAME can be renewed alone: the services' own need each other")
        self._values[name] = randomness.token_urlsafe(24)
        self._save()

    def _ensure_authority(self, name: str) -> bool:
        if name in self._values:
            return False
        issued = pki.make_authority(f"pgbaton {name}")
        self._values |= {name: issued.certificate, f"{HIDDEN}{name}": issued.key}
        return True

    def _must_issue(self, certificate: Certificate) -> bool:
        current = self._values.get(f"certificate/{certificate.name}")
        authority = self._values[certificate.authority]
        return current is None or not pki.serves(current, certificate, authority=authority, now=datetime.now(UTC))

    def issue(self, certificate: Certificate, *, days: int) -> pki.Issued:
        """Return a new certificate with a key of its own, signed by its authority; neither is kept."""
        name = certificate.authority
        authority = pki.Issued(self._values[name], self._values[f"{HIDDEN}{name}"])
        return pki.issue(authority, certificate, days=days)

    def _issue(self, certificate: Certificate, days: int) -> None:
        issued = self.issue(certificate, days=days)
        self._values[f"certificate/{certificate.name}"] = issued.certificate
        self._values[f"key/{certificate.name}"] = issued.key

    def _save(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self.file, json.dumps(self._values, indent=1, sort_keys=True) + "\n")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all secrets that may be shown."""
        return tuple(sorted(name for name in self._values if not name.startswith(HIDDEN)))

    def value(self, name: str) -> str:
        """Return a secret by name; raises UsageError when there is none of that name."""
        if name.startswith(HIDDEN) or name not in self._values:
            message = f"no secret named {name}"
            if self._values:
                raise UsageError(message, hint=f"known: {', '.join(self.names)}")
            message += ": the cluster's vault is not there"
            hint = "restore the state directory from a backup; pgbaton apply makes one for a new cluster"
            raise UsageError(message, where=str(self.file), hint=hint)
        return self._values[name]

    def resolve(self, text: str) -> str:
        """Put every secret in the place of its reference."""
        return references.REFERENCE.sub(lambda found: self.value(found[1]), text)

    def redact(self, text: str) -> str:
        """Put references back in the place of every secret the vault knows."""
        for name, value in sorted(self._values.items(), key=lambda item: -len(item[1])):
            text = text.replace(value, references.secret(name))
        return text

    @property
    def sensitive_values(self) -> dict[str, str]:
        """Return by name what must never be seen: passwords and keys, the authority's own key among them."""
        return {name: value for name, value in self._values.items() if name.startswith(("password/", "key/", HIDDEN))}


@dataclass(frozen=True)
class ScramVerifier:
    """A password as PostgreSQL stores it (RFC 5803); the password cannot be read back from it."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes

    def __str__(self) -> str:
        """Return the form that ``CREATE ROLE … PASSWORD`` takes."""
        salt, stored, server = (
            base64.b64encode(part).decode() for part in (self.salt, self.stored_key, self.server_key)
        )
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored}:{server}"


def scram_verifier(password: str, *, salt: bytes | None = None, iterations: int = SCRAM_ITERATIONS) -> ScramVerifier:
    """Return the verifier of an ASCII password (RFC 5802)."""
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return ScramVerifier(salt, iterations, hashlib.sha256(client_key).digest(), server_key)


def scram_matches(verifier: str, password: str) -> bool:
    """Tell whether a stored verifier is one of this password."""
    try:
        _, head, _ = verifier.split("$")
        iterations, salt = head.split(":")
        expected = scram_verifier(password, salt=base64.b64decode(salt), iterations=int(iterations))
    except ValueError:
        return False
    return hmac.compare_digest(verifier, str(expected))
