"""The host's own processes: find them, look at how they fare, and end them.

A process is named by its number and the moment of its start, since numbers come back. Whatever is done to one goes
through a pidfd, which cannot mean another. Needs CAP_SYS_PTRACE, to see what a process runs, and CAP_KILL.
"""

from __future__ import annotations

import asyncio
import glob
import os
import signal
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROC = Path("/proc")
#: Where a hierarchy with systemd's units may be: version 2 alone, version 2 beside 1, and systemd's own of version 1.
HIERARCHIES = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/systemd"))
#: Where a unit's group is in a hierarchy; instances of a template have a slice of their own.
PLACES = ("*.slice/{unit}", "*.slice/*.slice/{unit}", "*.slice/*.slice/*.slice/{unit}")

#: Where the groups of units were found: to look for them anew takes a walk through directories.
_GROUPS: dict[tuple[tuple[Path, ...], str], tuple[Path, ...]] = {}

PROGRAM = "postgres"
#: A line of /proc/PID/stat is shorter: fifty numbers and a name. Read without Python's layers of files, since an idle
#: agent does little else so often.
STAT_BYTES = 4096
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
NANOSECONDS = 1e9
#: Between two looks at whether a process that was killed is gone.
LOOK_SECONDS = 0.005
#: A stop takes effect when the process next leaves the kernel; one that waits for its disk does not leave it.
STOP_SECONDS = 0.1


class Condition(StrEnum):
    """What the kernel says of a process: it runs or could, waits for a disk, was stopped, or is no more."""

    RUNNING = "running"
    WAITING = "waiting for a disk"
    STOPPED = "stopped"
    GONE = "gone"


#: The letters of /proc/PID/stat (proc_pid_stat(5)); those not listed are of processes that run or sleep.
CONDITIONS = {"D": Condition.WAITING, "T": Condition.STOPPED, "t": Condition.STOPPED}
CONDITIONS |= dict.fromkeys("ZXx", Condition.GONE)
#: What counts for several processes that make one service: one that is stopped stops it.
WORST = (Condition.STOPPED, Condition.WAITING, Condition.RUNNING, Condition.GONE)


@dataclass(frozen=True, slots=True)
class Process:
    """A process, and no other that gets its number later."""

    pid: int
    started_ticks: int


@dataclass(frozen=True, slots=True)
class Stat:
    """What /proc/PID/stat says."""

    name: str
    letter: str
    parent: int
    cpu_seconds: float
    started_ticks: int

    @property
    def condition(self) -> Condition:
        """Return the letter's meaning."""
        return CONDITIONS.get(self.letter, Condition.RUNNING)


@dataclass(frozen=True, slots=True)
class Look:
    """How a process fares: time on a processor, time for which it waited for one, and whether it wants one now."""

    condition: Condition
    cpu_seconds: float = 0.0
    starved_seconds: float = 0.0
    is_runnable: bool = False


def parse(text: str) -> Stat:
    """Return what a line of /proc/PID/stat says; a name may have spaces and parentheses in it."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    used = (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
    return Stat(head.partition("(")[2], fields[0], int(fields[1]), used, int(fields[19]))


def stat(pid: int) -> Stat | None:
    """Return what the kernel says of a process, None when there is none."""
    try:
        descriptor = os.open(f"{PROC}/{pid}/stat", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return parse(os.read(descriptor, STAT_BYTES).decode(errors="replace"))
    except ProcessLookupError:
        return None
    finally:
        os.close(descriptor)


def process(pid: int) -> Process | None:
    """Return the process that has a number now, None when there is none or only its remains."""
    seen = stat(pid)
    return Process(pid, seen.started_ticks) if seen and seen.condition != Condition.GONE else None


def look(wanted: Process) -> Look:
    """Return how a process fares."""
    seen = stat(wanted.pid)
    if not seen or seen.started_ticks != wanted.started_ticks or seen.condition == Condition.GONE:
        return Look(Condition.GONE)
    return Look(seen.condition, seen.cpu_seconds, starved_seconds(wanted.pid), seen.letter == "R")


def is_stopped(wanted: Process) -> bool:
    """Tell whether a process was stopped by a signal; one that a debugger holds was not."""
    seen = stat(wanted.pid)
    return seen is not None and seen.started_ticks == wanted.started_ticks and seen.letter == "T"


def has_ended(wanted: Process) -> bool:
    """Tell whether all of a process is gone: its first thread may be while others still have its connections."""
    try:
        threads = len(list((PROC / str(wanted.pid) / "task").iterdir()))
    except OSError:
        return True
    return threads <= 1 and look(wanted).condition == Condition.GONE


def condition(service: Iterable[Process]) -> Condition:
    """Return the condition of several processes that make one service."""
    seen = {look(each).condition for each in service}
    return next((each for each in WORST if each in seen), Condition.GONE)


def starved_seconds(pid: int) -> float:
    """Return how long a process has waited for a processor; 0 where the kernel does not count it."""
    try:
        return int((PROC / str(pid) / "schedstat").read_text(encoding="ascii").split()[1]) / NANOSECONDS
    except (OSError, IndexError):
        return 0.0


def runnable_per_processor() -> float:
    """Return how many threads of the host want a processor now, for each that there is (proc_loadavg(5))."""
    runnable = (PROC / "loadavg").read_text(encoding="ascii").split()[3].partition("/")[0]
    return int(runnable) / (os.cpu_count() or 1)


def socket_lock(socket_directory: Path, port: int) -> Path:
    """Return the file in which a postmaster notes its number beside its socket; no disk is needed to read it."""
    return socket_directory / f".s.PGSQL.{port}.lock"


def postmaster(data_directory: Path, pid_file: Path | None = None) -> Process | None:
    """Return the postmaster of a data directory, None when there is none.

    ``pid_file`` says which it may be: by default ``postmaster.pid`` in the directory, better :func:`socket_lock`, which
    can be read when the disk hangs. It is known by what cannot be said of another: it runs PostgreSQL, works in that
    directory, and its parent does not, as a backend's does. The start that the file notes is a time of day, which a
    step of the clock makes wrong; the start that the kernel counts tells this process from a later one.
    """
    pid = noted(pid_file or data_directory / "postmaster.pid")
    if pid is None:
        return None
    found = process(pid)
    seen = stat(pid)
    if not found or not seen or not serves(pid, data_directory) or serves(seen.parent, data_directory):
        return None
    return found if process(pid) == found else None


def noted(pid_file: Path) -> int | None:
    """Return the process that a postmaster's file names; None when there is no file, or it is being written."""
    try:
        return int(pid_file.read_text(encoding="utf-8", errors="replace").split("\n")[0])
    except (FileNotFoundError, ValueError):
        return None


