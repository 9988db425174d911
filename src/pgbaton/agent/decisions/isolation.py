"""The primary's own fence, when it has lost the majority: pure.

A primary that the majority no longer hears is about to be replaced. With synchronous replication it can acknowledge
nothing any more, but it would go on to answer reads, from a past that the others are leaving. So it stops serving, by
itself, before the others may promote.

The two sides of a partition begin at the same time. A primary here is isolated as soon as so many voters have been
silent for the detection time that they could decide without it, and etcd has given no proof of its quorum for as long.
The others need that very detection time, and then votes, a transaction in etcd, an election and a promotion. The proof
must be a linearizable read, and dates from when it was *asked*: a member that is cut off goes on for a while to name a
leader, and etcd may have answered late what was true when it was asked.

Both must be gone. With etcd's quorum but without the other agents (a network that loses their datagrams, a rollout of
agents) the lock keeps its meaning, and Patroni keeps the lock. Without etcd but with the other agents, nobody can be
promoted, so nobody is stale.

Where etcd is on none of the hosts, a partition may part them from each other and leave etcd to both sides. Then etcd's
quorum proves nothing by itself: the others have the lock released, and etcd tells this primary so before anybody can
be promoted. So a primary without the others is isolated, too, as soon as etcd has said that the lock is not here.

It ends when a majority, this host included, is heard again, and one of two holds: this server is in recovery, so it
serves no old truth, or etcd, asked after the majority had come back, says that the lock is still here. A stalled agent
neither begins nor ends it.

First clients are held, then refused (see :class:`~pgbaton.agent.kernel.fence_rules.Serving`): a partition of a moment
costs no session, and in a longer one nobody waits for an answer that cannot come.
"""

from __future__ import annotations

from dataclasses import dataclass

from pgbaton.agent.kernel.fence_rules import Serving


@dataclass(frozen=True, slots=True)
class Rules:
    """What never changes while an agent runs: itself, all who vote, and times.

    After ``refuse_seconds`` of isolation clients are not held any longer, but refused.
    """

    me: str
    voters: frozenset[str]
    detection_seconds: float
    refuse_seconds: float

    @property
    def majority(self) -> int:
        """Return how many voters decide, counted over all that are configured."""
        return len(self.voters) // 2 + 1


@dataclass(frozen=True, slots=True)
class View:
    """What the agent sees now; times are on the monotonic clock.

    ``leads``: this server was last seen out of recovery, or its Patroni is believed to hold the lock; a server that
    does not say is what it was. ``recovers``: it is in recovery. ``silent`` are hosts of which nothing was heard for
    the detection time, not even an answer to ICMP, ``heard`` the others; one never heard since the agent's start is in
    neither. ``deaf`` are hosts that say of themselves that they do not hear this one: so it is when a partition cuts
    only what goes out. ``quorum_seconds`` is when the last linearizable read that was answered was asked, None before
    the first; it has to be asked several times in a detection time. ``lock_mine`` is what etcd last said of the lock,
    in that answer or, sooner, by a watch.
    """

    now_seconds: float
    leads: bool
    recovers: bool
    heard: frozenset[str]
    silent: frozenset[str]
    stalled: bool
    quorum_seconds: float | None
    lock_mine: bool
    deaf: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class State:
    """What the agent remembers: since when it is isolated, and when the majority was last not heard.

    ``started_seconds`` is when it began to ask etcd: before that, no silence of etcd's counts.
    """

    started_seconds: float
    since_seconds: float | None = None
    alone_seconds: float = float("-inf")


def begun(now_seconds: float, serving: Serving) -> State:
    """Return what an agent remembers at its start, when it finds its clients held or refused: the kernel's word."""
    if serving == Serving.OPEN:
        return State(now_seconds)
    return State(now_seconds, since_seconds=now_seconds, alone_seconds=now_seconds)


def step(state: State, view: View, rules: Rules) -> State:
    """Return what the agent remembers after what it sees now."""
    if view.stalled:
        return state
    if not has_majority(view, rules):
        state = State(state.started_seconds, state.since_seconds, view.now_seconds)
    if state.since_seconds is None:
        return begin(state, view) if is_cut_off(state, view, rules) else state
    return end(state) if is_back(state, view, rules) else state


def serving(state: State, view: View, rules: Rules) -> Serving:
    """Return how far clients are to be served."""
    if state.since_seconds is None:
        return Serving.OPEN
    lasted_seconds = view.now_seconds - state.since_seconds
    return Serving.REFUSED if lasted_seconds >= rules.refuse_seconds else Serving.HELD


def begin(state: State, view: View) -> State:
    """Return the state of one that is isolated from now on."""
    return State(state.started_seconds, view.now_seconds, state.alone_seconds)


def end(state: State) -> State:
    """Return the state of one that is isolated no longer."""
    return State(state.started_seconds, None, state.alone_seconds)


def is_cut_off(state: State, view: View, rules: Rules) -> bool:
    """Tell whether the others could decide without this primary, and etcd does not deny it, or says that they did."""
    decided_elsewhere = len(((view.silent | view.deaf) & rules.voters) - {rules.me}) >= rules.majority
    seen_seconds = state.started_seconds if view.quorum_seconds is None else view.quorum_seconds
    without_quorum = view.now_seconds - seen_seconds >= rules.detection_seconds
    released = view.quorum_seconds is not None and not view.lock_mine
    return view.leads and not view.recovers and decided_elsewhere and (without_quorum or released)


def is_back(state: State, view: View, rules: Rules) -> bool:
    """Tell whether an isolated primary may serve again."""
    confirmed = view.lock_mine and view.quorum_seconds is not None and view.quorum_seconds > state.alone_seconds
    return has_majority(view, rules) and (view.recovers or confirmed)


def has_majority(view: View, rules: Rules) -> bool:
    """Tell whether this host and those that it exchanges words with are a majority."""
    return len(((view.heard - view.deaf) & rules.voters) | {rules.me}) >= rules.majority
