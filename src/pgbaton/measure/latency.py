"""Latencies as counts by length, which can be added up and asked for quantiles. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: awk over pgbench's log: three digits of every latency, so that a second's thousands of lines become some hundred.
#: With ``connect`` a transaction is counted from the end of the client's one before: pgbench leaves logging in out.
COUNT = r"""
function bucket(us, width) {
  for (width = 1; us / width >= 1000; width *= 10);
  return int(us / width) * width
}
$3 ~ /^[0-9]+$/ {
  if (connect) {
    at = $5 * 1000000 + $6
    if ($1 in last) count[bucket(at - last[$1])]++
    last[$1] = at
  } else {
    count[bucket($3)]++
  }
}
END { for (each in count) print each, count[each] }
"""
#: What COUNT merges: a quantile is told to this share of itself at worst.
PRECISION = 0.01


@dataclass(frozen=True)
class Latencies:
    """How many transactions took how long: counts by microseconds."""

    counts: Mapping[int, int]

    @property
    def total(self) -> int:
        """Return how many there are."""
        return sum(self.counts.values())

    def quantile(self, share: float) -> float | None:
        """Return the latency, in milliseconds, that a share of all transactions did not exceed; None for none."""
        left = share * self.total
        for microseconds, count in sorted(self.counts.items()):
            left -= count
            if left <= 0:
                return microseconds / 1000
        return None


def parse(lines: Iterable[str]) -> Latencies:
    """Read what COUNT prints."""
    pairs = (line.split() for line in lines if line.strip())
    return Latencies({int(microseconds): int(count) for microseconds, count in pairs})


def merged(several: Iterable[Latencies]) -> Latencies:
    """Return all latencies of several measurements together."""
    counts = Counter[int]()
    for each in several:
        counts.update(each.counts)
    return Latencies(counts)