def serves(pid: int, data_directory: Path) -> bool:
    """Tell whether a process runs PostgreSQL in a data directory.

    That needs no disk where the directory is on this host's own: the kernel keeps at hand where a process works.
    """
    directory, seen = PROC / str(pid), stat(pid)
    if not seen or seen.name != PROGRAM:  # of others, the first process for one, no more may be known
        return False
    try:
        program = (directory / "exe").readlink().name.removesuffix(" (deleted)")  # so after an upgrade of the package
        return program == PROGRAM and (directory / "cwd").samefile(data_directory)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError as error:
        message = f"{error}; fix: the agent needs CAP_SYS_PTRACE to know a postmaster"
        raise PermissionError(message) from error


def members(unit: str) -> tuple[Process, ...]:
    """Return the processes of a systemd unit, from its control group; asking systemd would cost a process start."""
    found = (process(pid) for group in groups(unit) for pid in pids(group))
    return tuple(dict.fromkeys(each for each in found if each))


def main(unit: str, name: str) -> Process | None:
    """Return the first process of a unit by that name (proc_pid_comm(5)), None when there is none.

    Patroni's unit also has the server and what an earlier Patroni left; HAProxy's has workers below a master.
    """
    found = {each.pid: each for each in members(unit)}
    stats = {pid: seen for pid in found if (seen := stat(pid)) and seen.name == name}
    tops = [pid for pid, seen in stats.items() if seen.parent not in stats]
    return found[max(tops, key=lambda pid: stats[pid].started_ticks)] if tops else None


def groups(unit: str) -> tuple[Path, ...]:
    """Return the control groups of a unit; where they were once is where they are, as long as anything is there."""
    key = (HIERARCHIES, unit)
    found = tuple(group for group in _GROUPS.get(key, ()) if any(pids(group)))
    if not found:
        patterns = (place.format(unit=glob.escape(unit)) for place in PLACES)
        found = tuple(group for pattern in patterns for each in HIERARCHIES for group in each.glob(pattern))
        _GROUPS[key] = found
    return found


def pids(group: Path) -> Iterator[int]:
    """Yield the numbers of the processes in a group; it may go away meanwhile."""
    try:
        yield from map(int, (group / "cgroup.procs").read_text(encoding="ascii").split())
    except OSError:
        return


def children(parent: Process) -> tuple[Process, ...]:
    """Return the children of a process; none of one that is gone, since they are no longer its."""
    numbers = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
    stats = ((pid, seen) for pid in numbers if (seen := stat(pid)))
    found = tuple(Process(pid, seen.started_ticks) for pid, seen in stats if seen.parent == parent.pid)
    return found if process(parent.pid) == parent else ()


def open_pidfd(wanted: Process) -> int:
    """Return a pidfd of a process; ProcessLookupError when it is gone, whoever has its number now."""
    descriptor = os.pidfd_open(wanted.pid)
    if process(wanted.pid) != wanted:
        os.close(descriptor)
        message = f"process {wanted.pid} is gone"
        raise ProcessLookupError(message)
    return descriptor


def kill(wanted: Process, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; False when it is gone."""
    try:
        descriptor = open_pidfd(wanted)
    except ProcessLookupError:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


async def end_server(server: Process, deadline_seconds: float) -> tuple[Process, ...]:
    """Kill a postmaster and all processes of its server; return those that are still there at the deadline.

    Backends see that their postmaster is gone, but not at once, and not when they are stopped as well; and while one of
    them has the shared memory, no postmaster starts in that directory. Each has a process group of its own, so each is
    killed by itself. The postmaster is stopped before: then it starts no more of them.
    """
    deadline = asyncio.get_running_loop().time() + deadline_seconds
    kill(server, signal.SIGSTOP)
    while look(server).condition == Condition.RUNNING and await pause(deadline - deadline_seconds + STOP_SECONDS):
        pass
    left = (server, *children(server))
    for each in left:
        kill(each, signal.SIGKILL)
    while left := tuple(each for each in left if look(each).condition != Condition.GONE):
        if not await pause(deadline):
            break
    return left


async def pause(until: float) -> bool:
    """Wait a moment, and tell whether there is time left; ``until`` is on the loop's clock."""
    await asyncio.sleep(LOOK_SECONDS)
    return asyncio.get_running_loop().time() < until
