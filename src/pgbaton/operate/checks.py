"""Checks before a change: what was looked at, what was seen, the limit, and what to do when it is exceeded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pgbaton.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Check:
    """One precondition and its outcome; ``fix`` says what to do when it did not pass."""

    name: str
    passed: bool
    seen: str
    limit: str
    fix: str

    def __str__(self) -> str:
        """Return the line a person reads."""
        verdict = f"{self.name}: {self.seen}"
        return verdict if self.passed else f"{verdict}; wanted: {self.limit}; to fix: {self.fix}"

    @property
    def data(self) -> dict[str, Any]:
        """Return the check for JSON."""
        return asdict(self)


def failed(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Return the checks that did not pass."""
    return tuple(check for check in checks if not check.passed)


def require(action: str, checks: Iterable[Check], *, told: bool = False) -> None:
    """Raise RefusedError that names every check that did not pass; return when there is none.

    ``told``: the checks have been shown already, and are only counted.
    """
    wrong = failed(checks)
    if wrong and told:
        many = "1 check did not pass" if len(wrong) == 1 else f"{len(wrong)} checks did not pass"
        message = f"{action} would be refused: {many}; nothing was changed"
        raise RefusedError(message, hint="mend what stands behind NO; pgbaton status shows the whole cluster")
    if wrong:
        message = "\n  ".join([f"{action} refused, nothing was changed:", *map(str, wrong)])
        raise RefusedError(message, hint="pgbaton status shows the whole cluster")


def size(count: int) -> str:
    """Return a number of bytes for people: exact, and in MiB when that helps."""
    mebibytes = count / 2**20
    return f"{count} bytes" if mebibytes < 1 else f"{count} bytes ({mebibytes:.1f} MiB)"


def listing(names: Iterable[str]) -> str:
    """Return names for a sentence: comma-separated, or the word none."""
    return ", ".join(names) or "none"
