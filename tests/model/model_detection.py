"""A second model, of time: how hearing and the verdict go together while agents are paused for any span.

Time goes by in heartbeats. The primary's host is alive and connected: its kernel answers every echo, and its agent
sends a heartbeat whenever it runs. Every agent may sleep at any beat, for any time. What is sent to one that sleeps
waits for it; after more than a moment it may be lost, because the whole machine slept. Heartbeats may come a beat late,
questions and votes at any time.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from model_checker import Step, Violation

from pgbaton.agent.decisions import terms, verdict
from pgbaton.agent.decisions.hearing import Heard, Hearing
from pgbaton.agent.decisions.terms import (
    Ask,
    Asked,
    Case,
    Fence,
    Fenced,
    Lock,
    Release,
    Rules,
    State,
    Tick,
    View,
    Vote,
    Voted,
)

VOTERS = frozenset({"P", "S", "O1"})
HEARTBEAT, DETECTION = 1.0, 4.0
#: How many beats after its last turn an agent may wake to nothing, though much was sent to it.
LOST_AFTER = 4.0
#: Not before any moment that is looked at.
NOW = 100.0
LOCK = Lock(
    revision=3,
    leader="P",
    leader_revision=2,
    sync_leader="P",
    sync=frozenset({"S"}),
    sync_revision=3,
    config_revision=1,
    verdict_revision=0,
)


class Ears(NamedTuple):
    """What a :class:`Hearing` knows of P, as spans that end now: of the clock, and of running time."""

    woke: float = 0.0
    last: float = 0.0
    heartbeat: float = 0.0
    stalled: float | None = None


class Mind(NamedTuple):
    """An agent: what it heard, what waits in its socket and what will, what it remembers and did."""

    ears: Ears = Ears()
    waiting: frozenset[str] = frozenset()
    coming: frozenset[str] = frozenset()
    memory: State = State()
    fenced: bool = False


class Moment(NamedTuple):
    """A state of everything between two beats; messages that were sent once may come at any time."""

    minds: tuple[Mind, ...]
    asked: frozenset[Case] = frozenset()
    votes: frozenset[tuple[str, Case]] = frozenset()


@dataclass
class Turn:
    """One agent's turn: its ears opened, and what it says."""

    name: str
    hearing: Hearing
    now: float
    mind: Mind
    says: list[terms.Action]

    def tell(self, event: terms.Event) -> None:
        silent = self.hearing.silent(self.now)
        view = View(
            silent=silent,
            agreed=silent,
            stalled=self.hearing.stalled(self.now),
            lock=LOCK,
            fenced=frozenset({"P"} if self.mind.fenced else ()),
        )
        rules = Rules(self.name, VOTERS, may_lead=self.name == "S")
        state, actions = verdict.step(rules, self.mind.memory, view, event)
        self.mind = self.mind._replace(memory=state)
        for action in actions:
            self.says.append(action)
            if isinstance(action, Fence):
                self.mind = self.mind._replace(fenced=True)
                self.tell(Fenced("P"))


@dataclass(frozen=True)
class Pauses:
    """One exploration: the agents that are there, and what may befall P's heartbeats and them at each beat."""

    names: tuple[str, ...]
    sent: tuple[str, ...] = ("in time", "late", "not")
    lots: tuple[str, ...] = ("runs", "sleeps", "wakes to nothing")

    @property
    def initial(self) -> Moment:
        """Return a beat at which P was just heard; whoever is not there may have said all that it could ever say."""
        case = verdict.case_against(Rules("S", VOTERS), LOCK, "P")
        asked = frozenset({case} if "S" not in self.names else ())
        votes = frozenset({("O1", case)} if "O1" not in self.names else ())
        return Moment(tuple(Mind() for _ in self.names), asked, votes)

    def successors(self, moment: Moment) -> Iterator[Step]:
        """Return what the next beat may bring."""
        for sent, *lots in product(self.sent, *(self.lots for _ in self.names)):
            for delivered in (False, True) if moment.asked or moment.votes else (False,):
                label = (
                    f"P's heartbeat: {sent};",
                    *(f"{name} {lot};" for name, lot in zip(self.names, lots, strict=True)),
                )
                after = self._beat(moment, sent, lots, delivered=delivered)
                yield (*label, "messages come" if delivered else ""), after, True

    def _beat(self, moment: Moment, sent: str, lots: list[str], *, delivered: bool) -> Moment | Violation:
        minds, said = [], []
        for name, lot, before in zip(self.names, lots, moment.minds, strict=True):
            mind = before._replace(
                waiting=before.waiting | before.coming | ({"heartbeat"} if sent == "in time" else set()),
                coming=frozenset({"heartbeat"} if sent == "late" else ()),
                ears=before.ears._replace(woke=min(before.ears.woke + HEARTBEAT, DETECTION)),
            )
            if lot == "wakes to nothing" and mind.ears.woke >= LOST_AFTER:
                mind = mind._replace(waiting=frozenset())
            if lot != "sleeps":
                turn = _turn(name, mind, moment.asked if delivered else (), moment.votes if delivered else ())
                mind = turn.mind
                said += [(name, action) for action in turn.says]
            minds.append(mind)
        if any(isinstance(action, Release) for _, action in said):
            return Violation("I3", "the lock of a primary that is alive and connected is released")
        asked = {action.case for _, action in said if isinstance(action, Ask)}
        votes = {(name, action.case) for name, action in said if isinstance(action, Vote)}
        return Moment(tuple(minds), moment.asked | asked, moment.votes | votes)


def _turn(name: str, mind: Mind, asked: Iterable[Case], votes: Iterable[tuple[str, Case]]) -> Turn:
    """Read what waits, note that it woke, ask for echoes, and let the verdict see; in the order of the daemon."""
    hearing, now = _opened(mind.ears), NOW
    for how in sorted(mind.waiting):
        hearing.heard("P", now, "heartbeat" if how == "heartbeat" else "echo")
    hearing.woke(now)
    coming = mind.coming | ({"echo"} if hearing.overdue(now) else set())
    turn = Turn(name, hearing, now, mind._replace(waiting=frozenset(), coming=coming), [])
    turn.tell(Tick())
    for case in sorted(asked, key=str):
        if case.candidate != name:
            turn.tell(Asked(case))
    for voter, case in sorted(votes, key=str):
        if case.candidate == name:
            turn.tell(Voted(voter, case))
    turn.mind = turn.mind._replace(ears=_closed(hearing))
    return turn


def _opened(ears: Ears) -> Hearing:
    hearing = Hearing(["P"], heartbeat_seconds=HEARTBEAT, detection_seconds=DETECTION, now=NOW - ears.woke)
    hearing._last["P"] = Heard(0.0, -ears.last, "echo")
    hearing._heartbeats["P"] = Heard(0.0, -ears.heartbeat, "heartbeat")
    hearing._stalled_at = None if ears.stalled is None else -ears.stalled
    return hearing


def _closed(hearing: Hearing) -> Ears:
    running, stalled = hearing._running, hearing._stalled_at
    over = stalled is None or running - stalled >= DETECTION
    return Ears(
        last=min(running - hearing._last["P"].running_seconds, DETECTION),
        heartbeat=min(running - hearing._heartbeats["P"].running_seconds, DETECTION),
        stalled=None if over or stalled is None else running - stalled,
    )
