"""One tree of errors: what went wrong, where, and what to do about it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

#: How long a line below a problem's place may be: with its indentation, a hundred columns.
PROBLEM_WIDTH = 96


class Error(Exception):
    """Tell a user what was checked, what was seen, where, and how to go on.

    ``where`` names the place (a file and line, a host, a command); ``hint`` says what to do next.
    Each subclass carries the exit code that the command line returns for it.
    """

    exit_code = 1

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        """Return the message behind its place, without the hint."""
        return f"{self.where}: {self.message}" if self.where else self.message


class UsageError(Error):
    """The command line, an option or an input file is wrong; nothing was changed."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or doubtful, in an input file.

    ``path`` leads to the value, as ``hosts[1].address``; empty when the file as a whole is meant. ``value`` is what
    stands there, as it may be shown; None when there is none, or when it might be a secret.
    """

    file: str
    line: int | None
    path: str
    value: str | None
    reason: str
    fix: str
    level: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        """Return short lines: the place and value, what is wrong, how to mend it."""
        place = f"line {self.line}" if self.line else "whole file"
        path = f"  {self.path}" if self.path else ""
        value = f" = {self.value}" if self.value is not None and self.path else ""
        told = [line for text in (self.reason, f"fix: {self.fix}") for line in folded(text)]
        return "\n    ".join([f"{place}{path}{value}", *told])


def folded(text: str) -> list[str]:
    """Return a text as lines that fit behind a problem's indentation; words are not split."""
    return textwrap.wrap(text, PROBLEM_WIDTH, break_long_words=False, break_on_hyphens=False)


class TopologyError(UsageError):
    """A topology file is refused; ``problems`` are all that is wrong with it, not only the first."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        refused = [problem for problem in problems if problem.level == "error"]
        count = "1 problem" if len(refused) == 1 else f"{len(refused)} problems"
        listing = "".join(f"\n  {problem}" for problem in refused)
        super().__init__(f"{count} in the topology{listing}", where=refused[0].file)


class UnhealthyError(Error):
    """A host, a service or the cluster is not in the state it should be in."""

    exit_code = 3


class UnreachableError(Error):
    """A host could not be reached, or did not answer within its deadline."""

    exit_code = 4


class ObjectiveMissedError(Error):
    """Everything is consistent, but a promised figure was not met."""

    exit_code = 5


class RefusedError(Error):
    """The command was understood, and refused because it would be unsafe."""

    exit_code = 6


class CommandError(Error):
    """A program on a host failed: its argv, exit status and the end of what it printed."""


class MissingCapabilityError(Error):
    """This machine lacks something the lab needs; the hint says how to get it."""
