"""The poolers of a lab, spoken to on their consoles, and programs of this machine where an application would run."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pgbaton.components import pgbouncer
from pgbaton.proof.target import Target
from pgbaton.state import read_json
from pgbaton.topology import placement
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs import Lab


def target_of(lab: Lab) -> Target:
    """Return a lab's cluster as the proof sees it."""
    return Target(lab.topology, lab.state, lambda _: None)


def in_network(lab: Lab, *argv: str) -> tuple[str, ...]:
    """Return the command line of a program of this machine, in the network of the lab's application machine."""
    machines = read_json(lab.state.lab_file)["hosts"]
    namespace = next(each["netns"] for each in machines if Role.APPLICATION in each["roles"])
    return ("ip", "netns", "exec", namespace, *argv)


def tell(lab: Lab, purpose: str, *commands: str) -> None:
    """Give commands to every PgBouncer for a purpose, ``write`` or ``read``, on all its hosts."""
    topology, hosts = lab.topology, lab.hosts()
    words = [word for command in commands for word in ("-c", command)]

    async def tell_all() -> None:
        consoles = [pgbouncer.console(topology, instance) for instance in pgbouncer.processes(topology, purpose)]
        places = [hosts[spec.name] for spec in placement.poolers(topology)]
        await asyncio.gather(*(host.run(*console, *words) for host in places for console in consoles))

    asyncio.run(tell_all())


@contextmanager
def pooling(lab: Lab, mode: str) -> Iterator[None]:
    """Have writes pooled by session or by transaction, as pooling.mode says it of a topology, on new connections."""
    tell(lab, "write", f"SET pool_mode = '{mode}'", "RECONNECT")
    try:
        yield
    finally:
        tell(lab, "write", f"SET pool_mode = '{lab.topology.pooling.mode}'", "RECONNECT")
