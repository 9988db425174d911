"""``pgbaton prove``: break a cluster on purpose, measure what that costs, check that nothing acknowledged is lost."""

from __future__ import annotations

import json
import math
import secrets
import sys
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from pgbaton import __version__
from pgbaton import state as states
from pgbaton.cli import common, contradictions
from pgbaton.cli.interruption import accounted, interruptible
from pgbaton.cli.opened import open_cluster
from pgbaton.cli.progress import teller
from pgbaton.cli.report import conclude, show_run
from pgbaton.errors import Error, RefusedError, UsageError
from pgbaton.lab import definition, recipe
from pgbaton.proof import chaos, faults, publishing, soak, store, underway, workloads
from pgbaton.proof.experiment import Setting
from pgbaton.proof.faults import hand
from pgbaton.proof.faults.base import Suite
from pgbaton.proof.ground import OwnLab, Standing
from pgbaton.proof.judgement import Objectives
from pgbaton.proof.prove import Proof, Prover
from pgbaton.proof.results import RunResult
from pgbaton.proof.running import SCHEMA
from pgbaton.proof.target import Target
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgbaton.operate.waiting import Report
    from pgbaton.proof.faults.base import Fault
    from pgbaton.proof.ground import Ground
    from pgbaton.proof.store import StoredRun

#: The target that is made for the purpose and removed afterwards.
LAB = "lab"
#: Suites whose faults are made for the run, and how long they last, in minutes, unless the user says how long.
CHAOS, SOAK = "chaos", "soak"
MINUTES = {CHAOS: 3.0, SOAK: 60.0}
#: How often each fault is struck, by suite, unless the user says how often.
TRIALS: Mapping[str, int] = {Suite.SMOKE: 1, Suite.STANDARD: 3, Suite.FULL: 3, CHAOS: 1, SOAK: 1}
#: Half a minute of quiet and of recovery belong to a minute of chaos, and a schedule without acts proves nothing.
LEAST_MINUTES = 0.5
#: How many schedules are tried to make one that failed shorter.
SHRINK_ATTEMPTS = 12
#: A fault's title is given so many columns at the least, however narrow the terminal is.
NARROWEST_TITLE = 20


class FiniteRange(click.FloatRange):
    """A range of numbers; nan and inf, which compare with nothing or cannot be written as JSON, are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 - click's own
        """Return the number, or end with what is wrong with it."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


@dataclass(frozen=True)
class Asked:
    """What the user asked for, as the options say it."""

    topology: Path | None
    preset: str | None
    fault: tuple[str, ...]
    suite: str | None
    minutes: float | None
    schedule: Path | None
    trials: int | None
    seed: int
    workload: tuple[str, ...]
    max_outage: float | None
    max_lost: int
    target: str
    name: str
    keep: bool
    operator_seconds: float = hand.HUMAN_SECONDS

    def to_dict(self) -> dict[str, Any]:
        """Return what was asked for as JSON can carry it; files by their full paths."""
        return {key: str(value.resolve()) if isinstance(value, Path) else value for key, value in vars(self).items()}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Asked:
        """Return what ``to_dict`` gave."""
        paths = {key: Path(data[key]) if data[key] else None for key in ("topology", "schedule")}
        lists = {key: tuple(data[key]) for key in ("fault", "workload")}
        return Asked(**{**data, **paths, **lists})

    @property
    def is_chaos(self) -> bool:
        """Tell whether faults are to be composed."""
        return self.suite == CHAOS or self.schedule is not None

    @property
    def times(self) -> int:
        """Return how often each fault is to be struck."""
        by_suite = 1 if self.fault else TRIALS[self.suite or Suite.SMOKE]
        return self.trials or by_suite

    @property
    def lasting_minutes(self) -> float:
        """Return how long chaos or a soak is to last."""
        return self.minutes or MINUTES[self.suite or CHAOS]

    @property
    def words(self) -> str:
        """Return the faults in short."""
        return f"suite {self.suite or Suite.SMOKE}" if not self.fault else f"faults {', '.join(self.fault)}"

    @property
    def label(self) -> str:
        """Return what the run's folder is named by."""
        return self.name if self.target == LAB else self.target


