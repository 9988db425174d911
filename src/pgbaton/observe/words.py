"""Sizes, durations and reasons as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.errors import Error


def size(count: float) -> str:
    """Return a number of bytes with a binary unit: 0 B, 1.5 MiB, 20 GiB."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:  # noqa: PLR2004 - the base of binary units
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"  # noqa: PLR2004 - two digits


def span(seconds: float) -> str:
    """Return a duration: 3 ms, 1.2 s, 45 s, 7 min, 5 h, 12 d."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004 - two digits
    for limit, unit, one in ((7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / one:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def fenced_on(fences: Mapping[str, str]) -> str:
    """Return where fences against a host stand, and why: db2, db3 (silent, lock of revision 12)."""
    reasons = dict.fromkeys(fences.values())
    places = {why: ", ".join(host for host, given in fences.items() if given == why) for why in reasons}
    return "; ".join(f"{hosts} ({why})" if why else hosts for why, hosts in places.items())


def reason(error: Error) -> str:
    """Return why something failed, in one line: without the command line that a failed program was started with."""
    head, _, said = error.message.partition("\n")
    return ": ".join(part for part in (head.partition(" from: ")[0], " ".join(said.split())) if part)
