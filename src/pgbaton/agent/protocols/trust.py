"""Certificates and keys that are read again when their files change; nobody has to restart the agent for them.

Files that cannot be read stop nobody: at the start, TLS that nobody accepts takes their place, so that hosts are heard
and fences stand all the same; later, what was read before stays in use.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, NoReturn

from pgbaton.agent import settings_file
from pgbaton.agent.protocols import https
from pgbaton.agent.protocols.https import Identity
from pgbaton.agent.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from pgbaton.agent.complaints import Complaints
    from pgbaton.agent.settings import Secrets, Settings, Tls

LOG = logging.getLogger(__name__)
#: Between two looks at the files: usually, and while one of them cannot be read.
LOOK_SECONDS = 60.0
MISSING_SECONDS = 5.0


class Kept:
    """Something made from files, made again when one of them has changed."""

    def __init__(self, name: str, files: Iterable[Path], take: Callable[[], None]) -> None:
        self.name = name
        self._files = tuple(files)
        self._take = take
        self._taken: tuple[tuple[int, int, int], ...] | None = None

    def look(self) -> bool:
        """Take the files when they are others than before, and tell whether they were; raises OSError, SettingsError.

        A file whose time changes while it is read is taken once more with the next look.
        """
        found = tuple(mark(file) for file in self._files)
        if found == self._taken:
            return False
        self._take()
        self._taken = found
        return True


class Trust:
    """TLS for all that the agent talks to; each change is handed on to those who use it.

    ``on_hosts`` gets TLS for a client, for a server, and for a client that shows no certificate.
    """

    def __init__(
        self,
        settings: Settings,
        complaints: Complaints,
        *,
        secrets: Path | None,
        on_hosts: Callable[[ssl.SSLContext, ssl.SSLContext, ssl.SSLContext], None],
        on_etcd: Callable[[ssl.SSLContext], None],
        on_secrets: Callable[[Secrets], None],
    ) -> None:
        self._complaints = complaints
        tls = settings.tls
        hosts = (tls.authority, tls.certificate, tls.key)
        ours = Identity(*map(str, hosts))
        self._kept = [
            Kept(
                "certificates",
                hosts,
                lambda: on_hosts(
                    https.client_context(ours),
                    https.server_context(ours, ssl.CERT_OPTIONAL),
                    https.bare_client_context(ours.authority),
                ),
            ),
            *kept_of_etcd(tls, on_etcd),
        ]
        if secrets is not None:
            self._kept.append(Kept("secrets", (secrets,), lambda: on_secrets(settings_file.load_secrets(secrets))))

    def look(self) -> bool:
        """Take what has changed; tell whether all of it could be read."""
        looked = [self._looked(each) for each in self._kept]
        return all(looked)

    def _looked(self, kept: Kept) -> bool:
        try:
            changed = kept.look()
        except (OSError, SettingsError) as error:
            # ssl.SSLError is an OSError, and names no file.
            self._complaints.about(kept.name, f"cannot be used, those of before stay in use: {error}")
            return False
        self._complaints.over(kept.name)
        if changed:
            LOG.info("%s: read", kept.name)
        return True

    async def run(self) -> NoReturn:
        """Look every so often, until cancelled."""
        while True:
            is_whole = self.look()
            await asyncio.sleep(LOOK_SECONDS if is_whole else MISSING_SECONDS)


def kept_of_etcd(tls: Tls, on_etcd: Callable[[ssl.SSLContext], None]) -> Iterator[Kept]:
    """Yield what is made of the files for etcd: nothing without TLS, and not all of them where it asks for nobody's."""
    name = "etcd's certificates"
    if tls.etcd_authority is None:
        return
    authority, pair = tls.etcd_authority, (tls.etcd_certificate, tls.etcd_key)
    if pair[0] is None or pair[1] is None:
        yield Kept(name, (authority,), lambda: on_etcd(https.bare_client_context(str(authority))))
        return
    theirs = Identity(str(authority), str(pair[0]), str(pair[1]))
    yield Kept(name, (authority, pair[0], pair[1]), lambda: on_etcd(https.client_context(theirs)))


def mark(file: Path) -> tuple[int, int, int]:
    """Return what tells a file from the one that was there before; raises OSError."""
    seen = file.stat()
    return seen.st_ino, seen.st_mtime_ns, seen.st_size


def nobody(protocol: int) -> ssl.SSLContext:
    """Return TLS that trusts nobody, and whom nobody trusts."""
    return ssl.SSLContext(protocol)
