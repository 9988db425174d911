"""A host for tests: answers given beforehand, and a directory in the place of its file system."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgbaton.errors import CommandError
from pgbaton.hosts import files, process
from pgbaton.hosts.base import Host
from pgbaton.hosts.process import Result

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Answer = str | Exception


@dataclass(frozen=True)
class FakeHost(Host):
    """Answer commands from ``answers``, the rest by running it for real with ``root`` as the root directory.

    Answers are by the beginning of the command line: text for standard output, an error to raise, or a function from
    standard input to one of them. Scripts that take the root directory as an argument get ``root``; programs in
    ``root``/fake/bin come before those of the machine. Every call is in ``calls``: its command line and its input.
    """

    root: Path | None = None
    answers: dict[tuple[str, ...], Answer | Callable[[str], Answer]] = field(default_factory=dict)
    calls: list[tuple[tuple[str, ...], str]] = field(default_factory=list)

    def local_argv(self, argv: tuple[str, ...], *, terminal: bool = False) -> tuple[str, ...]:
        """Return ``argv`` with the fake's root directory and programs; raises CommandError when there is no root."""
        del terminal
        if self.root is None:
            message = f"the test gave no answer for: {process.describe(argv)}"
            raise CommandError(message, where=self.name)
        path = f"PATH={self.root}/fake/bin:{os.environ['PATH']}"
        return ("env", path, f"FAKE={self.root}/fake", *(str(self.root) if word == "/" else word for word in argv))

    async def run(
        self,
        *argv: str,
        input: str | bytes | None = None,  # noqa: A002 - the name subprocess uses
        check: bool = True,
        timeout: float | None = 30.0,
    ) -> Result:
        """Answer a command; raises the error given as its answer."""
        text = input.decode(errors="replace") if isinstance(input, bytes) else input or ""
        self.calls.append((argv, text))
        for length in range(len(argv), 0, -1):
            if argv[:length] in self.answers:
                given = self.answers[argv[:length]]
                answer = given(text) if callable(given) else given
                if isinstance(answer, Exception):
                    raise answer
                return Result(argv, 0, answer, "")
        if files.READ in argv:
            return await self.read_rooted(text)
        return await super().run(*argv, input=input, check=check, timeout=timeout)

    async def read_rooted(self, listing: str) -> Result:
        """Answer the script that reads files, with paths under the root."""
        rooted = "".join(f"{self.root}{path}\n" for path in listing.splitlines())
        result = await super().run("sh", "-c", files.READ, input=rooted)
        lines = [line.removeprefix(str(self.root)) for line in result.stdout.splitlines()]
        return Result(result.argv, 0, "".join(f"{line}\n" for line in lines), "")

    def called(self, *beginning: str) -> list[tuple[str, ...]]:
        """Return the command lines that begin with these words, in the order of the calls."""
        return [argv for argv, _ in self.calls if argv[: len(beginning)] == beginning]
