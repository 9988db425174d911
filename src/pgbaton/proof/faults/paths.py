"""Faults of the clients' way through a balancer on which every service runs, and answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.components import agent
from pgbaton.observe.host_probe import NFT
from pgbaton.proof.faults.agents import FORGOTTEN, any_of, table
from pgbaton.proof.faults.base import Expectation, Fault, steady, unpromised, vip_holder
from pgbaton.proof.faults.expectations import no_longer_than
from pgbaton.proof.faults.victims import no_pooler_on_balancers, no_vip
from pgbaton.proof.parts import BALANCER_PARTS
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Strike
    from pgbaton.topology.model import Topology

NAME = "pooler-cut-off"
PAIR = ((Role.BALANCER, 2),)
#: An agent holds the path to be broken after so many logins in a row, the last of which takes its whole deadline.
BROKEN_SECONDS = agent.FAILURES * agent.PATH_SECONDS + agent.DEADLINE_SECONDS
#: Another balancer's path has to be whole for so long meanwhile, and the agent looks so often whether it was.
APART_SECONDS = 2.0
TURN_SECONDS = 1.0
NOTICED_SECONDS = BROKEN_SECONDS + APART_SECONDS + TURN_SECONDS
#: Longer than all of that: a VIP that comes back to a balancer that leads nowhere is to be seen.
HOLD_SECONDS = 15.0

# Before the firewall's rules, which let in whatever comes over loopback.
CUT = (
    FORGOTTEN
    + """
table inet {table} {{
  chain input {{
    type filter hook input priority filter - 10; policy accept;
    iif lo tcp dport {port} reject with tcp reset
  }}
}}
"""
)


def rules(topology: Topology) -> str:
    """Return the rules that keep a host's poolers from HAProxy's listener for the primary. Pure."""
    return CUT.format(table=table(NAME), port=topology.balancing.primary_port)


async def cut_off(strike: Strike) -> None:
    """Keep the pooler from the primary; the connections that it has end as well."""
    await strike.on(strike.host).run(NFT, "-f", "-", input=rules(strike.topology))


async def let_through(strike: Strike) -> None:
    """Let the pooler reach the primary again."""
    await strike.on(strike.host).run(NFT, "-f", "-", input=FORGOTTEN.format(table=table(NAME)))


def moved(strike: Strike) -> Expectation:
    """Expect agents to see it, and a takeover as of a HAProxy that has ended; without agents nobody looks that far."""
    if not strike.topology.has_agents:
        return unpromised(strike)
    return no_longer_than("haproxy-killed", BALANCER_PARTS, extra_seconds=NOTICED_SECONDS)(strike)


FAULTS = (
    Fault(
        name=NAME,
        title="Pooler cut off from the primary",
        does="on the VIP's holder, connections to HAProxy's loopback listener for the primary are reset: PgBouncer "
        "runs and reaches nobody",
        right="the VIP moves to a balancer whose pooler reaches the primary",
        victims=vip_holder,
        inject=cut_off,
        heal=let_through,
        expects=steady(moved),
        needs=PAIR,
        obstacle=any_of(no_vip, no_pooler_on_balancers),
        hold_seconds=HOLD_SECONDS,
    ),
)
