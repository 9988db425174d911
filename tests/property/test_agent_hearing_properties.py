from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from pgbaton.agent.decisions.hearing import JITTER_SECONDS, Hearing

#: In milliseconds, which are the steps of the simulated time.
BEAT = 20


@dataclass(frozen=True)
class World:
    """A host that sends in time, and an agent that is paused now and then.

    ``pauses`` are (how long it runs, how long it does not, how often in a row); ``delays`` how much running
    time each heartbeat takes, in turn; ``offset`` when the first is sent.
    """

    beats: int
    offset: int
    delays: list[int]
    pauses: list[tuple[int, int, int]]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    beats = draw(st.integers(4, 8))
    longest = (beats - 2) * BEAT
    any_delays = st.lists(st.integers(0, longest), min_size=1, max_size=12)
    # The longest silence: one heartbeat comes at once, and all that follow as late as they may.
    worst_delays = st.integers(1, 4).map(lambda prompt: [0] * prompt + [longest] * 9)
    # Pauses of up to two intervals are too short for a stall, whatever the detection time.
    short = st.tuples(st.integers(1, 2 * BEAT), st.integers(1, 2 * BEAT), st.integers(1, 12))
    long = st.tuples(st.integers(1, 9 * BEAT), st.integers(1, 20 * BEAT), st.just(1))
    pauses = st.lists(short | long, max_size=6)
    return World(beats, draw(st.integers(0, BEAT - 1)), draw(any_delays | worst_delays), draw(pauses))


class Machine:
    """The agent's machine, a millisecond after the other.

    Running time goes by while the agent runs or sleeps as it meant to; it stands still while the agent is overdue.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.host_lives = True
        self.running = 0
        self.due = BEAT
        self.sent: list[int] = []
        self.hearing = Hearing(["db1"], heartbeat_seconds=BEAT, detection_seconds=BEAT * world.beats, now=0)

    def step(self, now: int, *, paused: bool) -> bool:
        """Live through one millisecond; tell whether the agent had a turn at its end."""
        if not (paused and now > self.due):
            self.running += 1
        if self.host_lives and now % BEAT == self.world.offset:
            delay = self.world.delays[now // BEAT % len(self.world.delays)]
            self.sent.append(self.running + delay)
        arrived = [moment for moment in self.sent if moment <= self.running]
        if paused or (not arrived and now < self.due):
            return False
        self.sent = [moment for moment in self.sent if moment > self.running]
        for _ in arrived:
            self.hearing.heard("db1", now, "heartbeat")
        self.hearing.woke(now)
        self.due = now + BEAT
        return True


def schedule(world: World) -> list[bool]:
    """Return for each millisecond whether the agent is paused; at last it runs."""
    moments: list[bool] = []
    for run, pause, times in world.pauses:
        moments += ([False] * run + [True] * pause) * times
    return moments + [False] * (2 * BEAT * world.beats)


@given(worlds())
def test_no_schedule_of_pauses_makes_a_host_silent_that_sends_in_time(world: World) -> None:
    """Every heartbeat is sent each interval and takes at most the detection time less two, in running time."""
    machine = Machine(world)
    for now, paused in enumerate(schedule(world), start=1):
        if machine.step(now, paused=paused):
            assert machine.hearing.silent(now) == frozenset()


@given(worlds())
def test_a_dead_host_is_silent_when_the_agent_ran_long_enough(world: World) -> None:
    machine = Machine(world)
    machine.hearing.heard("db1", 0, "heartbeat")
    machine.host_lives = False
    moments = schedule(world)
    for now, paused in enumerate(moments, start=1):
        machine.step(now, paused=paused)
    assert machine.hearing.silent(len(moments)) == {"db1"}


@given(
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from(["woke", "beat", "echo"])), max_size=60),
    st.integers(0, 400),
)
def test_nobody_is_silent_that_was_heard_within_the_detection_time(events: list[tuple[int, str]], later: int) -> None:
    hearing, now, last = Hearing(["db1"], heartbeat_seconds=BEAT, detection_seconds=100, now=0), 0, None
    for pause, event in events:
        now += pause
        if event == "woke":
            hearing.woke(now)
        else:
            hearing.heard("db1", now, "heartbeat" if event == "beat" else "echo")
            last = now
    now += later
    if last is None or now - last < 100:
        assert hearing.silent(now) == frozenset()
    assert not (hearing.stalled(now) and hearing.silent(now))


@given(st.lists(st.integers(0, 9000), min_size=1, max_size=60))
def test_the_longest_gap_is_the_one_that_brute_force_finds(pauses: list[int]) -> None:
    hearing = Hearing(["db1"], heartbeat_seconds=10_000, detection_seconds=40_000, now=0)
    hearing.heard("db1", 0, "heartbeat")
    gaps: list[tuple[int, int]] = []
    now = 0
    for pause in pauses:
        now += pause
        hearing.woke(now)
        hearing.heard("db1", now, "heartbeat")
        gaps.append((now, pause))
    lately = [gap for moment, gap in gaps if moment >= now - JITTER_SECONDS]
    assert hearing.jitter(now) == {"db1": max(lately)}
