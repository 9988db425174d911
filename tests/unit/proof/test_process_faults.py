"""What faults of processes and of power strike: real processes by what they are, hosts by what they do."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from pgbaton.cli.demo import STOCK
from pgbaton.errors import CommandError, UnhealthyError
from pgbaton.hosts import process
from pgbaton.operate.waiting import until
from pgbaton.proof.faults import named, of_suite, victims
from pgbaton.proof.faults.base import Strike, Suite
from pgbaton.proof.faults.power import member_ids
from pgbaton.proof.faults.signals import SIGNAL_SERVER
from pgbaton.proof.target import Roles, Target
from pgbaton.state import ClusterState
from pgbaton.topology import budget, load, presets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOPOLOGY = load.loads(presets.text("standard"))
ROLES = Roles("db1", "lb2", ("db2", "db3"), ("db3",), ("lb1", "lb2"), ("db1", "db2", "db3"), "db2")
#: A program with two children, one of which has a title that can be told.
FAMILY = "cd {directory}; echo $$ > postmaster.pid; sleep 600 & sleep 601 & wait"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[int, Path]]:
    """Something like a server: a process that works in its data directory, and two children."""
    directory = tmp_path / "data"
    directory.mkdir()
    child = await process.start("sh", "-c", FAMILY.format(directory=directory), input="", log=tmp_path / "log")
    try:
        await until("the family is there", lambda: has_children(child.pid, 2), seconds=10)
        yield child.pid, directory
    finally:
        process.end_group(child.pid)
        await child.end(timeout=10)


async def has_children(pid: int, count: int) -> str | None:
    seen = len(children(pid))
    return None if seen == count else f"{seen} children"


def children(pid: int) -> dict[str, int]:
    """Return a process's children, by their command lines."""
    found = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    titles = {Path(f"/proc/{each}/cmdline").read_text().replace("\0", " ").strip(): each for each in found}
    return {title: each for title, each in titles.items() if title.startswith("sleep")}


def state(pid: int) -> str:
    """Return a process's state: T when it is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def goes_on(pid: int) -> bool:
    """Tell whether a process runs or sleeps: on a busy machine it may just be on its way from one to the other."""
    return state(pid) in {"R", "S"}


async def until_stopped(pid: int) -> None:
    async def look() -> str | None:
        return None if state(pid) == "T" else state(pid)

    await until("it stops", look, seconds=10)


async def signal(directory: Path, *arguments: str) -> None:
    await process.run("sh", "-c", SIGNAL_SERVER, "sh", str(directory), *arguments)


async def test_stopping_the_postmaster_leaves_its_children_running(server: tuple[int, Path]) -> None:
    postmaster, directory = server
    await signal(directory, "STOP", "postmaster")
    await until_stopped(postmaster)
    assert [goes_on(each) for each in children(postmaster).values()] == [True, True]


async def test_stopping_the_server_stops_its_children_as_well(server: tuple[int, Path]) -> None:
    postmaster, directory = server
    await signal(directory, "STOP", "everything")
    for pid in (postmaster, *children(postmaster).values()):
        await until_stopped(pid)


async def test_children_are_told_by_their_titles(server: tuple[int, Path]) -> None:
    postmaster, directory = server
    await signal(directory, "STOP", "all", "^sleep 601")
    both = children(postmaster)
    await until_stopped(both["sleep 601"])
    assert goes_on(postmaster)
    assert goes_on(both["sleep 600"])


async def test_a_child_that_is_not_there_is_an_error_and_strikes_nobody(server: tuple[int, Path]) -> None:
    postmaster, directory = server
    with pytest.raises(CommandError, match="no such process of the server"):
        await signal(directory, "KILL", "oldest", "^postgres: demo: walsender ")
    assert len(children(postmaster)) == 2


async def test_a_stale_pid_file_strikes_nobody(server: tuple[int, Path], tmp_path: Path) -> None:
    postmaster, _ = server
    stale = tmp_path / "stale"
    stale.mkdir()
    (stale / "postmaster.pid").write_text(f"{postmaster}\n")
    with pytest.raises(CommandError):
        await signal(stale, "KILL", "everything")
    assert goes_on(postmaster)


def test_the_members_of_etcd_are_read_by_name() -> None:
    listing = (
        "8e9e05c52164694d, started, db1, https://10.77.0.21:2380, https://10.77.0.21:2379, false\n"
        "91bc3c398fb3c146, started, db2, https://10.77.0.22:2380, https://10.77.0.22:2379, false\n"
    )
    assert member_ids(listing) == {"db1": "8e9e05c52164694d", "db2": "91bc3c398fb3c146"}


@pytest.mark.parametrize(
    ("name", "hosts"),
    [
        ("standby-power-off", ("db3",)),
        ("asynchronous-standby-power-off", ("db2",)),
        ("backup-balancer-power-off", ("lb1",)),
        ("primary-and-standby-power-off", ("db1", "db3")),
        ("primary-and-balancer-power-off", ("db1", "lb2")),
        ("databases-power-off", ("db1", "db2", "db3")),
        ("balancers-power-off", ("lb1", "lb2")),
        ("cluster-power-off", ("db1", "db2", "db3", "lb1", "lb2")),
        ("patroni-stopped", ("db1",)),
        ("standby-server-stopped", ("db3",)),
        ("keepalived-killed", ("lb2",)),
    ],
)
def test_a_fault_strikes_the_hosts_that_it_names(name: str, hosts: tuple[str, ...]) -> None:
    (fault,) = named([name])
    assert fault.victims(ROLES, Random(1)) == hosts


def test_any_standby_is_struck_where_commits_wait_for_none() -> None:
    without = Roles("db1", "lb2", ("db2", "db3"))
    assert {victims.confirming_standby(without, Random(seed))[0] for seed in range(20)} == {"db2", "db3"}


def test_nobody_is_struck_in_the_place_of_a_standby_that_is_not_there() -> None:
    with pytest.raises(UnhealthyError, match="no standby that no commit waits for to strike"):
        victims.asynchronous_standby(Roles("db1", "lb2", ("db2",), ("db2",)), Random(1))


def test_a_primary_that_is_the_active_balancer_as_well_is_struck_once() -> None:
    assert victims.primary_and_vip_holder(Roles("n1", "n1", ("n2",)), Random(1)) == ("n1",)


def test_a_lag_before_the_power_cut_is_allowed_for() -> None:
    (fault,) = named(["lagging-primary-power-off"])
    target = Target(TOPOLOGY, ClusterState("demo", Path("/nowhere")), lambda _: None)
    limit = fault.expects(Strike(target, ("db1",), ROLES, Random(1))).limit_seconds
    assert limit == budget.prediction(TOPOLOGY, "primary-power-off").write_seconds.maximum + 1.0


def test_the_smallest_suite_is_the_demonstration_and_a_killed_balancer() -> None:
    smoke = {fault.name for fault in of_suite(Suite.SMOKE)}
    assert smoke == {"postmaster-killed", "switchover", "balancer-power-off", "primary-power-off", "haproxy-killed"}


@pytest.mark.parametrize(("text", "stays"), [("", False), (STOCK, True)], ids=["agents", "stock"])
def test_a_stopped_postmaster_moves_the_primary_only_where_agents_act(text: str, *, stays: bool) -> None:
    (fault,) = named(["postmaster-stopped"])
    topology = load.loads(presets.text("standard") + text)
    target = Target(topology, ClusterState("trial", Path("/nowhere")), lambda _: None)
    expected = fault.expects(Strike(target, ("db1",), ROLES, Random(1)))
    assert (expected.keeps_primary, expected.limit_seconds) == (stays, 1.0)
