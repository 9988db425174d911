"""Real processes, found by what they are: a family that looks like a server's, and units' control groups."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pgbaton.agent.kernel import processes
from pgbaton.agent.kernel.processes import Condition, Look, Process, Stat
from pgbaton.agent.kernel.watches import Follower, Watch, ended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

DEADLINE_SECONDS = 10.0
#: A postmaster's stand-in: two children, of which the first stops itself, then it waits.
FAMILY = "sh -c 'kill -STOP $$' & {backend} 600 & wait"


@dataclass(frozen=True)
class Family:
    """A process that works in a data directory, with children that do so too."""

    data_directory: Path
    postmaster: Process
    children: tuple[Process, ...]


async def until(holds: Callable[[], bool]) -> None:
    """Return when something holds that other processes bring about."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not holds():  # noqa: ASYNC110 - the kernel tells nobody of a stop
            await asyncio.sleep(0.002)


def named(child: subprocess.Popen[bytes]) -> Process:
    """Return a child of this process as the agent names it."""
    found = processes.process(child.pid)
    assert found
    return found


def started(children: list[subprocess.Popen[bytes]], *argv: str, directory: Path | None = None) -> Process:
    """Start a program among a test's children."""
    children.append(subprocess.Popen(argv, cwd=directory))
    return named(children[-1])


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Keep what a test starts, and end it."""
    family: list[subprocess.Popen[bytes]] = []
    yield family
    for each in family:
        each.kill()
        each.wait(DEADLINE_SECONDS)


@pytest.fixture
def sleeper(children: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    children.append(subprocess.Popen(["/bin/sleep", "600"]))
    return children[-1]


@pytest.fixture
async def family(tmp_path: Path, children: list[subprocess.Popen[bytes]]) -> AsyncIterator[Family]:
    programs = {name: tmp_path / name / "postgres" for name in ("server", "backend")}
    for name, program in programs.items():
        program.parent.mkdir()
        shutil.copy({"server": "/bin/sh", "backend": "/bin/sleep"}[name], program)
    data_directory = tmp_path / "data"
    data_directory.mkdir()
    script = FAMILY.format(backend=programs["backend"])
    postmaster = started(children, str(programs["server"]), "-c", script, directory=data_directory)
    (data_directory / "postmaster.pid").write_text(f"{postmaster.pid}\n{data_directory}\n1700000000\n5432\n")
    await until(lambda: Condition.STOPPED in {processes.look(each).condition for each in below(postmaster)})
    await until(lambda: "postgres" in {name_of(each) for each in below(postmaster)})
    family = Family(data_directory, postmaster, below(postmaster))
    yield family
    for each in family.children:
        processes.kill(each, signal.SIGKILL)


def below(parent: Process) -> tuple[Process, ...]:
    """Return the children of a process."""
    return processes.children(parent)


def name_of(each: Process) -> str:
    """Return the name of a process, empty when it is gone."""
    seen = processes.stat(each.pid)
    return seen.name if seen else ""


def test_a_process_is_read_whatever_its_name_is() -> None:
    rest = "S 1 2 2 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 98765 1 2 3"
    seen = processes.parse(f"42 (a (b) c) {rest}")
    assert (seen.name, seen.parent, seen.started_ticks) == ("a (b) c", 1, 98765)
    assert seen.cpu_seconds == 200 / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("letter", "condition"),
    [
        ("R", Condition.RUNNING),
        ("S", Condition.RUNNING),
        ("D", Condition.WAITING),
        ("T", Condition.STOPPED),
        ("t", Condition.STOPPED),
        ("Z", Condition.GONE),
    ],
)
def test_a_letter_is_a_condition(letter: str, condition: Condition) -> None:
    assert processes.parse(f"1 (x) {letter} 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 7").condition == condition


def test_a_number_that_came_back_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    there = named(sleeper)
    earlier = Process(there.pid, there.started_ticks - 1)
    assert processes.look(there).condition != Condition.GONE, "one that has just begun may still be read from the disk"
    assert processes.look(earlier) == Look(Condition.GONE)
    assert not processes.kill(earlier, signal.SIGKILL)
    assert processes.process(sleeper.pid) == there
    with pytest.raises(ProcessLookupError):
        processes.open_pidfd(earlier)


async def test_a_process_that_was_killed_is_gone_before_anybody_reaps_it(sleeper: subprocess.Popen[bytes]) -> None:
    there = named(sleeper)
    assert processes.kill(there, signal.SIGKILL)
    await until(lambda: processes.process(sleeper.pid) is None)
    assert processes.look(there) == Look(Condition.GONE)


async def test_a_service_is_as_well_as_its_worst_process(
    sleeper: subprocess.Popen[bytes], children: list[subprocess.Popen[bytes]]
) -> None:
    one, two = named(sleeper), started(children, "/bin/sleep", "600")
    assert processes.condition([one, two]) == Condition.RUNNING
    processes.kill(two, signal.SIGSTOP)
    await until(lambda: processes.condition([one, two]) == Condition.STOPPED)
    processes.kill(two, signal.SIGKILL)
    await until(lambda: processes.condition([one, two]) == Condition.RUNNING)
    assert processes.condition([]) == Condition.GONE


def test_a_process_counts_its_time() -> None:
    mine = processes.process(os.getpid())
    assert mine
    seen = processes.look(mine)
    assert seen.condition == Condition.RUNNING
    assert seen.is_runnable
    assert seen.cpu_seconds > 0
    assert processes.runnable_per_processor() > 0


async def test_a_postmaster_is_found_by_its_data_directory(family: Family, tmp_path: Path) -> None:
    assert processes.postmaster(family.data_directory) == family.postmaster
    (tmp_path / "link").symlink_to(family.data_directory)
    assert processes.postmaster(tmp_path / "link") == family.postmaster


async def test_a_postmaster_is_found_by_its_sockets_lock_when_the_disk_does_not_answer(
    family: Family, tmp_path: Path
) -> None:
    lock = processes.socket_lock(tmp_path, 5432)
    (family.data_directory / "postmaster.pid").rename(tmp_path / ".s.PGSQL.5432.lock")
    assert processes.postmaster(family.data_directory, lock) == family.postmaster


async def test_neither_a_stranger_nor_a_backend_is_taken_for_a_postmaster(
    family: Family, sleeper: subprocess.Popen[bytes]
) -> None:
    (backend,) = (each for each in family.children if name_of(each) == "postgres")
    for pid in (sleeper.pid, backend.pid, 1):
        (family.data_directory / "postmaster.pid").write_text(f"{pid}\n")
        assert processes.postmaster(family.data_directory) is None


async def test_a_postmaster_of_another_directory_is_not_this_ones(family: Family, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(family.data_directory / "postmaster.pid", other)
    assert processes.postmaster(other) is None


@pytest.mark.parametrize(
    ("content", "pid"), [(None, None), ("", None), ("\n", None), ("soon\n", None), ("4711\n/data\n5432\n", 4711)]
)
def test_a_postmasters_file_names_a_process_whether_it_lives_or_not(
    tmp_path: Path, content: str | None, pid: int | None
) -> None:
    file = tmp_path / "postmaster.pid"
    if content is not None:
        file.write_text(content)
    assert processes.noted(file) == pid


async def test_a_process_is_stopped_by_a_signal_and_not_by_sleeping(sleeper: subprocess.Popen[bytes]) -> None:
    there = named(sleeper)
    await until(lambda: name_of(there) == "sleep")
    assert not processes.is_stopped(there)
    processes.kill(there, signal.SIGSTOP)
    await until(lambda: processes.is_stopped(there))
    assert not processes.is_stopped(Process(there.pid, there.started_ticks - 1))
    processes.kill(there, signal.SIGCONT)
    await until(lambda: not processes.is_stopped(there))
    processes.kill(there, signal.SIGKILL)
    sleeper.wait(DEADLINE_SECONDS)
    assert not processes.is_stopped(there)


def test_a_process_that_a_debugger_holds_was_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Process(10, 1)
    for letter, stopped in {"t": False, "T": True, "D": False}.items():
        monkeypatch.setattr(processes, "stat", lambda _, letter=letter: Stat("x", letter, 1, 0.0, 1))
        assert processes.is_stopped(held) == stopped


@pytest.mark.parametrize("content", [None, "", "\n", "soon\n", "999999999\n"])
def test_without_a_number_of_a_process_there_is_no_postmaster(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "postmaster.pid").write_text(content)
    assert processes.postmaster(tmp_path) is None


async def test_a_server_ends_with_its_stopped_backends(family: Family) -> None:
    processes.kill(family.postmaster, signal.SIGSTOP)
    assert await processes.end_server(family.postmaster, DEADLINE_SECONDS) == ()
    assert {processes.look(each).condition for each in (family.postmaster, *family.children)} == {Condition.GONE}


async def test_a_server_that_runs_is_ended_as_well(family: Family) -> None:
    assert await processes.end_server(family.postmaster, DEADLINE_SECONDS) == ()
    assert processes.postmaster(family.data_directory) is None


async def test_a_server_that_is_gone_takes_nobody_with_it(family: Family) -> None:
    later = family.postmaster
    earlier = Process(later.pid, later.started_ticks - 1)
    assert await processes.end_server(earlier, DEADLINE_SECONDS) == ()
    assert processes.postmaster(family.data_directory) == later
    assert processes.children(later) == family.children


async def test_what_cannot_be_killed_is_named(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = named(sleeper)
    monkeypatch.setattr(processes, "look", lambda _: Look(Condition.WAITING))
    assert await processes.end_server(stuck, 0.02) == (stuck,)


async def test_the_end_of_a_process_is_noticed(sleeper: subprocess.Popen[bytes]) -> None:
    there = named(sleeper)
    over = asyncio.create_task(ended(there))
    await asyncio.sleep(0)
    assert not over.done()
    processes.kill(there, signal.SIGKILL)
    await asyncio.wait_for(over, DEADLINE_SECONDS)
    await asyncio.wait_for(ended(there), DEADLINE_SECONDS)


async def test_a_stop_is_no_end(sleeper: subprocess.Popen[bytes]) -> None:
    there = named(sleeper)
    ends: list[Process] = []
    watch = Watch(there, ends.append)
    processes.kill(there, signal.SIGSTOP)
    await until(lambda: processes.look(there).condition == Condition.STOPPED)
    assert ends == []
    processes.kill(there, signal.SIGKILL)
    await until(lambda: ends == [there])
    watch.close()


async def test_a_process_that_comes_back_is_followed(children: list[subprocess.Popen[bytes]]) -> None:
    ends: list[Process] = []

    def find() -> Process | None:
        return processes.process(children[-1].pid) if children else None

    follower = Follower(find, ends.append)
    assert follower.look() is None
    lives = []
    for _ in range(2):
        lives.append(started(children, "/bin/sleep", "600"))
        assert follower.look() == follower.look() == lives[-1]
        processes.kill(lives[-1], signal.SIGKILL)
        await until(lambda: ends == lives)
        assert follower.look() is None
    follower.close()


async def test_who_follows_no_longer_is_not_told(sleeper: subprocess.Popen[bytes]) -> None:
    there = named(sleeper)
    ends: list[Process] = []
    follower = Follower(lambda: there, ends.append)
    follower.look()
    follower.close()
    sleeper.kill()
    await asyncio.wait_for(ended(there), DEADLINE_SECONDS)
    assert ends == []


@pytest.mark.parametrize("slices", ["system.slice", "system.slice/system-pgbouncer.slice"])
def test_a_unit_is_found_where_systemd_keeps_it(
    slices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]
) -> None:
    hierarchies = [tmp_path / name for name in ("unified", "named")]
    for hierarchy in hierarchies:
        group = hierarchy / slices / "pgbouncer@write.service"
        group.mkdir(parents=True)
        (group / "cgroup.procs").write_text(f"{sleeper.pid}\n0\n999999999\n")
    monkeypatch.setattr(processes, "HIERARCHIES", (tmp_path / "absent", *hierarchies))
    assert processes.members("pgbouncer@write.service") == (named(sleeper),)
    assert processes.members("pgbouncer@read.service") == ()
    assert processes.main("pgbouncer@write.service", "sleep") == named(sleeper)
    assert processes.main("pgbouncer@write.service", "pgbouncer") is None


def test_a_unit_that_moved_is_found_where_it_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]
) -> None:
    before, after = (tmp_path / name / "haproxy.service" for name in ("system.slice", "other.slice"))
    for group in (before, after):
        group.mkdir(parents=True)
    (before / "cgroup.procs").write_text(f"{sleeper.pid}\n")
    monkeypatch.setattr(processes, "HIERARCHIES", (tmp_path,))
    assert processes.members("haproxy.service") == (named(sleeper),)
    (before / "cgroup.procs").write_text("")
    (after / "cgroup.procs").write_text(f"{sleeper.pid}\n")
    assert processes.members("haproxy.service") == (named(sleeper),)
    (after / "cgroup.procs").unlink()
    assert processes.members("haproxy.service") == ()


async def test_the_first_process_of_a_unit_is_the_top_one_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: Family
) -> None:
    group = tmp_path / "cgroup/system.slice/patroni.service"
    group.mkdir(parents=True)
    everybody = (*family.children, family.postmaster)
    (group / "cgroup.procs").write_text("".join(f"{each.pid}\n" for each in everybody))
    monkeypatch.setattr(processes, "HIERARCHIES", (tmp_path / "cgroup",))
    assert processes.main("patroni.service", "postgres") == family.postmaster
    (other,) = (each for each in family.children if name_of(each) == "sh")
    assert processes.main("patroni.service", "sh") == other


def test_a_group_that_went_away_has_nobody(tmp_path: Path) -> None:
    assert list(processes.pids(tmp_path)) == []
