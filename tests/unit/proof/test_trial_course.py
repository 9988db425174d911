"""What a trial does with a fault's own looks, and with a cluster that does not mend itself."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pgbaton.errors import Error, UnhealthyError
from pgbaton.proof import trial
from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.faults import named
from pgbaton.proof.faults.base import Seen, Strike
from pgbaton.proof.target import Roles

if TYPE_CHECKING:
    from pathlib import Path

    from pgbaton.proof.faults.base import Fault

ROLES = Roles("db1", "lb1", ("db2", "db3"))
PATIENCE = trial.Patience(recovery_seconds=1.0, whole_seconds=1.0)
(PLAIN,) = named(["switchover"])


@dataclass
class Stage:
    """A target and its meter at once, where everything that happens is noted; ``whole`` says when it is, if ever."""

    directory: Path
    whole: list[bool]
    said: list[str] = field(default_factory=list)
    hosts: dict[str, Any] = field(default_factory=dict)
    missed: int = 0

    @property
    def report(self) -> Any:  # noqa: ANN401 - a function
        return self.said.append

    @property
    def noted(self) -> bool:
        return any((self.directory / "under-way").iterdir())

    async def roles(self) -> Roles:
        if self.missed and "healed" in self.said:
            self.missed -= 1
            message = "primaries: none"
            raise UnhealthyError(message)
        return ROLES

    async def until_calm(self, *, since: float, seconds: float) -> float:
        del since, seconds
        return time.monotonic()

    async def until_whole(self, *, seconds: float) -> float:
        if not self.whole.pop(0):
            message = f"waited {seconds:g} s: db3: server-silent"
            raise UnhealthyError(message)
        return 0.0


async def tried(stage: Stage, **changes: Any) -> trial.Trial:  # noqa: ANN401 - fields of Fault
    """Put a stage through a fault."""

    async def inject(strike: Strike) -> None:
        del strike
        stage.said.append("injected")
        assert stage.noted

    async def heal(strike: Strike) -> None:
        del strike
        stage.said.append("healed")

    fault: Fault = replace(PLAIN, **{"inject": inject, "heal": heal, **changes})
    place = cast("Any", stage)
    return await trial.run(place, place, fault, patience=PATIENCE)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, [True])


async def test_a_fault_is_noted_before_it_strikes_and_crossed_out_when_it_is_undone(stage: Stage) -> None:
    await tried(stage)
    assert "injected" in stage.said
    assert not stage.noted


async def test_a_fault_that_strikes_only_half_is_undone_and_crossed_out_as_well(stage: Stage) -> None:
    async def fail(strike: Strike) -> None:
        raise Error("no such process", where=strike.host)  # noqa: EM101, TRY003 - as short as that

    with pytest.raises(Error, match="no such process"):
        await tried(stage, inject=fail)
    assert "healed" in stage.said
    assert not stage.noted


async def test_a_fault_that_cannot_be_undone_stays_noted(stage: Stage) -> None:
    async def fail(strike: Strike) -> None:
        raise Error("no answer", where=strike.host)  # noqa: EM101, TRY003 - likewise

    with pytest.raises(Error, match="no answer"):
        await tried(stage, heal=fail)
    assert stage.noted


async def test_a_fault_looks_for_itself_before_it_is_undone_and_after_it(stage: Stage) -> None:
    async def look(strike: Strike) -> Seen:
        stage.said.append(f"looked at {strike.host}")
        return Seen((Check("damage", Validity.VALID),), ("status does not say it",), ("read in 2 s",))

    async def look_after(strike: Strike) -> Seen:
        stage.said.append(f"looked again at {strike.host}")
        return Seen((Check("rebuilt", Validity.INVALID, ("it is not",)),), remarks=("cloned in 9 s",))

    done = await tried(stage, look=look, look_after=look_after)
    assert [said for said in stage.said if "looked" in said or said in {"injected", "healed"}] == [
        "injected",
        "looked at db1",
        "healed",
        "looked again at db1",
    ]
    assert [check.name for check in done.checks] == ["damage", "rebuilt"]
    assert done.objections == ("status does not say it",)
    assert done.remarks == ("read in 2 s", "cloned in 9 s")


async def test_a_look_that_fails_shows_nothing_and_the_fault_is_undone_all_the_same(stage: Stage) -> None:
    async def look(strike: Strike) -> Seen:
        message = "no answer"
        raise Error(message, where=strike.host)

    done = await tried(stage, look=look)
    assert "healed" in stage.said
    assert [(check.name, check.validity) for check in done.checks] == [("look", Validity.UNKNOWN)]
    assert done.checks[0].findings == ("the fault's own look failed: db1: no answer",)


async def test_a_cluster_that_has_to_be_helped_is_whole_in_the_end_and_that_is_objected_to(stage: Stage) -> None:
    stage.whole = [False, True]

    async def rescue(strike: Strike) -> None:
        del strike
        stage.said.append("rescued")

    done = await tried(stage, rescue=rescue)
    assert done.after == ROLES
    assert done.remains == ()
    assert done.objections == (
        "the cluster did not become whole by itself, and had to be helped: waited 1 s: db3: server-silent",
    )
    assert stage.said.index("healed") < stage.said.index("rescued")


async def test_one_look_that_sees_nobody_is_no_cluster_that_is_broken(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "LOOK_INTERVAL_SECONDS", 0.0)
    stage.whole, stage.missed = [True, True, True], 2
    done = await tried(stage)
    assert (done.after, done.remains) == (ROLES, ())
    stage.said.clear()
    stage.whole, stage.missed = [True, False], 1
    done = await tried(stage)
    assert done.after is None
    assert done.remains == ("waited 1 s: db3: server-silent",)


async def test_nobody_helps_a_cluster_that_mends_itself(stage: Stage) -> None:
    async def rescue(strike: Strike) -> None:
        raise AssertionError(strike)

    done = await tried(stage, rescue=rescue)
    assert (done.after, done.objections) == (ROLES, ())


async def test_help_that_fails_leaves_what_was_wrong_and_says_why(stage: Stage) -> None:
    async def rescue(strike: Strike) -> None:
        message = "reinit refused"
        raise Error(message, where=strike.host)

    stage.whole = [False]
    done = await tried(stage, rescue=rescue)
    assert done.after is None
    assert done.kept_service
    assert done.remains == ("waited 1 s: db3: server-silent", "helping it failed: reinit refused")


async def test_without_help_a_cluster_that_stays_broken_is_told_as_it_is(stage: Stage) -> None:
    stage.whole = [False]
    done = await tried(stage)
    assert (done.after, done.remains, done.objections) == (None, ("waited 1 s: db3: server-silent",), ())
