"""Who is primary, for the HAProxy and the poolers of this balancer: what to hint, what to cut, when to hold clients.

Pure: :func:`decide` takes what was known and what is, and returns what to do. HAProxy's polled checks stay in charge.
A hint only tells it sooner what its checks are about to find; they undo one that was wrong, and do alone what this
agent does not. So a change is hinted once, when it was seen to happen, and never a state that was found.

1. *Primary* is who says of itself that it takes writes, is not fenced here, is on the highest timeline that anybody has
   told of, and alone there. When two say it on one timeline, none is hinted and an alarm is raised. Who holds the
   leader lock on a timeline no lower than that of another who says it speaks against that one.
2. *Sessions are cut* (which a hint that a server is down does as well) when their server is fenced here, when its own
   agent says that it takes writes no longer, or when another is primary on a higher timeline. Silence cuts nothing,
   nor does an agent that does not know: the server may live.
3. *Clients are held* while a hand-over is planned, and from the first of the first two signs about the primary until
   HAProxy leads to one and to nobody else, for ``pause_seconds`` at most, once in an outage. An agent that starts lets
   all go: it may have held them.
4. *In session pooling nobody is held.* There a client keeps its server for as long as it stays: a pause holds none of
   those whom an outage hits, and takes hold of a pool only when all of them have gone. It would keep out newcomers
   alone, after a false alarm from a primary that is well.
5. *What is not known* gives no action, but that a hold ends in time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Role: TypeAlias = Literal["primary", "standby", "none", "unknown"]

#: A pooler that was let go and does not say so is told again after so long.
RETRY_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Says:
    """What the agent of a host said of its server: ``none`` when there is none, ``unknown`` when it does not know."""

    role: Role
    writable: bool
    timeline: int


@dataclass(frozen=True, slots=True)
class Database:
    """A database host; ``says`` is None when it is silent or was never heard, ``fenced`` whether it is by this host."""

    name: str
    says: Says | None = None
    fenced: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """A server in the backend of the primary, named like its host; ``in_service`` unless it was taken out by hand."""

    name: str
    up: bool
    in_service: bool = True


@dataclass(frozen=True, slots=True)
class Servers:
    """What HAProxy answered to a question that was asked at ``asked_seconds``."""

    asked_seconds: float
    servers: tuple[Server, ...]


@dataclass(frozen=True, slots=True)
class Pooling:
    """What a pooler answered to a question or order of ``asked_seconds``; ``paused`` is None when it did not tell."""

    asked_seconds: float
    paused: bool | None
    session: bool


@dataclass(frozen=True, slots=True)
class View:
    """All that is known here at one moment; the default knows nothing, as does an agent that overslept.

    ``leader`` holds the leader lock; None when nobody does or nobody knows. Of ``poolers``, those that lead to the
    primary, the names are always known. ``planned``: a hand-over is, so that clients are
    held while all is well. Whatever was decided has been tried to its end before a new question is asked.
    """

    databases: tuple[Database, ...] = ()
    leader: str | None = None
    servers: Servers | None = None
    poolers: Mapping[str, Pooling | None] = field(default_factory=lambda: MappingProxyType({}))
    planned: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """Hint to HAProxy that a server is up or down."""

    server: str
    health: Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class CutSessions:
    """End all sessions of a server."""

    server: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Give no client of a pooler a server."""

    pooler: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Give the clients of a pooler servers again."""

    pooler: str


Action: TypeAlias = Mark | CutSessions | Pause | Resume


@dataclass(frozen=True, slots=True)
class Primary:
    """A host that was found to be primary, and on which timeline."""

    name: str
    timeline: int


@dataclass(frozen=True, slots=True)
class Hold:
    """A pause of ours: when it began, and when the pooler was told last that it is over."""

    since_seconds: float
    told_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered from one decision to the next; the default is that of an agent that starts.

    ``hinted`` is whom HAProxy needs no hint about. ``claiming`` are hosts whose last clear word was that they take
    writes. ``held`` are the poolers' pauses, ``known`` the poolers that are not those of an agent before this one.
    ``planned`` is the timeline on which a hand-over was planned, which is over when somebody leads on a later one.
    ``spent``: a hold has ended without a primary, so that there is no other before there is one.
    """

    primary: Primary | None = None
    hinted: Primary | None = None
    timelines: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    claiming: frozenset[str] = frozenset()
    fenced: frozenset[str] = frozenset()
    marked_seconds: float = -math.inf
    held: Mapping[str, Hold] = field(default_factory=lambda: MappingProxyType({}))
    known: frozenset[str] = frozenset()
    planned: int | None = None
    spent: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, in that order, what to remember, and what a person should look at."""

    actions: tuple[Action, ...]
    memory: Memory
    alarms: tuple[str, ...] = ()


def decide(memory: Memory, view: View, *, now_seconds: float, pause_seconds: float) -> Decision:
    """Return what to do now; all times are of one monotonic clock."""
    memory = replace(memory, timelines=MappingProxyType(_timelines(memory, view)))
    primary, alarms = _primary(memory, view)
    outage = primary is None and _is_out(memory, view)
    marks, memory = _mark(memory, view, primary, now_seconds)
    memory = replace(memory, primary=primary or memory.primary)
    leads = primary is not None and _leads(memory, view, primary)
    memory = _planned(memory, view)
    is_planned = memory.planned is not None and _highest(memory) <= memory.planned
    wanted, leads = outage or is_planned, leads and not is_planned
    holds, memory = _hold(memory, view, now_seconds, pause_seconds, outage=wanted, leads=leads)
    pauses = tuple(action for action in holds if isinstance(action, Pause))
    resumes = tuple(action for action in holds if isinstance(action, Resume))
    return Decision((*pauses, *marks, *resumes), memory, alarms)


def _planned(memory: Memory, view: View) -> Memory:
    """Return the memory with the timeline on which the hand-over that is planned began."""
    if not view.planned:
        return replace(memory, planned=None)
    return memory if memory.planned is not None else replace(memory, planned=_highest(memory))


def due_seconds(memory: Memory, *, pause_seconds: float) -> float | None:
    """Return when there is something to decide at the latest, even if nothing new becomes known."""
    return min((_due(hold, pause_seconds) for hold in memory.held.values()), default=None)


def _timelines(memory: Memory, view: View) -> dict[str, int]:
    """Return the highest timeline that each host has told of; one that knows none tells zero."""
    told = {it.name: it.says.timeline for it in view.databases if it.says}
    return {**memory.timelines, **{name: max(one, memory.timelines.get(name, 0)) for name, one in told.items()}}


def _highest(memory: Memory) -> int:
    return max(memory.timelines.values(), default=0)


def _primary(memory: Memory, view: View) -> tuple[Primary | None, tuple[str, ...]]:
    """Return the one host that is primary beyond doubt, and what speaks against there being one."""
    claims = [it for it in view.databases if _claims(it) and not it.fenced]
    highest = _highest(memory)
    rivals = [it.name for it in claims if it.says and it.says.timeline == highest]
    if not rivals:
        return None, ()
    before = memory.primary
    if before and before.timeline >= highest and before.name not in rivals:
        rivals.append(before.name)
    if len(rivals) > 1:
        names = ", ".join(sorted(rivals))
        wrong = "those without the leader lock" if view.leader else "all but the one that is to be kept"
        return None, (f"timeline {highest} has more than one primary: {names}; stop {wrong}",)
    if _lock_speaks_against(memory, view, rivals[0], highest):
        return None, ()
    return Primary(rivals[0], highest), ()


def _lock_speaks_against(memory: Memory, view: View, name: str, timeline: int) -> bool:
    """Return whether another holds the leader lock who may be about to be promoted; who was left behind does not."""
    if view.leader in {None, name} or any(it.name == view.leader and it.fenced for it in view.databases):
        return False
    return memory.timelines.get(view.leader or "", timeline) >= timeline


def _claims(it: Database) -> bool:
    return it.says is not None and it.says.role == "primary" and it.says.writable


def _refuses(it: Database) -> bool:
    """Return whether the host's own agent knows that no write is possible there."""
    return it.says is not None and it.says.role != "unknown" and not _claims(it)


