"""Collect a snapshot: one round trip to every host, all at the same time."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any

from pgbaton.components import agent, foreign, haproxy, keepalived, pgbouncer
from pgbaton.components.catalogue import COMPONENTS
from pgbaton.errors import Error, UnhealthyError
from pgbaton.observe import clients, readings
from pgbaton.observe.snapshot import HostView, Snapshot
from pgbaton.observe.words import reason
from pgbaton.topology.model import HostSpec, Role, Topology

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.observe.clients import Connected

#: Every part of a host is given this share of the whole deadline; the rest is for the way there and back.
PART_SHARE = 0.6
#: The share of a part's deadline that an agent is given to catch up when it overslept.
CATCH_UP_SHARE = 0.3

#: What a host of a role is asked for, besides its units, certificates and packages.
PARTS: Mapping[Role, tuple[str, ...]] = {
    Role.BALANCER: ("addresses",),
    Role.DATABASE: ("postgres", "patroni", "disk"),
    Role.DCS: ("etcd",),
}
PACKAGES: Mapping[Role, tuple[str, ...]] = {
    Role.BALANCER: ("keepalived",),
    Role.DATABASE: ("patroni",),
    Role.DCS: ("etcd-server",),
}


async def collect(topology: Topology, hosts: Mapping[str, Host], *, timeout: float = 5) -> Snapshot:
    """Return a snapshot of the cluster; a host that does not answer within ``timeout`` seconds is unreachable in it."""
    taken_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    views = await asyncio.gather(*(look(topology, spec, hosts[spec.name], timeout=timeout) for spec in topology.hosts))
    return Snapshot(topology.name, taken_at, tuple(views))


async def agent_figures(topology: Topology, spec: HostSpec, host: Host, *, timeout: float = 5) -> str:
    """Return the figures of a host's agent in Prometheus' text form; raises UnhealthyError when it tells none."""
    deadline = timeout * PART_SHARE
    where = {"address": str(spec.address), **agent_request(topology, spec, deadline=deadline)}
    asked = {"parts": ["agent"], "pools": {}, "deadline": deadline, **where}
    result = await host.run("python3", "-I", "-S", "-", input=script(asked), timeout=timeout)
    reply = json.loads(result.stdout)["parts"]["agent"]
    if "error" in reply:
        raise UnhealthyError(reply["error"], where=spec.name)
    figures: str = reply["answer"]["metrics"]
    return figures


async def connected(topology: Topology, hosts: Mapping[str, Host], *, timeout: float = 5) -> Connected:
    """Return who is connected, as every balancer's HAProxy and PgBouncer tell; a host that does not is named in it."""
    specs = [spec for spec in topology.hosts if clients_parts(spec) or pgbouncer.Pgbouncer().runs_on(topology, spec)]
    told = await asyncio.gather(*(clients_of(topology, spec, hosts[spec.name], timeout=timeout) for spec in specs))
    return clients.join({spec.name: each for spec, each in zip(specs, told, strict=True)})


def clients_parts(spec: HostSpec) -> tuple[str, ...]:
    """Return what a host is asked for, to know whose connections come through its HAProxy."""
    return ("sessions",) if spec.has(Role.BALANCER) else ()


async def clients_of(topology: Topology, spec: HostSpec, host: Host, *, timeout: float) -> clients.Told:
    """Return what one host tells of connections."""
    asked = request(topology, spec, deadline=timeout * PART_SHARE)
    asked["parts"] = [*clients_parts(spec), "pooled"]
    try:
        result = await host.run("python3", "-I", "-S", "-", input=script(asked), timeout=timeout)
        parts: dict[str, dict[str, Any]] = json.loads(result.stdout)["parts"]
    except (Error, ValueError) as error:
        return clients.Told(problems=(reason(error) if isinstance(error, Error) else f"no JSON: {error}",))
    return clients.read(parts)


def wanted_units(topology: Topology) -> dict[str, tuple[str, ...]]:
    """Return the units that every host should have running, by host."""
    return {spec.name: host_units(topology, spec) for spec in topology.hosts}


def host_units(topology: Topology, spec: HostSpec) -> tuple[str, ...]:
    """Return the units that one host should have running."""
    placed = (component for component in COMPONENTS if component.runs_on(topology, spec))
    units = (unit for component in placed for unit in component.units(topology, spec))
    return tuple(unit.name for unit in units if not unit.masked)


