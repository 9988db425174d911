#!/usr/bin/env python3
"""Write runs of the full suite on the stock stack into the documentation: their table, their page, every shortfall.

``.venv/bin/python benchmarks/stock.py RUN [RUN …]``, RUN being what ``pgbaton report list`` shows. Later runs add
faults, or replace those of the same name; with ``--page stock-later`` they get a page of their own beside the first,
which needs none of the first page's runs. What fell short of what is right must have an explanation in
docs/proofs/explanations.toml, by the fault's name: without one this fails, so that nothing unexplained is published.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pgbaton.proof import faults, store
from pgbaton.proof.checkers.base import Validity
from pgbaton.proof.reporting import page, words
from pgbaton.proof.results import FaultSummary, RunResult, TrialResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgbaton.proof.history import History
    from pgbaton.proof.story import Story

DOCS = Path(__file__).parent.parent / "docs"
PROOFS = DOCS / "proofs"
EXPLANATIONS = PROOFS / "explanations.toml"

HEAD = """# {title}

{which} on the preset `standard`: {stack}. Five hosts, the
clients and the meter shared one machine with two cores ({system}); {origin}. Outages are of writes, by
clients through the VIP. [The whole report]({name}.html) has every trial, and the course of each fault's worst.
{more}

{lead}

Lost acknowledged writes, in all trials: **{lost}**.{unseen}
"""


@dataclass(frozen=True)
class Page:
    """What a page says of itself: its title, which faults are on it, where the others are, what they were struck on."""

    title: str
    which: str
    more: str
    stack: str = "stock parts, nothing of pgbaton's in the path"


PAGES = {
    "stock": Page(
        "What the stock stack was seen to do",
        "Every fault that the full suite had at the time,",
        "Faults added since, and those whose measurement here had a flaw of the proof, are in "
        "[a later run](stock-later.md).",
    ),
    "stock-later": Page(
        "What the stock stack was seen to do, in a later run",
        "The faults that were added since [the first run](stock.md), and those measured again because the proof\n"
        "itself had a flaw then (`walsender-killed`, and the clock jumps),",
        "Every other fault is in [the first run](stock.md).",
    ),
    "agents": Page(
        "What a cluster with agents was seen to do",
        "Every fault of the full suite,",
        "What the same faults cost without agents is in [other runs](stock.md). Other work had a part of the\n"
        "machine during the first of these runs: its outages are rather too long than too short.",
        stack="an agent on every host, `detection_time` 0.25 s",
    ),
}
COLUMNS = ("fault", "trials", "median", "worst", "allowed", "verdict")


@dataclass(frozen=True)
class Source:
    """A run that figures are taken from, by the name of its folder."""

    name: str
    run: RunResult

    @property
    def origin(self) -> str:
        """Return when it was made, and from which seed."""
        return f"{self.run.began_at[:10]}, seed {self.run.seed}"


@dataclass(frozen=True)
class Merged:
    """Several runs as one.

    ``sources`` tells which run each fault's trials are from; ``used`` are the runs of which anything is left, in order.
    """

    run: RunResult
    sources: Mapping[str, Source]
    used: tuple[Source, ...]

    def number(self, fault: str) -> int:
        """Return which of the runs, counted from one, a fault's trials are from."""
        return [source.name for source in self.used].index(self.sources[fault].name) + 1


def main() -> int:
    """Write the page and the table; return 1 when something has no explanation, or the runs do not belong together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="name of a stored run, or the beginning of it")
    parser.add_argument("--page", choices=PAGES, default="stock", help="the page to write; by default %(default)s")
    options = parser.parse_args()
    stored = [store.find(name) for name in options.runs]
    sources = [Source(each.name, each.result()) for each in stored]
    merged = merge(sources)
    explained = explanations(options.page)
    if wrong := problems(sources, merged, explained):
        print("\n".join(wrong), file=sys.stderr)
        return 1
    folders = {each.name: each for each in stored}

    def kept(trial: TrialResult) -> tuple[store.StoredRun, TrialResult]:
        source = merged.sources[trial.fault]
        return folders[source.name], replace(trial, folder=trial.folder.removeprefix(f"{source.name}/"))

    def story(trial: TrialResult) -> Story | None:
        folder, own = kept(trial)
        return folder.story(own)

    def history(trial: TrialResult) -> History | None:
        folder, own = kept(trial)
        return folder.history(own)

    report = page.render(merged.run, story, history)
    (PROOFS / f"{options.page}.html").write_text(report, encoding="utf-8")
    (PROOFS / f"{options.page}.md").write_text(text(merged, explained, options.page), encoding="utf-8")
    return 0


def explanations(name: str) -> dict[str, str]:
    """Return why faults fell short, by name; a page's own table has precedence."""
    document = tomllib.loads(EXPLANATIONS.read_text(encoding="utf-8"))
    return {**{fault: why for fault, why in document.items() if isinstance(why, str)}, **document.get(name, {})}


def problems(sources: Sequence[Source], merged: Merged, explained: Mapping[str, str]) -> list[str]:
    """Return what keeps runs from being published. Pure."""
    missing = [each.fault for each in shortfalls(merged.run) if each.fault not in explained]
    systems = dict.fromkeys(source.run.system for source in sources)
    found = [f"without an explanation in {EXPLANATIONS}: {', '.join(missing)}"] if missing else []
    return [*found, *([f"runs of different systems are not one: {'; '.join(systems)}"] if len(systems) > 1 else [])]


