"""The durations that predictions are made of: those that a topology's timings decide, and those that nothing does.

Each constant says where it comes from. *Measured* means seen in a lab of five machines on two cores without load;
*source* is the program's own code; *estimate* is a bound around what was measured for the outage as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.topology import placement
from pgbaton.topology.model import Role
from pgbaton.topology.prediction import Range

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology

#: One race for the leader lock among members that all answer: a REST round and an etcd transaction.
#: Estimate: a killed postmaster cost 1.1 s in all, of which up to 1 s is the loop.
RACE = Range(0.05, 0.15, 0.5)
#: A race with a silent member. Source: Patroni waits 2 s for a member's REST answer; measured: 2.0 s.
RACE_WITH_SILENCE = Range(2.0, 2.1, 2.5)
#: A Patroni without an etcd member of its own may be talking to the one that is gone. Measured: up to 1 s.
REMOTE_ETCD = Range(0.0, 0.5, 1.0)
#: pg_ctl promote until the server takes writes. Measured: 30 to 80 ms; longer on slow disks.
PROMOTE = Range(0.03, 0.05, 0.3)
#: TLS, SCRAM and the first statement through the whole path, with all clients coming at once. Estimate.
LOGIN = Range(0.01, 0.05, 0.3)
#: An orderly hand-over. Source: Patroni polls the shutdown twice, a second apart; measured: 1.6 s in all.
SHUTDOWN = Range(0.3, 1.1, 3.0)
#: How often etcd looks for expired leases. Source: etcd, lessor.
LEASE_SCAN_SECONDS = 0.5
#: Until systemd and Keepalived have noticed that a process is gone. Estimate: 0.38 s measured in all for HAProxy.
PROCESS_DEATH = Range(0.01, 0.1, 0.3)
#: Until systemd has started a killed program again: 50 to 100 ms by its unit, and its own start. Estimate.
RESTART = Range(0.1, 0.2, 0.5)
#: Until a client's TCP repeats what was not acknowledged: 0.2, then 0.6 s. Source: Linux's shortest retransmission.
RETRANSMISSION = Range(0.02, 0.15, 0.5)
#: Until a connection that was begun while nobody had the address is begun again, a second later. Source: Linux's first
#: retransmission of a SYN (RFC 6298).
SYN_RETRANSMISSION = Range(0.0, 0.5, 1.0)
#: HAProxy tries a refused connection again after up to a second. Source: its documentation, retries.
REFUSED_RETRY = Range(0.05, 0.15, 1.0)
#: Rounds of Keepalived's script that must fail, and the share of its interval after which a round gives up.
SCRIPT_FALL = 2
SCRIPT_PATIENCE = 0.8
#: Adverts that must be missed. Source: VRRP version 3, RFC 5798.
LOST_ADVERTS = 3


@dataclass(frozen=True)
class Durations:
    """The durations that one topology's timings decide."""

    topology: Topology

    @property
    def next_loop(self) -> Range:
        """Return the wait for Patroni's next look."""
        loop = self.topology.timings.loop_wait
        return Range(0.05, loop / 2, loop + 0.2)

    @property
    def lock_expiry(self) -> Range:
        """Return how long a dead holder's lock lives on: renewed once a loop, found expired by a scan."""
        timings = self.topology.timings
        return Range(
            timings.ttl - timings.loop_wait, timings.ttl - timings.loop_wait / 2, timings.ttl + LEASE_SCAN_SECONDS
        )

    @property
    def extended_lock_expiry(self) -> Range:
        """Return the same when etcd's leader died too: the new one renews every lease, and adds its election time.

        Source: an election begins after one to two election timeouts, and the new leader gives every lease its full
        life and one of them more. Measured: 25.0 s in all with a ttl of 20 s and an election timeout of 1 s.
        """
        ttl, election = self.topology.timings.ttl, self.topology.etcd_election_seconds
        return Range(ttl + 2 * election, ttl + 2.5 * election, ttl + 3 * election + LEASE_SCAN_SECONDS)

    @property
    def lock_expiry_of_any(self) -> Range:
        """Return a dead host's lock expiry, wherever etcd's leader is."""
        shared = any(host.has(Role.DCS) for host in self.topology.with_role(Role.DATABASE))
        return self.lock_expiry.to(self.extended_lock_expiry) if shared else self.lock_expiry

    @property
    def race_without_one(self) -> Range:
        """Return the election when one member is silent, among those that may become primary.

        No member of a foreign etcd is lost with a host.
        """
        if self.topology.foreign_etcd:
            return RACE_WITH_SILENCE
        candidates = (host for host in self.topology.with_role(Role.DATABASE) if host.failover)
        is_local = all(host.has(Role.DCS) for host in candidates)
        return RACE_WITH_SILENCE if is_local else RACE_WITH_SILENCE + REMOTE_ETCD

    @property
    def primary_up(self) -> Range:
        """Return how long HAProxy takes to see the new primary."""
        return _seen_up(self.topology.timings.check_interval)

    @property
    def standby_up(self) -> Range:
        """Return how long HAProxy takes to see that a standby is fit for reads."""
        return _seen_up(self.topology.timings.read_check_interval)

    @property
    def pooler_refuses(self) -> Range:
        """Return how long HAProxy takes to give up a pooler that refuses its checks."""
        return self._refuses(self.topology.timings.check_interval)

    @property
    def standby_refuses(self) -> Range:
        """Return how long HAProxy takes to give up a standby that says it is not fit."""
        return self._refuses(self.topology.timings.read_check_interval)

    @property
    def standby_silent(self) -> Range:
        """Return how long HAProxy takes to give up a standby that does not answer its checks at all."""
        timings = self.topology.timings
        silence = timings.check_fall * min(timings.server_connect_timeout, timings.read_check_interval)
        return self.standby_refuses + Range(silence, silence, silence)

    def _refuses(self, interval: float) -> Range:
        timings = self.topology.timings
        rest = (timings.check_fall - 1) * timings.check_fast_interval
        return Range(rest, interval / 2 + rest, interval + rest + 0.1)

    @property
    def reconnection(self) -> Range:
        """Return how long the pools take to log in to a server again."""
        retry = self.topology.timings.server_login_retry
        return LOGIN + Range(0.0, retry / 2, retry)

    @property
    def skew(self) -> float:
        """Return VRRP's wait of the best backup, in seconds: the lower its priority, the longer."""
        balancers = self.topology.with_role(Role.BALANCER)
        priorities = sorted((self.topology.priority(host) for host in balancers), reverse=True)
        return (256 - priorities[1]) / 256 * self.topology.timings.advert_interval

    @property
    def is_pooled(self) -> bool:
        """Tell whether PgBouncer runs anywhere."""
        return bool(placement.poolers(self.topology))

    @property
    def holds(self) -> bool:
        """Tell whether pools can hold all clients while there is no primary."""
        return bool(placement.holders(self.topology))

    @property
    def floats(self) -> bool:
        """Tell whether there is a VIP with somewhere to go."""
        return self.topology.network.vip is not None and len(self.topology.with_role(Role.BALANCER)) > 1

    @property
    def spare_standbys(self) -> int:
        """Return the standbys that may confirm commits, beyond those that must."""
        return len(self.topology.confirmers) - 1 - self.topology.replication.count

    @property
    def advert_silence(self) -> Range:
        """Return how long a dead balancer's adverts must be missing, counted from its death."""
        advert = self.topology.timings.advert_interval
        return Range((LOST_ADVERTS - 1) * advert, (LOST_ADVERTS - 0.5) * advert, LOST_ADVERTS * advert + 0.05)

    @property
    def unanswered_rounds(self) -> Range:
        """Return how long a hung HAProxy goes unnoticed by Keepalived's script."""
        interval = self.topology.timings.balancer_check_interval
        rounds = (SCRIPT_FALL - 1 + SCRIPT_PATIENCE) * interval
        return Range(rounds, rounds + interval / 2, rounds + interval)


def _seen_up(interval: float) -> Range:
    """Return how long a server that is fit stays unseen; one good check is enough."""
    return Range(0.01, interval / 2 + 0.02, interval + 0.15)
