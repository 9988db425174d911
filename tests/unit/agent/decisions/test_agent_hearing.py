from __future__ import annotations

import pytest

from pgbaton.agent.decisions.hearing import Hearing, How

HOSTS = ("db1", "db2", "db3")
BEAT, DETECTION = 0.05, 0.25


def hearing() -> Hearing:
    return Hearing(HOSTS, heartbeat_seconds=BEAT, detection_seconds=DETECTION, now=0.0)


def run(agent: Hearing, begin: int, end: int, *alive: str, how: How = "heartbeat") -> float:
    """Turn once in each heartbeat, from one number of heartbeats to another, and hear these hosts; return the end."""
    for turn in range(begin, end + 1):
        for host in alive:
            agent.heard(host, turn * BEAT, how)
        agent.woke(turn * BEAT)
    return end * BEAT


def test_a_host_that_was_never_heard_is_unknown_and_not_silent() -> None:
    agent = hearing()
    now = run(agent, 1, 100, "db1")
    assert agent.unknown == {"db2", "db3"}
    assert agent.silent(now) == frozenset()
    assert agent.last("db2") is None


def test_a_host_is_silent_after_the_detection_time_and_not_before() -> None:
    agent = hearing()
    run(agent, 1, 10, "db1", "db2")
    now = run(agent, 11, 14, "db1")
    assert agent.silent(now) == frozenset()
    now = run(agent, 15, 15, "db1")
    assert agent.silent(now + 0.001) == {"db2"}


def test_silence_ends_with_any_sign_of_life() -> None:
    for how in ("heartbeat", "echo"):
        agent = hearing()
        run(agent, 1, 10, "db1", "db2")
        now = run(agent, 11, 30, "db1")
        assert agent.silent(now) == {"db2"}
        agent.heard("db2", now, how)  # type: ignore[arg-type]
        assert agent.silent(now) == frozenset()


def test_a_host_whose_agent_died_is_mute_and_not_silent() -> None:
    agent = hearing()
    run(agent, 1, 10, "db1", "db2")
    run(agent, 11, 30, "db2", how="echo")
    now = run(agent, 31, 31, "db1")
    assert agent.mute(now) == {"db2", "db3"}
    assert agent.silent(now) == frozenset()


def test_echoes_keep_a_host_from_being_silent_and_more_are_asked_for() -> None:
    agent = hearing()
    run(agent, 1, 10, "db1", "db2")
    run(agent, 11, 11, "db1")
    assert agent.overdue(11 * BEAT) == frozenset()
    now = run(agent, 12, 12, "db1") + 0.001
    assert agent.overdue(now) == {"db2"}
    for turn in range(13, 60):
        run(agent, turn, turn, "db1")
        agent.heard("db2", turn * BEAT, "echo")
        assert agent.overdue(turn * BEAT) == {"db2"}
        assert agent.silent(turn * BEAT) == frozenset()


def test_a_host_that_is_none_of_the_others_is_not_kept() -> None:
    agent = hearing()
    agent.heard("db9", 0.0, "heartbeat")
    assert agent.last("db9") is None
    assert agent.unknown == set(HOSTS)


def test_the_last_sign_of_life_is_remembered_with_its_time() -> None:
    agent = hearing()
    run(agent, 1, 3, "db1")
    run(agent, 4, 4, "db1", how="echo")
    last = agent.last("db1")
    assert last
    assert (last.at_seconds, last.how) == (4 * BEAT, "echo")


# Pauses of the agent itself.


def test_an_agent_that_overslept_says_nothing_for_a_whole_detection_time() -> None:
    agent = hearing()
    run(agent, 1, 10, *HOSTS)
    assert not agent.stalled(10 * BEAT)
    assert agent.stalled(20 * BEAT)  # it has not turned yet, and knows already
    agent.woke(20 * BEAT)
    now = run(agent, 21, 24, "db1")
    assert agent.stalled(now)
    assert agent.silent(now) == frozenset()
    now = run(agent, 25, 26, "db1")
    assert not agent.stalled(now)
    assert agent.silent(now) == {"db2", "db3"}


@pytest.mark.parametrize(("late", "stalled"), [(0.099, False), (0.101, True)])
def test_an_agent_is_stalled_when_it_woke_too_late(*, late: float, stalled: bool) -> None:
    agent = hearing()
    assert agent.stall_seconds == 0.1
    agent.woke(BEAT + late)
    assert agent.stalled(BEAT + late) is stalled


