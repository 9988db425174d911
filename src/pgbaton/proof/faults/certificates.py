"""Faults of certificates: one that is about to expire, and ones that have expired, on one host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton import pki
from pgbaton.components import patroni, pgbouncer
from pgbaton.components.base import AUTHORITY_FILE
from pgbaton.components.certificates import files_of
from pgbaton.errors import Error
from pgbaton.hosts import files
from pgbaton.observe.findings import Level
from pgbaton.observe.judge import judge
from pgbaton.operate.waiting import until
from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.faults.base import Fault, Seen, Service, primary, steady, within
from pgbaton.proof.faults.configuration import apply_as_before
from pgbaton.proof.faults.victims import entry, no_pooler_on_balancers
from pgbaton.references import secret
from pgbaton.secrets import Vault
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgbaton.components.base import Certificate, Component
    from pgbaton.observe.findings import Finding
    from pgbaton.proof.faults.base import Act, Look, Strike
    from pgbaton.topology.model import Topology

#: What clients may notice of a service that reloads, and of clients of the same service that are refused.
BLIP_SECONDS = 1.0
#: Some connections of every client that connects anew each time, and some loops of Patroni.
HOLD_SECONDS = 10.0
#: Until Patroni has its old certificate back, balancers have asked it, and clients have connected again.
RETURN_SECONDS = 10.0
#: How long a service may take to show a new certificate after it was told to reload.
SHOWN_SECONDS = 30.0
#: Days that a new certificate is good for: none, and fewer than `status` warns of with any `certificate_days`.
EXPIRED, EXPIRING = 0, 1
#: The finding that tells of either.
RULE = "certificate-expires"

# What a client that verifies is shown. Arguments: address, port, authority's file, and "postgres" for a server that has
# to be asked for TLS first (PostgreSQL docs, 53.2.11).
SHOW = """
import socket, ssl, sys, time
address, port, authority, protocol = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
with socket.create_connection((address, int(port)), timeout=5) as plain:
    if protocol == "postgres":
        plain.sendall(bytes.fromhex("0000000804d2162f"))
        plain.recv(1)
    try:
        with context.wrap_socket(plain, server_hostname=address) as secured:
            ends = ssl.cert_time_to_seconds(secured.getpeercert()["notAfter"])
            print("accepted: valid until", time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ends)))
    except ssl.SSLCertVerificationError as error:
        print("refused:", error.verify_message)
"""
REFUSED = "refused: certificate has expired"


@dataclass(frozen=True)
class Shown:
    """Where a certificate is shown: whose it is, who has to reload to show another, and how it is asked for."""

    component: Component
    units: tuple[str, ...]
    port: Callable[[Topology], int]
    protocol: str

    def certificate(self, strike: Strike) -> Certificate:
        """Return what the host's certificate is."""
        return self.component.certificates(strike.topology, strike.topology.host(strike.host))[0]


POOLER = Shown(
    pgbouncer.Pgbouncer(),
    (pgbouncer.units(""),),
    lambda topology: pgbouncer.port(topology, "write"),
    "postgres",
)
REST = Shown(patroni.Patroni(), (patroni.UNIT,), lambda topology: topology.orchestration.rest_port, "https")


def replace(shown: Shown, *, days: int) -> Act:
    """Return the act of giving a service a certificate of the same authority and names that ends after some days."""

    async def act(strike: Strike) -> None:
        certificate = shown.certificate(strike)
        issued = Vault(strike.target.state.vault_directory).issue(certificate, days=days)
        values = {f"certificate/{certificate.name}": issued.certificate, f"key/{certificate.name}": issued.key}
        await install(strike, shown, values.__getitem__)
        wanted = accepted(issued.certificate) if days else REFUSED

        async def other() -> str | None:
            said = await presented(strike, shown)
            return None if said == wanted else said

        what = f"a client that verifies is {wanted}, by {shown.component.name} on {strike.host}"
        await until(what, other, seconds=SHOWN_SECONDS, interval_seconds=0.3)

    return act


def accepted(certificate: str) -> str:
    """Return what a client says that is shown a good certificate. Pure."""
    return f"accepted: valid until {pki.expires(certificate):%Y-%m-%d %H:%M:%S}"


def put_back(shown: Shown) -> Act:
    """Return the act of giving a service the certificate back that the vault has for it."""

    async def act(strike: Strike) -> None:
        await install(strike, shown, Vault(strike.target.state.vault_directory).value)

    return act


