"""The probe runs for real on this machine, in the same way as on a cluster's hosts."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from observed import TOPOLOGY

from pgbaton import pki
from pgbaton.hosts.local import LocalHost
from pgbaton.hosts.machine import MachineHost
from pgbaton.observe import host_probe, readings
from pgbaton.observe.collect import clock_offset, collect, request, script

if TYPE_CHECKING:
    from pathlib import Path


async def probe(parts: list[str], **fields: object) -> dict[str, Any]:
    """Return what this machine answers."""
    spec = TOPOLOGY.host("db1")
    asked = {**request(TOPOLOGY, spec, deadline=1.0), "parts": parts, "pools": {}, **fields}
    result = await LocalHost("here").run("python3", "-I", "-S", "-", input=script(asked), timeout=20)
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


async def test_a_part_that_hangs_takes_only_its_own_answer_away(tmp_path: Path) -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    path = str(tmp_path / "admin.sock")
    server = await asyncio.start_unix_server(silence, path)
    try:
        answer = await probe(["haproxy", "disk"], haproxy_socket=path, directories=["/"])
    finally:
        server.close()
    assert answer["parts"]["haproxy"] == {"error": "no answer within 1 s"}
    assert answer["parts"]["disk"]["answer"]["size_bytes"] > 0
    assert answer["ended"] - answer["started"] < 5


async def test_a_part_that_is_not_there_says_why() -> None:
    answer = await probe(["haproxy", "disk"], haproxy_socket="/nowhere.sock", directories=["/nowhere"])
    assert "No such file" in answer["parts"]["haproxy"]["error"]
    assert "/nowhere" in answer["parts"]["disk"]["error"]


async def test_a_program_that_fails_says_what_it_said() -> None:
    answer = await probe(["addresses"], interface="nosuchlink0")
    assert "error" in answer["parts"]["addresses"]


async def test_haproxy_is_asked_for_both_of_its_tables(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"you said " + await reader.readline())
        writer.close()

    path = str(tmp_path / "admin.sock")
    server = await asyncio.start_unix_server(answer, path)
    try:
        told = await probe(["haproxy"], haproxy_socket=path)
    finally:
        server.close()
    assert told["parts"]["haproxy"] == {"answer": "you said show info;show stat\n"}


def test_certificates_are_read_without_a_library(tmp_path: Path) -> None:
    issued = pki.make_authority("test")
    (tmp_path / "ca.crt").write_text(issued.certificate)
    (tmp_path / "bundle.pem").write_text(issued.key + issued.certificate)
    (tmp_path / "empty.crt").write_text("")
    ends = {path: readings.asn1_time(text) for path, text in host_probe.expiries(tmp_path).items()}
    assert ends == dict.fromkeys(
        (str(tmp_path / "bundle.pem"), str(tmp_path / "ca.crt")), pki.expires(issued.certificate)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("491231235959Z", "2049-12-31T23:59:59+00:00"), ("20510101000000Z", "2051-01-01T00:00:00+00:00")],
)
def test_both_of_the_times_in_certificates_are_read(text: str, expected: str) -> None:
    assert readings.asn1_time(text).isoformat() == expected


async def test_hosts_are_asked_at_the_same_time_and_one_that_is_off_is_told_of() -> None:
    hosts = {spec.name: MachineHost(spec.name, None) for spec in TOPOLOGY.hosts}
    snapshot = await collect(TOPOLOGY, {**hosts, "lb1": LocalHost("lb1")})
    assert {view.name: view.reachable for view in snapshot.hosts} == {
        "lb1": True, "lb2": False, "db1": False, "db2": False, "db3": False,
    }  # fmt: skip
    assert snapshot.host("db1").reason == "the machine is powered off"
    assert snapshot.host("lb1").clock_offset_seconds == 0
    assert datetime.now(UTC) - datetime.fromisoformat(snapshot.taken_at) < timedelta(minutes=1)


@dataclass(frozen=True)
class Saying(LocalHost):
    """A host on which every program only prints this."""

    says: str = ""

    def local_argv(self, argv: tuple[str, ...], *, terminal: bool = False) -> tuple[str, ...]:
        """Return a command line that prints."""
        del argv, terminal
        return ("printf", "%s", self.says)


@dataclass(frozen=True)
class Hanging(LocalHost):
    """A host on which every program hangs."""

    def local_argv(self, argv: tuple[str, ...], *, terminal: bool = False) -> tuple[str, ...]:
        """Return a command line that does not end in time."""
        del argv, terminal
        return ("sleep", "60")


async def test_a_host_that_hangs_or_talks_nonsense_is_unreachable_with_its_reason() -> None:
    hosts = {spec.name: MachineHost(spec.name, None) for spec in TOPOLOGY.hosts}
    before = time.monotonic()
    snapshot = await collect(TOPOLOGY, {**hosts, "db1": Saying("db1", says="{"), "db2": Hanging("db2")}, timeout=1)
    assert time.monotonic() - before < 4
    assert "no JSON" in (snapshot.host("db1").reason or "")
    assert "no end after 1 s" in (snapshot.host("db2").reason or "")


@pytest.mark.parametrize(
    ("before", "after", "started", "ended", "offset"),
    [
        (100.0, 101.0, 100.3, 100.8, 0.0),  # plausible with the same clock
        (100.0, 101.0, 99.5, 100.0, -0.5),  # it says it began before it was asked
        (100.0, 101.0, 105.3, 105.8, 4.8),  # it says it ended after it had answered
    ],
)
def test_a_clock_is_only_called_off_by_what_is_certain(
    before: float, after: float, started: float, ended: float, offset: float
) -> None:
    assert clock_offset(before, after, started, ended) == pytest.approx(offset)
