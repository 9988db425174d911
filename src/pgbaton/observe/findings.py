"""Findings: what is wrong with a cluster, how much it matters, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class Level(IntEnum):
    """How much a finding matters, the worst first.

    CRITICAL: clients are affected now, or a promise about acknowledged writes is broken. WARNING: redundancy is
    gone, or a limit is near: the next fault may reach clients. NOTE: worth knowing, nothing presses.
    """

    CRITICAL = 0
    WARNING = 1
    NOTE = 2


class Health(StrEnum):
    """A cluster in one word: ``down`` means that writes are not served."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    ``rule`` names the check; ``subject`` is a host, or the cluster, and ``part`` what of it, where a rule may find
    several; ``limit`` is what should have been seen;
    ``outage`` says that this alone keeps writes from being served.
    """

    level: Level
    rule: str
    subject: str
    seen: str
    limit: str
    advice: str
    outage: bool = False
    part: str = ""

    @property
    def identity(self) -> tuple[str, str, str]:
        """Return what stays the same while a finding lasts; what was seen may change."""
        return self.rule, self.subject, self.part

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON can carry it."""
        return {
            "level": self.level.name.lower(),
            "rule": self.rule,
            "subject": self.subject,
            "seen": self.seen,
            "limit": self.limit,
            "advice": self.advice,
            "outage": self.outage,
            "part": self.part,
        }


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings in the order to act on them: outages first, then by level; otherwise as they came."""
    return tuple(sorted(findings, key=lambda finding: (not finding.outage, finding.level)))


def health(findings: Iterable[Finding]) -> Health:
    """Return the cluster's health: notes do not count."""
    serious = [finding for finding in findings if finding.level < Level.NOTE]
    if any(finding.outage for finding in serious):
        return Health.DOWN
    return Health.DEGRADED if serious else Health.HEALTHY
