"""Which faults a cluster without Patroni can be put through."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from pgbaton.proof import marks
from pgbaton.proof.checkers.base import Validity
from pgbaton.proof.faults import FAULTS, hand, lacking, named, of_suite
from pgbaton.proof.faults.base import Strike, Suite
from pgbaton.proof.target import Roles, Target
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pgbaton.proof.marks import Mark

MANUAL = load.loads(presets.text("manual"))
STANDARD = load.loads(presets.text("standard"))


def test_what_can_be_proven_by_hand_are_faults_that_exist() -> None:
    assert {fault.name for fault in FAULTS} >= hand.BY_HAND


@pytest.mark.parametrize("name", ["switchover", "haproxy-killed", "balancer-power-off", "pgbouncer-killed"])
def test_what_needs_no_patroni_is_run(name: str) -> None:
    (fault,) = named([name])
    assert lacking(fault, MANUAL) is None


@pytest.mark.parametrize("name", ["postmaster-killed", "etcd-member-killed", "patroni-killed", "primary-isolated"])
def test_what_needs_patroni_or_etcd_says_so(name: str) -> None:
    (fault,) = named([name])
    assert lacking(fault, MANUAL) == "Patroni and etcd, which manual does not have"


@pytest.mark.parametrize("fault", hand.FAULTS, ids=lambda fault: fault.name)
def test_what_a_person_does_is_not_asked_of_patroni(fault: hand.Fault) -> None:
    assert lacking(fault, MANUAL) is None
    assert "manual" in str(lacking(fault, STANDARD))
    assert fault not in of_suite(Suite.FULL)


def strike() -> Strike:
    roles = Roles("db1", "lb1", ("db2",))
    return Strike(Target(MANUAL, ClusterState("manual", Path("/nowhere")), lambda _: None), ("db1",), roles, Random(1))


def test_how_long_the_operator_takes_is_stated_and_counted() -> None:
    asked = named(["primary-power-off-and-failover", "switchover"])
    late, other = hand.attended(asked, 90.0)
    assert "comes after 0 s" in asked[0].does
    assert "comes after 90 s" in late.does
    assert other is asked[1]
    limits = [fault.expects(strike()).limit_seconds for fault in (asked[0], late)]
    assert limits == [hand.OPERATOR_SECONDS, 90.0 + hand.OPERATOR_SECONDS]


def test_the_operator_comes_when_he_is_said_to_and_the_power_is_off_before(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []

    def noting(what: str) -> object:
        async def note(*_: object) -> None:
            done.append(what)

        return note

    async def wait(seconds: float) -> None:
        done.append(seconds)

    monkeypatch.setattr(hand, "power_off", noting("off"))
    monkeypatch.setattr(hand, "power_on", noting("on"))
    monkeypatch.setattr(hand, "fail_over", noting("failed over"))
    monkeypatch.setattr(hand, "undecided", noting("asked"))
    monkeypatch.setattr(hand.asyncio, "sleep", wait)
    first, second = hand.failovers(7.0)
    asyncio.run(first.inject(strike()))
    assert done == ["off", 7.0, "failed over"]
    done.clear()
    asyncio.run(second.inject(strike()))
    assert done == ["off", 7.0, "failed over", "on", "asked"]


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"leads": True}, "db1 is the primary"),
        ({"wrote": True}, "took writes beside the new primary"),
        ({"routed": ["lb2", "lb2"]}, "lb2 led clients to db1"),
    ],
)
def test_an_old_primary_that_served_again_breaks_the_promise(seen: dict[str, object], said: str) -> None:
    found = hand.returned("db1", **seen)  # type: ignore[arg-type]
    assert found.validity is Validity.INVALID
    (finding,) = found.findings
    assert said in finding
    assert hand.returned("db1").validity is Validity.VALID


READY = "LOG:  database system is ready to accept connections"
READS = "LOG:  database system is ready to accept read-only connections"


class Journals:
    """What the hosts' journals say, as a fault reads them: moments by host, since a time."""

    def __init__(self, lines: dict[str, list[tuple[float, str, str]]]) -> None:
        self.lines = lines

    async def read(self, _: Strike, host: str, unit: str, *, since: float) -> tuple[Mark, ...]:
        entries = [
            f'{{"MESSAGE": "{text}", "_SYSTEMD_UNIT": "{of}", "__REALTIME_TIMESTAMP": "{int(at * 1e6)}"}}'
            for at, of, text in self.lines.get(host, [])
            if at >= since and of == unit
        ]
        return marks.read(host, entries)


@pytest.mark.parametrize(
    ("more", "validity"),
    [
        ({}, Validity.VALID),
        ({"db1": [(20.0, "pgbaton-postgresql.service", READS)]}, Validity.VALID),
        ({"db1": [(20.0, "pgbaton-postgresql.service", READY)]}, Validity.INVALID),
        ({"db1": [(5.0, "pgbaton-postgresql.service", READY)]}, Validity.VALID),
        ({"lb1": [(20.0, "haproxy.service", "Server primary/db1 is UP, reason: L7OK")]}, Validity.INVALID),
        ({"lb1": [(20.0, "haproxy.service", "Server standbys/db1 is UP, reason: L7OK")]}, Validity.VALID),
        ({"lb1": [(20.0, "haproxy.service", "Server primary/db10 is UP, reason: L7OK")]}, Validity.VALID),
    ],
)
def test_the_journals_tell_whether_the_old_primary_served_after_the_promotion(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, list[tuple[float, str, str]]], validity: Validity
) -> None:
    unit = "pgbaton-postgresql.service"
    journals = Journals({"db2": [(1.0, unit, READY), (10.0, unit, READY)], **more})
    monkeypatch.setattr(hand, "of", journals.read)

    class View:
        primaries = ("db2",)

    async def look(_: object) -> View:
        return View()

    async def primary(_: object) -> str:
        return "db2"

    monkeypatch.setattr(Target, "primary", primary)
    monkeypatch.setattr(Target, "operation", property(lambda _: type("Looking", (), {"look": look})()))
    seen = asyncio.run(hand.look_at_old_primary(strike()))
    assert [check.validity for check in seen.checks] == [validity]
