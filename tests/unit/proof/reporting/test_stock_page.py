"""How runs on the stock stack become one page of the documentation."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from made_runs import run, trial

from pgbaton.proof import faults, store
from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.results import NotRun, RunResult, Verdict

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = Path(__file__).parents[4] / "benchmarks" / "stock.py"
EXPLAINED = {"patroni-killed": "Nobody answers meanwhile."}
FIRST = run(
    trial("postmaster-killed", outage=1.0, seed=1),
    trial("patroni-killed", outage=9.0, seed=1),
    trial("switchover", outage=1.5, seed=1),
    trial("postmaster-killed", outage=1.2, seed=2),
    seed=4711,
    began_at="2026-11-23T03:24:55+00:00",
    asked="suite full",
    not_run=(NotRun("clock-jump-back", "Clock", "no library"), NotRun("latency", "Latency", "no netem")),
)
LATER = run(
    trial("patroni-killed", outage=8.0, seed=7),
    trial("standby-corrupted", outage=0.1, seed=7, lost=0),
    trial("latency", outage=0.1, seed=7),
    seed=7,
    began_at="2026-11-24T10:00:00+00:00",
    asked="faults patroni-killed, standby-corrupted, latency",
    versions={"patroni": "4.0.8-1"},
    not_run=(NotRun("switchover", "Switchover", "no standby"),),
)


@pytest.fixture(scope="module")
def stock() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stock", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["stock"] = module  # dataclasses look for their own module
    spec.loader.exec_module(module)
    return module


def merged(stock: ModuleType, *runs: RunResult) -> tuple[list[object], RunResult, dict[str, str], str]:
    sources = [stock.Source(f"run-{number}", each) for number, each in enumerate(runs, 1)]
    made = stock.merge(sources)
    of = {fault: source.name for fault, source in made.sources.items()}
    return sources, made.run, of, stock.text(made, EXPLAINED)


def test_a_single_run_is_published_as_it_is(stock: ModuleType) -> None:
    _, one, of, text = merged(stock, FIRST)
    assert one == FIRST
    assert set(of.values()) == {"run-1"}
    assert "(debian-13, PostgreSQL 17); 2026-11-23, seed 4711." in text
    assert "| `switchover` | 1 | 1.50 s | 1.50 s | 5.00 s | proven |\n" in text
    assert "| run |" not in text


def test_later_runs_add_faults_and_replace_those_of_the_same_name(stock: ModuleType) -> None:
    _, one, of, text = merged(stock, FIRST, LATER)
    assert of == {
        "postmaster-killed": "run-1",
        "patroni-killed": "run-2",
        "switchover": "run-1",
        "standby-corrupted": "run-2",
        "latency": "run-2",
    }
    assert [(each.fault, len(each.trials), each.median_seconds) for each in one.summary] == [
        ("postmaster-killed", 2, 1.1),
        ("patroni-killed", 1, 8.0),
        ("switchover", 1, 1.5),
        ("standby-corrupted", 1, 0.1),
        ("latency", 1, 0.1),
    ]
    assert "| `patroni-killed` | 1 | 8.00 s | 8.00 s | 5.00 s | missed | 2 |\n" in text
    assert "| `switchover` | 1 | 1.50 s | 1.50 s | 5.00 s | proven | 1 |\n" in text


def test_the_page_says_which_figures_are_from_which_run(stock: ModuleType) -> None:
    _, one, _, text = merged(stock, FIRST, LATER)
    assert "the figures are of 2 runs" in text
    assert "1. 2026-11-23, seed 4711 (standard): 2 faults\n" in text
    assert "2. 2026-11-24, seed 7 (standard): `patroni-killed`, `standby-corrupted`, `latency`\n" in text
    assert one.asked == (
        "suite full (2026-11-23, seed 4711), "
        "then faults patroni-killed, standby-corrupted, latency (2026-11-24, seed 7)"
    )
    assert {each.fault: each.folder.partition("/")[0] for each in one.trials} == {
        "postmaster-killed": "run-1",
        "patroni-killed": "run-2",
        "switchover": "run-1",
        "standby-corrupted": "run-2",
        "latency": "run-2",
    }


def test_only_what_no_run_could_make_counts_as_not_run(stock: ModuleType) -> None:
    _, one, _, text = merged(stock, FIRST, LATER)
    assert [each.fault for each in one.not_run] == ["clock-jump-back"]
    assert text.endswith("## Not run\n\n- `clock-jump-back`: no library\n")


def test_runs_together_are_as_complete_as_the_least_complete_of_them(stock: ModuleType) -> None:
    assert merged(stock, FIRST, LATER)[1].complete
    half = run(trial("latency"), complete=False)
    _, one, _, _ = merged(stock, FIRST, half)
    assert (one.complete, one.verdict) == (False, Verdict.UNKNOWN)


def test_versions_that_differ_are_both_told(stock: ModuleType) -> None:
    _, one, _, _ = merged(stock, FIRST, LATER)
    assert one.versions["patroni"] == "4.0.7-1 and 4.0.8-1"
    assert one.versions["etcd-server"] == "3.5.16-4"


def test_a_run_of_which_nothing_is_left_is_not_named(stock: ModuleType) -> None:
    _, _, of, text = merged(stock, run(trial("latency", outage=3.0), seed=1), LATER)
    assert set(of.values()) == {"run-2"}
    assert "2026-11-24, seed 7" in text
    assert "| run |" not in text


def test_nothing_unexplained_is_published_and_no_two_systems_in_one_table(stock: ModuleType) -> None:
    other = run(trial("standby-lost-its-wal", outage=60.0), system="debian-12, PostgreSQL 15")
    sources = [stock.Source("one", FIRST), stock.Source("two", other)]
    unexplained, mixed = stock.problems(sources, stock.merge(sources), EXPLAINED)
    assert unexplained.endswith(": standby-lost-its-wal")
    assert mixed == "runs of different systems are not one: debian-13, PostgreSQL 17; debian-12, PostgreSQL 15"
    assert stock.problems(sources[:1], stock.merge(sources[:1]), EXPLAINED) == []


def test_both_pages_are_written_from_stored_runs(
    stock: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGBATON_STATE_HOME", str(tmp_path))
    names = []
    for label, made in (("full", FIRST), ("rest", LATER)):
        stored = store.create(label)
        stored.save(made)
        names.append(stored.name)
    monkeypatch.setattr(stock, "PROOFS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["stock.py", *names])
    assert stock.main() == 0
    assert "the figures are of 2 runs" in (tmp_path / "stock.md").read_text()
    page = (tmp_path / "stock.html").read_text()
    assert "(2026-11-24, seed 7)" in page
    assert f"{names[1]}/trials/001-patroni-killed" in page


def test_a_later_run_gets_a_page_of_its_own_beside_the_first(
    stock: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGBATON_STATE_HOME", str(tmp_path / "state"))
    stored = store.create("later")
    stored.save(LATER)
    monkeypatch.setattr(stock, "PROOFS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["stock.py", "--page", "stock-later", stored.name])
    assert stock.main() == 0
    assert {path.name for path in tmp_path.glob("stock*")} == {"stock-later.md", "stock-later.html"}
    text = (tmp_path / "stock-later.md").read_text()
    assert text.startswith("# What the stock stack was seen to do, in a later run\n")
    assert "[The whole report](stock-later.html)" in text
    assert "[the first run](stock.md)" in text
    assert "2026-11-24, seed 7." in text
    assert "| `latency` | 1 | 100 ms | 100 ms | 5.00 s | proven |\n" in text


def test_no_page_is_written_under_a_name_that_nothing_links_to(
    stock: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["stock.py", "--page", "index", "any"])
    with pytest.raises(SystemExit):
        stock.main()
    assert "invalid choice: 'index'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["stock", "stock-later", "agents"])
def test_a_published_page_says_what_it_would_say_if_it_were_written_now(stock: ModuleType, name: str) -> None:
    published = (stock.PROOFS / f"{name}.md").read_text()
    about = stock.PAGES[name]
    assert published.startswith(f"# {about.title}\n\n{about.which} on the preset")
    assert f"\n{about.more}\n" in published
    explained = stock.explanations(name)
    short = re.findall(r"^`(\S+)` \(\w+ in \d+ of \d+\)$", published, re.MULTILINE)
    assert short or name == "agents"
    assert [fault for fault in short if explained[fault].strip() not in published] == []


def test_the_readme_counts_the_faults_of_the_published_pages(stock: ModuleType) -> None:
    pages = [(stock.PROOFS / f"{name}.md").read_text() for name in stock.PAGES]
    measured = {fault for text in pages for fault in re.findall(r"^\| `(\S+)` \|", text, re.MULTILINE)}
    assert measured <= {fault.name for fault in faults.FAULTS}
    assert f"under {len(measured)} of them" in (SCRIPT.parents[1] / "README.md").read_text()


def test_writes_that_nobody_could_look_for_are_told_of_apart_from_those_that_are_lost(stock: ModuleType) -> None:
    unread = trial("patroni-killed", outage=0.1, lost=5)
    blind = replace(unread, checks=(Check("writes", Validity.UNKNOWN),))
    *_, said = merged(stock, run(blind, trial("switchover", outage=1.0, lost=0), asked="suite full"))
    assert "in all trials: **0**. 5 more, of one trial each of `patroni-killed`, could not be looked for" in said