def merge(sources: Sequence[Source]) -> Merged:
    """Return runs as one: later ones add faults, or replace those of the same name. Pure.

    A fault that only an earlier run could make stays as it was measured. With several runs, each trial's folder has its
    run's name before it.
    """
    first, *_ = sources
    if len(sources) == 1:
        return Merged(first.run, {each.fault: first for each in first.run.summary}, (first,))
    measured = {each.fault: (source, each.trials) for source in sources for each in source.run.summary}
    not_run = {each.fault: each for source in sources for each in source.run.not_run if each.fault not in measured}
    packages = {package for source in sources for package in source.run.versions}
    run = replace(
        first.run,
        asked=", then ".join(f"{source.run.asked} ({source.origin})" for source in sources),
        versions={package: together(source.run.versions.get(package) for source in sources) for package in packages},
        trials=tuple(
            replace(trial, folder=f"{source.name}/{trial.folder}")
            for source, trials in measured.values()
            for trial in trials
        ),
        not_run=tuple(not_run.values()),
        total_seconds=sum(source.run.total_seconds for source in sources),
        complete=all(source.run.complete for source in sources),
    )
    of = {fault: source for fault, (source, _) in measured.items()}
    left = {source.name for source in of.values()}
    return Merged(run, of, tuple({each.name: each for each in sources if each.name in left}.values()))


def together(versions: Iterable[str | None]) -> str:
    """Return the versions of a package, each once."""
    return " and ".join(dict.fromkeys(filter(None, versions)))


def shortfalls(run: RunResult) -> tuple[FaultSummary, ...]:
    """Return the faults that were not proven in every trial."""
    return tuple(each for each in run.summary if each.verdict is not Verdict.PROVEN)


def is_unseen(trial: TrialResult) -> bool:
    """Tell whether a trial's writes could not be looked for at its end: then all of them count as lost there."""
    return any(check.name == "writes" and check.validity is Validity.UNKNOWN for check in trial.checks)


def unlooked(trials: Sequence[TrialResult]) -> str:
    """Return what is said of trials whose writes could not be looked for; nothing when there is none."""
    if not trials:
        return ""
    count, names = sum(trial.lost for trial in trials), ", ".join(f"`{trial.fault}`" for trial in trials)
    return f" {count:,} more, of one trial each of {names}, could not be looked for: see there."


def text(merged: Merged, explained: Mapping[str, str], name: str = "stock") -> str:
    """Return a page of the documentation. Pure."""
    run, used, about = merged.run, merged.used, PAGES[name]
    unseen = tuple(trial for trial in run.trials if trial.lost and is_unseen(trial))
    lost = sum(trial.lost for trial in run.trials) - sum(trial.lost for trial in unseen)
    origin = used[0].origin if len(used) == 1 else f"the figures are of {len(used)} runs"
    columns = COLUMNS if len(used) == 1 else (*COLUMNS, "run")
    head = HEAD.format(
        title=about.title,
        which=about.which,
        stack=about.stack,
        more=about.more,
        name=name,
        system=run.system,
        origin=origin,
        lead=words.lead(run),
        lost=lost,
        unseen=unlooked(unseen),
    )
    lines = [
        head,
        *(origins(merged) if len(used) > 1 else ()),
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(row(each, merged) for each in run.summary),
        "",
        "## What fell short of what is right",
        "",
        *(entry(each, explained[each.fault]) for each in shortfalls(run)),
        "## Not run",
        "",
        *([f"- `{each.fault}`: {each.reason}" for each in run.not_run] or ["Nothing."]),
    ]
    return "\n".join(lines) + "\n"


def origins(merged: Merged) -> list[str]:
    """Return a line for each run: when it was made, from which seed, and what is from it where that is little."""
    lines = []
    for number, source in enumerate(merged.used, 1):
        of_it = [fault for fault in merged.sources if merged.number(fault) == number]
        which = f"{len(of_it)} faults" if number == 1 else ", ".join(f"`{fault}`" for fault in of_it)
        lines.append(f"{number}. {source.origin} ({source.run.label}): {which}")
    return [*lines, ""]


def row(summary: FaultSummary, merged: Merged) -> str:
    """Return a fault's line."""
    limit = summary.trials[0].limit_seconds
    cells = (
        f"`{summary.fault}`",
        str(len(summary.trials)),
        words.seconds(summary.median_seconds),
        words.seconds(summary.max_seconds),
        "none" if limit is None else words.seconds(limit),
        str(summary.verdict),
        *([str(merged.number(summary.fault))] if len(merged.used) > 1 else ()),
    )
    return f"| {' | '.join(cells)} |"


def entry(summary: FaultSummary, explanation: str) -> str:
    """Return what a fault's trials lacked, and why."""
    (right,) = [fault.right for fault in faults.FAULTS if fault.name == summary.fault] or [""]
    short = sum(trial.verdict is not Verdict.PROVEN for trial in summary.trials)
    counted = f"{summary.verdict} in {short} of {len(summary.trials)}"
    return f"`{summary.fault}` ({counted})\n: Right would be: {right}. {explanation.strip()}\n"


if __name__ == "__main__":
    sys.exit(main())
