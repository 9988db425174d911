"""``pgbaton report``: list, show, open and compare the runs that ``pgbaton prove`` stored."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from pgbaton.cli import common
from pgbaton.errors import Error, ObjectiveMissedError, UsageError
from pgbaton.proof import store
from pgbaton.proof.reporting import compare as comparing
from pgbaton.proof.reporting import junit, page, text
from pgbaton.proof.results import Verdict

if TYPE_CHECKING:
    from pgbaton.proof.reporting.text import Line
    from pgbaton.proof.results import RunResult
    from pgbaton.proof.store import StoredRun

STYLES: dict[str, str] = {
    Verdict.PROVEN: "green",
    Verdict.MISSED: "yellow",
    Verdict.UNKNOWN: "magenta",
    Verdict.VIOLATED: "bold red",
    text.Style.HEAD: "bold",
    text.Style.SOFT: "dim",
}
#: What an environment has that can show a page.
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
file_type = click.Path(dir_okay=False, path_type=Path)


@click.group(epilog="Example: pgbaton report show")
def report() -> None:
    """Look at what `pgbaton prove` found.

    RUN is the name of a run's folder, the beginning of it, or its path; without it, the newest run.
    """


@report.command("list", epilog="Example: pgbaton report list")
@common.output_option
def list_runs(output: str) -> None:
    """List the runs that are stored, the newest first."""
    rows = [listed(run) for run in store.runs()]
    common.emit(output, {"runs": rows}, lambda: show_list(rows))


def listed(run: StoredRun) -> dict[str, Any]:
    """Return a run's line; one whose record cannot be read says so."""
    try:
        result = run.result()
    except Error as error:
        return {"name": run.name, "path": str(run.path), "problem": error.message}
    return {
        "name": run.name,
        "path": str(run.path),
        "began_at": result.began_at,
        "label": result.label,
        "cluster": result.cluster,
        "verdict": str(result.verdict),
        "complete": result.complete,
        "faults": len(result.summary),
        "trials": len(result.trials),
        "lost": sum(trial.lost for trial in result.trials),
        "not_run": len(result.not_run),
    }


def show_list(rows: list[dict[str, Any]]) -> None:
    """Print the runs."""
    console = common.out()
    if not rows:
        console.print("no run is stored; pgbaton prove makes one")
        return
    width = max(len(row["name"]) for row in rows)
    console.print(Text(f"{'Run':<{width}}  Verdict   Faults  Trials  Lost  Not run", style="bold"))
    for row in rows:
        if "problem" in row:
            console.print(Text(f"{row['name']:<{width}}  {row['problem']}", style="magenta"))
            continue
        counts = f"{row['faults']:>6}  {row['trials']:>6}  {row['lost']:>4}  {row['not_run']:>7}"
        console.print(Text(f"{row['name']:<{width}}  {row['verdict']:<8}  {counts}", style=STYLES[row["verdict"]]))


@report.command(epilog="Example: pgbaton report show --junit prove.xml")
@click.argument("run", required=False)
@click.option("--html", type=file_type, metavar="FILE", help="Write the page to FILE, drawn anew.")
@click.option("--junit", "junit_file", type=file_type, metavar="FILE", help="Write JUnit XML to FILE.")
@common.output_option
def show(run: str | None, html: Path | None, junit_file: Path | None, output: str) -> None:
    """Show what a run came to.

    Exit codes: 0 proven, 1 a promise about data was broken or a check could not be concluded, 5 clients were not
    served in time.
    """
    stored = store.find(run)
    result = stored.result()
    if html is not None:
        write(html, drawn(stored, result), option="--html")
    if junit_file is not None:
        write(junit_file, junit.junit(result), option="--junit")
    common.emit(output, result.to_dict(), lambda: show_run(stored, result))
    conclude(stored, result)


def drawn(stored: StoredRun, result: RunResult) -> str:
    """Return a run's page."""
    return page.render(result, stored.story, stored.history)


def write(path: Path, content: str, *, option: str) -> None:
    """Write a file that was asked for; raises UsageError when it cannot be."""
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        message = f"cannot write: {error.strerror}"
        raise UsageError(message, where=str(path), hint=f"choose another place with {option} FILE") from None


def show_run(stored: StoredRun, result: RunResult) -> None:
    """Print a run's table, and where the rest is."""
    console = common.out()
    head = f"{stored.name}: {result.label}, cluster {result.cluster}, {result.system}"
    console.print(Text(head, style="bold"))
    show_lines(text.lines(result, width=console.width))
    console.print(Text(str(stored.page if stored.page.exists() else stored.path), style="dim"), soft_wrap=True)


def show_lines(lines: tuple[Line, ...]) -> None:
    """Print lines, coloured by their tone."""
    console = common.out()
    for line in lines:
        console.print(Text(line.text, style=STYLES.get(line.tone, "")), soft_wrap=True)


def conclude(stored: StoredRun, result: RunResult) -> None:
    """Return when all was proven; raises Error otherwise."""
    message, hint = f"{stored.name} is {result.verdict}", f"pgbaton report open {stored.name} shows when and where"
    if result.verdict is Verdict.MISSED:
        raise ObjectiveMissedError(message, hint=hint)
    if result.verdict is not Verdict.PROVEN:
        raise Error(message, hint=hint)


@report.command("open", epilog="Example: pgbaton report open")
@click.argument("run", required=False)
def open_page(run: str | None) -> None:
    """Open a run's page in a browser, and print its path.

    Without a display, the path is all. A page that is missing is drawn first.
    """
    stored = store.find(run)
    if not stored.page.exists():
        write(stored.page, drawn(stored, stored.result()), option="pgbaton report show --html")
    common.out().print(str(stored.page), markup=False, soft_wrap=True)
    if any(os.environ.get(name) for name in DISPLAYS) and not webbrowser.open(stored.page.as_uri()):
        common.err().print("no browser could be started; the page is a file of its own, open it with any")


@report.command(epilog="Example: pgbaton report compare 20261101 20261102")
@click.argument("a")
@click.argument("b")
@common.output_option
def compare(a: str, b: str, output: str) -> None:
    """Compare two runs, fault by fault.

    Outages of writes: the median and the worst of each run's trials, and B's median as a multiple of A's. They are
    called alike where the spreads of the two overlap. The exit code is 0 whatever the difference.
    """
    first, second = store.find(a), store.find(b)
    if first.path == second.path:
        message = f"{a} and {b} are the same run, {first.name}"
        raise UsageError(message, hint="pgbaton report list shows the runs that are stored")
    made = comparing.compare(first.result(), second.result(), names=(first.name, second.name))
    common.emit(output, made.to_dict(), lambda: show_comparison(made))


def show_comparison(made: comparing.Comparison) -> None:
    """Print a comparison."""
    console = common.out()
    for line in comparing.lines(made, width=console.width):
        console.print(Text(line), soft_wrap=True)
