"""What each kind of failure costs, computed from a topology's timings. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology import assisted, by_hand, placement
from pgbaton.topology.durations import (
    LOGIN,
    PROCESS_DEATH,
    PROMOTE,
    RACE,
    REFUSED_RETRY,
    RESTART,
    RETRANSMISSION,
    SHUTDOWN,
    SYN_RETRANSMISSION,
    Durations,
)
from pgbaton.topology.model import Placement, ReadPolicy, ReplicationMode, Role
from pgbaton.topology.prediction import NONE, UNTIL_REPAIRED, Part, Prediction, Range, total

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgbaton.topology.model import Topology


#: A primary and one standby that take reads: no other standby could take them.
PAIR = 2


def budget(topology: Topology) -> tuple[Prediction, ...]:
    """Return the predicted outage of writes and reads for each kind of failure."""
    with_agents = assisted.predictions(Durations(topology))
    return tuple(with_agents.get(made.fault, made) for made in stock(topology))


def stock(topology: Topology) -> tuple[Prediction, ...]:
    """Return what the parts alone are predicted to cost, as when none of the agents runs."""
    sizes = Durations(topology)
    made = [predict(sizes) for predict in PREDICTIONS if predict is not _pgbouncer_killed or sizes.is_pooled]
    if topology.foreign_etcd:
        # Whether its leader is lost with the primary's host is not for this file to say.
        return tuple(each for each in made if each.fault != "primary-power-off-with-etcd-leader")
    if not topology.is_manual:
        return tuple(made)
    own = by_hand.predictions(sizes)
    return tuple(own.get(each.fault, each) for each in made if each.fault not in by_hand.ELSEWHERE)


def prediction(topology: Topology, fault: str) -> Prediction:
    """Return one fault's prediction; raises KeyError for an unknown fault."""
    return {made.fault: made for made in budget(topology)}[fault]


def without_agents(topology: Topology, fault: str) -> Prediction:
    """Return one fault's prediction when none of the agents runs; raises KeyError for an unknown fault."""
    return {made.fault: made for made in stock(topology)}[fault]


def _new_primary(sizes: Durations, *parts: Part) -> tuple[Part, ...]:
    """Return the parts of an outage that ends with a new primary."""
    return (
        *parts,
        Part("promotion", PROMOTE, "PostgreSQL leaves recovery"),
        Part("routing", sizes.primary_up, "HAProxy's next check of the new primary"),
        Part("reconnection", sizes.reconnection, "PgBouncer logs in to the new primary"),
    )


def _reads(sizes: Durations, writes: Range) -> Range:
    """Return the read outage while there is no primary: standbys go on, over connections that are made anew."""
    move = sizes.standby_refuses.maximum + sizes.standby_up.maximum + sizes.reconnection.maximum
    return Range(0.0, min(sizes.reconnection.typical, writes.typical), min(move, writes.maximum))


def _postmaster_killed(sizes: Durations) -> Prediction:
    patience = sizes.topology.timings.primary_start_timeout
    detection = sizes.next_loop + Range(0.0, 0.0, patience)
    parts = _new_primary(
        sizes,
        Part("detection", detection, "Patroni's next loop sees that the postmaster is gone"),
        Part("election", RACE, "the lock is released, and the standbys race for it"),
    )
    restart = f" It may try to restart in place for {patience} s first." if patience else ""
    explanation = f"Patroni gives the lock up at once and a standby is promoted.{restart}"
    writes = total(parts)
    reads = _reads(sizes, writes)
    return Prediction("postmaster-killed", "Postmaster killed", writes, reads, parts, explanation)


def _silent_primary(sizes: Durations, fault: str, title: str, expiry: Range, explanation: str) -> Prediction:
    parts = _new_primary(
        sizes,
        Part("detection", expiry, "the leader lock expires ttl after it was renewed last"),
        Part("election", sizes.race_without_one, "the survivors race, and wait for the dead member's answer"),
    )
    return Prediction(fault, title, total(parts), _reads(sizes, total(parts)), parts, explanation)


def _primary_power_off(sizes: Durations) -> Prediction:
    explanation = (
        "Nobody but the lock's expiry tells that a silent host is dead. The longest case is the one with etcd's leader "
        "on the same host: the new leader renews every lease first."
        if sizes.topology.foreign_etcd is None
        else "Nobody but the lock's expiry tells that a silent host is dead. How soon the foreign etcd elects is not "
        "known: where its leader is lost with that host, every lease lives through its election and its life again."
    )
    expiry = sizes.lock_expiry_of_any
    return _silent_primary(sizes, "primary-power-off", "Primary host powered off", expiry, explanation)


