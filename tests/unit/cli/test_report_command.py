"""``pgbaton report`` on a store with made-up runs."""

from __future__ import annotations

import json
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from pgbaton.cli import report
from pgbaton.errors import Error, ObjectiveMissedError, UsageError
from pgbaton.proof import store
from pgbaton.proof.checkers.base import Validity

sys.path.insert(0, str(Path(__file__).parents[1] / "proof" / "reporting"))
import made_runs as made

if TYPE_CHECKING:
    from click.testing import Result

RUNS = {
    "20261120-100000-standard": made.run(made.trial()),
    "20261121-100000-standard": made.run(made.trial(outage=9.0)),
    "20261122-100000-standard": made.run(made.trial(checks=made.checks(set=Validity.INVALID), lost=1)),
    "20261123-100000-standard": made.run(made.trial(), complete=False),
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PGBATON_STATE_HOME", str(tmp_path))
    for name in report.DISPLAYS:
        monkeypatch.delenv(name, raising=False)
    for name, result in RUNS.items():
        path = store.directory() / name
        path.mkdir(parents=True)
        store.StoredRun(path).save(result)
    return tmp_path


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(report.report, arguments)


def test_the_list_has_the_newest_first_and_every_verdict() -> None:
    rows = json.loads(invoke("list", "-o", "json").stdout)["runs"]
    assert [row["name"] for row in rows] == sorted(RUNS, reverse=True)
    assert [row["verdict"] for row in rows] == ["unknown", "violated", "missed", "proven"]
    printed = invoke("list").stdout.splitlines()
    assert len(printed) == 5
    assert printed[2].split() == ["20261122-100000-standard", "violated", "1", "1", "1", "0"]


def test_a_record_that_cannot_be_read_does_not_hide_the_others() -> None:
    (store.directory() / "20261121-100000-standard" / "run.json").write_text("{")
    assert "not the record of a run" in invoke("list").stdout
    assert "20261120-100000-standard" in invoke("list").stdout


def test_an_empty_store_says_what_fills_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGBATON_STATE_HOME", str(tmp_path / "empty"))
    assert invoke("list").stdout == "no run is stored; pgbaton prove makes one\n"
    with pytest.raises(UsageError, match="no run is stored"):
        invoke("show").exception and store.find(None)


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [("20261120", None, 0), ("20261121", ObjectiveMissedError, 5), ("20261122", Error, 1), ("20261123", Error, 1)],
)
def test_show_is_a_gate(name: str, kind: type[Error] | None, code: int) -> None:
    shown = invoke("show", name)
    assert "postmaster-killed" in shown.stdout
    if kind is None:
        assert shown.exit_code == 0
    else:
        assert type(shown.exception) is kind
        assert kind.exit_code == code


def test_without_a_name_the_newest_run_is_shown() -> None:
    assert invoke("show").stdout.startswith("20261123-100000-standard")


def test_show_prints_what_is_stored_as_json() -> None:
    data = json.loads(invoke("show", "20261120", "-o", "json").stdout)
    assert data == json.loads(json.dumps(RUNS["20261120-100000-standard"].to_dict()))


def test_show_writes_page_and_junit_even_when_the_verdict_is_bad(tmp_path: Path) -> None:
    html, junit = tmp_path / "page.html", tmp_path / "junit.xml"
    invoke("show", "20261122", "--html", str(html), "--junit", str(junit))
    assert html.read_text().startswith("<!doctype html>")
    assert 'failures="1"' in junit.read_text()


def test_a_file_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    failed = invoke("show", "20261120", "--junit", str(tmp_path / "missing" / "junit.xml")).exception
    assert isinstance(failed, UsageError)
    assert "--junit" in str(failed.hint)


def test_open_draws_a_page_that_is_missing_and_prints_its_path() -> None:
    opened = invoke("open", "20261120")
    path = Path(opened.stdout.strip())
    assert path == store.directory() / "20261120-100000-standard" / "report.html"
    assert "1 fault, 1 trial" in path.read_text()


def test_open_starts_a_browser_only_where_there_is_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda uri: seen.append(uri) or True)
    invoke("open", "20261120")
    assert seen == []
    monkeypatch.setenv("BROWSER", "something")
    invoke("open", "20261120")
    assert [uri.rsplit("/", 2)[1:] for uri in seen] == [["20261120-100000-standard", "report.html"]]


def test_compare_tells_the_change_and_returns_0() -> None:
    compared = invoke("compare", "20261120", "20261121")
    assert compared.exit_code == 0
    assert "7.50 slower" in compared.stdout
    data = json.loads(invoke("compare", "20261120", "20261121", "-o", "json").stdout)
    assert data["faults"][0]["ratio"] == 7.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "nothing"), "no run begins with nothing"),
        (("show", "2026"), "several runs begin with 2026"),
        (("compare", "20261120", "20261120-1"), "are the same run"),
    ],
)
def test_wrong_names_are_refused_with_a_hint(arguments: tuple[str, ...], message: str) -> None:
    failed = invoke(*arguments).exception
    assert isinstance(failed, UsageError)
    assert message in failed.message
    assert failed.hint
