"""What each preset renders, to the letter. After a change that is meant: scripts/golden, then read the diff."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgbaton import blueprint
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pgbaton.blueprint import HostBlueprint

HERE = Path(__file__).parent


def rendered(host: HostBlueprint) -> str:
    """Return everything that a host gets, as one text."""
    packages = f"packages: {' '.join(host.packages)}\n"
    units = "".join(f"unit: {unit.name}{' (masked)' if unit.masked else ''}\n" for unit in host.units)
    files = "".join(
        f"\n### {file.path} ({file.mode:04o} {file.owner} {file.group})\n{file.shown}\n" for file in host.files
    )
    return packages + units + files


@pytest.mark.parametrize("preset", presets.NAMES)
def test_a_preset_renders_what_it_did(preset: str) -> None:
    for host in blueprint.draw(load.loads(presets.text(preset))).hosts:
        kept = HERE / preset / f"{host.host}.txt"
        if os.environ.get("PGBATON_UPDATE_GOLDEN"):
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(rendered(host), encoding="utf-8")
        assert kept.read_text(encoding="utf-8") == rendered(host), f"{preset}/{host.host} changed; see scripts/golden"
