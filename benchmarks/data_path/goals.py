"""What the data path should reach on a machine with two cores, beside what was measured. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Data = Mapping[str, Any]


@dataclass(frozen=True)
class Goal:
    """A figure and its bound: ``measured`` finds it in the results, None where it was not measured."""

    words: str
    bound: float
    unit: str
    measured: Callable[[Data], float | None]
    at_most: bool = False

    def judged(self, data: Data) -> dict[str, Any]:
        """Return the goal beside what was measured, as JSON has it."""
        seen = self.measured(data)
        met = None if seen is None else (seen <= self.bound if self.at_most else seen >= self.bound)
        return {
            "goal": self.words,
            "bound": self.bound,
            "at_most": self.at_most,
            "unit": self.unit,
            "measured": seen,
            "met": met,
        }


def rows(data: Data, **wanted: object) -> list[Data]:
    """Return the rows through the VIP that have what is wanted."""
    return [
        row for row in data["rows"] if row["path"] == "vip" and all(row[key] == value for key, value in wanted.items())
    ]


def ratio(profile: str, clients: int, *, connect: bool = False) -> Callable[[Data], float | None]:
    """Return what finds the multiple of the direct path, by the simple protocol."""

    def find(data: Data) -> float | None:
        found = rows(data, profile=profile, clients=clients, connect=connect, protocol="simple")
        return found[0]["ratio_to_direct"] if found else None

    return find


def added_latency(data: Data) -> float | None:
    """Find what the path adds to the median latency of a single client."""
    found = rows(data, profile="select-only", clients=1, connect=False, protocol="simple")
    return found[0]["added_median_milliseconds"] if found else None


def idle_megabytes(data: Data) -> float | None:
    """Find what all proxies of the balancer take with 2,000 idle clients."""
    found = [each["pss_bytes"] / 1e6 for each in data["memory"] if each["clients"] == IDLE_CLIENTS]
    return round(found[0], 1) if found else None


def storm_errors(data: Data) -> float | None:
    """Find how many of 1,000 clients that came at once were not served."""
    found = [each["errors"] for each in data["storms"] if (each["clients"], each["path"]) == (STORM_CLIENTS, "vip")]
    return max(found, default=None)


IDLE_CLIENTS, STORM_CLIENTS = 2_000, 1_000
GOALS = (
    Goal("select-only, 16 clients", 0.60, "of direct", ratio("select-only", 16)),
    Goal("select-only, 150 clients", 0.90, "of direct", ratio("select-only", 150)),
    Goal("select-only, 500 clients", 1.30, "of direct", ratio("select-only", 500)),
    Goal("TPC-B, synchronous, 16 clients", 0.92, "of direct", ratio("tpcb", 16)),
    Goal(
        "a new connection for each transaction, 16 clients", 15.0, "of direct", ratio("select-only", 16, connect=True)
    ),
    Goal("added median latency, one client", 0.15, "ms", added_latency, at_most=True),
    Goal("2,000 idle clients, all proxies together", 60.0, "MB", idle_megabytes, at_most=True),
    Goal("a storm of 1,000 clients", 0.0, "errors", storm_errors, at_most=True),
)


def judged(data: Data, goals: Iterable[Goal] = GOALS) -> list[dict[str, Any]]:
    """Return every goal beside what was measured."""
    return [goal.judged(data) for goal in goals]
