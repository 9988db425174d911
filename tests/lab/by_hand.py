"""What tests do with a cluster that a person fails over, and wait for."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from labs import done

from pgbaton.components import manual
from pgbaton.hosts import process
from pgbaton.lab import definition
from pgbaton.operate.operation import Operation
from pgbaton.operate.waiting import until
from pgbaton.topology.load import load
from pgbaton.topology.model import Topology

if TYPE_CHECKING:
    from pathlib import Path

    from labs import Lab

    from pgbaton.operate.members import View

FAILED, UNHEALTHY = 1, 3


def operation(lab: Lab) -> Operation:
    """Return what is done to the cluster as it was applied last."""
    return Operation(load(lab.state.topology_file), lab.hosts(), lambda _: None)


async def look(lab: Lab) -> View:
    return await operation(lab).look()


async def applied(lab: Lab, directory: Path, **tables: Any) -> None:  # noqa: ANN401 - a topology's tables
    """Apply the cluster's topology with some keys of its tables changed; nothing is left to do then."""
    before = load(lab.state.topology_file).model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    changed = {
        name: keys if isinstance(keys, list) else {**before.get(name, {}), **keys} for name, keys in tables.items()
    }
    file = directory / "changed.toml"
    file.write_text(definition.to_toml(Topology.model_validate({**before, **changed})))
    await done(lab, "apply", str(file), "--yes")
    await healthy(lab)
    assert (await done(lab, "plan"))["changes"] is False


async def proven(lab: Lab, *faults: str) -> dict[str, dict[str, Any]]:
    """Put the cluster to some faults, for each of which all checks must be valid; return the trials by fault."""
    result = await lab_prove(lab, *(word for name in faults for word in ("--fault", name)))
    trials = {trial["fault"]: trial for trial in result["trials"]}
    assert set(trials) == set(faults), result["not_run"]
    for name, trial in trials.items():
        assert (trial["lost"], trial["duplicated"]) == (0, 0)
        wrong = {check: said for check, said in trial["checks"].items() if said["validity"] != "valid"}
        assert not wrong, (name, wrong)
    return trials


async def healthy(lab: Lab) -> None:
    """Wait until status has nothing to say."""

    async def seen() -> str | None:
        said = json.loads((await lab.pgbaton("status", "-o", "json")).stdout)
        return None if said["health"] == "healthy" else "; ".join(each["seen"] for each in said["findings"])

    await until("the cluster is healthy", seen, seconds=60, interval_seconds=0.5)


async def lab_prove(lab: Lab, *arguments: str) -> dict[str, Any]:
    """Put the cluster to the proof; return what came of it."""
    argv = (sys.executable, "-m", "pgbaton", "prove", "--target", lab.name, *arguments, "--seed", "7", "-o", "json")
    said = await process.run(*argv, check=False, timeout=300)
    data: dict[str, Any] = json.loads(said.stdout)
    return data


async def until_held_back(lab: Lab, old: str, new: str) -> None:
    """Wait until the old primary's host has said why its server stays down."""

    async def seen() -> str | None:
        said = await lab.hosts()[old].run("journalctl", "-b", "-u", manual.UNIT, "--no-pager", check=False)
        return None if f"{new} is primary" in said.stdout else said.stdout[-200:]

    await until(f"{old} stays down", seen, seconds=60, interval_seconds=0.5)
