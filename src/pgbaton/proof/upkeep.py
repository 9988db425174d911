"""What agents hear of each other and what they cost their hosts, over a while: asked for again and again.

An agent tells the longest time between two heartbeats of the last minute alone, so whoever wants the longest of an hour
has to ask it more often than once a minute.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from pgbaton.components import agent
from pgbaton.errors import Error
from pgbaton.observe import collect, readings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgbaton.hosts.base import Host
    from pgbaton.proof.target import Target
    from pgbaton.topology.model import HostSpec, Topology

#: Twice within what an agent looks back on: one answer may be missing.
EVERY_SECONDS = 30.0
LOOKS_BACK_SECONDS = 60.0
#: On a busy machine the question waits longer than the answer.
ANSWER_SECONDS = 10.0
MEBIBYTE, KIBIBYTE = 1 << 20, 1 << 10
# What the unit has used of processors since it was started, and what its process has of memory now: not every kernel
# counts the memory of a unit.
USAGE = """
systemctl show --property=CPUUsageNSec "$1"
grep ^VmRSS: "/proc/$(systemctl show --property=MainPID --value "$1")/status"
"""
USED = re.compile(r"^CPUUsageNSec=(\d+)\nVmRSS:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """What an agent tells, and what it has used: the longest gap between each host's heartbeats, lately."""

    gaps: Mapping[str, float]
    processor_seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Silence:
    """Why an agent told nothing."""

    reason: str


@dataclass(frozen=True)
class Round:
    """What every agent told, so many seconds after the beginning."""

    at_seconds: float
    samples: Mapping[str, Sample | Silence]


@dataclass(frozen=True)
class Gap:
    """The longest time between two heartbeats of a host, and the host that saw it."""

    seconds: float
    seen_on: str


async def watch(target: Target, seconds: float) -> tuple[Round, ...]:
    """Ask all agents now, every so often, and when so many seconds are over."""
    begin, rounds = time.monotonic(), []
    for at in moments(seconds):
        await asyncio.sleep(max(0.0, begin + at - time.monotonic()))
        rounds.append(Round(max(at, time.monotonic() - begin), await ask_all(target)))
    return tuple(rounds)


def moments(seconds: float) -> tuple[float, ...]:
    """Return when to ask, in seconds from the beginning. Pure."""
    return (*(number * EVERY_SECONDS for number in range(math.ceil(seconds / EVERY_SECONDS))), seconds)


async def ask_all(target: Target) -> dict[str, Sample | Silence]:
    """Ask all agents at once."""
    topology, hosts = target.topology, target.hosts
    samples = await asyncio.gather(*(ask(topology, spec, hosts[spec.name]) for spec in topology.voters))
    return {spec.name: sample for spec, sample in zip(topology.voters, samples, strict=True)}


async def ask(topology: Topology, spec: HostSpec, host: Host) -> Sample | Silence:
    """Return what one agent tells and has used, or why it does not: one that is stopped cannot."""
    try:
        figures, used = await asyncio.gather(
            collect.agent_figures(topology, spec, host, timeout=ANSWER_SECONDS),
            host.run("sh", "-c", USAGE, "sh", agent.UNIT),
        )
        return read(figures, used.stdout)
    except Error as error:
        return Silence(error.message.splitlines()[-1])
    except readings.UNREADABLE as error:
        return Silence(f"its answer could not be read: {type(error).__name__}: {error}")


def read(figures: str, shown: str) -> Sample:
    """Read an agent's figures and its host's; raises ValueError for what cannot be read. Pure."""
    used = USED.search(shown)
    if used is None:
        message = f"what an agent uses: seen {shown!r}"
        raise ValueError(message)
    return Sample(readings.heartbeat_gaps(figures), int(used[1]) / 1e9, int(used[2]) * KIBIBYTE)


def longest_gaps(rounds: Iterable[Round]) -> dict[str, Gap]:
    """Return the longest gap of each host, leaving out what agents may still have had from before. Pure."""
    longest: dict[str, Gap] = {}
    for each in rounds:
        if each.at_seconds < LOOKS_BACK_SECONDS:
            continue
        for seen_on, sample in each.samples.items():
            for host, seconds in (sample.gaps if isinstance(sample, Sample) else {}).items():
                longest[host] = max(longest.get(host, Gap(0.0, "")), Gap(seconds, seen_on), key=lambda gap: gap.seconds)
    return longest


def known(rounds: Iterable[Round], name: str) -> list[tuple[float, Sample]]:
    """Return what one agent told, and when. Pure."""
    told = ((each.at_seconds, each.samples.get(name)) for each in rounds)
    return [(at, sample) for at, sample in told if isinstance(sample, Sample)]


def silences(rounds: Iterable[Round], name: str) -> list[str]:
    """Return why one agent told nothing, for each time that it did not. Pure."""
    told = (each.samples.get(name) for each in rounds)
    return [silence.reason for silence in told if isinstance(silence, Silence)]


def processor_share(told: Sequence[tuple[float, Sample]]) -> float | None:
    """Return which part of one processor an agent used, None when it told too little. Pure."""
    used = sum(increase(one.processor_seconds, other.processor_seconds) for (_, one), (_, other) in pairwise(told))
    return used / (told[-1][0] - told[0][0]) if len(told) > 1 else None


def increase(before: float, after: float) -> float:
    """Return by how much a counter went up; that of a unit which was started again counts from zero. Pure."""
    return after - before if after >= before else after


def remarks(rounds: Sequence[Round], *, detection_seconds: float) -> tuple[str, ...]:
    """Return in sentences what agents heard, what they used, and who did not answer. Pure."""
    names = list(dict.fromkeys(name for each in rounds for name in each.samples))
    return tuple(
        sentence
        for sentence in (
            heard(longest_gaps(rounds), detection_seconds),
            cost({name: known(rounds, name) for name in names}),
            unanswered({name: silences(rounds, name) for name in names}, len(rounds)),
        )
        if sentence
    )


def heard(gaps: Mapping[str, Gap], detection_seconds: float) -> str:
    """Return the longest gaps as a sentence; empty when none is known. Pure."""
    told = ", ".join(f"{host} {gap.seconds:.3f} s (seen on {gap.seen_on})" for host, gap in sorted(gaps.items()))
    return (
        told and f"longest time between two heartbeats: {told}; silent is who is not heard for {detection_seconds:g} s"
    )


def cost(told: Mapping[str, Sequence[tuple[float, Sample]]]) -> str:
    """Return what agents used as a sentence; empty when nothing is known. Pure."""
    shares = {name: processor_share(of_one) for name, of_one in told.items()}
    used = ", ".join(
        f"{name} {share:.1%} and {told[name][-1][1].memory_bytes / MEBIBYTE:.0f} MiB"
        for name, share in shares.items()
        if share is not None
    )
    return used and f"agents used of one processor all along, and of memory at the end: {used}"


def unanswered(why: Mapping[str, Sequence[str]], asked: int) -> str:
    """Return which agents did not answer, and why not the last time, as a sentence; empty when all did. Pure."""
    told = ", ".join(f"{name} {len(reasons)} ({reasons[-1]})" for name, reasons in why.items() if reasons)
    return told and f"of {asked} questions agents did not answer: {told}"
