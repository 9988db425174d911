"""The model's world: etcd, three databases with their Patroni, and the agents that run ``verdict.step``.

Everything is one value. Whatever may be late, lost or left undone is a step that need not happen; so a cut in the
network, a pause and a slow disk are all the same: some steps are not taken for a while. What has to be a step of its
own is what only a fault does: a wrong belief, an old view, a lost answer, a power-off, a restart.
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from model_etcd import Snapshot
from model_patroni import ANYBODY, NOBODY, Names, Plan

from pgbaton.agent.decisions.terms import Rules

DATABASES = ("P", "S", "T")
_AT = {name: at for at, name in enumerate(DATABASES)}
FIVE = frozenset({"P", "S", "T", "O1", "O2"})
Some = TypeVar("Some", bound=tuple)


class Host(NamedTuple):
    """A database: PostgreSQL, and Patroni beside it.

    ``role`` is primary, standby, down when the server has crashed and Patroni lives, or off when the host is.
    ``version`` is the revision of ``/sync`` that the plan goes on, ``wrote`` the one that it last put itself, ``flush``
    how much of the log there was when ``synchronous_standby_names`` was last set, ``followed`` the leader key's
    revision that it last followed.
    """

    role: str
    log: tuple[int, ...] = ()
    ssn: tuple[int, Names] = (0, NOBODY)
    plan: Plan = ()
    version: int = 0
    wrote: int = 0
    flush: int = 0
    upstream: str = ""
    followed: int = 0
    lease: int = 1
    alive: bool = True


class Agent(NamedTuple):
    """An agent: what it remembers (by number), its fences, what it has to do, what it asked etcd for.

    ``cast`` are the cases that it ever voted for, as long as they matter; its votes are messages that may arrive at any
    time, again and again.
    """

    memory: int
    fences: tuple[str, ...] = ()
    queue: tuple[tuple[str, str], ...] = ()
    requests: tuple[tuple[str, str, int], ...] = ()
    cast: tuple[int, ...] = ()


class Budget(NamedTuple):
    """How many of the things that do not happen by themselves may happen yet."""

    commits: int
    crashes: int
    restarts: int
    cycles: int
    configs: int
    ends: int = 0


_PLACES = {kind: {name: at for at, name in enumerate(kind._fields)} for kind in (Host, Agent, Budget)}


def changed(old: Some, changes: dict[str, object]) -> Some:
    """Return a host, an agent or a budget with other values: ``_replace``, which takes three times as long."""
    kind, values = type(old), list(old)
    places = _PLACES[kind]
    for name, value in changes.items():
        values[places[name]] = value
    return tuple.__new__(kind, values)


class World(NamedTuple):
    """A state of everything; the last of ``etcd`` is the store, the ones before are what late views may show."""

    etcd: tuple[Snapshot, ...]
    hosts: tuple[Host, ...]
    agents: tuple[Agent, ...]
    acked: frozenset[int]
    top: str
    won: int
    budget: Budget

    @property
    def store(self) -> Snapshot:
        return self.etcd[-1]

    def host(self, name: str) -> Host:
        return self.hosts[_AT[name]]

    def with_host(self, name: str, **changes: object) -> "World":
        at, hosts = _AT[name], list(self.hosts)
        hosts[at] = changed(hosts[at], changes)
        return tuple.__new__(World, (self[0], tuple(hosts), *self[2:]))

    def with_agent(self, at: int, **changes: object) -> "World":
        agents = list(self.agents)
        agents[at] = changed(agents[at], changes)
        return tuple.__new__(World, (self[0], self[1], tuple(agents), *self[3:]))

    def spent(self, kind: str) -> "World":
        return tuple.__new__(World, (*self[:-1], changed(self.budget, {kind: getattr(self.budget, kind) - 1})))


#: Nothing of what happens only a number of times.
NOTHING = Budget(commits=0, crashes=0, restarts=0, cycles=0, configs=0)


@dataclass(frozen=True)
class Scope:
    """What of the world is explored."""

    name: str
    #: One synchronous standby if there is one (on), one in any case (strict), each of two (two), one of two (quorum).
    mode: str = "on"
    sync: Names = frozenset({"S"})
    voters: frozenset[str] = FIVE
    #: The voters that run. The others never answer; nor does the primary's own, which is there to give up its lock.
    agents: tuple[str, ...] = ("S", "O1", "O2")
    #: Agents that do what they decided without a pause. With late views and late messages that leaves out little.
    swift: tuple[str, ...] = ("O1", "O2")
    #: Agents that may ask.
    candidates: tuple[str, ...] = ("S",)
    #: Databases that may crash, lose their power, and be held to be silent, at any time.
    suspects: tuple[str, ...] = ("P",)
    #: Databases that, when they lead, choose their synchronous standbys.
    leading: tuple[str, ...] = ("P",)
    budget: Budget = NOTHING
    #: Who loses its power never gets it back, and its lease lasts for ever.
    buried: bool = False
    #: How many changes of etcd a view may be behind.
    late_views: int = 1
    #: Patroni may see half a transaction.
    halves: bool = False
    #: Answers of etcd may not come, and what was asked for happen later, or never.
    lost_answers: bool = False
    #: Agents may sleep, and look around before they know it.
    stalls: bool = False
    #: Agents of databases may hold their own server to have crashed at any time, not only when it has.
    alarms: bool = False
    #: Agents may be asked before they have any view of etcd.
    blind: bool = False
    #: Other things may happen between the rising or falling of a fence and its being told.
    split: bool = False

    # What those around the protocol owe to it, to be done wrongly on purpose.
    revoke: str = "when another leads"
    following: str = "the present leader"
    order: tuple[str, ...] = ("delete", "keep", "touch")

    # Weaknesses of Patroni's own, which lose commits without any agent's doing.
    #: It acquires a lock that it saw free, though somebody else held it meanwhile.
    old_races: bool = False
    #: In quorum mode it keeps one standby that lacks what another has acknowledged, and says that this one is enough.
    lagging: bool = False
    #: Who has lost its lease puts the leader key, whoever holds it: before 3.0.3.
    overwrites: bool = False

    @property
    def strict(self) -> bool:
        return self.mode == "strict"

    @property
    def standbys_wanted(self) -> int:
        return 2 if self.mode == "two" else 1

    def rules(self, name: str) -> Rules:
        return Rules(me=name, voters=self.voters, may_lead=name in self.candidates)


def first(scope: Scope, memory: int) -> World:
    """Return the healthy cluster that everything begins with."""
    by_quorum = scope.mode == "quorum"
    number = 1 if by_quorum else len(scope.sync)
    snapshot = Snapshot(
        revision=3,
        leader="P",
        leader_revision=2,
        lease=1,
        freed=0,
        sync_leader="P",
        sync=scope.sync,
        quorum=len(scope.sync) - 1 if by_quorum else 0,
        sync_revision=3,
        config_revision=1,
        synchronous=True,
        by_quorum=by_quorum,
        verdict_revision=0,
    )
    primary = Host("primary", ssn=(number, scope.sync))
    standby = Host("standby", upstream="P")
    return World(
        etcd=(snapshot,),
        hosts=(primary, standby, standby),
        agents=tuple(Agent(memory) for _ in scope.agents),
        acked=frozenset(),
        top="P",
        won=-1,
        budget=scope.budget,
    )


def confirmed(world: World, name: str, commit: int) -> bool:
    """Tell whether a commit of a primary has all the confirmations that it asks for now.

    Whoever has written a commit has confirmed it: a confirmation that is still on its way does no harm later.
    """
    number, names = world.host(name).ssn
    others = (other for other in DATABASES if other != name and (names == ANYBODY or other in names))
    return sum(commit in world.host(other).log for other in others) >= number


def fences_of(world: World, scope: Scope, name: str) -> tuple[str, ...]:
    """Return the fences that stand on a host."""
    return world.agents[scope.agents.index(name)].fences if name in scope.agents else ()


def acknowledges(world: World, scope: Scope) -> bool:
    """Tell whether there is a leader whose commits would be acknowledged."""
    leader = world.store.leader
    if leader is None or world.host(leader).role != "primary":
        return False
    number, names = world.host(leader).ssn
    following = {
        name
        for name in DATABASES
        if world.host(name).role == "standby"
        and world.host(name).upstream == leader
        and leader not in fences_of(world, scope, name)
    }
    return len(following if names == ANYBODY else following & names) >= number
