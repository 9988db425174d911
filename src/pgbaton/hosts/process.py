"""Run local programs: the only module that starts processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pgbaton.errors import CommandError, UnreachableError

if TYPE_CHECKING:
    from asyncio import StreamReader
    from collections.abc import AsyncGenerator
    from pathlib import Path

#: The longest line that ``lines`` can take, in bytes.
LONGEST_LINE = 4 * 1024 * 1024
#: How much of a failed program's output an error repeats, in characters.
TAIL = 2_000


@dataclass(frozen=True)
class Result:
    """What a finished program left behind; ``stdout`` and ``stderr`` are decoded as UTF-8."""

    argv: tuple[str, ...]
    exit_status: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Tell whether the program exited with status 0."""
        return self.exit_status == 0


async def run(
    *argv: str,
    input: str | bytes | None = None,  # noqa: A002 - the name subprocess uses
    check: bool = True,
    timeout: float | None = 30.0,
    where: str | None = None,
) -> Result:
    """Run a program to its end and return what it printed.

    ``timeout`` is in seconds; None waits for ever. The program runs in a session of its own, so that its
    whole process group can be ended when the deadline passes or the caller is cancelled.

    Raises CommandError on a non-zero exit when ``check``; UnreachableError when the deadline passes.
    """
    data = input.encode() if isinstance(input, str) else input
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(data), timeout)
    except TimeoutError:
        await abandon(process)
        message = f"no end after {timeout:g} s: {describe(argv)}"
        raise UnreachableError(message, where=where) from None
    except BaseException:
        await abandon(process)
        raise
    result = Result(argv, process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))
    if check and not result.ok:
        raise CommandError(failure(result), where=where)
    return result


async def abandon(process: asyncio.subprocess.Process) -> None:
    """End a program and what it started, and let go of their output: one that got away may hold it open for ever."""
    end_group(process.pid)
    process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way
    await process.wait()


async def lines(*argv: str, where: str | None = None) -> AsyncGenerator[str, None]:
    """Run a program and yield what it prints, line by line, until it ends or the caller has had enough.

    Close the generator (``contextlib.aclosing``) to end the program. Raises CommandError on a non-zero exit.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        limit=LONGEST_LINE,
    )
    stdout, stderr = cast("StreamReader", process.stdout), cast("StreamReader", process.stderr)
    said = asyncio.create_task(stderr.read())
    try:
        async for line in stdout:
            yield line.decode(errors="replace").rstrip("\n")
        await process.wait()
    finally:
        if process.returncode is None:
            end_group(process.pid)
            await process.wait()
        err = (await said).decode(errors="replace")
    if process.returncode:
        raise CommandError(failure(Result(argv, process.returncode, "", err)), where=where)


@dataclass(frozen=True)
class Child:
    """A program that runs beside this one until its standard input ends; all it prints goes to ``log``."""

    process: asyncio.subprocess.Process
    log: Path

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self.process.pid

    @property
    def exit_status(self) -> int | None:
        """Return its exit status, None while it runs."""
        return self.process.returncode

    async def end(self, *, timeout: float) -> int:
        """Close its standard input and return its exit status; kill it when it has not ended after ``timeout`` s."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            return await asyncio.wait_for(self.process.wait(), timeout)
        finally:
            if self.process.returncode is None:
                end_group(self.process.pid)
                await self.process.wait()


async def start(*argv: str, input: str, log: Path) -> Child:  # noqa: A002 - the name subprocess uses
    """Start a program, give it ``input`` over a standard input that stays open, and let it run."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    if process.stdin is not None:
        process.stdin.write(input.encode())
        await process.stdin.drain()
    return Child(process, log)


def capture(*argv: str, timeout: float = 10.0) -> Result:
    """Run a quick local program outside of any event loop; its exit status is the caller's to judge."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
    return Result(argv, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def end_group(pid: int) -> None:
    """Kill the process group led by ``pid``, if it is still there."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def replace(*argv: str) -> None:
    """Become another program: terminal, signals and exit status are then its own."""
    os.execvp(argv[0], argv)  # noqa: S606 - an interactive program takes over this process


def describe(argv: tuple[str, ...]) -> str:
    """Return a short form of a command line for messages: of a program in an argument, its first line stands for it."""
    text = " ".join(argument.strip().partition("\n")[0] + " …" * ("\n" in argument.strip()) for argument in argv)
    return text if len(text) <= 200 else text[:197] + "..."  # noqa: PLR2004 - fits two terminal lines


def failure(result: Result) -> str:
    """Return what a failed program said, short enough for a message."""
    said = (result.stderr.strip() or result.stdout.strip())[-TAIL:]
    return f"exit status {result.exit_status} from: {describe(result.argv)}" + (f"\n{said}" if said else "")
