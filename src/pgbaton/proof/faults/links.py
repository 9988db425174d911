"""Faults of links that go on working, badly: frames are lost, or late."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.lab import capabilities, links
from pgbaton.lab.capabilities import Probe
from pgbaton.lab.record import Delay, Loss
from pgbaton.proof.faults.base import Fault, Service, primary, steady, unpromised, within
from pgbaton.proof.faults.partitions import maker, mending
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Act, Obstacle, Strike
    from pgbaton.proof.target import Target

PAIR = ((Role.DATABASE, 2),)
#: Longer than a lock of the usual ttl of 20 s lives: a false failover would have had the time to happen.
BEYOND_TTL_SECONDS = 30.0
#: A frame that is lost is repeated after 0.2 s, then 0.4 and 0.8 s; four in a row happen to hardly any.
RETRANSMISSIONS_SECONDS = 3.0
#: A commit crosses the slow link four times; a new connection, at worst, a dozen.
ROUND_TRIPS_SECONDS = 1.0
EACH_WAY_MILLISECONDS = 25.0
LOSSES = Probe(
    "dropping frames at random",
    "nft 'add table bridge t; add chain bridge t c; add rule bridge t c numgen random mod 100 < 5 drop'",
    "load the kernel module: modprobe nft_numgen",
)
DELAYS = Probe(
    "sockets that carry whole frames",
    "ip link add name x0 type veth peer name y0 && python3 -c"
    " 'import socket as s; r = s.socket(s.AF_PACKET, s.SOCK_RAW, 0); r.setsockopt(263, 15, 1); r.bind((\"x0\", 3))'",
    "load the kernel module: modprobe af_packet",
)


def unless_refused(probe: Probe) -> Obstacle:
    """Return the obstacle of a kernel that refuses what a fault is made with."""

    async def obstacle(target: Target) -> str | None:
        del target
        said = await capabilities.attempt(probe)
        return None if said is None else f"this machine's kernel does not allow {probe.what} ({said})"

    return obstacle


def losing(name: str, percent: int) -> Act:
    """Return the act of having a host's link lose a share of all frames, each way."""

    async def act(strike: Strike) -> None:
        await links.impair(strike.target.state, Loss(strike.host, percent, maker(name, strike)))

    return act


def delaying(name: str, milliseconds: float) -> Act:
    """Return the act of having a host's link take longer, each way."""

    async def act(strike: Strike) -> None:
        await links.impair(strike.target.state, Delay(strike.host, milliseconds, maker(name, strike)))

    return act


FAULTS = (
    Fault(
        name="packet-loss",
        title="Primary's link loses 5 % of all frames",
        does="of the frames to and from the primary's host, 5 in 100 are dropped at random",
        right="the primary stays; commits take longer, none is lost",
        victims=primary,
        inject=losing("packet-loss", 5),
        heal=mending("packet-loss"),
        obstacle=unless_refused(LOSSES),
        expects=steady(within(RETRANSMISSIONS_SECONDS)),
        needs=PAIR,
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
    Fault(
        name="packet-loss-heavy",
        title="Primary's link loses 20 % of all frames",
        does="of the frames to and from the primary's host, 20 in 100 are dropped at random",
        right="the primary stays; clients may give up and come again, and nothing acknowledged is lost",
        victims=primary,
        inject=losing("packet-loss-heavy", 20),
        heal=mending("packet-loss-heavy"),
        obstacle=unless_refused(LOSSES),
        expects=steady(unpromised),
        needs=PAIR,
        # More than one frame in three does not make it there and back: no client is served as usual.
        service=Service.AFTER_HEALING,
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
    Fault(
        name="latency",
        title="Primary's link takes 50 ms a round trip",
        does="every frame to and from the primary's host takes 25 ms longer, by a relay in its link",
        right="the primary stays; commits take longer, none is lost",
        victims=primary,
        inject=delaying("latency", EACH_WAY_MILLISECONDS),
        heal=mending("latency"),
        obstacle=unless_refused(DELAYS),
        expects=steady(within(ROUND_TRIPS_SECONDS)),
        needs=PAIR,
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
)
