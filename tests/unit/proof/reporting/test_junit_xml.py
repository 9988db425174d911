from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import made_runs as made
import pytest

from pgbaton.proof.checkers.base import Validity
from pgbaton.proof.reporting.junit import junit, timestamp
from pgbaton.proof.results import NotRun, RunResult


def read(run: RunResult) -> ET.Element:
    return ET.fromstring(junit(run))  # noqa: S314 - our own


def test_every_fault_is_a_suite_and_every_trial_a_case() -> None:
    root = read(made.large(faults=5))
    assert [len(suite.findall("testcase")) for suite in root][:5] == [3] * 5
    assert all(suite.get("tests") == str(len(suite.findall("testcase"))) for suite in root)
    assert [suite.get("id") for suite in root] == [str(number) for number in range(len(root))]


def test_verdicts_become_what_ci_systems_count() -> None:
    run = made.run(
        made.trial(seed=1),
        made.trial(seed=2, outage=9.0),
        made.trial(seed=3, checks=made.checks(bank=Validity.INVALID)),
        made.trial(seed=4, checks=made.checks(bank=Validity.UNKNOWN)),
        not_run=(NotRun("clock", "Clock jumps", "no time namespaces"),),
    )
    suite, skipped = read(run)
    children = [[(child.tag, child.get("type")) for child in case] for case in suite.findall("testcase")]
    assert children == [[], [("failure", "missed")], [("failure", "violated")], [("error", "unknown")]]
    assert [suite.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["4", "2", "1", "0"]
    reason = skipped.find("testcase/skipped")
    assert reason is not None
    assert (skipped.get("skipped"), reason.get("message")) == ("1", "no time namespaces")


def test_a_failure_tells_its_findings_and_how_to_see_it_again() -> None:
    failure = read(made.run(made.trial(seed=3, outage=9.0))).find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.get("message") == "outage: 9.00 s without an acknowledged write, limit 5.00 s (budget)"
    assert "pgbaton prove --fault postmaster-killed --seed 3" in (failure.text or "")


def test_a_failure_of_a_soak_is_seen_again_by_another_soak() -> None:
    run = made.run(made.trial("full-load", seed=3, outage=9.0), request={"suite": "soak", "minutes": 3.0})
    failure = read(run).find("testsuite/testcase/failure")
    assert failure is not None
    assert "again: pgbaton prove --suite soak --minutes 3 --seed 3" in (failure.text or "")


def test_half_a_run_is_an_error_even_when_all_its_trials_are_proven() -> None:
    *_, last = read(made.run(made.trial(), complete=False))
    assert (last.get("name"), last.get("errors")) == ("run", "1")
    assert not any(suite.get("name") == "run" for suite in read(made.run(made.trial())))


def test_seeds_are_properties() -> None:
    suite = read(made.run(made.trial(seed=11), made.trial(seed=12)))[0]
    properties = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert (properties["seed.1"], properties["seed.2"]) == ("11", "12")


def test_characters_that_xml_cannot_carry_are_replaced() -> None:
    trial = made.trial(outage=9.0, limit_source="\x00 < & \x1b[31m")
    failure = read(made.run(trial)).find("testsuite/testcase/failure")
    assert failure is not None
    assert "\N{REPLACEMENT CHARACTER} < & \N{REPLACEMENT CHARACTER}[31m" in (failure.get("message") or "")


def test_an_outage_that_never_ended_is_written_all_the_same() -> None:
    assert "max_seconds" in junit(made.run(made.trial(outage=math.inf, served=False)))


@pytest.mark.parametrize(
    ("began_at", "told"),
    [("2026-11-20T10:00:00.123456+02:00", "2026-11-20T08:00:00"), ("2026-11-20T10:00:00", "2026-11-20T10:00:00")],
)
def test_moments_are_in_utc_without_a_zone(began_at: str, told: str) -> None:
    assert timestamp(began_at) == told


def test_the_order_of_elements_is_the_schemas() -> None:
    for suite in read(made.large(faults=12)):
        tags = [child.tag for child in suite]
        cases = len(suite.findall("testcase"))
        assert tags == ["properties", *["testcase"] * cases, "system-out", "system-err"]
        assert all(len(case) <= 1 for case in suite.findall("testcase"))
        assert {"id", "package", "name", "timestamp", "hostname", "tests", "failures", "errors", "time"} <= set(
            suite.keys()
        )
