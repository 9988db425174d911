"""Data volumes of real machines: full, frozen, and gone with their machines."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from machines import topology, traces

from pgbaton import state as states
from pgbaton.errors import CommandError
from pgbaton.hosts import process
from pgbaton.lab import image, lifecycle, machine, recipe, record, volume
from pgbaton.operate.waiting import until
from pgbaton.proof.faults.disks import FILL, FILLER, OWN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pgbaton.hosts.base import Host
    from pgbaton.state import ClusterState

pytestmark = [pytest.mark.lab, pytest.mark.skipif(not volume.possible(), reason="this machine has no loop devices")]

NOTE = f"{volume.POINT}/note"


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClusterState]:
    monkeypatch.setenv("PGBATON_STATE_HOME", str(tmp_path))
    state = states.cluster("test-volumes")
    made = await image.ensure(recipe.system("debian-13"), report=print)
    await lifecycle.create(state, topology(state.name), image=made)
    yield state
    if state.exists:
        await lifecycle.destroy(state)
    assert traces(state.name) == []
    assert held(state) == []


def held(state: ClusterState) -> list[str]:
    """Return the loop devices that have a file of a lab."""
    return [str(device) for device, file in volume.devices() if file.is_relative_to(record.RUN / state.name)]


async def frozen(host: Host) -> None:
    """Freeze a machine's volume, and have a process wait for it that no signal ends."""
    await host.run("fsfreeze", "--freeze", volume.POINT)
    await host.run("sh", "-c", f"touch {NOTE} >/dev/null 2>&1 </dev/null & sleep 0.5")


async def test_a_full_volume_fills_nothing_else_and_keeps_what_it_has_over_a_power_cut(lab: ClusterState) -> None:
    one = lifecycle.host(lab, "one")
    assert (await one.run("sh", "-c", OWN, "sh", volume.POINT)).stdout.strip() == volume.POINT
    assert (await one.run("stat", "-c", "%U:%G", volume.POINT)).stdout.strip() == "postgres:postgres"
    await one.run("sh", "-c", f"echo kept >{NOTE}")
    await one.run("sh", "-c", FILL, "sh", FILLER)
    with pytest.raises(CommandError, match="No space left on device"):
        await one.run("sh", "-c", f"head -c 65536 /dev/zero >{volume.POINT}/more")
    await one.run("sh", "-c", "head -c 65536 /dev/zero >/var/tmp/elsewhere")
    await lifecycle.power_off(lab, "one")
    assert len(held(lab)) == 1
    await lifecycle.power_on(lab, "one")
    one = lifecycle.host(lab, "one")
    await one.run("rm", FILLER)
    assert (await one.run("cat", NOTE)).stdout == "kept\n"


async def test_a_frozen_volume_does_not_keep_a_machine_from_losing_its_power(lab: ClusterState) -> None:
    await frozen(lifecycle.host(lab, "one"))
    start = time.monotonic()
    await lifecycle.power_off(lab, "one")
    assert time.monotonic() - start < machine.END_SECONDS
    await lifecycle.power_on(lab, "one")
    await lifecycle.host(lab, "one").run("touch", NOTE, timeout=10)


async def test_a_lab_with_frozen_volumes_goes_away_whole(lab: ClusterState) -> None:
    for name in ("one", "two"):
        await frozen(lifecycle.host(lab, name))
    await lifecycle.destroy(lab)


async def test_a_machine_that_is_killed_from_outside_takes_its_volume_with_it(lab: ClusterState) -> None:
    leader = lifecycle.status(lab).machine("two").leader_pid
    await process.run("kill", f"-{int(signal.SIGKILL)}", str(leader))

    async def look() -> str | None:
        return ", ".join(held(lab)) if len(held(lab)) > 1 else None

    await until("the machine's volume is gone", look, seconds=30)