async def install(strike: Strike, shown: Shown, value: Callable[[str], str]) -> None:
    """Write a service's certificate and key, by what their names in the vault stand for, and have it reload."""
    host, certificate = strike.on(strike.host), shown.certificate(strike)
    for file in files_of(certificate):
        content = file.shown
        for name in (f"certificate/{certificate.name}", f"key/{certificate.name}"):
            content = content.replace(secret(name), value(name))
        await files.write_file(host, file.path, content, mode=file.mode, owner=file.owner, group=file.group)
    await host.run("systemctl", "try-reload-or-restart", *shown.units)


async def presented(strike: Strike, shown: Shown) -> str:
    """Return whether a client that verifies accepts what a service shows, and until when, or why it does not."""
    address, port = str(strike.topology.host(strike.host).address), str(shown.port(strike.topology))
    argv = ("python3", "-c", SHOW, address, port, AUTHORITY_FILE, shown.protocol)
    try:
        return (await strike.on(strike.host).run(*argv)).stdout.strip()
    except Error as error:
        return f"nothing: {error.message.splitlines()[-1]}"


def looking(shown: Shown, *, refused: bool) -> Look:
    """Return the look at what clients are shown, and at what `pgbaton status` says of it."""

    async def look(strike: Strike) -> Seen:
        said = await presented(strike, shown)
        findings = judge(strike.topology, await strike.target.snapshot())
        finding = next((each for each in findings if (each.rule, each.subject) == (RULE, strike.host)), None)
        return conclude(strike.host, said, finding, refused=refused)

    return look


def conclude(host: str, said: str, finding: Finding | None, *, refused: bool) -> Seen:
    """Judge what a client was shown, and what `pgbaton status` says of a host. Pure."""
    level = Level.CRITICAL if refused else Level.WARNING
    right = said == REFUSED if refused else said.startswith("accepted")
    figures = {"client": said, "status": finding.seen if finding else "nothing"}
    doubts = () if right else (f"the certificate that was put there is not in use: {said}",)
    told = finding is not None and finding.level is level
    silence = f"pgbaton status says {figures['status']} of the certificate on {host}, not {level.name.lower()}"
    check = Check("certificate", Validity.VALID if right else Validity.UNKNOWN, doubts, figures)
    return Seen((check,), () if told else (silence,))


def looking_after(shown: Shown) -> Look:
    """Return the look at whether the certificate that the vault has is in use again."""

    async def look(strike: Strike) -> Seen:
        said = await presented(strike, shown)
        name = shown.certificate(strike).name
        wanted = accepted(Vault(strike.target.state.vault_directory).value(f"certificate/{name}"))
        return Seen(objections=() if said == wanted else (f"{strike.host} does not show its own certificate: {said}",))

    return look


FAULTS = (
    Fault(
        name="certificate-about-to-expire",
        title="Certificate about to expire",
        does="PgBouncer on the VIP's holder is given a certificate that expires tomorrow, and its units are reloaded",
        right="status warns of it, the next apply renews it, and clients notice nothing of either",
        victims=entry,
        inject=replace(POOLER, days=EXPIRING),
        heal=apply_as_before,
        look=looking(POOLER, refused=False),
        look_after=looking_after(POOLER),
        expects=steady(within(BLIP_SECONDS)),
        needs=((Role.BALANCER, 1),),
        obstacle=no_pooler_on_balancers,
        hold_seconds=HOLD_SECONDS,
        composable=False,
    ),
    Fault(
        name="pooler-certificate-expired",
        title="PgBouncer's certificate expired",
        does="PgBouncer on the VIP's holder is given a certificate that has expired, and its units are reloaded",
        right="who is connected goes on, but for a takeover where agents move the VIP for it; who connects anew and "
        "verifies is refused there, and status says why; all are served again with a certificate that is good",
        victims=entry,
        inject=replace(POOLER, days=EXPIRED),
        heal=put_back(POOLER),
        look=looking(POOLER, refused=True),
        look_after=looking_after(POOLER),
        expects=steady(within(BLIP_SECONDS)),
        needs=((Role.BALANCER, 1),),
        obstacle=no_pooler_on_balancers,
        service=Service.AFTER_HEALING,
        hold_seconds=HOLD_SECONDS,
        composable=False,
    ),
    Fault(
        name="patroni-certificate-expired",
        title="Patroni's certificate expired",
        does="Patroni on the primary is given a certificate that has expired, and its unit is reloaded",
        right="its answers are not trusted, even if writes stop for that, and status says why; nothing is lost, no "
        "other server is promoted, and writes go on with a certificate that is good",
        victims=primary,
        inject=replace(REST, days=EXPIRED),
        heal=put_back(REST),
        look=looking(REST, refused=True),
        look_after=looking_after(REST),
        expects=steady(within(HOLD_SECONDS + RETURN_SECONDS)),
        needs=((Role.DATABASE, 2),),
        service=Service.AFTER_HEALING,
        hold_seconds=HOLD_SECONDS,
        composable=False,
    ),
)
