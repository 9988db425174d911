"""A plan as people read it: waves, steps, unified diffs, a summary."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text

from pgbaton.deploy import diff
from pgbaton.deploy.steps import Cost, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.deploy.steps import Plan, PlannedWave, Step

COST_STYLES = {Cost.NOTHING: "dim", Cost.RELOAD: "cyan", Cost.RESTART: "yellow", Cost.SWITCHOVER: "bold red"}
DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}
SIGNS = {"create": "+", "install": "+", "remove": "-", "disable": "-"}
NOUNS = {
    Kind.PACKAGES: "package set",
    Kind.FILE: "file",
    Kind.REMOVE_FILE: "file to remove",
    Kind.UNIT: "unit",
    Kind.ADDRESS: "address to remove",
    Kind.DYNAMIC_CONFIGURATION: "dynamic setting group",
    Kind.DATABASE_OBJECT: "database object",
}


def lines(plan: Plan, *, diffs: bool = True) -> Iterator[Text]:
    """Yield a plan line by line; ``diffs`` shows what changes within files."""
    for wave in plan.waves:
        yield Text.assemble((wave.stage.title, "bold"), (f"  {order(wave)}", "dim"))
        for step in wave.steps:
            yield headline(step)
            yield from details(step) if diffs else ()
    yield from (Text(f"note: {note}", style="dim") for note in plan.notes)
    yield summary(plan)


def order(wave: PlannedWave) -> str:
    """Return who is worked on together and who after whom."""
    return ", then ".join(" + ".join(batch) for batch in wave.batches)


def headline(step: Step) -> Text:
    """Return a step in one line."""
    sign = SIGNS.get(step.action, "~")
    text = Text.assemble(f"  {sign} ", (f"{step.host or 'cluster'}: ", "bold"), f"{step.action} {step.subject}")
    if step.secret:
        text.append("  (secret)", style="magenta")
    if step.cost is not Cost.NOTHING:
        text.append(f"  [{step.cost.label}]", style=COST_STYLES[step.cost])
    return text


def details(step: Step) -> Iterator[Text]:
    """Yield what a step changes: a unified diff, or what is there and what will be."""
    if step.kind in {Kind.FILE, Kind.REMOVE_FILE}:
        if step.before_access and step.access and step.before_access != step.access:
            yield Text(f"      mode, owner, group: {step.before_access} -> {step.access}", style="cyan")
        for line in diff.unified(step):
            yield Text(f"      {line}", style=DIFF_STYLES.get(line[:1], "dim"))
    elif step.kind in {Kind.UNIT, Kind.ADDRESS}:
        yield Text(f"      {step.before} -> {step.after}", style="dim")
    elif step.kind is not Kind.PACKAGES:
        yield from (Text(f"      -{line}", style="red") for line in step.before.splitlines())
        yield from (Text(f"      +{line}", style="green") for line in step.after.splitlines())


def plural(noun: str, count: int) -> str:
    """Return a noun as so many of it are called; what is to become of them comes behind it."""
    name, to, purpose = noun.partition(" to ")
    ending = "" if count == 1 else "es" if name.endswith("s") else "s"
    return f"{name}{ending}{to}{purpose}"


def summary(plan: Plan) -> Text:
    """Return the last line: how much, and what it costs."""
    if not plan.changes:
        return Text("no changes: the hosts are what the topology says", style="green")
    counts = Counter(step.kind for step in plan.steps)
    much = ", ".join(f"{counts[kind]} {plural(noun, counts[kind])}" for kind, noun in NOUNS.items() if counts[kind])
    hosts = len({step.host for step in plan.steps if step.host})
    costs = Counter(step.cost for step in plan.steps)
    dear = [f"{costs[cost]} {cost.label}" for cost in sorted(costs, reverse=True) if cost is not Cost.NOTHING]
    text = Text.assemble(("plan: ", "bold"), f"{much} on {hosts} host{'s' * (hosts != 1)}; cost: ")
    return text.append(", ".join(dear) or "nothing", style=COST_STYLES[plan.cost])
