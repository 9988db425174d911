"""What runs of the suite came to, how two differ, and the page that says so. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import unified_diff
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: A line of pg_regress: "ok 12 - int8 87 ms", or "not ok 13 + oid 20 ms".
LINE = re.compile(r"^(ok|not ok)\s+\d+\s+[-+]\s+(\S+)", re.MULTILINE)

PAGE = """# PostgreSQL's own regression suite, through the VIP

PostgreSQL is tested with {count} programs in SQL, whose answers are compared with those that its developers expect.
Here they were run twice in one lab (`benchmarks/regression`), on PostgreSQL {server} with the suite of {suite}:
directly, over the server's own socket, and as an application would, through the VIP, HAProxy and PgBouncer over TLS,
with `pooling.mode = "session"`. What differs between the two is what the path changes, or what varies by itself.

The runner says interval style, date style and time zone in each login. They are set for the database as well: PgBouncer
ignores the first, and a `RESET` of the others does not come back to what the login said
([What transaction pooling takes away](transaction-pooling.md)).

| run | as expected | seconds |
|---|---|---|
{runs}

## What differs

{changed}

## What does not

{unexpected}

## Run it yourself

The suite is in PostgreSQL's source, in `src/test/regress`; Debian's packages have only the program that runs it.
Take the source of the server's major version, and:

```console
# .venv/bin/python benchmarks/regression/run.py postgresql-17.7/src/test/regress --suite-version 17.7 --write
```

It makes a lab, takes some minutes, writes this page, and takes the lab down. A test that differs and has no
explanation in `benchmarks/regression/reasons.toml` makes it fail.
"""


@dataclass(frozen=True)
class Run:
    """One run of the suite: what the runner said, and what each test printed."""

    name: str
    seconds: float
    passed: frozenset[str]
    failed: frozenset[str]
    outputs: Mapping[str, str]


def verdicts(said: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the tests that went as expected, and the others, from what pg_regress printed."""
    found = LINE.findall(said)
    return (
        frozenset(test for word, test in found if word == "ok"),
        frozenset(test for word, test in found if word == "not ok"),
    )


def differences(before: Run, after: Run) -> dict[str, tuple[str, ...]]:
    """Return the tests that did not print the same in two runs, and the lines that differ."""
    tests = sorted(before.outputs.keys() | after.outputs.keys())
    pairs = ((test, before.outputs.get(test, ""), after.outputs.get(test, "")) for test in tests)
    return {test: changed_lines(first, second) for test, first, second in pairs if first != second}


def changed_lines(first: str, second: str) -> tuple[str, ...]:
    """Return the lines of a difference, without what is around them."""
    lines = unified_diff(first.splitlines(), second.splitlines(), lineterm="", n=0)
    return tuple(line for line in lines if not line.startswith(("---", "+++", "@@")))


def summary(direct: Run, pooled: Run, *, reasons: Mapping[str, str], server: str, suite: str) -> dict[str, Any]:
    """Return everything the page says, as JSON has it."""
    changed = differences(direct, pooled)
    return {
        "server": server,
        "suite": suite,
        "runs": [
            {"name": run.name, "passed": len(run.passed), "tests": len(run.passed | run.failed), "seconds": run.seconds}
            for run in (direct, pooled)
        ],
        "changed": [
            {"test": test, "lines": len(lines), "why": reasons.get(test, "")} for test, lines in changed.items()
        ],
        "unexpected": sorted(direct.failed & pooled.failed - changed.keys()),
    }


def unexplained(found: Mapping[str, Any]) -> list[str]:
    """Return the tests that the path changes and nobody has explained."""
    return [each["test"] for each in found["changed"] if not each["why"]]


def page(found: Mapping[str, Any]) -> str:
    """Return the page."""
    runs = (f"| {run['name']} | {run['passed']} of {run['tests']} | {run['seconds']:.0f} |" for run in found["runs"])
    return PAGE.format(
        count=found["runs"][0]["tests"],
        server=found["server"],
        suite=found["suite"],
        runs="\n".join(runs),
        changed=changed_table(found["changed"]),
        unexpected=unexpected_words(found["unexpected"]),
    )


def changed_table(changed: Iterable[Mapping[str, Any]]) -> str:
    """Return the table of tests that answer otherwise through the VIP."""
    rows = [f"| `{each['test']}` | {each['lines']} | {each['why']} |" for each in changed]
    if not rows:
        return "Nothing: every test printed the same."
    return "\n".join(["| test | lines | why |", "|---|---|---|", *rows])


def unexpected_words(tests: Iterable[str]) -> str:
    """Return what is said of tests that answer otherwise than expected in both runs alike."""
    names = listed(tests)
    if not names:
        return "All else was as expected."
    return (
        f"Otherwise than expected in both runs, and alike: {names}. Debian does not ship the library of C\n"
        "functions that the suite calls (`regress.so`); a cluster's settings are not those of a new server; the\n"
        "runner's role is not the one that made the catalogue; and the server is some bug fixes newer than the suite."
    )


def listed(tests: Iterable[str]) -> str:
    """Return names in a row."""
    return ", ".join(f"`{test}`" for test in tests)
