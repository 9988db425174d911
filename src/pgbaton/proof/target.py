"""The cluster that is put to the proof: how to look at it, reach into it, and wait until it is whole."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.errors import UnhealthyError
from pgbaton.hosts.connect import connect
from pgbaton.observe.collect import collect
from pgbaton.observe.facts import Facts
from pgbaton.observe.findings import Level
from pgbaton.observe.judge import judge
from pgbaton.operate.operation import Operation
from pgbaton.operate.waiting import until
from pgbaton.secrets import Vault
from pgbaton.state import read_json
from pgbaton.topology import placement
from pgbaton.topology.model import Placement, Role

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pgbaton.hosts.base import Host
    from pgbaton.observe.findings import Finding
    from pgbaton.observe.snapshot import Snapshot
    from pgbaton.operate.waiting import Report
    from pgbaton.state import ClusterState
    from pgbaton.topology.model import Topology

#: Looking costs every host some processor time, which a small machine lacks right after a fault.
LOOK_INTERVAL_SECONDS = 0.5
#: How much of what is wrong is told.
TOLD = 3


@dataclass(frozen=True)
class Target:
    """A running cluster; its machines may come and go, so hosts are found anew each time."""

    topology: Topology
    state: ClusterState
    report: Report

    @property
    def hosts(self) -> Mapping[str, Host]:
        """Return the hosts by name, as they are now."""
        return connect(self.topology, self.state)

    @property
    def operation(self) -> Operation:
        """Return what planned operations on the cluster need."""
        return Operation(self.topology, self.hosts, self.report)

    @property
    def directory(self) -> Path:
        """Return where logs of measurements are kept, outside the cluster."""
        return self.state.directory / "proof"

    async def snapshot(self) -> Snapshot:
        """Look at all hosts at once."""
        return await collect(self.topology, self.hosts)

    async def roles(self) -> Roles:
        """Return who is primary and who holds the VIP; raises UnhealthyError unless exactly one each does."""
        return roles(self.topology, await self.snapshot())

    async def primary(self) -> str:
        """Return who is primary, whoever holds the VIP; raises UnhealthyError unless exactly one server is."""
        return only_primary(Facts(self.topology, await self.snapshot()))

    async def until_whole(self, *, seconds: float, tell: Report | None = None) -> float:
        """Wait until nothing is wrong with the cluster any more; return how long that took.

        What is waited for is told to ``tell`` at once, and again whenever it is something else. Raises UnhealthyError
        with the findings that remain. Several VIPs have the time besides that one of them takes to go home.
        """
        if len(self.topology.network.vips) > 1:
            seconds += self.topology.timings.vip_return
        told: tuple[tuple[str, str, str], ...] = ()

        async def look() -> str | None:
            nonlocal told
            wrong = [each for each in judge(self.topology, await self.snapshot()) if each.level < Level.NOTE]
            identities = tuple(each.identity for each in wrong)
            if tell is not None and wrong and identities != told:
                tell(waiting(self.topology.name, wrong, seconds))
                told = identities
            return "; ".join(f"{each.subject}: {each.rule} ({each.seen})" for each in wrong[:TOLD]) or None

        return await until("the cluster is whole", look, seconds=seconds, interval_seconds=LOOK_INTERVAL_SECONDS)

    def conninfo(self, *, reads: bool = False) -> dict[str, str | int]:
        """Return how the application connects; the password in it must not get into argv, environment or logs."""
        database = self.topology.databases[0]
        entrance = placement.entrance(self.topology)
        vault = Vault(self.state.vault_directory)
        return {
            "host": entrance.hosts,
            "port": entrance.read_port if reads else entrance.write_port,
            "dbname": database.name,
            "user": database.owner,
            "password": vault.value(f"password/user/{database.owner}"),
            "sslmode": "verify-full",
            "sslrootcert": str(self._authority(vault)),
        }

    def _authority(self, vault: Vault) -> Path:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.directory / "ca.crt"
        path.write_text(vault.value("ca"), encoding="ascii")
        return path

    def client_argv(self, module: str) -> tuple[str, ...]:
        """Return the command line of a Python program that is to run where an application would.

        In a lab that is this machine's own Python in the network namespace of the application's machine.
        """
        python = (sys.executable, "-m", module)
        if not self.state.lab_file.exists():
            return python
        machines = read_json(self.state.lab_file)["hosts"]
        namespace = next(each["netns"] for each in machines if Role.APPLICATION in each["roles"])
        return ("ip", "netns", "exec", namespace, *python)


def waiting(name: str, wrong: Sequence[Finding], seconds: float) -> str:
    """Return what a cluster that is not whole is waited for, and what to do about it, a line each. Pure."""
    lines = [f"{each.subject}: {each.rule} ({each.seen}); {each.advice}" for each in wrong[:TOLD]]
    more = [f"and {len(wrong) - TOLD} more"] if len(wrong) > TOLD else []
    return "\n".join([f"{name} is not whole; waiting for that, at most {seconds:g} s; ^C ends it", *lines, *more])


@dataclass(frozen=True)
class Roles:
    """Who has which part now; ``vip`` is the holder's name, None in a cluster without a VIP.

    Of several VIPs, ``vip`` is the holder of the first, and ``more_vips`` are the others by address, each with its own.
    ``synchronous`` are the standbys that the primary waits for, ``dcs_leader`` is etcd's leading member. Clients'
    writes go through one of ``write_pools`` now, their reads through one of ``read_pools``: hosts with a PgBouncer.
    """

    primary: str
    vip: str | None
    standbys: tuple[str, ...]
    synchronous: tuple[str, ...] = ()
    balancers: tuple[str, ...] = ()
    dcs: tuple[str, ...] = ()
    dcs_leader: str | None = None
    write_pools: tuple[str, ...] = ()
    read_pools: tuple[str, ...] = ()
    more_vips: tuple[tuple[str, str | None], ...] = ()

    @property
    def asynchronous(self) -> tuple[str, ...]:
        """Return the standbys that the primary does not wait for."""
        return tuple(name for name in self.standbys if name not in self.synchronous)

    @property
    def backups(self) -> tuple[str, ...]:
        """Return the balancers that hold no VIP."""
        return tuple(name for name in self.balancers if name not in self.holders)

    @property
    def holders(self) -> tuple[str, ...]:
        """Return the balancers that hold a VIP, that of the first one in front."""
        found = (self.vip, *(holder for _, holder in self.more_vips))
        return tuple(dict.fromkeys(holder for holder in found if holder is not None))


def only_primary(facts: Facts) -> str:
    """Return the one server that is primary; raises UnhealthyError when there is none, or another."""
    if len(facts.primaries) != 1:
        message = f"primaries: {', '.join(facts.primaries) or 'none'}"
        raise UnhealthyError(message, hint="pgbaton status shows the whole cluster")
    return facts.primaries[0]


def roles(topology: Topology, snapshot: Snapshot) -> Roles:
    """Read the roles from a snapshot; raises UnhealthyError without one primary, and for a VIP held twice. Pure."""
    facts = Facts(topology, snapshot)
    primary = only_primary(facts)
    for address, names in facts.holders.items():
        if len(names) > 1:
            message = f"holders of the VIP {address}: {', '.join(names)}"
            raise UnhealthyError(message, hint="pgbaton status shows the whole cluster")
    held = [(address, next(iter(names), None)) for address, names in facts.holders.items()]
    members = {spec.name: view.etcd for spec, view in facts.reached(Role.DCS) if view.etcd}
    standbys = tuple(name for name, server in facts.servers.items() if server.role == "standby")
    vip, more = (held[0][1] if held else None), tuple(held[1:])
    entries = facts.entries if topology.network.vips else ()
    write_pools, read_pools = pools(topology, primary, standbys, entries)
    return Roles(
        primary=primary,
        vip=vip,
        standbys=standbys,
        synchronous=facts.confirming,
        balancers=tuple(spec.name for spec in topology.with_role(Role.BALANCER)),
        dcs=tuple(members),
        dcs_leader=next((name for name, member in members.items() if member.is_leader), None),
        write_pools=write_pools,
        read_pools=read_pools,
        more_vips=more,
    )


def pools(
    topology: Topology, primary: str, standbys: tuple[str, ...], entries: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the hosts with a PgBouncer that clients' writes go through now, and those of their reads. Pure.

    ``entries`` are the holders of VIPs; without one, clients come through the first balancer that answers.
    """
    names = tuple(host.name for host in placement.poolers(topology))
    match topology.pooling.placement:
        case Placement.BALANCER:
            entry = entries or names[:1]
            return entry, entry
        case Placement.DATABASE:
            return (primary,), standbys or (primary,)
        case _:
            return names, names