def listed_faults() -> list[dict[str, Any]]:
    """Return every fault as JSON has it."""
    return [
        {
            "name": fault.name,
            "suite": str(fault.suite),
            "safe": not fault.lab,
            "title": fault.title,
            "does": fault.does,
            "right": fault.right,
        }
        for fault in faults.FAULTS
    ]


def show_faults(rows: list[dict[str, Any]]) -> None:
    """Print faults, a line each; on a narrow terminal a title goes on below itself, and no name is cut."""
    console = common.out()
    width = max(len(row["name"]) for row in rows)
    head = f"{'Fault':<{width}}  {'Suite':<8}  Safe  "
    room = max(console.width - len(head), NARROWEST_TITLE) if console.is_terminal else sys.maxsize
    console.print(Text(f"{head}What it is", style="bold"), soft_wrap=True)
    for row in rows:
        first, *further = textwrap.wrap(row["title"], room)
        safe = "yes" if row["safe"] else ""
        console.print(Text(f"{row['name']:<{width}}  {row['suite']:<8}  {safe:<4}  {first}"), soft_wrap=True)
        for line in further:
            console.print(Text(f"{'':{len(head)}}{line}"), soft_wrap=True)
    console.print(Text("Safe: is made on a real cluster too (--target). A suite contains the smaller ones."))


@click.command(
    epilog="""\b
    Examples:
      pgbaton prove --fault primary-power-off --trials 3 orders.toml
      pgbaton prove --suite soak --minutes 60
    """
)
@click.argument("topology", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--preset", type=click.Choice(presets.NAMES), help="A topology by name instead of a file.")
@click.option("--fault", multiple=True, metavar="FAULT", help="What to break; can be given several times.")
@click.option(
    "--suite",
    type=click.Choice([*map(str, Suite), CHAOS, SOAK]),
    help="A set of faults; by default smoke. chaos: at random moments, overlapping. soak: no failover under full load.",
)
@click.option(
    "--minutes", type=FiniteRange(min=LEAST_MINUTES, max=240), help="Length of chaos, by default 3, or of a soak, 60."
)
@click.option(
    "--schedule",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Repeat the chaos of a schedule.json.",
)
@click.option(
    "--trials", type=click.IntRange(1, 1000), help="How often each; by default 1, in suites standard and full 3."
)
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 31) - 1),
    default=lambda: secrets.randbelow(1 << 16),
    help="Of all random choices; each further trial adds one.",
)
@click.option("--workload", multiple=True, metavar="NAME", help="What clients do; by default all that check.")
@click.option("--max-outage", type=FiniteRange(min=0, min_open=True), metavar="SECONDS", help="Of writes.")
@click.option("--max-lost", type=click.IntRange(min=0), default=0, show_default=True, help="Acknowledged writes.")
@click.option(
    "--operator-seconds",
    type=FiniteRange(min=0, max=3600),
    default=hand.HUMAN_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="Until a person comes, in faults that a person ends; the measured outage includes it.",
)
@click.option(
    "--target", default=LAB, show_default=True, metavar="lab|CLUSTER", help="A lab of its own, or a cluster that runs."
)
@click.option("--name", default="prove", show_default=True, metavar="NAME", help="Of the lab that is made.")
@click.option("--keep", is_flag=True, help="Leave that lab up.")
@click.option("--resume", metavar="RUN", help="Go on with a run that was interrupted, as it was asked for.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write the report's page there too.")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write JUnit XML there too.")
@click.option("--list", "listing", is_flag=True, help="Show all faults, and do nothing else.")
@common.yes_option
@common.output_option
def prove(
    *,
    output: str,
    yes: bool,
    listing: bool,
    resume: str | None,
    html: Path | None,
    junit: Path | None,
    **options: Any,  # noqa: ANN401 - click's own
) -> None:
    """Break a cluster on purpose; prove what that costs its clients, and that nothing acknowledged is lost.

    For each trial: clients read and write through the VIP, something breaks, is undone, and the cluster must become
    whole by itself. Every operation is recorded; every database is read at the end; checkers look for lost, doubled
    and stale data, for two primaries and for two holders of the VIP. All of it is kept: pgbaton report shows it.

    Without --target a lab of TOPOLOGY is made on this machine, which needs root, and removed at the end. On a real
    cluster only faults that are safe in production are made, after the plan was shown and confirmed.

    Exit codes: 0 proven, 1 a promise about data was broken, or something could not be shown, 5 an outage was longer
    than allowed.
    """
    if listing:
        rows = listed_faults()
        common.emit(output, {"faults": rows}, lambda: show_faults(rows))
        return
    context = click.get_current_context()
    contradictions.refuse(context)
    for path, option in ((html, "--html"), (junit, "--junit")):
        if path is not None:
            common.require_writable(path, option=option)
    resumed = unfinished(resume) if resume else None
    asked = asked_again(context, resumed) if resumed else Asked(**options)
    proof = proof_of(asked)
    ground = ground_of(asked, proof.tell)
    with keeping(), store.alone(asked.label):
        agree(ground, proof, yes=yes)
        stored = resumed or store.create(asked.label)
        prover = Prover(proof, ground, stored, resumed.result() if resumed else begun(asked, ground))
        common.err().print(f"seed {asked.seed}; everything is kept in {stored.path}", markup=False)
        with accounted(output, prover.account), keeping():
            try:
                interruptible(prover.run())
            finally:
                if prover.result.trials or prover.result.not_run:
                    publishing.publish(stored, html=html, junit=junit)
                elif resumed is None:
                    stored.discard()
    common.emit(output, prover.result.to_dict(), lambda: show_run(stored, prover.result))
    conclude(stored, prover.result)


