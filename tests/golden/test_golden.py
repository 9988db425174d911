"""What each preset renders, to the letter. After a change that is meant: scripts/golden, then read the diff."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgbaton import blueprint
from pgbaton.cli.demo import STOCK
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pgbaton.blueprint import HostBlueprint
    from pgbaton.components.base import File

HERE = Path(__file__).parent


def pair() -> str:
    """Return two hosts that are everything, without Patroni, whose balancers start a program to find the primary."""
    text = presets.text("manual").replace('["database"]', '["balancer", "database"]').replace("# check = ", "check = ")
    balancers = text.index('[[hosts]]\nname = "lb1"'), text.index('[[hosts]]\nname = "db1"')
    return (text[: balancers[0]] + text[balancers[1] :]).replace('"query" ', '"script" ')


#: The presets as they are, one whose hosts have as many different roles as any, without agents, and the least of all.
CASES = {name: presets.text(name) for name in presets.NAMES} | {
    "stock": presets.text("classic") + STOCK,
    "pair": pair(),
}


def rendered(host: HostBlueprint) -> str:
    """Return everything that a host gets, as one text."""
    packages = f"packages: {' '.join(host.packages)}\n"
    units = "".join(f"unit: {unit.name}{' (masked)' if unit.masked else ''}\n" for unit in host.units)
    files = "".join(
        f"\n### {file.path} ({file.mode:04o} {file.owner} {file.group})\n{shown(file)}\n" for file in host.files
    )
    return packages + units + files


def shown(file: File) -> str:
    """Return a text; of bytes only that they are bytes, because they change with every line of the program in them."""
    return file.content if isinstance(file.content, str) else "(binary)"


@pytest.mark.parametrize("case", CASES)
def test_a_preset_renders_what_it_did(case: str) -> None:
    for host in blueprint.draw(load.loads(CASES[case])).hosts:
        kept = HERE / case / f"{host.host}.txt"
        if os.environ.get("PGBATON_UPDATE_GOLDEN"):
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(rendered(host), encoding="utf-8")
        assert kept.read_text(encoding="utf-8") == rendered(host), f"{case}/{host.host} changed; see scripts/golden"