def _primary_power_off_with_etcd(sizes: Durations) -> Prediction:
    explanation = "etcd elects first, then grants every lease its full life again and an election timeout more."
    title = "Primary and etcd's leader powered off"
    expiry = sizes.extended_lock_expiry
    return _silent_primary(sizes, "primary-power-off-with-etcd-leader", title, expiry, explanation)


def _primary_cut_off(sizes: Durations) -> Prediction:
    mode = sizes.topology.replication.mode
    alone = (
        "may acknowledge writes that will be lost" if mode == ReplicationMode.ASYNCHRONOUS else "acknowledges nothing"
    )
    explanation = f"As a power-off for the majority. Cut off, the old primary {alone}, and steps down."
    return _silent_primary(sizes, "primary-cut-off", "Primary host cut off", sizes.lock_expiry_of_any, explanation)


def _switchover(sizes: Durations) -> Prediction:
    parts = _new_primary(
        sizes,
        Part("shutdown", SHUTDOWN, "the old primary ships everything and stops"),
        Part("election", RACE, "the chosen standby takes the lock"),
    )
    writes = total(parts)
    explanation = "The old primary stops in order, so nothing is in doubt; clients in a transaction see an error."
    return Prediction("switchover", "Planned switchover", writes, _reads(sizes, writes), parts, explanation)


def _stall(sizes: Durations, *, spare: bool) -> tuple[Part, ...]:
    """Return how long commits wait for a synchronous standby that is gone."""
    replication, timings = sizes.topology.replication, sizes.topology.timings
    if replication.mode == ReplicationMode.ASYNCHRONOUS or (replication.mode == ReplicationMode.QUORUM and spare):
        return ()
    if replication.mode == ReplicationMode.STRICT and not spare:
        return (Part("stall", UNTIL_REPAIRED, "strict: no commit without a standby"),)
    silence = timings.wal_sender_timeout
    loop = timings.loop_wait
    return (
        Part("detection", Range(silence / 2, silence, silence + 0.2), "wal_sender_timeout drops the silent standby"),
        Part("replacement", Range(0.05, loop, 2 * loop + 0.5), "Patroni names other synchronous standbys, or none"),
    )


def _standby_power_off(sizes: Durations) -> Prediction:
    parts = _stall(sizes, spare=sizes.spare_standbys > 0)
    down = sizes.standby_silent + sizes.reconnection
    reads = Range(0.0, down.typical, down.maximum)
    alone = len(sizes.topology.readers) <= PAIR
    if alone and sizes.topology.balancing.read_policy == ReadPolicy.STANDBY_ONLY:
        reads = UNTIL_REPAIRED
    explanation = (
        "Commits that wait for the standby go on when it is out of the list; reads on it move to other servers."
    )
    title = "Synchronous standby powered off"
    return Prediction("standby-power-off", title, total(parts), reads, parts, explanation)


def _standbys_lost(sizes: Durations) -> Prediction:
    parts = _stall(sizes, spare=False)
    mode, policy = sizes.topology.replication.mode, sizes.topology.balancing.read_policy
    down = sizes.standby_silent + sizes.reconnection
    reads = UNTIL_REPAIRED if policy == ReadPolicy.STANDBY_ONLY else Range(0.0, down.typical, down.maximum)
    alone = "waits" if mode == ReplicationMode.STRICT else "goes on alone, and what it acknowledges then is on one host"
    explanation = f"The primary {alone}, until a standby is back."
    return Prediction("standbys-lost", "All standbys lost", total(parts), reads, parts, explanation)


def _takeover(sizes: Durations, notice: Range, source: str) -> Part:
    """Return the VIP's move, or a restart's wait where there is nowhere to move."""
    if not sizes.floats:
        return Part("restart", notice + RESTART, "there is no second balancer: systemd starts HAProxy again")
    return Part("takeover", notice + Range(sizes.skew, sizes.skew, sizes.skew), source)


def _return(sizes: Durations) -> str:
    """Return what is to be said of several VIPs: who is cut off, and when again."""
    if len(sizes.topology.network.vips) == 1 or not sizes.floats:
        return ""
    seconds = f"{sizes.topology.timings.vip_return:g} s"
    return f" Clients of other VIPs notice nothing; this one goes back after {seconds}, and they connect again."


def _both(fault: str, title: str, parts: tuple[Part, ...], explanation: str) -> Prediction:
    """Return a prediction for a fault that stops writes and reads alike."""
    return Prediction(fault, title, total(parts), total(parts), parts, explanation)


