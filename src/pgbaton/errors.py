"""One tree of errors: what went wrong, where, and what to do about it."""

from __future__ import annotations


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
