"""A cluster that a person fails over, on the older Debian: another PostgreSQL, and a program that finds the primary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from by_hand import applied, healthy, look, operation, proven
from labs import Lab, done, down, up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab(lab_home: Path) -> Iterator[Lab]:
    assert lab_home
    try:
        yield up("test-older", "--preset", "manual", "--os", "debian-12")
    finally:
        down("test-older")


@pytest.mark.timeout(600)
async def test_it_is_moved_and_failed_over_with_a_program_that_finds_the_primary(lab: Lab) -> None:
    await healthy(lab)
    primary = (await look(lab)).primary
    assert await operation(lab).sql(str(primary), "SHOW server_version_num") < "160000"
    assert "external-check command" in (await lab.hosts()["lb1"].run("cat", "/etc/haproxy/haproxy.cfg")).stdout
    await proven(lab, "switchover", "old-primary-returns-after-failover")


async def test_agents_find_the_primary_there_as_well(lab: Lab, tmp_path: Path) -> None:
    await applied(lab, tmp_path, orchestration={"agent": True}, balancing={"check": "agent"})
    assert [row["state"] for row in (await done(lab, "status"))["agents"]] == ["running"] * 4
    view = await look(lab)
    moved = await done(lab, "switchover", "--yes")
    assert (moved["from"], moved["to"]) == (view.primary, next(iter(view.streaming)))
    await healthy(lab)
