"""Gather what a trial leaves behind: final reads, what is still wrong, versions, the hosts' journals."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from pgbaton.errors import Error
from pgbaton.observe.findings import Level
from pgbaton.observe.judge import judge
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.proof.target import Target

#: The units whose words matter; the machines' own boot is of no interest.
UNITS = ("patroni", "etcd", "haproxy", "keepalived", "pgbouncer*", "nftables", "pgbaton-*")
LOG_SECONDS = 20.0
LOOK_INTERVAL_SECONDS = 0.3


async def versions(target: Target) -> dict[str, str]:
    """Return the versions of the programs that the cluster is made of, by package; hosts that differ are told of."""
    found: dict[str, set[str]] = {}
    for host in (await target.snapshot()).hosts:
        for package, version in (host.packages or {}).items():
            found.setdefault(package, set()).add(version)
    return {package: " and ".join(sorted(each)) for package, each in sorted(found.items())}


async def remains(target: Target, *, seconds: float = 0.0) -> tuple[str, ...] | None:
    """Return what is still wrong with the cluster, None when nobody could look.

    More than health is asked for: replay that is held back, poolers that are paused and slots that nobody uses are
    what faults leave behind. What passes by itself within ``seconds`` is none of that: a busy machine moves the VIP.
    """
    deadline = time.monotonic() + seconds
    found = await _remains(target)
    while found and time.monotonic() < deadline:
        await asyncio.sleep(LOOK_INTERVAL_SECONDS)
        found = await _remains(target)
    return found


async def _remains(target: Target) -> tuple[str, ...] | None:
    """Look once."""
    snapshot = await target.snapshot()
    if not any(host.reachable for host in snapshot.hosts):
        return None
    findings = judge(target.topology, snapshot)
    wrong = [f"{each.subject}: {each.rule} ({each.seen})" for each in findings if each.level < Level.NOTE]
    members = {host.name for host in target.topology.with_role(Role.DATABASE)}
    servers = [host.postgres for host in snapshot.hosts if host.postgres]
    timelines = {server.timeline for server in servers if server.timeline is not None}
    strays = {slot.name for server in servers for slot in server.slots} - {name.replace("-", "_") for name in members}
    if len(timelines) > 1:
        wrong.append(f"several timelines: {', '.join(map(str, sorted(timelines)))}")
    wrong.extend(f"replication slot {name} belongs to no member" for name in sorted(strays))
    return tuple(wrong)


async def logs(target: Target, *, since: float) -> Mapping[str, str]:
    """Return the hosts' journals since a wall clock time; why there is none for a host that does not answer."""
    hosts = target.hosts
    texts = await asyncio.gather(*(log(host, since) for host in hosts.values()))
    return dict(zip(hosts, texts, strict=True))


async def log(host: Host, since: float) -> str:
    """Return one host's journal."""
    units = [argument for unit in UNITS for argument in ("-u", unit)]
    options = ("-q", "--no-pager", "-o", "short-iso-precise", f"--since=@{since:.6f}")
    try:
        return (await host.run("journalctl", *options, *units, timeout=LOG_SECONDS)).stdout
    except Error as error:
        return f"no journal: {error}\n"
