"""The table of what pooling takes away is the one that the lab tries. After a change that is meant: scripts/golden."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "transaction-pooling.md"
BEGIN, END = "<!-- cases: begin -->\n", "<!-- cases: end -->\n"


def test_the_page_has_the_table_that_the_lab_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = ROOT / "tests" / "lab"
    monkeypatch.setattr(sys, "path", [str(lab), *sys.path])
    table = runpy.run_path(str(lab / "pooling_cases.py"))["table"]()
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    wanted = f"{before}{BEGIN}\n{table}\n{END}{after}"
    if os.environ.get("PGBATON_UPDATE_GOLDEN"):
        PAGE.write_text(wanted, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == wanted, "the page's table is another; see scripts/golden"
