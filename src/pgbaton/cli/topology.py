"""Commands about topology files alone: they touch no host."""

from __future__ import annotations

import json
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgbaton.cli import common
from pgbaton.errors import TopologyError, UsageError
from pgbaton.topology import presets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.text import Text

    from pgbaton.errors import Problem
    from pgbaton.topology.model import Topology

STANDARD_STREAM = "-"
#: How wide lines are at most.
WIDTH = 100
#: How wide the names are that stand before a line of a summary.
LABEL = 12
#: Where a line is not broken; a blank is put in its place again.
HELD_TOGETHER = "\N{NO-BREAK SPACE}"

file_argument = click.argument("file", metavar="[FILE]", default="topology.toml", type=click.Path(path_type=str))


@click.command(epilog="Example: pgbaton init --preset compact --name orders orders.toml")
@click.option(
    "--preset",
    type=click.Choice(presets.NAMES),
    default=presets.NAMES[0],
    show_default=True,
    help="The layout to begin with.",
)
@click.option("--name", metavar="NAME", help="The cluster's name; by default the preset's.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
@common.output_option
@file_argument
def init(preset: str, name: str | None, file: str, output: str, *, force: bool) -> None:
    """Write a topology file from a preset, to begin with.

    FILE is topology.toml by default; - is standard output. An existing file is not overwritten.
    """
    text = presets.text(preset, cluster=name)
    if file == STANDARD_STREAM:
        sys.stdout.write(text)
        return
    write(Path(file), text, force=force)
    data = {"file": file, "preset": preset, "cluster": name or preset}
    next_step = f"wrote {file} from the preset {preset}\nnext: put your hosts' addresses in, then pgbaton check {file}"
    common.emit(output, data, lambda: click.echo(next_step))


def write(path: Path, text: str, *, force: bool) -> None:
    """Write a new file; raises UsageError where there is one, or none can be."""
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        message = "the file exists, and is not overwritten"
        raise UsageError(message, where=str(path), hint="choose another name, or give --force to replace it") from None
    except OSError as error:
        message = f"the file cannot be written: {error.strerror}"
        raise UsageError(message, where=str(path), hint="choose a directory that exists and is yours") from None


@click.command(epilog="Example: pgbaton check orders.toml")
@common.output_option
@file_argument
def check(file: str, output: str) -> None:
    """Check a topology file, and say what its cluster would be.

    Everything that is wrong is reported at once, with its line. FILE is topology.toml by default; - is standard
    input. Exits with 2 when the file is refused; warnings do not count.
    """
    topology, problems = parse(file)
    if output == "json":
        refused = {"file": source_of(file), "accepted": topology is not None}
        described = {} if topology is None else summary(topology)
        data = {**refused, **described, "problems": [asdict(problem) for problem in problems]}
        sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    if topology is None and output == "json":
        sys.exit(TopologyError.exit_code)
    if topology is None:
        raise TopologyError(problems)
    if output == "table":
        show_summary(topology, file, problems)


@click.command(epilog="Example: pgbaton schema > pgbaton.schema.json")
def schema() -> None:
    """Print the topology format's JSON Schema.

    Editors complete and check topology files with it: a file that begins with the comment
    `#:schema ./pgbaton.schema.json` is enough for those that use taplo.
    """
    from pgbaton.topology.schema import schema as make  # noqa: PLC0415 - pydantic takes a while

    sys.stdout.write(json.dumps(make(), indent=2, ensure_ascii=False) + "\n")


@click.command(epilog="Example: pgbaton budget -o json orders.toml")
@common.output_option
@file_argument
def budget(file: str, output: str) -> None:
    """Predict what each kind of failure costs, and what an acknowledged write survives.

    The seconds follow from the file's timings and from what was measured; nothing is asked of any host. FILE is
    topology.toml by default; - is standard input.
    """
    from pgbaton.topology.budget import budget as predict  # noqa: PLC0415 - pydantic takes a while
    from pgbaton.topology.durability import durability  # noqa: PLC0415 - pydantic takes a while

    topology, problems = parse(file)
    if topology is None:
        raise TopologyError(problems)
    data = {
        "cluster": topology.name,
        "durability": durability(topology).as_dict(),
        "predictions": [prediction.as_dict() for prediction in predict(topology)],
    }
    common.emit(output, data, lambda: show_budget(topology))


def source_of(file: str) -> str:
    """Return the name that messages give a file."""
    return "standard input" if file == STANDARD_STREAM else file


def parse(file: str) -> tuple[Topology | None, tuple[Problem, ...]]:
    """Read a topology file, or standard input; raises TopologyError when it cannot be read at all."""
    from pgbaton.topology import load  # noqa: PLC0415 - pydantic takes a while

    if file == STANDARD_STREAM:
        return load.parse_bytes(sys.stdin.buffer.read(load.LARGEST_BYTES + 1), source_of(file))
    return load.parse_bytes(load.read(Path(file)), file)


def summary(topology: Topology) -> dict[str, Any]:
    """Return a topology in short, as check's JSON has it."""
    from pgbaton.topology import vips  # noqa: PLC0415 - pydantic takes a while
    from pgbaton.topology.durability import durability  # noqa: PLC0415

    return {
        "cluster": topology.name,
        "postgresql": topology.postgresql.version,
        "hosts": [{"name": host.name, "address": str(host.address), "roles": host.roles} for host in topology.hosts],
        "entry": str(topology.entry_address),
        "vip": str(topology.network.vip) if topology.network.vip else None,
        "vips": [
            {"address": str(vip.address), "virtual_router_id": vip.router_id, "home": vip.home}
            | ({"twin": str(vip.twin.ip)} if vip.twin else {})
            for vip in vips.floating(topology)
        ],
        "ports": {"write": topology.balancing.write_port, "read": topology.balancing.read_port},
        "durability": durability(topology).as_dict(),
    }


def show_summary(topology: Topology, file: str, problems: tuple[Problem, ...]) -> None:
    """Print a topology in short, and what is doubtful about it."""
    from rich.text import Text  # noqa: PLC0415 - takes a while

    console = common.out()
    console.print(Text.assemble((f"{source_of(file)} is fine", "green"), f": cluster {topology.name}"))
    hosts = [(host.name, str(host.address), ", ".join(host.roles)) for host in topology.hosts]
    head, *rows = columns(("Host", "Address", "Roles"), *hosts)
    console.print(Text(head, style="bold"))
    for line in rows:
        console.print(Text(line))
    for name, words in lines(topology):
        console.print(labelled(name, words))
    for problem in problems:
        console.print(Text.assemble(("warning: ", "yellow"), str(problem)))


def columns(*cells: tuple[str, ...]) -> list[str]:
    """Return rows of cells as lines whose columns stand below each other, without blanks at the end."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(each, widths, strict=True)).rstrip() for each in cells]


def labelled(name: str, words: str) -> Text:
    """Return words behind their name, on as many lines as they need."""
    from rich.text import Text  # noqa: PLC0415 - takes a while

    further = f"\n{'':{LABEL}}".join(textwrap.wrap(words, WIDTH - LABEL, break_on_hyphens=False))
    return Text.assemble((f"{name:{LABEL}}", "bold"), further)


def entry(topology: Topology) -> str:
    """Return where clients connect: the VIP, each of several with its own balancer, or what there is without one."""
    from pgbaton.topology import vips  # noqa: PLC0415 - pydantic takes a while

    floating = vips.floating(topology)
    if not floating:
        return f"{topology.entry_address} (no VIP: the first balancer)"
    words = ((vip, f"VIP of {vip.home}" if vip.home else "VIP") for vip in floating)
    return " and ".join(f"{vip.address} ({word}{f', with {vip.twin.ip}' if vip.twin else ''})" for vip, word in words)


def lines(topology: Topology) -> tuple[tuple[str, str], ...]:
    """Return the lines of a topology's summary."""
    from pgbaton.topology.durability import durability  # noqa: PLC0415 - pydantic takes a while

    promise, balancing = durability(topology), topology.balancing
    return (
        ("entry", f"{entry(topology)}, writes on {balancing.write_port}, reads on {balancing.read_port}"),
        (
            "servers",
            f"PostgreSQL {topology.postgresql.version}, {topology.postgresql.max_connections} connections each",
        ),
        ("replication", f"{promise.mode}: an acknowledged write is {promise.acknowledged}"),
        ("survives", promise.survives),
        ("lost", promise.lost),
        ("no standby", promise.alone),
    )


def show_budget(topology: Topology) -> None:
    """Print the predictions, each over its parts."""
    from rich.text import Text  # noqa: PLC0415 - takes a while

    from pgbaton.topology.budget import budget as predict  # noqa: PLC0415 - pydantic takes a while

    console = common.out()
    console.print(Text(f"Cluster {topology.name}: predicted outages in seconds, usual (shortest to longest)\n"))
    console.print(Text(row("failure", "writes", "reads"), style="bold"))
    for prediction in predict(topology):
        console.print(Text(row(prediction.title, str(prediction.write_seconds), str(prediction.read_seconds))))
        parts = (f"{part.name} {part.seconds.usual}" for part in prediction.parts)
        for line in folded(parts):
            console.print(Text(line, style="dim"))
    console.print()
    for name, words in lines(topology)[2:]:
        console.print(labelled(name, words))


def folded(parts: Iterable[str]) -> list[str]:
    """Return parts that add up as lines that fit a terminal; no part is split."""
    whole = " + ".join(part.replace(" ", HELD_TOGETHER) for part in parts)
    lines = textwrap.wrap(whole, WIDTH, initial_indent="  ", subsequent_indent="  ")
    return [line.replace(HELD_TOGETHER, " ") for line in lines]


def row(*cells: str) -> str:
    """Return cells as a line of three columns."""
    return f"{cells[0]:38}{cells[1]:21}{cells[2]}"
