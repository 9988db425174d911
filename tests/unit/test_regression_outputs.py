"""benchmarks/regression: what two runs of PostgreSQL's own suite differ in, and the page that says so."""

from __future__ import annotations

import runpy
from pathlib import Path

OUTPUTS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "regression" / "outputs.py"))
Run = OUTPUTS["Run"]

SAID = """# using postmaster on 10.77.0.100, port 5000
ok 1         - test_setup                                302 ms
# parallel group (2 tests):  int8 oid
ok 2         + int8                                       87 ms
not ok 3     + oid                                        20 ms
1..3
# 1 of 3 tests failed.
"""


def run(name: str, *, failed: tuple[str, ...] = (), **printed: str):  # type: ignore[no-untyped-def] # noqa: ANN201 - a class of a script
    return Run(name, 9.6, frozenset(printed) - set(failed), frozenset(failed), printed)


def test_what_the_runner_says_of_each_test_is_read() -> None:
    assert OUTPUTS["verdicts"](SAID) == ({"test_setup", "int8"}, {"oid"})


def test_the_page_tells_what_the_path_changes_from_what_is_unexpected_anyway() -> None:
    printed = {"int8": "1\n2\n", "oid": "3\n", "triggers": "no library\n"}
    direct = run("directly", failed=("triggers",), **printed)
    pooled = run("VIP", failed=("int8", "triggers"), **{**printed, "int8": "1\n7\n"})
    found = OUTPUTS["summary"](direct, pooled, reasons={}, server="17.9", suite="17.7")
    assert found["changed"] == [{"test": "int8", "lines": 2, "why": ""}]
    assert found["unexpected"] == ["triggers"]
    assert OUTPUTS["unexplained"](found) == ["int8"]
    explained = OUTPUTS["summary"](direct, pooled, reasons={"int8": "TLS."}, server="17.9", suite="17.7")
    assert OUTPUTS["unexplained"](explained) == []
    page = OUTPUTS["page"](explained)
    assert "| `int8` | 2 | TLS. |" in page
    assert "| VIP | 1 of 3 | 10 |" in page


def test_runs_that_print_the_same_have_no_table() -> None:
    same = [run(name, int8="1\n") for name in ("directly", "VIP")]
    page = OUTPUTS["page"](OUTPUTS["summary"](*same, reasons={}, server="17.9", suite="17.7"))
    assert "Nothing: every test printed the same." in page
    assert "All else was as expected." in page
