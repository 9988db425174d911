"""``./run``: when it asks sudo for a proof."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "run"


def decides(home: Path, *arguments: str) -> bool:
    """Return whether ``./run pgbaton prove ARGUMENTS`` is for root, by the script's own function."""
    text = RUN.read_text(encoding="utf-8")
    function = text[text.index("proves_in_lab() {") : text.index("present() {")]
    script = f'set -euo pipefail\n{function}\nif proves_in_lab "$@"; then echo lab; else echo plain; fi'
    argv = ("bash", "-c", script, "bash", *arguments)
    environment = {"PATH": os.environ["PATH"], "PGBATON_STATE_HOME": str(home)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout == "lab\n"


@pytest.mark.parametrize(
    ("arguments", "needs_root"),
    [
        ((), True),
        (("orders.toml", "--suite", "smoke"), True),
        (("--target", "lab"), True),
        (("--target", "orders", "--fault", "switchover"), False),
        (("--fault", "switchover", "--target=orders"), False),
        (("--list", "-o", "json"), False),
        (("--help",), False),
        (("--resume", "20260101"), False),
        (("--resume", "20260202"), True),
    ],
)
def test_a_proof_asks_for_root_only_where_it_makes_a_lab(
    tmp_path: Path, arguments: tuple[str, ...], *, needs_root: bool
) -> None:
    (tmp_path / "proofs" / "20260101-1200-orders").mkdir(parents=True)
    assert decides(tmp_path, *arguments) is needs_root
