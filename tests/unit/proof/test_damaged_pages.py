"""What is done to a standby's page, and what a read of it may be answered with."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from pgbaton.errors import CommandError, Error, RefusedError, UnhealthyError
from pgbaton.hosts import process
from pgbaton.hosts.fake import FakeHost
from pgbaton.proof import final
from pgbaton.proof.checkers.base import Validity
from pgbaton.proof.faults import damage, named, standbys
from pgbaton.proof.faults.base import Strike, Suite
from pgbaton.proof.target import Roles, Target
from pgbaton.state import ClusterState
from pgbaton.topology import budget, load, presets

if TYPE_CHECKING:
    from collections.abc import Callable

TOPOLOGY = load.loads(presets.text("standard"))
ROLES = Roles("db1", "lb1", ("db2", "db3"), synchronous=("db2",))
(FAULT,) = named(["standby-corrupted"])
WHOLE = "right right"
#: What psql's error is made of, of PostgreSQL 15 and 17.
TOLD = (
    "exit status 1 from: runuser -u postgres -- psql\n"
    "WARNING:  page verification failed, calculated checksum 65011 but expected 38438\n"
    "ERROR:  invalid page in block 0 of relation base/5/16385"
)


class Played:
    """A cluster whose servers answer the same to every question about the table, and note what is asked of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: dict[str, str | Error]) -> None:
        self.answers, self.done = answers, list[str]()
        words = {("systemctl", "stop"): "stop", ("systemctl", "start"): "start", ("python3", "-c"): "overwrite"}
        hosts = {
            name: FakeHost(name, answers={argv: self._noting(word) for argv, word in words.items()})
            for name in ("db1", "db3")
        }
        monkeypatch.setattr(Target, "hosts", hosts)
        monkeypatch.setattr(Target, "primary", self._primary)
        monkeypatch.setattr(final, "sql", self._sql)
        target = Target(TOPOLOGY, ClusterState("demo", Path("/nowhere")), lambda _: None)
        self.strike = Strike(target, ("db3",), ROLES, Random(1))

    def _noting(self, word: str) -> Callable[[str], str]:
        def answer(_: str) -> str:
            self.done.append(word)
            return ""

        return answer

    async def _primary(self) -> str:
        return "db1"

    async def _sql(self, _: Target, name: str, *statements: str) -> str:
        self.done.extend(f"{name}: {statement}" for statement in statements)
        if statements == (damage.PLACE,):
            return "0/3000060|base/5/16385"
        if statements[0].startswith("SELECT pg_last_wal_replay_lsn()"):
            return "t|0/3000060"
        answer = self.answers.get(name, "")
        if isinstance(answer, Error):
            raise answer
        return answer


async def test_the_page_is_damaged_where_no_replay_can_mend_it_and_no_memory_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    played = Played(monkeypatch, {})
    await damage.damage(played.strike)
    steps = [
        "db1: CHECKPOINT",
        "db3: SELECT pg_last_wal_replay_lsn() >= '0/3000060'::pg_lsn, pg_last_wal_replay_lsn()",
        "db3: CHECKPOINT",
        "stop",
        "overwrite",
        "start",
        "db3: SELECT 1",
    ]
    assert [each for each in played.done if each in steps] == steps
    (overwriting,) = played.strike.on("db3").called("python3")  # type: ignore[attr-defined]
    assert overwriting[3:] == (f"{TOPOLOGY.data_directory}/base/5/16385", "right", "wrong")


async def test_a_word_of_the_page_becomes_another_of_the_same_length(tmp_path: Path) -> None:
    page = tmp_path / "16385"
    page.write_bytes(b"\0head" + b"right" * 3 + b"tail\0")
    await process.run(sys.executable, "-c", damage.OVERWRITE, str(page), damage.WRITTEN, damage.DAMAGED)
    assert page.read_bytes() == b"\0head" + b"wrong" + b"right" * 2 + b"tail\0"
    assert len(damage.WRITTEN) == len(damage.DAMAGED)


async def test_a_page_that_is_not_on_the_disk_cannot_be_damaged(tmp_path: Path) -> None:
    page = tmp_path / "16385"
    page.write_bytes(b"\0" * 8192)
    with pytest.raises(CommandError, match="not found"):
        await process.run(sys.executable, "-c", damage.OVERWRITE, str(page), damage.WRITTEN, damage.DAMAGED)
    assert page.read_bytes() == b"\0" * 8192


@pytest.mark.parametrize(
    ("answer", "validity"),
    [
        (CommandError(TOLD), Validity.VALID),
        (CommandError("psql: error: connection refused"), Validity.UNKNOWN),
        ("right wrong", Validity.INVALID),
        ("", Validity.INVALID),
        (WHOLE, Validity.UNKNOWN),
    ],
)
async def test_only_an_error_that_tells_of_the_damage_is_right(
    monkeypatch: pytest.MonkeyPatch, answer: str | Error, validity: Validity
) -> None:
    played = Played(monkeypatch, {"db1": WHOLE, "db3": answer})
    (check,) = (await damage.read_damaged(played.strike)).checks
    assert (check.name, check.validity) == ("damage", validity)
    assert bool(check.findings) is (validity is not Validity.VALID)


@pytest.mark.parametrize(
    ("answer", "validity"), [(WHOLE, Validity.VALID), ("", Validity.INVALID), (CommandError(TOLD), Validity.INVALID)]
)
async def test_a_standby_that_was_cloned_anew_must_read_as_the_primary(
    monkeypatch: pytest.MonkeyPatch, answer: str | Error, validity: Validity
) -> None:
    played = Played(monkeypatch, {"db1": WHOLE, "db3": answer})
    (check,) = (await damage.read_rebuilt(played.strike)).checks
    assert (check.name, check.validity) == ("rebuilt", validity)


def test_a_damaged_page_is_healed_by_a_clone_and_struck_by_nothing_else_meanwhile() -> None:
    assert FAULT.heal is standbys.clone_anew
    assert (FAULT.composable, FAULT.lab, FAULT.suite) == (False, True, Suite.FULL)


def test_a_standby_that_no_commit_waits_for_may_stop_unnoticed() -> None:
    target = Target(TOPOLOGY, ClusterState("demo", Path("/nowhere")), lambda _: None)
    limits = [standbys.unnoticed(Strike(target, (name,), ROLES, Random(1))).limit_seconds for name in ROLES.standbys]
    assert limits == [budget.prediction(TOPOLOGY, "standby-power-off").write_seconds.maximum, standbys.BLIP_SECONDS]


async def test_a_standby_is_cloned_anew_as_soon_as_its_patroni_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch, {})
    refusals: list[Error] = [UnhealthyError("Patroni does not answer"), RefusedError("starting in progress")]
    cloned: list[str] = []

    class Patroni:
        async def request(self, *_: object, **__: object) -> None:
            if refusals and isinstance(refusals[0], UnhealthyError):
                raise refusals.pop(0)

    async def reinit(_: object, host: str) -> None:
        if refusals:
            raise refusals.pop(0)
        cloned.append(host)

    async def at_once(*_: object) -> None:
        """Do not wait between two looks."""

    monkeypatch.setattr("pgbaton.operate.operation.Operation.patroni", lambda *_: Patroni())
    monkeypatch.setattr("pgbaton.operate.waiting.asyncio.sleep", at_once)
    monkeypatch.setattr(standbys, "reinit", reinit)
    await standbys.clone_anew(played.strike)
    assert (played.done, cloned) == (["start"], ["db3"])
