"""Replication over another network in a cluster that runs: everybody knows of it first, and uses it then.

A server listens on a new address after a restart only, and an agent fences a server at the addresses that it knows. So
the apply that has servers replicate over a network finds them listening there, and all agents knowing it; the one that
takes the network away finds nobody using it. In between, ``network.use_replication_subnet`` is false.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pgbaton.deploy.gate import together
from pgbaton.errors import RefusedError
from pgbaton.topology.addresses import IPV6
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pgbaton.hosts.base import Host
    from pgbaton.topology.addresses import Address
    from pgbaton.topology.model import HostSpec, Topology


def refuse_leap(before: Topology | None, topology: Topology) -> None:
    """Raise RefusedError when servers would replicate over addresses that are new, or lose those that they use. Pure.

    It refuses the same in the other direction: whatever was applied can be taken back by a rollback.
    """
    for former, host in kept(before, topology):
        if former.replication_address == host.replication_address:
            continue
        if before is not None and before.has_replication_network:
            message = (
                f"servers replicate over {before.network.replication_subnet}, and {host.name} would lose its address "
                f"there, {former.replication_address}, before the others reach it elsewhere"
            )
            hint = "apply network.use_replication_subnet = false alone first, then this"
            raise RefusedError(message, where=host.name, hint=hint)
        if topology.has_replication_network:
            message = (
                f"servers would replicate over {topology.network.replication_subnet} at once: {host.name}'s does not "
                f"listen on {host.replication_address} yet, and no agent would fence it there"
            )
            hint = "apply with network.use_replication_subnet = false first; then take that out, and apply again"
            raise RefusedError(message, where=host.name, hint=hint)


def kept(before: Topology | None, topology: Topology) -> Iterator[tuple[HostSpec, HostSpec]]:
    """Yield the databases that a cluster had before and keeps, as they were and as they are to be."""
    for host in topology.with_role(Role.DATABASE):
        if before is not None and before.has_host(host.name) and before.host(host.name).has(Role.DATABASE):
            yield before.host(host.name), host


async def check(topology: Topology, hosts: Mapping[str, Host]) -> None:
    """Raise RefusedError when a database host does not have its replication address, on the interface for it.

    A server that is started without an address of its own listens on its others, and says so in its log alone. With
    IPv6 an interface has several addresses as a rule, and connections from another one are let in nowhere.
    """
    apart = [(host, address) for host in topology.with_role(Role.DATABASE) if (address := host.replication_address)]
    interface = topology.network.replication_interface
    found = await together(*(addresses(hosts[host.name], interface, address.version) for host, address in apart))
    missing = [
        f"{host.name}: {address} is not on interface {interface} (there: {', '.join(seen) or 'none'})"
        for (host, address), seen in zip(apart, found, strict=True)
        if str(address) not in seen
    ]
    if missing:
        message = "\n  ".join(["not every database is in the network for replication; nothing was changed:", *missing])
        hint = f"give {interface} that address, or correct replication_address or network.replication_interface"
        raise RefusedError(message, hint=hint)
    await check_sources([(hosts[host.name], address) for host, address in apart if address.version == IPV6])


async def check_sources(apart: Sequence[tuple[Host, Address]]) -> None:
    """Raise RefusedError when a host's connections to another of these addresses would not come from its own."""
    peers = [next((other for _, other in apart if other != address), address) for _, address in apart]
    found = await together(*(source(host, peer) for (host, _), peer in zip(apart, peers, strict=True)))
    wrong = [
        f"{host.name}: its connections to {peer} come from {seen}, not from {address}"
        for (host, address), peer, seen in zip(apart, peers, found, strict=True)
        if seen not in {"", str(address)}
    ]
    if wrong:
        message = "\n  ".join(["servers would not let in who replicates; nothing was changed:", *wrong])
        hint = "take that address away, or have the kernel avoid it: ip address change … preferred_lft 0; no autoconf"
        raise RefusedError(message, hint=hint)


async def addresses(host: Host, interface: str, version: int) -> tuple[str, ...]:
    """Return a host's addresses of a family on an interface; none where there is no such interface."""
    said = await host.run("ip", "-o", f"-{version}", "address", "show", "dev", interface, check=False)
    rows = (line.split() for line in said.stdout.splitlines())
    return tuple(row[3].partition("/")[0] for row in rows if row[2:3] in (["inet"], ["inet6"]))


async def source(host: Host, peer: Address) -> str:
    """Return the address from which a host's connections to another one come; empty where there is no way there."""
    said = await host.run("ip", "-o", "route", "get", str(peer), check=False)
    found = re.search(r" src (\S+)", said.stdout)
    return found[1] if found else ""
