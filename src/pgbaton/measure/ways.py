"""The ways to the primary, and the host from which they are compared. Pure.

Applications' users may log in to PostgreSQL from balancers alone, so the clients run on one: then the same host takes
every way. It should be one that clients do not come through now, nor the primary's: what stays on a host costs less
than what crosses the network, and would flatter that way.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pgbaton.errors import UnhealthyError, UsageError
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgbaton.topology.model import Topology

DIRECT = "direct"
#: All ways by name: what stands between a client and the primary's PostgreSQL.
TITLES = {
    DIRECT: "PostgreSQL itself",
    "pooler": "PgBouncer → HAProxy → PostgreSQL",
    "balancer": "HAProxy → PgBouncer → HAProxy → PostgreSQL",
    "vip": "VIP → HAProxy → PgBouncer → HAProxy → PostgreSQL",
}
NAMES = tuple(TITLES)
USUAL = (DIRECT, "balancer", "vip")


@dataclass(frozen=True)
class Way:
    """How clients connect: the host it leads to first, its address and port.

    ``loopback`` tells that this host is the clients' own, so that a step of this way crosses no network.
    """

    name: str
    host: str
    address: str
    port: int
    loopback: bool

    @property
    def pooled(self) -> bool:
        """Tell whether poolers are on the way."""
        return self.name != DIRECT

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**asdict(self), "through": TITLES[self.name]}


@dataclass(frozen=True)
class Layout:
    """Who is primary, through which balancer it goes, who holds the VIP, where the clients are, and their ways."""

    primary: str
    balancer: str
    vip: str | None
    client: str
    ways: tuple[Way, ...]

    def way(self, name: str) -> Way:
        """Return a way by its name."""
        return next(way for way in self.ways if way.name == name)


def usual(topology: Topology) -> tuple[str, ...]:
    """Return the ways that are compared unless others are asked for."""
    return USUAL if topology.network.vip else USUAL[:-1]


@dataclass(frozen=True)
class Standing:
    """The cluster as it stands: who is primary, who holds the VIP, which hosts answer."""

    topology: Topology
    primary: str
    vip: str | None
    alive: frozenset[str]

    @property
    def balancers(self) -> list[str]:
        """Return the balancers that answer, the VIP's holder first."""
        names = [host.name for host in self.topology.with_role(Role.BALANCER) if host.name in self.alive]
        return sorted(names, key=lambda name: name != self.vip)


def layout(standing: Standing, names: Sequence[str], *, client: str | None) -> Layout:
    """Return the ways asked for, from the host asked for or from the one that flatters none.

    Raises UsageError for what the cluster does not have, UnhealthyError when a way leads nowhere at present.
    """
    if "vip" in names:
        require_vip(standing)
    if not standing.balancers:
        message = "no balancer answers: there is no way through them, and PostgreSQL lets clients in from them alone"
        raise UnhealthyError(message, hint="pgbaton status shows the whole cluster")
    if client is not None:
        require_way_out(standing.topology, client, names)
        return drawn(standing, names, client)
    possible = [drawn(standing, names, host) for host in reversed(standing.balancers)]
    return min(possible, key=lambda each: sum(way.loopback for way in each.ways))


def require_vip(standing: Standing) -> None:
    """Raise UsageError when there is no VIP, UnhealthyError when nobody holds it."""
    if standing.topology.network.vip is None:
        message = "the cluster has no VIP, so there is no way through it"
        raise UsageError(message, hint=f"leave --path vip out; there are {', '.join(usual(standing.topology))}")
    if standing.vip is None:
        message = "no balancer holds the VIP"
        raise UnhealthyError(message, hint="pgbaton status shows the whole cluster")


def require_way_out(topology: Topology, client: str, names: Sequence[str]) -> None:
    """Raise UsageError when a host may not take the way to PostgreSQL itself."""
    is_balancer = topology.has_host(client) and topology.host(client).has(Role.BALANCER)
    if DIRECT in names and not is_balancer:
        balancers = ", ".join(host.name for host in topology.with_role(Role.BALANCER))
        message = f"PostgreSQL lets applications' users in from balancers alone, and {client} is none"
        raise UsageError(message, hint=f"choose --from one of {balancers}, or name the other paths with --path")


def drawn(standing: Standing, names: Sequence[str], client: str) -> Layout:
    """Return the ways from one host: through the VIP's holder, unless that is the host itself and there is another."""
    through = min(standing.balancers, key=lambda name: name == client)
    ways = tuple(way(standing, name, through, client) for name in names)
    return Layout(standing.primary, through, standing.vip, client, ways)


def way(standing: Standing, name: str, through: str, client: str) -> Way:
    """Return one way."""
    topology = standing.topology
    host, port = {
        DIRECT: (standing.primary, topology.postgresql.port),
        "pooler": (through, topology.pooling.write_port),
        "balancer": (through, topology.balancing.write_port),
        "vip": (standing.vip or through, topology.balancing.write_port),
    }[name]
    address = topology.entry_address if name == "vip" else topology.host(host).address
    return Way(name, host, str(address), port, host == client)
