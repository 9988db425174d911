"""Which certificates are put where, what a client makes of them, and what has to be said of them."""

from __future__ import annotations

import socket
import ssl
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from pgbaton import pki
from pgbaton.components.base import Certificate
from pgbaton.errors import UnhealthyError
from pgbaton.hosts import files, process
from pgbaton.hosts.fake import FakeHost
from pgbaton.observe.findings import Finding, Level
from pgbaton.observe.snapshot import CertificateView, HostView, Snapshot
from pgbaton.proof.checkers.base import Validity
from pgbaton.proof.faults import certificates, named
from pgbaton.proof.faults.base import Service, Strike, Suite
from pgbaton.proof.faults.certificates import POOLER, REST
from pgbaton.proof.target import Roles, Target
from pgbaton.secrets import Vault
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets
from pgbaton.topology.model import Security

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pgbaton.proof.faults.certificates import Shown

TOPOLOGY = load.loads(presets.text("standard"))
ROLES = Roles("db1", "lb2", ("db2", "db3"))
GOOD = "accepted: valid until 2027-01-01 00:00:00"
HOURS_23 = timedelta(hours=23)


def struck(state: ClusterState, name: str) -> Strike:
    return Strike(Target(TOPOLOGY, state, lambda _: None), (name,), ROLES, Random(1))


@pytest.fixture
def state(tmp_path: Path) -> ClusterState:
    made = ClusterState("demo", tmp_path / "demo")
    made.create()
    wanted = [shown.certificate(struck(made, name)) for shown, name in ((POOLER, "lb2"), (REST, "db1"))]
    Vault(made.vault_directory).ensure((), wanted, days=365)
    return made


