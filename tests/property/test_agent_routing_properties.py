"""Routing under whatever may happen: to hosts, to what is heard of them, to HAProxy, to poolers, to the agent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from pgbaton.agent.decisions.routing import (
    RETRY_SECONDS,
    Action,
    CutSessions,
    Database,
    Decision,
    Mark,
    Memory,
    Pause,
    Pooling,
    Resume,
    Role,
    Says,
    Server,
    Servers,
    View,
    decide,
    due_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

PAUSE_SECONDS = 2.0
HOSTS = ("db1", "db2", "db3")
POOLERS = ("one", "two")
NOTHING = View(poolers=dict.fromkeys(POOLERS))
ROLES: tuple[Role, ...] = ("primary", "standby", "none", "unknown")
LEADERS = (None, *HOSTS)
SECONDS = (0.05, 0.05, 0.05, 0.001, 0.3, 3.0)
START = Memory()


class Digits:
    """Choices, read off one number: quicker to draw and to shrink than each by itself."""

    def __init__(self, number: int) -> None:
        self.number = number

    def of(self, choices: Sequence[T]) -> T:
        self.number, digit = divmod(self.number, len(choices))
        return choices[digit]

    def chance(self, one_in: int) -> bool:
        return self.of(range(one_in)) == one_in - 1


@dataclass
class Pooler:
    paused: bool = False
    session: bool = False
    answers: bool = True
    tells: bool = True

    def pooling(self, now_seconds: float) -> Pooling | None:
        return Pooling(now_seconds, self.paused if self.tells else None, self.session) if self.answers else None


class World:
    """A balancer, what its agent knows of three database hosts, and what has happened; db1 is primary at first."""

    def __init__(self) -> None:
        standby = Says("standby", writable=False, timeline=1)
        self.says: dict[str, Says | None] = {
            "db1": Says("primary", writable=True, timeline=1),
            "db2": standby,
            "db3": standby,
        }
        self.fenced: set[str] = set()
        self.leader: str | None = "db1"
        self.servers = {name: Server(name, up=name == "db1") for name in HOSTS}
        self.haproxy_answers = True
        self.poolers = {name: Pooler() for name in POOLERS}
        self.restarted = False

    def view(self, now_seconds: float) -> View:
        return View(
            tuple(Database(name, self.says[name], name in self.fenced) for name in HOSTS),
            self.leader,
            Servers(now_seconds, tuple(self.servers.values())) if self.haproxy_answers else None,
            {name: pooler.pooling(now_seconds) for name, pooler in self.poolers.items()},
        )

    def happen(self, digits: Digits) -> None:
        """Let one thing happen."""
        happenings: tuple[Callable[[Digits], None], ...] = (
            self.nothing,
            self.die,
            self.promote,
            self.come_back,
            self.rival,
            self.speak,
            self.fence,
            self.check,
            self.serve,
            self.lead,
            self.pool,
            self.restart,
        )
        digits.of(happenings)(digits)

    def nothing(self, digits: Digits) -> None:
        del digits

    def die(self, digits: Digits) -> None:
        name = digits.of(HOSTS)
        self.says[name] = None
        self.fenced.add(name)

    def promote(self, digits: Digits) -> None:
        highest = max((says.timeline for says in self.says.values() if says), default=0)
        self.leader = digits.of(HOSTS)
        self.fenced.discard(self.leader)
        self.says[self.leader] = Says("primary", writable=True, timeline=highest + 1)

    def come_back(self, digits: Digits) -> None:
        name = digits.of(HOSTS)
        highest = max((says.timeline for says in self.says.values() if says), default=0)
        self.fenced.discard(name)
        self.says[name] = Says("standby", writable=False, timeline=highest)

    def rival(self, digits: Digits) -> None:
        highest = max((says.timeline for says in self.says.values() if says), default=0)
        self.says[digits.of(HOSTS)] = Says("primary", writable=True, timeline=highest)

    def speak(self, digits: Digits) -> None:
        name = digits.of(HOSTS)
        says = Says(digits.of(ROLES), writable=not digits.chance(4), timeline=digits.of((1, 2, 3, 0)))
        self.says[name] = None if digits.chance(4) else says

    def fence(self, digits: Digits) -> None:
        self.fenced ^= {digits.of(HOSTS)}

    def check(self, digits: Digits) -> None:
        name = digits.of(HOSTS)
        if name in self.servers:
            self.servers[name] = replace(self.servers[name], up=not self.servers[name].up)

    def serve(self, digits: Digits) -> None:
        name = digits.of(HOSTS)
        if digits.chance(3):
            self.haproxy_answers = not self.haproxy_answers
        elif digits.chance(3):
            self.servers.pop(name, None)
        elif name in self.servers:
            self.servers[name] = replace(self.servers[name], in_service=not self.servers[name].in_service)

    def lead(self, digits: Digits) -> None:
        self.leader = digits.of(LEADERS)

    def pool(self, digits: Digits) -> None:
        pooler = self.poolers[digits.of(POOLERS)]
        what = digits.of(("paused", "answers", "tells", "session"))
        setattr(pooler, what, not getattr(pooler, what))

    def restart(self, digits: Digits) -> None:
        self.restarted = digits.chance(2)

    def do(self, action: Action) -> None:
        match action:
            case Mark(server, health):
                if server in self.servers:
                    self.servers[server] = replace(self.servers[server], up=health == "up")
            case Pause(pooler):
                self.poolers[pooler].paused = True
            case Resume(pooler):
                self.poolers[pooler].paused = False
            case CutSessions():
                pass


@dataclass(frozen=True)
class Step:
    """A decision with all that it was made of."""

    now_seconds: float
    before: Memory
    view: View
    decision: Decision

    @property
    def started(self) -> bool:
        return self.before == START

    def marked(self, health: str) -> set[str]:
        return {it.server for it in self.decision.actions if isinstance(it, Mark) and it.health == health}

    def claims(self) -> dict[str, int]:
        """Return the timelines of those who say that they take writes, and are not fenced."""
        says = {it.name: it.says for it in self.view.databases if it.says and not it.fenced}
        return {name: it.timeline for name, it in says.items() if it.role == "primary" and it.writable}


def play(numbers: list[int]) -> list[Step]:
    """Return each decision of an agent in a world where these things happen."""
    world, memory, now_seconds = World(), START, 1000.0
    seen = world.view(now_seconds)
    steps = []
    for number in (0, 0, *numbers):
        digits = Digits(number)
        world.happen(digits)
        now_seconds += digits.of(SECONDS)
        before, world.restarted = (START if world.restarted else memory), False
        last, seen = seen, world.view(now_seconds)
        if digits.chance(5):
            # Readings that were on their way when the last decision fell.
            seen = replace(seen, servers=last.servers, poolers=last.poolers)
        decision = decide(before, seen, now_seconds=now_seconds, pause_seconds=PAUSE_SECONDS)
        memory = decision.memory
        steps.append(Step(now_seconds, before, seen, decision))
        # Now and then, nothing that was decided can be done.
        for action in () if digits.chance(8) else decision.actions:
            world.do(action)
    return steps


histories = st.lists(st.integers(0, 1 << 40), min_size=10, max_size=40)
few = settings(max_examples=60, deadline=None)


@given(histories)
@few
def test_there_are_never_two_primaries_by_our_hints(numbers: list[int]) -> None:
    for step in play(numbers):
        up = step.marked("up")
        if up:
            assert len(up) == 1
            assert step.view.servers is not None
            led_to = {it.name for it in step.view.servers.servers if it.up and it.in_service} - step.marked("down")
            assert led_to == set()


@given(histories)
@few
def test_only_the_one_on_the_highest_timeline_is_hinted(numbers: list[int]) -> None:
    highest = 0
    for step in play(numbers):
        highest = max([0 if step.started else highest, *(it.says.timeline for it in step.view.databases if it.says)])
        for name in step.marked("up"):
            assert [other for other, timeline in step.claims().items() if timeline == highest] == [name]


@given(histories)
@few
def test_sessions_are_cut_for_a_reason_alone(numbers: list[int]) -> None:
    for step in play(numbers):
        cut = {it.server for it in step.decision.actions if isinstance(it, CutSessions)} | step.marked("down")
        for it in step.view.databases:
            clear = it.says is not None and it.says.role != "unknown"
            own = step.decision.memory.timelines.get(it.name, 99)
            superseded = any(timeline > own for timeline in step.claims().values())
            assert it.name not in cut or it.fenced or superseded or (clear and it.name not in step.claims())


@given(histories)
@few
def test_every_pause_ends_in_time(numbers: list[int]) -> None:
    began: dict[str, float] = {}
    for step in play(numbers):
        resumed = {it.pooler for it in step.decision.actions if isinstance(it, Resume)}
        if step.started:
            # Who paused is gone: who starts lets everybody go who does not say that he does.
            assert resumed == {name for name, it in step.view.poolers.items() if it is None or it.paused is not False}
            began = {}
        paused = {it.pooler for it in step.decision.actions if isinstance(it, Pause)}
        assert not paused & (set(began) | resumed)
        began = {name: since for name, since in began.items() if name not in resumed}
        began |= dict.fromkeys(paused, step.now_seconds)
        assert all(step.now_seconds < since + PAUSE_SECONDS for since in began.values())
        due = due_seconds(step.decision.memory, pause_seconds=PAUSE_SECONDS)
        assert not began or (due is not None and due <= min(began.values()) + PAUSE_SECONDS)


@given(histories)
@few
def test_a_hold_ends_early_for_one_primary_alone(numbers: list[int]) -> None:
    for step in play(numbers):
        for action in step.decision.actions:
            hold = step.before.held.get(action.pooler) if isinstance(action, Resume) else None
            if hold and hold.told_seconds is None and step.now_seconds < hold.since_seconds + PAUSE_SECONDS:
                assert step.view.servers is not None
                led_to = [it.name for it in step.view.servers.servers if it.up and it.in_service]
                assert len(led_to) == 1
                assert led_to[0] in step.claims()


@given(histories, st.lists(st.sampled_from((0.01, 0.3, 1.0, 5.0)), min_size=1, max_size=10))
@few
def test_nothing_known_gives_nothing_but_overdue_ends(numbers: list[int], waits_seconds: list[float]) -> None:
    last = play(numbers)[-1]
    memory, now_seconds = last.decision.memory, last.now_seconds
    for wait_seconds in waits_seconds:
        now_seconds += wait_seconds
        due = due_seconds(memory, pause_seconds=PAUSE_SECONDS)
        decision = decide(memory, NOTHING, now_seconds=now_seconds, pause_seconds=PAUSE_SECONDS)
        assert all(isinstance(it, Resume) for it in decision.actions)
        assert bool(decision.actions) == (due is not None and due <= now_seconds)
        memory = decision.memory


@given(histories)
@few
def test_nobody_is_held_in_session_pooling_or_where_somebody_else_holds(numbers: list[int]) -> None:
    for step in play(numbers):
        for action in step.decision.actions:
            if isinstance(action, Pause):
                pooling = step.view.poolers[action.pooler]
                assert pooling is not None
                assert pooling.paused is False
                assert not pooling.session


@given(histories)
@few
def test_an_agent_that_starts_hints_nobody_up_and_holds_nobody(numbers: list[int]) -> None:
    for step in play(numbers):
        assert not step.started or not step.marked("up")
        assert not step.started or not any(isinstance(it, Pause) for it in step.decision.actions)


@given(histories)
@few
def test_what_is_seen_again_at_once_asks_for_nothing_more(numbers: list[int]) -> None:
    for step in play(numbers):
        now_seconds = step.now_seconds
        again = decide(step.decision.memory, step.view, now_seconds=now_seconds, pause_seconds=PAUSE_SECONDS)
        assert again.actions == ()


def test_the_histories_are_full_of_what_is_to_be_shown() -> None:
    seen: set[str] = set()

    @given(histories)
    @settings(max_examples=60, deadline=None, database=None, derandomize=True)
    def look(numbers: list[int]) -> None:
        for step in play(numbers):
            seen.update(f"{type(it).__name__} {getattr(it, 'health', '')}".strip() for it in step.decision.actions)
            seen.update("alarm" for _ in step.decision.alarms)

    look()
    assert seen == {"Mark up", "Mark down", "CutSessions", "Pause", "Resume", "alarm"}


def test_a_pooler_that_never_answers_is_told_now_and_then() -> None:
    memory, told = START, 0
    for tick in range(100):
        decision = decide(memory, NOTHING, now_seconds=1000 + tick * RETRY_SECONDS / 5, pause_seconds=PAUSE_SECONDS)
        memory, told = decision.memory, told + len(decision.actions)
    assert told == len(POOLERS) * 100 / 5
