"""A picture of the cluster in text: who stands where, and who has which part now. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology import placement
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgbaton.proof.target import Roles
    from pgbaton.topology.model import HostSpec, Topology

#: What runs on a host of a role behind the proxies and pools, in the order in which a client meets it.
PARTS: tuple[tuple[Role, str], ...] = (
    (Role.DATABASE, "PostgreSQL"),
    (Role.DATABASE, "Patroni"),
    (Role.DCS, "etcd"),
)
GAP = "  "


def draw(topology: Topology, roles: Roles) -> str:
    """Return the picture, from the application down to the standbys."""
    ports = topology.balancing
    addresses = " ".join(map(str, topology.entry_addresses))
    entry = f"{addresses}  writes :{ports.write_port}  reads :{ports.read_port}"
    balancers = topology.with_role(Role.BALANCER)
    pools = [host for host in topology.with_role(Role.POOLER) if host not in balancers]
    before = (*balancers, *pools)
    databases = [host for host in topology.with_role(Role.DATABASE) if host not in before]
    others = [host for host in topology.with_role(Role.DCS) if host not in before and host not in databases]
    rows = [[("application", [*_names(topology.with_role(Role.APPLICATION))])]]
    rows.append([("VIP" if topology.network.vip else "entry", [entry])])
    rows += [
        [_described(topology, host, roles) for host in group]
        for group in (balancers, pools, databases, others)
        if group
    ]
    drawn = [_row(row) for row in rows]
    width = max(len(line) for row in drawn for line in row)
    blocks = ["\n".join(line.center(width).rstrip() for line in row) for row in drawn]
    return f"\n{'▼'.center(width).rstrip()}\n".join(blocks)


def _names(hosts: Sequence[HostSpec]) -> list[str]:
    return [f"{host.name}  {host.address}" for host in hosts] or ["outside the cluster"]


def _described(topology: Topology, host: HostSpec, roles: Roles) -> tuple[str, list[str]]:
    """Return a box for a host: its name with its part, its address, its programs."""
    parts = [
        *(["VIP"] if host.name in roles.holders else []),
        *(["primary"] if host.name == roles.primary else []),
        *(["standby"] if host.name in roles.standbys else []),
    ]
    runs = [
        *(["HAProxy"] if host in placement.proxies(topology) else []),
        *(["PgBouncer"] if host in placement.poolers(topology) else []),
        *(text for role, text in PARTS if host.has(role)),
    ]
    title = f"{host.name} ● {', '.join(parts)}" if parts else host.name
    return title, [str(host.address), *runs]


def _row(boxes: Sequence[tuple[str, list[str]]]) -> list[str]:
    """Return boxes side by side, as lines."""
    height = max(len(lines) for _, lines in boxes)
    drawn = [_box(title, [*lines, *[""] * (height - len(lines))]) for title, lines in boxes]
    return [GAP.join(parts) for parts in zip(*drawn, strict=True)]


def _box(title: str, lines: Sequence[str]) -> list[str]:
    width = max(len(title) + 2, *(len(line) for line in lines))
    top = f"┌─ {title} {'─' * (width - len(title) - 1)}┐"
    return [top, *(f"│ {line.ljust(width)} │" for line in lines), f"└{'─' * (width + 2)}┘"]
