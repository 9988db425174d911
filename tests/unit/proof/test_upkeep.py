"""What agents hear and use over a while: when they are asked, and what is made of their answers."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgbaton.errors import CommandError, UnreachableError
from pgbaton.hosts.fake import FakeHost
from pgbaton.proof import upkeep
from pgbaton.proof.target import Target
from pgbaton.proof.upkeep import Gap, Round, Sample, Silence
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from collections.abc import Mapping

TOPOLOGY = load.loads(presets.text("standard"))
FIGURES = """# TYPE pgbaton_heartbeat_gap_seconds gauge
pgbaton_heartbeat_gap_seconds{host="db2"} 0.051
pgbaton_heartbeat_gap_seconds{host="lb1"} 0.75
pgbaton_timeline 1
"""
USED = "CPUUsageNSec=2500000000\nVmRSS:\t   21504 kB\n"


def sample(used: float = 0.0, memory: int = 1 << 20, **gaps: float) -> Sample:
    return Sample(gaps, used, memory)


def rounds(*told: Mapping[str, Sample | Silence]) -> tuple[Round, ...]:
    return tuple(Round(number * 30.0, each) for number, each in enumerate(told))


def answering(figures: str | Exception = FIGURES, used: str | Exception = USED) -> FakeHost:
    reply = figures if isinstance(figures, Exception) else probed({"answer": {"metrics": figures}})
    return FakeHost("db1", answers={("python3",): reply, ("sh", "-c"): used})


def probed(reply: object) -> str:
    return json.dumps({"started": 0.0, "ended": 0.0, "parts": {"agent": reply}})


@pytest.mark.parametrize(
    ("seconds", "asked"), [(60.0, (0.0, 30.0, 60.0)), (75.0, (0.0, 30.0, 60.0, 75.0)), (10.0, (0.0, 10.0))]
)
def test_agents_are_asked_at_the_beginning_twice_a_minute_and_at_the_end(
    seconds: float, asked: tuple[float, ...]
) -> None:
    assert upkeep.moments(seconds) == asked


def test_what_an_agent_tells_and_has_used_is_read() -> None:
    assert upkeep.read(FIGURES, USED) == Sample({"db2": 0.051, "lb1": 0.75}, 2.5, 22020096)


async def test_an_agent_is_asked_on_its_host_for_nothing_but_its_own_word() -> None:
    host = answering()
    assert await upkeep.ask(TOPOLOGY, TOPOLOGY.host("db1"), host) == upkeep.read(FIGURES, USED)
    asked = json.loads(next(text for argv, text in host.calls if argv[0] == "python3").split("main('")[-1][:-3])
    assert (asked["parts"], asked["pools"], asked["address"]) == (["agent"], {}, "10.77.0.21")
    assert asked["agent"]["port"] == TOPOLOGY.orchestration.health_port


@pytest.mark.parametrize(
    ("host", "why"),
    [
        (answering(UnreachableError("no end after 10 s")), "no end after 10 s"),
        (answering(used=CommandError("exit status 2\ngrep: /proc/0/status: No such file")), "grep: /proc/0/status: "),
        (answering(used="CPUUsageNSec=[not set]\nVmRSS:\t   21504 kB\n"), "its answer could not be read: ValueError: "),
        (answering(used=""), "its answer could not be read: ValueError: "),
        (
            FakeHost("db1", answers={("python3",): "no JSON", ("sh",): USED}),
            "its answer could not be read: JSONDecodeError: ",
        ),
        (
            FakeHost("db1", answers={("python3",): probed({"error": "no answer within 3 s"}), ("sh",): USED}),
            "no answer within 3 s",
        ),
    ],
)
async def test_an_agent_that_does_not_answer_or_not_in_a_known_form_says_why_it_told_nothing(
    host: FakeHost, why: str
) -> None:
    told = await upkeep.ask(TOPOLOGY, TOPOLOGY.host("db1"), host)
    assert isinstance(told, Silence)
    assert told.reason.startswith(why)


async def test_all_agents_are_asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    hosts = {spec.name: answering() for spec in TOPOLOGY.voters}
    monkeypatch.setattr(Target, "hosts", hosts)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    seen = await upkeep.watch(Target(TOPOLOGY, ClusterState("demo", Path("/nowhere")), lambda _: None), 75.0)
    assert slept == [0.0, 30.0, 60.0, 75.0]
    assert [each.at_seconds for each in seen] == slept
    assert all(set(each.samples) == {"lb1", "lb2", "db1", "db2", "db3"} for each in seen)
    assert {len(host.called("sh")) for host in hosts.values()} == {4}


def test_the_longest_gap_of_all_counts_with_whoever_saw_it() -> None:
    seen = rounds({}, {}, {"db1": sample(db2=0.1), "lb1": sample(db2=0.3, db1=0.2)}, {"db1": sample(db2=0.2)})
    assert upkeep.longest_gaps(seen) == {"db2": Gap(0.3, "lb1"), "db1": Gap(0.2, "lb1")}


def test_what_an_agent_may_still_have_from_before_the_beginning_does_not_count() -> None:
    early, late = {"db1": sample(db2=7.0)}, {"db1": sample(db2=0.1)}
    assert upkeep.longest_gaps(rounds(early, early, late)) == {"db2": Gap(0.1, "db1")}
    assert upkeep.longest_gaps(rounds(early, early)) == {}


@pytest.mark.parametrize(
    ("told", "share"),
    [
        ([(0.0, sample(1.0)), (30.0, sample(4.0)), (60.0, sample(7.0))], 0.1),
        # it was started again, and counts from zero
        ([(0.0, sample(9.0)), (30.0, sample(10.0)), (60.0, sample(2.0))], 0.05),
        ([(30.0, sample(1.0)), (90.0, sample(7.0))], 0.1),
        ([(0.0, sample(1.0))], None),
        ([], None),
    ],
)
def test_the_share_of_a_processor_is_what_was_used_between_the_answers(
    told: list[tuple[float, Sample]], share: float | None
) -> None:
    seen = upkeep.processor_share(told)
    assert seen == (None if share is None else pytest.approx(share))


def test_everything_known_of_agents_is_told_and_who_did_not_answer() -> None:
    seen = rounds(
        {"db1": sample(1.0), "lb1": sample(0.0)},
        {"db1": sample(1.6), "lb1": Silence("no answer within 3 s")},
        {"db1": sample(2.2, 21 << 20, lb1=0.1234), "lb1": sample(1.2, 20 << 20, db1=0.4)},
    )
    heard, *others = upkeep.remarks(seen, detection_seconds=0.5)
    assert heard == (
        "longest time between two heartbeats: db1 0.400 s (seen on lb1), lb1 0.123 s (seen on db1); "
        "silent is who is not heard for 0.5 s"
    )
    assert others == [
        "agents used of one processor all along, and of memory at the end: db1 2.0% and 21 MiB, lb1 2.0% and 20 MiB",
        "of 3 questions agents did not answer: lb1 1 (no answer within 3 s)",
    ]


def test_without_agents_there_is_nothing_to_tell() -> None:
    assert upkeep.remarks(rounds({}, {}, {}), detection_seconds=0.5) == ()
