"""From the results of a comparison to its page. Pure: everything comes out of the JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Trial = Mapping[str, Any]

#: Outages closer together than this are not told apart: clients' pace and the machine's own weather.
EQUAL_SECONDS = 0.1
LEGEND = (
    "Seconds without any acknowledged write, over all clients; in bold what is best, ties within "
    f"{EQUAL_SECONDS:g} s. *lost*: acknowledged writes that are missing at the end. *errors*: failed and unknown "
    "operations of all clients. Sums are over all trials. ∞: had not ended when the "
    "fault was undone, or an operator stepped in."
)
#: How much of a line of a message is told.
LONGEST = 200
#: Checks whose findings have columns of their own.
COUNTED = frozenset({"writes", "whole"})


def page(data: Mapping[str, Any]) -> str:
    """Return the whole page as Markdown."""
    trials = [trial for trial in data["trials"] if ended(trial)]
    faults = {trial["fault"]: trial["title"] for trial in trials}
    origin = f"{data['machine']}, {data['began_at'][:10]}, PostgreSQL {data['postgresql']}.{speed(data)}"
    blocks = [
        "# pgbaton and its peers, measured",
        f"Written by `benchmarks/peers/compare.py`; the method is in [README.md](README.md). {origin}",
        LEGEND,
        systems(data["systems"]),
        *(f"## {title}\n\n{of_fault(fault, trials, data['systems'])}" for fault, title in faults.items()),
        *section("Remarks", remarks(trials)),
        *section("Not brought to an end", unended(data)),
    ]
    return "\n\n".join(blocks) + "\n"


def speed(data: Mapping[str, Any]) -> str:
    """Return how fast the processors were, as far as it was looked at, before each lab was made."""
    if not (loops := data.get("loop_milliseconds")):
        return ""
    return f" A million additions in Python took {median(loops):.0f} ms ({min(loops):.0f} to {max(loops):.0f})."


def ended(trial: Trial) -> bool:
    """Tell whether a trial came to its end; what did not says nothing about the system."""
    return "trial" not in trial["checks"]


def unended(data: Mapping[str, Any]) -> list[str]:
    """Return the trials, and the whole rounds, that came to no end, and why."""
    lost = [trial for trial in data["trials"] if not ended(trial)]
    return [
        *(f"- {each['system']}, {each['fault']}: {brief(each['checks']['trial']['findings'][0])}" for each in lost),
        *(f"- {each['system']}, trial {each['round']}: {brief(each['reason'])}" for each in data["not_run"]),
    ]


def systems(described: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what is compared."""
    rows = [(each["title"], each["version"], each["durability"], each["path"]) for each in described.values()]
    return table(("system", "version", "an acknowledged commit", "clients' path"), rows)


def of_fault(fault: str, trials: Iterable[Trial], described: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one fault's table, a row a system."""
    by_system = {
        name: [trial for trial in trials if (trial["system"], trial["fault"]) == (name, fault)] for name in described
    }
    present = {name: made for name, made in by_system.items() if made}
    best = min(typical(made) for made in present.values())
    header = ("system", "median", "worst", "trials", "lost", "duplicated", "errors", "whole again", "other violations")
    return table(header, [row(described[name]["title"], made, best) for name, made in present.items()])


def row(title: str, trials: Sequence[Trial], best: float) -> tuple[str, ...]:
    """Return one system's row."""
    usual = typical(trials)
    return (
        title,
        f"**{seconds(usual)}**" if usual <= best + EQUAL_SECONDS < math.inf else seconds(usual),
        seconds(max(map(outage, trials))),
        str(len(trials)),
        *(total(trials, column) for column in ("lost", "duplicated", "errors")),
        whole(trials),
        violations(trials),
    )


def outage(trial: Trial) -> float:
    """Return a trial's outage of writes, infinite when it had not ended by the time the fault was undone."""
    measured = trial["write_outage_seconds"]
    return math.inf if measured is None or measured > trial["limit_seconds"] else float(measured)


def typical(trials: Iterable[Trial]) -> float:
    """Return the median outage."""
    return median(map(outage, trials))


def seconds(value: float) -> str:
    """Return a duration."""
    return f"{value:.2f}" if math.isfinite(value) else "∞"


def total(trials: Iterable[Trial], column: str) -> str:
    """Return a sum over all trials."""
    return f"{sum(trial[column] for trial in trials):,}"


def whole(trials: Sequence[Trial]) -> str:
    """Return how the cluster became whole again: by itself, by hand, or not at all."""
    if not all(trial["whole_again_seconds"] for trial in trials):
        failed = sum(not trial["whole_again_seconds"] for trial in trials)
        return f"not in {failed} of {len(trials)}"
    return "by hand" if any(trial["by_hand"] for trial in trials) else "by itself"


def violations(trials: Iterable[Trial]) -> str:
    """Return the checks that found something wrong, beyond what has a column."""
    found = {
        name
        for trial in trials
        for name, check in trial["checks"].items()
        if check["validity"] == "invalid" and name not in COUNTED
    }
    return ", ".join(sorted(found)) or "none"


def section(title: str, lines: Sequence[str]) -> tuple[str, ...]:
    """Return a list under its title, nothing for an empty one."""
    return (f"## {title}\n\n" + "\n".join(lines),) if lines else ()


def remarks(trials: Iterable[Trial]) -> list[str]:
    """Return what else was seen, one line a trial that has something to tell."""
    lines = []
    for trial in trials:
        found = [finding for check in trial["checks"].values() for finding in check["findings"][:2]]
        said = dict.fromkeys((*found, *trial["remarks"], *trial["by_hand"]))
        if said:
            lines.append(
                f"- {trial['system']}, {trial['fault']}, trial {trial['round']}: {'; '.join(map(brief, said))}"
            )
    return lines


def brief(text: str) -> str:
    """Return what a message begins and ends with, on one line; the JSON has all of it."""
    first, *others = text.strip().splitlines()
    return " … ".join(line.strip()[:LONGEST] for line in (first, *others[-1:]))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