def test_the_limit_of_a_stall_grows_with_the_detection_time() -> None:
    agent = Hearing(HOSTS, heartbeat_seconds=0.05, detection_seconds=0.9, now=0.0)
    assert agent.stall_seconds == pytest.approx(0.3)


def test_a_second_pause_begins_the_wait_anew() -> None:
    agent = hearing()
    run(agent, 1, 10, *HOSTS)
    run(agent, 20, 23, "db1")
    now = run(agent, 40, 44, "db1")
    assert agent.stalled(now)
    assert not agent.stalled(run(agent, 45, 46, "db1"))


def test_what_waited_in_the_socket_counts_when_it_is_read() -> None:
    agent = hearing()
    run(agent, 1, 10, *HOSTS)
    agent.heard("db1", 3600.0, "heartbeat")
    agent.woke(3600.0)
    for turn in range(1, 5):
        agent.woke(3600.0 + turn * BEAT)
    assert agent.last("db1").at_seconds == 3600.0  # type: ignore[union-attr]
    agent.woke(3600.0 + 5 * BEAT + 0.001)
    assert agent.silent(3600.0 + 5 * BEAT + 0.001) == set(HOSTS)


def test_a_row_of_short_pauses_makes_nobody_silent() -> None:
    agent = hearing()
    now = run(agent, 1, 10, *HOSTS)
    for _ in range(4):
        now += BEAT + 0.09  # not long enough for a stall
        agent.woke(now)
    assert not agent.stalled(now)
    assert now - agent.last("db1").at_seconds > 2 * DETECTION  # type: ignore[union-attr]
    assert agent.silent(now) == frozenset()


def test_timers_that_are_always_a_little_late_lengthen_detection_by_nothing() -> None:
    agent = hearing()
    run(agent, 1, 10, "db1")
    now = 10 * BEAT
    for _ in range(5):
        now += BEAT + 0.009
        agent.woke(now)
    assert agent.silent(now) == {"db1"}


def test_turns_that_come_early_are_as_good_as_those_in_time() -> None:
    agent = hearing()
    agent.heard("db1", 0.0, "heartbeat")
    for step in range(1, 251):
        assert agent.silent(step / 1000 - 0.0005) == frozenset()
        agent.woke(step / 1000)
    assert agent.silent(0.2505) == {"db1"}


def test_a_clock_that_went_back_is_not_trusted() -> None:
    agent = hearing()
    run(agent, 1, 10, *HOSTS)
    agent.woke(5 * BEAT)
    assert agent.stalled(5 * BEAT)
    now = run(agent, 6, 11, "db1")
    assert not agent.stalled(now)
    assert agent.silent(now) == {"db2", "db3"}


# What the detection time has to exceed.


def test_jitter_is_the_longest_gap_of_the_last_minute() -> None:
    agent = hearing()
    run(agent, 1, 100, "db1", "db2")
    run(agent, 101, 103, "db1")
    now = run(agent, 104, 200, "db1", "db2")
    assert agent.jitter(now) == {"db1": pytest.approx(BEAT), "db2": pytest.approx(4 * BEAT)}
    now = run(agent, 201, 104 + 1200 + 1, "db1", "db2")
    assert agent.jitter(now) == {"db1": pytest.approx(BEAT), "db2": pytest.approx(BEAT)}


def test_jitter_knows_nothing_of_hosts_that_were_not_heard_twice_lately() -> None:
    agent = hearing()
    run(agent, 1, 1, "db1")
    now = run(agent, 2, 9, "db2", how="echo")
    assert agent.jitter(now) == {}
    run(agent, 10, 20, "db1")
    assert agent.jitter(run(agent, 21, 1500)) == {}


def test_a_pause_of_this_agent_is_no_jitter_of_the_others() -> None:
    agent = hearing()
    run(agent, 1, 10, "db1")
    now = run(agent, 1000, 1010, "db1")
    assert agent.jitter(now)["db1"] < 2 * BEAT


def test_jitter_is_kept_in_bounds_when_nobody_asks_for_it() -> None:
    agent = hearing()
    for turn in range(10_000):
        # Every gap is a little shorter than the one before, so none hides another.
        agent.woke(turn * BEAT)
        agent.heard("db1", turn * BEAT + (10_000 - turn) * 1e-7, "heartbeat")
    assert len(agent._gaps["db1"]._gaps) <= 1201