async def look(topology: Topology, spec: HostSpec, host: Host, *, timeout: float) -> HostView:
    """Return one host's view."""
    program = script(request(topology, spec, deadline=timeout * PART_SHARE))
    before = time.time()
    try:
        result = await host.run("python3", "-I", "-S", "-", input=program, timeout=timeout)
        answer = json.loads(result.stdout)
    except (Error, ValueError) as error:
        why = reason(error) if isinstance(error, Error) else f"the probe's answer is no JSON: {error}"
        return HostView(spec.name, reachable=False, reason=why)
    offset = clock_offset(before, time.time(), answer["started"], answer["ended"])
    vips = tuple(map(str, topology.network.vips))
    vip, more = next(iter(vips), None), vips[1:]
    twins = tuple(str(twin.ip) for twin in topology.network.twin_vips)
    return readings.host_view(spec.name, answer, vip=vip, more_vips=more, twin_vips=twins, clock_offset_seconds=offset)


def request(topology: Topology, spec: HostSpec, *, deadline: float) -> dict[str, Any]:
    """Return what a host is asked: the parts that its roles have, and where to find them."""
    units = host_units(topology, spec)
    instances = pgbouncer.instances(topology) if pgbouncer.Pgbouncer().runs_on(topology, spec) else ()
    proxied = ("haproxy",) if haproxy.Haproxy().runs_on(topology, spec) else ()
    parts = [
        "certificates",
        *(["units"] if units else []),
        *proxied,
        *(part for role in spec.roles for part in PARTS.get(role, ()) if is_there(topology, part)),
        *agent_parts(topology, spec),
        *(("foreign_etcd",) if asks_foreign_etcd(topology, spec) else ()),
    ]
    placed = (name for role in spec.roles for name in PACKAGES.get(role, ()) if is_there(topology, name))
    packages = [*proxied, *placed]
    if spec.has(Role.DATABASE):
        packages.append(f"postgresql-{topology.postgresql.version}")
    if instances:
        packages.append("pgbouncer")
    return {
        "parts": [*parts, *(["packages"] if packages else [])],
        "packages": packages,
        "units": units,
        "deadline": deadline,
        "address": str(spec.address),
        "interface": topology.network.interface,
        "haproxy_socket": haproxy.SOCKET,
        "pools": {instance: pgbouncer.port(topology, instance) for instance in instances},
        "postgres_port": topology.postgresql.port,
        "rest_port": topology.orchestration.rest_port,
        "etcd_port": topology.orchestration.etcd_client_port,
        **({"foreign_etcd": (*foreign.RUN, "health")} if asks_foreign_etcd(topology, spec) else {}),
        "directories": (topology.data_directory, *topology.directories),
        **agent_request(topology, spec, deadline=deadline),
    }


def is_there(topology: Topology, part: str) -> bool:
    """Tell whether a cluster has a part, or a package, of its hosts' roles: without Patroni there is none to ask."""
    return not (topology.is_manual and part == "patroni")


def asks_foreign_etcd(topology: Topology, spec: HostSpec) -> bool:
    """Tell whether a host can say how an etcd is that is on none of the hosts."""
    return topology.foreign_etcd is not None and spec.has(Role.DATABASE)


def agent_parts(topology: Topology, spec: HostSpec) -> tuple[str, ...]:
    """Return what a host with an agent is asked for besides: the agent, its fences, and what it tells Keepalived."""
    if not agent.Agent().runs_on(topology, spec):
        return ()
    fences = ("fences",) if agent.may_fence(topology) else ()
    return ("agent", *fences, *(("tracked",) if keepalived.Keepalived().runs_on(topology, spec) else ()))


def agent_request(topology: Topology, spec: HostSpec, *, deadline: float) -> dict[str, Any]:
    """Return where to find a host's agent and its files; nothing for a host without one."""
    if not agent.Agent().runs_on(topology, spec):
        return {}
    timings = topology.timings
    catch_up = min(timings.detection_time + 2 * timings.heartbeat_seconds, deadline * CATCH_UP_SHARE)
    where = {"port": topology.orchestration.health_port, "tracked_file": keepalived.AGENT_FILE}
    return {"agent": {**where, "catch_up_seconds": catch_up}}


def script(asked: Mapping[str, Any]) -> str:
    """Return the program for a host, with the call that answers this request as its last line."""
    program = resources.files("pgbaton.observe").joinpath("host_probe.py").read_text(encoding="utf-8")
    return f"{program}\nmain({json.dumps(asked)!r})\n"


def clock_offset(before: float, after: float, started: float, ended: float) -> float:
    """Return the smallest offset of a host's clock that explains its readings, 0 when there need be none.

    The host read its clock twice between ``before`` and ``after`` of ours, so its offset lies between
    ``ended - after`` and ``started - before``.
    """
    return max(ended - after, min(started - before, 0.0))