def _is_out(memory: Memory, view: View) -> bool:
    """Return whether the last primary is known to take no writes."""
    name = memory.primary.name if memory.primary else None
    return any(it.name == name and (it.fenced or _refuses(it)) for it in view.databases)


def _mark(memory: Memory, view: View, primary: Primary | None, now_seconds: float) -> tuple[tuple[Action, ...], Memory]:
    """Return the hints and cuts, and the memory of them."""
    servers = _fresh(memory, view)
    lost = tuple(it.name for it in view.databases if _is_lost(memory, it, primary, servers))
    actions = [action for name in lost for action in _cut(name, servers)]
    hinted, hint = _hint(memory, primary, servers, lost)
    if hint:
        actions.append(hint)
    fenced = frozenset(it.name for it in view.databases if it.fenced)
    claiming = {it.name for it in view.databases if _claims(it) and it.says and it.says.timeline >= _highest(memory)}
    memory = replace(
        memory,
        hinted=hinted,
        claiming=(memory.claiming | claiming) - fenced - set(lost),
        fenced=fenced,
        marked_seconds=now_seconds if any(isinstance(it, Mark) for it in actions) else memory.marked_seconds,
    )
    return tuple(actions), memory


def _hint(
    memory: Memory, primary: Primary | None, servers: Mapping[str, Server] | None, lost: tuple[str, ...]
) -> tuple[Primary | None, Mark | None]:
    """Return whom HAProxy needs no hint about from now on, and the hint that brings it there."""
    if memory.primary is None and primary:
        # The first that is found: no change was seen, and the checks have had their time.
        return primary, None
    hinted = None if memory.hinted and memory.hinted.name in lost else memory.hinted
    if primary is None or hinted == primary or servers is None or _others(servers, primary, lost):
        return hinted, None
    server = servers.get(primary.name)
    if server is None or not server.in_service:
        return hinted, None
    return primary, None if server.up else Mark(primary.name, "up")


