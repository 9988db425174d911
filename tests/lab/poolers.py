"""The poolers of a lab, spoken to on their consoles, and programs of this machine where an application would run."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pgbaton.components import pgbouncer
from pgbaton.proof.target import Target
from pgbaton.state import read_json
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


def tell(lab: Lab, instance: str, *commands: str) -> None:
    """Give commands to an instance of PgBouncer, ``write`` or ``read``, on every balancer."""
    console = pgbouncer.console(lab.topology, instance)
    words = [word for command in commands for word in ("-c", command)]
    hosts = lab.hosts()

    async def all_of_them() -> None:
        balancers = lab.topology.with_role(Role.BALANCER)
        await asyncio.gather(*(hosts[spec.name].run(*console, *words) for spec in balancers))

    asyncio.run(all_of_them())


@contextmanager
def pooling(lab: Lab, mode: str) -> Iterator[None]:
    """Have writes pooled by session or by transaction, as pooling.mode says it of a topology, on new connections."""
    tell(lab, "write", f"SET pool_mode = '{mode}'", "RECONNECT")
    try:
        yield
    finally:
        tell(lab, "write", f"SET pool_mode = '{lab.topology.pooling.mode}'", "RECONNECT")