def _haproxy_killed(sizes: Durations) -> Prediction:
    source = "Keepalived is told by the kernel, gives up, and the backup waits out its skew"
    takeover = _takeover(sizes, PROCESS_DEATH, source)
    parts = (takeover, Part("reconnection", LOGIN + RETRANSMISSION, "clients connect again"))
    explanation = f"Every connection through it is cut; the VIP moves, or HAProxy is back first.{_return(sizes)}"
    return _both("haproxy-killed", "HAProxy killed", parts, explanation)


def _haproxy_hung(sizes: Durations) -> Prediction:
    if not sizes.floats:
        parts: tuple[Part, ...] = (Part("restart", UNTIL_REPAIRED, "no other balancer could take over"),)
    else:
        takeover = _takeover(sizes, sizes.unanswered_rounds, "two unanswered round trips, then the backup's skew")
        parts = (takeover, Part("reconnection", LOGIN + RETRANSMISSION, "clients connect again"))
    explanation = (
        "Only an answer counts, so a stopped process gives the VIP up. Clients that wait for one learn by keepalive."
    )
    return _both("haproxy-hung", "HAProxy hung", parts, explanation)


def _balancer_power_off(sizes: Durations) -> Prediction:
    if not sizes.floats:
        parts: tuple[Part, ...] = (Part("takeover", UNTIL_REPAIRED, "no other balancer could take over"),)
    else:
        takeover = _takeover(sizes, sizes.advert_silence, "three adverts missed, then the backup's skew")
        again, source = RETRANSMISSION, "clients' packets are repeated, refused, and they connect"
        if sizes.topology.pooling.placement is Placement.APPLICATION:
            again, source = again + SYN_RETRANSMISSION, "pools connect; what one began meanwhile, TCP repeats after 1 s"
        parts = (takeover, Part("reconnection", again, source))
    shared = any(host.has(Role.DATABASE) for host in sizes.topology.with_role(Role.BALANCER))
    more = " Where the primary is on the same host, its power-off is what counts." if shared else ""
    explanation = f"The backup claims the VIP when adverts stop.{_return(sizes)}{more}"
    return _both("balancer-power-off", "Active balancer powered off", parts, explanation)


def _pgbouncer_killed(sizes: Durations) -> Prediction:
    topology = sizes.topology
    others = placement.leads_to_pools(topology) and len(placement.poolers(topology)) > 1
    notice = sizes.pooler_refuses if others else RESTART
    parts = (
        Part("detection", Range(0.0, notice.typical, notice.maximum), "HAProxy's checks fail, or systemd restarts it"),
        Part("reconnection", REFUSED_RETRY, "clients connect again, to another pooler or the same"),
    )
    explanation = "Clients of that pooler are cut off and find another one, or the same when it is back."
    writes = total(parts)
    return Prediction("pgbouncer-killed", "PgBouncer for writes killed", writes, NONE, parts, explanation)


def _etcd_member_lost(sizes: Durations) -> Prediction:
    retry, shortest = sizes.topology.timings.retry_timeout, sizes.topology.etcd_election_seconds
    election = f"{round(shortest, 2):g} to {round(2 * shortest, 2):g} s"
    explanation = f"The others go on; an election among them takes {election}, and Patroni is patient for {retry} s."
    if sizes.topology.foreign_etcd:
        explanation = (
            "The others go on. How long an election among them takes is set where that etcd is run, and not known: "
            f"Patroni is patient for {retry} s, and one that takes longer costs the primary its lock."
        )
    return Prediction("etcd-member-lost", "One etcd member lost", NONE, NONE, (), explanation)


def _etcd_quorum_lost(sizes: Durations) -> Prediction:
    timings = sizes.topology.timings
    grace = timings.loop_wait + timings.retry_timeout
    parts = (Part("restoration", UNTIL_REPAIRED, "nobody may hold the lock without a majority of etcd"),)
    explanation = (
        f"After {grace} to {2 * grace} s the primary steps down, because it cannot prove any longer that it is the "
        "only one; reads go on. A majority of etcd brings all back by itself."
    )
    if sizes.topology.foreign_etcd:
        explanation += " So it is when the network between the databases and that etcd is gone, too."
    reads = _reads(sizes, UNTIL_REPAIRED)
    return Prediction("etcd-quorum-lost", "etcd's quorum lost", UNTIL_REPAIRED, reads, parts, explanation)


#: Every kind of failure that is predicted, in the order of the report.
PREDICTIONS: tuple[Callable[[Durations], Prediction], ...] = (
    _postmaster_killed,
    _switchover,
    _primary_power_off,
    _primary_power_off_with_etcd,
    _primary_cut_off,
    _standby_power_off,
    _standbys_lost,
    _haproxy_killed,
    _haproxy_hung,
    _balancer_power_off,
    _pgbouncer_killed,
    _etcd_member_lost,
    _etcd_quorum_lost,
)