class Played:
    """A host whose service shows whatever is said, in order; the last of it again and again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, state: ClusterState, name: str, *said: str) -> None:
        self.said = list(said)
        self.host = FakeHost(name, answers={("python3",): self._show, ("sh",): "", ("systemctl",): ""})
        monkeypatch.setattr(Target, "hosts", {name: self.host})
        self.vault = Vault(state.vault_directory)
        self.strike = struck(state, name)

    def _show(self, _: str) -> str:
        return self.said.pop(0) if len(self.said) > 1 else self.said[0]

    @property
    def written(self) -> dict[str, tuple[tuple[str, ...], str]]:
        """Return what was written, by path: mode, owner and group, and the content."""
        return {argv[4]: (argv[5:], text) for argv, text in self.host.calls if argv[:3] == ("sh", "-c", files.WRITE)}


UNITS = {
    "pgbouncer": ("pgbouncer@*.service",),
    "patroni": ("patroni.service",),
}


@pytest.mark.parametrize(("shown", "name", "owner"), [(POOLER, "lb2", "pgbouncer"), (REST, "db1", "postgres")])
async def test_a_service_is_given_an_expired_certificate_of_its_own_names_and_authority(
    monkeypatch: pytest.MonkeyPatch, state: ClusterState, shown: Shown, name: str, owner: str
) -> None:
    played, stem = Played(monkeypatch, state, name, GOOD, certificates.REFUSED), shown.component.name
    await certificates.replace(shown, days=certificates.EXPIRED)(played.strike)
    (_, certificate), (access, key) = (played.written[f"/etc/pgbaton/tls/{stem}.{kind}"] for kind in ("crt", "key"))
    assert access == ("0600", owner, owner)
    assert pki.expires(certificate) <= datetime.now(UTC)
    # a day ago it was as good as the one that the vault has
    authority = played.vault.value("ca")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    assert pki.serves(certificate, shown.certificate(played.strike), authority=authority, now=yesterday)
    assert "PRIVATE KEY" in key
    assert played.host.called("systemctl") == [("systemctl", "try-reload-or-restart", *UNITS[stem])]
    assert not any("PRIVATE KEY" in word for argv, _ in played.host.calls for word in argv)


def test_a_certificate_made_for_the_occasion_is_kept_nowhere(state: ClusterState) -> None:
    vault = Vault(state.vault_directory)
    before = {name: vault.value(name) for name in vault.names}
    issued = vault.issue(POOLER.certificate(struck(state, "lb2")), days=0)
    assert issued.certificate not in before.values()
    for each in (vault, Vault(state.vault_directory)):
        assert {name: each.value(name) for name in each.names} == before


async def test_the_fault_has_struck_only_when_the_certificate_is_in_use(
    monkeypatch: pytest.MonkeyPatch, state: ClusterState
) -> None:
    played = Played(monkeypatch, state, "lb2", GOOD)
    monkeypatch.setattr(certificates, "SHOWN_SECONDS", 0.0)
    with pytest.raises(UnhealthyError, match="refused: certificate has expired, by pgbouncer on lb2; seen last: acc"):
        await certificates.replace(POOLER, days=certificates.EXPIRED)(played.strike)


async def test_the_certificate_of_the_vault_is_put_back(monkeypatch: pytest.MonkeyPatch, state: ClusterState) -> None:
    played = Played(monkeypatch, state, "lb2", GOOD)
    await certificates.put_back(POOLER)(played.strike)
    assert {path: text for path, (_, text) in played.written.items()} == {
        f"/etc/pgbaton/tls/pgbouncer.{kind}": played.vault.value(name)
        for kind, name in (("crt", "certificate/pgbouncer/lb2"), ("key", "key/pgbouncer/lb2"))
    }


async def test_a_service_that_keeps_another_certificate_afterwards_is_objected_to(
    monkeypatch: pytest.MonkeyPatch, state: ClusterState
) -> None:
    played = Played(monkeypatch, state, "lb2", GOOD, certificates.REFUSED)
    look = certificates.looking_after(POOLER)
    assert (await look(played.strike)).objections == (f"lb2 does not show its own certificate: {GOOD}",)
    assert (await look(played.strike)).objections
    played.said = [certificates.accepted(played.vault.value("certificate/pgbouncer/lb2"))]
    assert (await look(played.strike)).objections == ()


def finding(level: Level) -> Finding:
    return Finding(level, certificates.RULE, "lb2", "pgbouncer.crt has expired", "30 d", "pgbaton apply")


@pytest.mark.parametrize(
    ("said", "found", "refused", "validity", "objections"),
    [
        (certificates.REFUSED, finding(Level.CRITICAL), True, Validity.VALID, ()),
        (GOOD, finding(Level.WARNING), False, Validity.VALID, ()),
        (GOOD, finding(Level.CRITICAL), True, Validity.UNKNOWN, ()),
        ("refused: self-signed certificate", finding(Level.CRITICAL), True, Validity.UNKNOWN, ()),
        ("nothing: no answer", finding(Level.WARNING), False, Validity.UNKNOWN, ()),
        (
            certificates.REFUSED,
            None,
            True,
            Validity.VALID,
            ("pgbaton status says nothing of the certificate on lb2, not critical",),
        ),
        (
            GOOD,
            finding(Level.CRITICAL),
            False,
            Validity.VALID,
            ("pgbaton status says pgbouncer.crt has expired of the certificate on lb2, not warning",),
        ),
    ],
)
def test_what_clients_see_and_what_status_says_are_judged_apart(
    said: str, found: Finding | None, *, refused: bool, validity: Validity, objections: tuple[str, ...]
) -> None:
    seen = certificates.conclude("lb2", said, found, refused=refused)
    assert (seen.checks[0].validity, seen.objections) == (validity, objections)


@pytest.mark.parametrize(("left", "objected"), [(timedelta(0), False), (HOURS_23, True), (timedelta(days=90), True)])
async def test_what_status_says_is_what_its_own_rules_find(
    monkeypatch: pytest.MonkeyPatch, state: ClusterState, left: timedelta, *, objected: bool
) -> None:
    played = Played(monkeypatch, state, "lb2", certificates.REFUSED)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    expiring = CertificateView("/etc/pgbaton/tls/pgbouncer.crt", (now + left).isoformat())

    async def snapshot(_: Target) -> Snapshot:
        return Snapshot("demo", now.isoformat(), (HostView("lb2", reachable=True, certificates=(expiring,)),))

    monkeypatch.setattr(Target, "snapshot", snapshot)
    seen = await certificates.looking(POOLER, refused=True)(played.strike)
    assert bool(seen.objections) is objected


def test_a_certificate_that_expires_tomorrow_is_warned_of_whatever_the_lifetime_of_certificates() -> None:
    least = next(each.ge for each in Security.model_fields["certificate_days"].metadata if hasattr(each, "ge"))
    # status warns at half a certificate's life
    assert least / 2 >= certificates.EXPIRING


# What a client is shown, by a real server


@pytest.fixture
def authority() -> pki.Issued:
    return pki.make_authority("pgbaton ca")


def serve(listener: socket.socket, context: ssl.SSLContext, *, asks_first: bool) -> None:
    """Answer one client, as PgBouncer or Patroni would."""
    plain, _ = listener.accept()
    with plain, suppress(OSError):
        if asks_first:
            assert plain.recv(8) == bytes.fromhex("0000000804d2162f")
            plain.sendall(b"S")
        with context.wrap_socket(plain, server_side=True) as secured:
            secured.recv(1)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(10)
        yield made


@pytest.mark.parametrize(("shown", "mutual"), [(POOLER, False), (REST, True)])
@pytest.mark.parametrize("days", [certificates.EXPIRED, certificates.EXPIRING])
async def test_a_client_that_verifies_says_what_it_is_shown(
    tmp_path: Path, authority: pki.Issued, listener: socket.socket, shown: Shown, *, mutual: bool, days: int
) -> None:
    certificate = Certificate("here", "here", "root", "here", addresses=("127.0.0.1",), server=True)
    issued = pki.issue(authority, certificate, days=days)
    for file, text in {"ca": authority.certificate, "crt": issued.certificate, "key": issued.key}.items():
        (tmp_path / file).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    if mutual:
        context.load_verify_locations(tmp_path / "ca")
        context.verify_mode = ssl.CERT_REQUIRED
    server = Thread(target=serve, args=(listener, context), kwargs={"asks_first": shown is POOLER})
    server.start()
    address, port = listener.getsockname()
    argv = (sys.executable, "-c", certificates.SHOW, address, str(port), str(tmp_path / "ca"), shown.protocol)
    said = (await process.run(*argv)).stdout.strip()
    server.join(timeout=10)
    assert said == (certificates.accepted(issued.certificate) if days else certificates.REFUSED)


def test_certificates_are_struck_alone_and_clients_need_not_be_let_in_with_expired_ones() -> None:
    faults = named(["certificate-about-to-expire", "pooler-certificate-expired", "patroni-certificate-expired"])
    assert {(fault.composable, fault.lab, fault.suite) for fault in faults} == {(False, True, Suite.FULL)}
    assert [fault.service for fault in faults] == [Service.RETURNS, Service.AFTER_HEALING, Service.AFTER_HEALING]
    assert [fault.victims(ROLES, Random(1)) for fault in faults] == [("lb2",), ("lb2",), ("db1",)]