@contextmanager
def keeping() -> Iterator[None]:
    """Raise Error in plain words when what is found cannot be kept: the disk is full, or not ours to write to."""
    try:
        yield
    except OSError as error:
        place, message = str(error.filename or store.directory()), f"the run cannot be kept: {error.strerror or error}"
        hint = "make room there; pgbaton report list shows what was kept, pgbaton prove --resume RUN goes on with it"
        raise Error(message, where=place, hint=hint) from error


def proof_of(asked: Asked) -> Proof:
    """Return what is to be proven; raises UsageError for what cannot be."""
    names = workloads.names(asked.workload)
    objectives = Objectives(asked.max_outage, asked.max_lost)
    chosen = chosen_faults(asked)
    trials = 1 if asked.is_chaos else asked.times
    return Proof(chosen, trials, asked.seed, Setting(names, objectives), teller(), shrinking=SHRINK_ATTEMPTS)


def chosen_faults(asked: Asked) -> tuple[Fault, ...]:
    """Return what to break; of chaos a schedule for every trial."""
    if asked.schedule is not None:
        return (chaos.as_fault(read_schedule(asked.schedule)),) * asked.times
    if asked.suite == CHAOS:
        among = [each.name for each in faults.named(asked.fault) or faults.FAULTS if each.composable]
        drawn = (chaos.draw(asked.seed + number, asked.lasting_minutes * 60, among) for number in range(asked.times))
        return tuple(chaos.as_fault(schedule) for schedule in drawn)
    if asked.suite == SOAK:
        return soak.faults_of(asked.lasting_minutes)
    if asked.fault:
        return hand.attended(faults.named(dict.fromkeys(asked.fault)), asked.operator_seconds)
    return faults.of_suite(Suite(asked.suite or Suite.SMOKE))


def read_schedule(path: Path) -> chaos.Schedule:
    """Return the schedule in a file; raises UsageError for what is none."""
    try:
        return chaos.Schedule.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise UsageError(message, where=str(path), hint="give the schedule.json of a trial's folder") from None
    except ValueError as error:
        message = f"not JSON: {error}"
        raise UsageError(message, where=str(path), hint="give the schedule.json of a trial's folder") from None