def _is_lost(memory: Memory, it: Database, primary: Primary | None, servers: Mapping[str, Server] | None) -> bool:
    """Return whether a host's sessions are to end now.

    Once for each loss: what the checks find afterwards may be newer than what an agent said. As long as a host is
    fenced, or says what cannot be, its server is down whatever they find.
    """
    up = servers is not None and it.name in servers and servers[it.name].up
    if it.fenced:
        return up or it.name not in memory.fenced
    if _refuses(it) and it.name in memory.claiming:
        return True
    if primary and it.name != primary.name and memory.timelines.get(it.name, primary.timeline) < primary.timeline:
        # Until HAProxy was told of the new primary: a check that began before the old one's end may have come after it.
        is_left_over = memory.primary is not None and memory.hinted != primary
        return it.name in memory.claiming or (up and (is_left_over or _claims(it)))
    return False


def _cut(name: str, servers: Mapping[str, Server] | None) -> Iterator[Action]:
    if servers is not None and name not in servers:
        return
    if servers is None or servers[name].up:
        yield Mark(name, "down")
    yield CutSessions(name)


def _others(servers: Mapping[str, Server], primary: Primary, lost: tuple[str, ...]) -> bool:
    """Return whether another server gets connections, which only the checks can end."""
    return any(it.up and it.in_service and it.name not in {primary.name, *lost} for it in servers.values())


def _fresh(memory: Memory, view: View) -> Mapping[str, Server] | None:
    """Return HAProxy's servers by name; None when they are not known since the last hint."""
    if view.servers is None or view.servers.asked_seconds <= memory.marked_seconds:
        return None
    return {it.name: it for it in view.servers.servers}


def _leads(memory: Memory, view: View, primary: Primary) -> bool:
    """Return whether HAProxy leads to the primary and to nobody else."""
    servers = _fresh(memory, view)
    if servers is None or primary.name not in servers or _others(servers, primary, ()):
        return False
    return servers[primary.name].up and servers[primary.name].in_service


def _hold(
    memory: Memory, view: View, now_seconds: float, pause_seconds: float, *, outage: bool, leads: bool
) -> tuple[tuple[Action, ...], Memory]:
    """Return the pauses and their ends, and the memory of them."""
    actions: list[Action] = []
    held = dict(memory.held)
    # Whoever held a pooler that is new here has forgotten it; it may be nobody.
    held |= {name: Hold(-math.inf, told_seconds=-math.inf) for name in view.poolers if name not in memory.known}
    spent = memory.spent and not leads
    for name in sorted({*view.poolers, *held}):
        pooling, hold = view.poolers.get(name), held.get(name)
        if hold and _is_over(hold, pooling):
            del held[name]
            hold = None
        if hold is None and outage and not spent and view.servers is not None and _may_be_held(pooling):
            actions.append(Pause(name))
            held[name] = Hold(now_seconds)
        elif hold and (now_seconds >= _due(hold, pause_seconds) or (leads and hold.told_seconds is None)):
            spent = spent or (hold.told_seconds is None and not leads)
            actions.append(Resume(name))
            held[name] = replace(hold, told_seconds=now_seconds)
    known = memory.known | set(view.poolers)
    return tuple(actions), replace(memory, held=MappingProxyType(held), known=known, spent=spent)


def _may_be_held(pooling: Pooling | None) -> bool:
    # Paused, and not by us: somebody else is at work, and will end it.
    return pooling is not None and pooling.paused is False and not pooling.session


def _is_over(hold: Hold, pooling: Pooling | None) -> bool:
    """Return whether a pooler that was told to go on is known to have done so since."""
    if hold.told_seconds is None or pooling is None:
        return False
    return pooling.paused is False and pooling.asked_seconds > hold.told_seconds


def _due(hold: Hold, pause_seconds: float) -> float:
    return hold.since_seconds + pause_seconds if hold.told_seconds is None else hold.told_seconds + RETRY_SECONDS
