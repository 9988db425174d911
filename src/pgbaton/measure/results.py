"""What a whole measurement came to, and its form as JSON. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgbaton.measure import summary

if TYPE_CHECKING:
    from pgbaton.measure.plan import Request
    from pgbaton.measure.summary import NotRun, Row, Run
    from pgbaton.measure.ways import Layout


@dataclass(frozen=True)
class Result:
    """A measurement: of which cluster, when (ISO 8601), of what kind of machines, asked for how, and what was seen.

    ``complete`` tells that every step was made that could be.
    """

    cluster: str
    began_at: str
    system: str
    layout: Layout
    request: Request
    runs: tuple[Run, ...] = ()
    not_run: tuple[NotRun, ...] = ()
    remarks: tuple[str, ...] = field(default=())
    complete: bool = False

    @property
    def rows(self) -> tuple[Row, ...]:
        """Return a row for each case and way."""
        return summary.rows(self.runs)

    @property
    def failures(self) -> int:
        """Return how many errors clients had in all."""
        return sum(row.failures for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        asked = self.request
        return {
            "cluster": self.cluster,
            "began_at": self.began_at,
            "system": self.system,
            "complete": self.complete,
            "seconds": asked.seconds,
            "rounds": asked.rounds,
            "scale": asked.scale,
            "client": self.layout.client,
            "primary": self.layout.primary,
            "vip_holder": self.layout.vip,
            "paths": [way.to_dict() for way in self.layout.ways],
            "rows": [row.to_dict() for row in self.rows],
            "not_run": [each.to_dict() for each in self.not_run],
            "remarks": list(self.remarks),
        }


def remarks(layout: Layout) -> tuple[str, ...]:
    """Return what has to be known to read the figures: ways that cross no network, and who shares a host."""
    own = [way.name for way in layout.ways if way.loopback]
    said = []
    if own:
        said.append(
            f"the clients run on {layout.client}, which is the first stop of {' and '.join(own)}: "
            "that way crosses one network less than from an application's host, and looks better than it is"
        )
    if layout.client == layout.primary:
        said.append(f"the clients share {layout.client} with the primary, and take processor time from it")
    return tuple(said)
