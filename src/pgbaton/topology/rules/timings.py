"""Rules about durations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.topology.model import Topology

#: Patroni's floors; below them it would silently use these (Patroni 4.0, config.py).
FLOORS: tuple[tuple[str, int], ...] = (("ttl", 20), ("loop_wait", 1), ("retry_timeout", 3))
#: Renewals of the leader lock that may be late before it expires.
HEARTBEATS = 4
#: VRRP version 3 counts in hundredths of a second.
VRRP_TICK = 0.01
#: Programs here take whole milliseconds; checks more often than this only load the machine.
SHORTEST_INTERVAL = 0.01
#: From so many VIPs on, each has a balancer of its own.
SEVERAL = 2
INTERVALS = (
    "check_interval",
    "read_check_interval",
    "check_fast_interval",
    "balancer_check_interval",
    "server_login_retry",
    "heartbeat_interval",
)
#: Timeouts of a pooler's connections to servers: one that outlasts the failover becomes the outage.
POOLER_TIMEOUTS = ("server_login_retry", "server_connect_timeout", "tcp_user_timeout")


@rule("timings")
def patroni_keeps_them(topology: Topology) -> Iterator[Objection]:
    """Patroni's durations are not below its floors."""
    for name, floor in FLOORS:
        if getattr(topology.timings, name) < floor:
            reason = f"is below Patroni's floor of {floor} seconds: it would use {floor} and say so only in its log"
            yield Objection(("timings", name), reason, f"set {floor} or more")


@rule("timings")
def lock_outlives_retries(topology: Topology) -> Iterator[Objection]:
    """The leader lock outlives a loop and two retries."""
    timings = topology.timings
    needed = timings.loop_wait + 2 * timings.retry_timeout
    if needed > timings.ttl:
        reason = (
            f"is shorter than loop_wait + 2 x retry_timeout = {needed} seconds: a primary that is only retrying "
            "would lose its lock"
        )
        yield Objection(("timings", "ttl"), reason, f"set ttl to {needed} or more, or lower the other two")


@rule("timings")
def lock_outlives_heartbeats(topology: Topology) -> Iterator[Objection]:
    """The leader lock is renewed several times in its life."""
    timings = topology.timings
    if timings.ttl < HEARTBEATS * timings.loop_wait:
        reason = f"is shorter than {HEARTBEATS} loops of {timings.loop_wait} seconds: a few late renewals cost the lock"
        fix = f"set ttl to {HEARTBEATS * timings.loop_wait} or more, or lower loop_wait"
        yield warning(("timings", "ttl"), reason, fix)


@rule("timings")
def crash_fails_over(topology: Topology) -> Iterator[Objection]:
    """A crashed primary fails over at once."""
    seconds = topology.timings.primary_start_timeout
    if seconds:
        reason = f"lets a crashed primary try to restart for {seconds} seconds before a standby takes over"
        yield warning(("timings", "primary_start_timeout"), reason, "set 0, unless restarts are quicker than failovers")


@rule("timings")
def intervals_can_be_kept(topology: Topology) -> Iterator[Objection]:
    """No interval is shorter than programs can keep."""
    for name in INTERVALS:
        seconds = getattr(topology.timings, name)
        if seconds is not None and seconds < SHORTEST_INTERVAL:
            reason = f"is shorter than {SHORTEST_INTERVAL} seconds, which no program here can keep"
            yield Objection(("timings", name), reason, f"set {SHORTEST_INTERVAL} or more; the default is a good choice")


@rule("timings")
def adverts_are_ticks(topology: Topology) -> Iterator[Objection]:
    """VRRP adverts come in whole hundredths of a second."""
    ticks = topology.timings.advert_interval / VRRP_TICK
    if abs(ticks - round(ticks)) > 1e-6:  # noqa: PLR2004 - what floats lose
        reason = "is no multiple of 0.01: VRRP version 3 counts in hundredths of a second"
        yield Objection(("timings", "advert_interval"), reason, f"set {round(ticks) * VRRP_TICK:.2f}")


@rule("timings")
def fast_checks_are_faster(topology: Topology) -> Iterator[Objection]:
    """Checks in transition are not slower than others."""
    timings = topology.timings
    usual = min(timings.check_interval, timings.read_check_interval)
    if timings.check_fast_interval > usual:
        reason = f"is longer than the usual interval of checks, {usual:g}: doubt would slow them down"
        yield Objection(("timings", "check_fast_interval"), reason, f"set {usual:g} or less")


@rule("timings")
def poolers_give_up_in_time(topology: Topology) -> Iterator[Objection]:
    """No pooler waits for a dead server longer than the failover takes."""
    timings = topology.timings
    for name in POOLER_TIMEOUTS:
        if (seconds := getattr(timings, name)) > timings.ttl:
            reason = (
                f"outlasts the outage: a failover takes about ttl = {timings.ttl}, and pools would wait {seconds:g}"
            )
            yield Objection(("timings", name), reason, "lower it; the default is a good choice")


@rule("timings")
def silence_is_noticed(topology: Topology) -> Iterator[Objection]:
    """A silent synchronous standby is dropped before the lock's life is over."""
    timings = topology.timings
    if timings.wal_sender_timeout > timings.ttl:
        reason = f"is longer than ttl, {timings.ttl}: a dead standby would stall writes longer than a dead primary"
        yield warning(("timings", "wal_sender_timeout"), reason, "set 1 to 5 seconds")


@rule("timings")
def clients_wait_out_a_failover(topology: Topology) -> Iterator[Objection]:
    """Queued clients wait longer than a failover takes."""
    timings = topology.timings
    if timings.query_wait < timings.ttl:
        reason = (
            f"is shorter than a dead host's failover (about ttl = {timings.ttl}): queued clients get errors during it"
        )
        yield warning(("timings", "query_wait"), reason, f"set more than {timings.ttl + 5}")


@rule("timings", "network")
def return_is_of_several(topology: Topology) -> Iterator[Objection]:
    """Only one of several VIPs goes back to its own balancer."""
    if "vip_return" in topology.timings.model_fields_set and len(topology.network.vips) < SEVERAL:
        reason = "has no effect: a single VIP stays where it is, since each move cuts connections"
        yield warning(("timings", "vip_return"), reason, "take it out, or add network.more_vips")


RULES: tuple[Rule, ...] = (
    patroni_keeps_them,
    lock_outlives_retries,
    lock_outlives_heartbeats,
    crash_fails_over,
    intervals_can_be_kept,
    adverts_are_ticks,
    fast_checks_are_faster,
    poolers_give_up_in_time,
    silence_is_noticed,
    clients_wait_out_a_failover,
    return_is_of_several,
)