def ground_of(asked: Asked, tell: Report) -> Ground:
    """Return where the proof takes place; raises UsageError when the target and the topology do not fit."""
    if asked.target == LAB:
        definition.check_name(asked.name, option="--name")
        common.need_root("a lab")
        text = presets.text(asked.preset or presets.NAMES[0], cluster=asked.name)
        topology = load.load(asked.topology) if asked.topology else load.loads(text)
        system = recipe.system_for(topology.postgresql.version)
        return OwnLab(states.cluster(asked.name), topology, system, tell, purpose="prove", keep=asked.keep)
    for value, option in ((asked.topology, "a topology"), (asked.preset, "--preset"), (asked.keep, "--keep")):
        if value:
            message = f"{option} is for a lab that is made; --target {asked.target} is a cluster that exists"
            raise UsageError(message, hint="leave one of them out")
    opened = open_cluster(asked.target)
    return Standing(Target(opened.topology, opened.state, tell))


def agree(ground: Ground, proof: Proof, *, yes: bool) -> None:
    """Show what would be done to a real cluster, and ask; labs are there to be broken."""
    if not isinstance(ground, Standing) or ground.target.state.lab_file.exists():
        return
    topology = ground.target.topology
    safe = [fault for fault in proof.faults if not fault.lab]
    console = common.err()
    database = topology.databases[0]
    through = " and ".join(map(str, topology.entry_addresses))
    console.print(f"On the real cluster {topology.name}, through {through}:", style="bold")
    console.print(
        f"  clients write and read in the schema {SCHEMA} of the database {database.name}, as {database.owner};"
    )
    console.print(
        f"  the schema is made for that, and dropped at the end; workloads: {', '.join(proof.setting.workloads)}"
    )
    for note in underway.left(ground.target)[0]:
        console.print(f"  {note}; that is undone first", markup=False)
    for fault in safe:
        console.print(f"  {proof.trials} times {fault.title}: {fault.does}", markup=False)
    if left_out := [fault.name for fault in proof.faults if fault.lab]:
        console.print(f"  left out, as they can be done to labs alone: {', '.join(left_out)}")
    if not safe:
        message = "none of these faults is safe in production, so there is nothing to prove here"
        raise RefusedError(message, hint="pgbaton prove --list shows which are; a lab bears them all")
    common.confirm("Go on?", yes=yes)


def unfinished(name: str) -> StoredRun:
    """Return a run that can be gone on with; raises UsageError for one that cannot."""
    stored = store.find(name)
    result = stored.result()
    if result.complete or not result.request:
        message = f"{stored.name} {'is complete' if result.complete else 'does not say what was asked for'}"
        raise UsageError(message, hint="pgbaton report list shows the runs; --fault or --suite begins another")
    return stored


def asked_again(context: click.Context, stored: StoredRun) -> Asked:
    """Return what a run was asked for, put to the same tests as options are; raises UsageError for what fails them."""
    request = stored.result().request
    try:
        for each in context.command.params:
            if each.name in request:
                each.type_cast_value(context, request[each.name])
        return Asked.from_dict(request)
    except (click.BadParameter, KeyError, TypeError, ValueError, AttributeError) as error:
        said = error.format_message() if isinstance(error, click.BadParameter) else f"{type(error).__name__}: {error}"
        message = f"cannot go on with what was asked for: {said}"
        raise UsageError(message, where=str(stored.path / store.RUN), hint="begin another run") from None


def begun(asked: Asked, ground: Ground) -> RunResult:
    """Return the record of a run that has just begun."""
    topology = ground.topology
    return RunResult(
        label=f"pgbaton {__version__}, {topology.replication.mode} replication",
        cluster=asked.label,
        system=f"{ground.machines}, PostgreSQL {topology.postgresql.version}",
        seed=asked.seed,
        began_at=datetime.now(UTC).isoformat(timespec="seconds"),
        asked=asked.words,
        request=asked.to_dict(),
    )
