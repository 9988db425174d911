from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgbaton.cli.demo import conclude
from pgbaton.errors import Error, ObjectiveMissedError
from pgbaton.proof import page
from pgbaton.proof.report import Lane, Verdict, primary_lane, vip_lane

if TYPE_CHECKING:
    from pgbaton.proof.report import Report

KEYS = {
    "fault",
    "predicted_seconds",
    "write_outage_seconds",
    "read_outage_seconds",
    "acknowledged",
    "lost",
    "unknown",
    "errors",
}


def test_the_json_has_every_promised_key_and_survives_a_round_trip(report: Report) -> None:
    data = json.loads(json.dumps(report.to_dict()))
    assert data["passed"] is True
    assert [event["fault"] for event in data["events"]] == [
        "postmaster-killed",
        "switchover",
        "balancer-power-off",
        "primary-power-off",
    ]
    assert all(set(event) >= KEYS for event in data["events"])
    assert [event["write_outage_seconds"] for event in data["events"]] == [1.1, 1.6, 0.4, 22.3]


def test_predicted_is_the_longest_outage_that_would_still_be_as_promised(report: Report) -> None:
    event = report.events[0]
    assert event.to_dict()["predicted_seconds"] == round(event.prediction.write_seconds.maximum, 3)
    assert event.met


def test_the_parts_of_an_outage_add_up_to_it(report: Report) -> None:
    for event in report.events:
        assert sum(part.seconds or 0 for part in event.parts) == pytest.approx(event.write.seconds)


def test_an_unknown_part_is_said_to_be_unknown(report: Report) -> None:
    assert report.events[1].to_dict()["parts"]["promotion"] is None


def test_lost_writes_are_a_violation_and_laid_to_the_fault_that_came_next(report_with_a_loss: Report) -> None:
    assert report_with_a_loss.verdict is Verdict.VIOLATED
    assert not report_with_a_loss.to_dict()["passed"]
    assert [event.lost for event in report_with_a_loss.events] == [2, 0, 0, 0]


def test_an_outage_beyond_the_prediction_is_a_miss_and_no_violation(report: Report) -> None:
    first = report.events[0]
    slow = replace(first.write, longest=replace(first.write.longest, end=first.write.longest.begin + 3.0))
    missed = replace(report, events=(replace(first, write=slow), *report.events[1:]))
    assert missed.verdict is Verdict.MISSED
    assert "postmaster killed" in page.lead(missed)


def test_reads_have_a_prediction_of_their_own_to_meet(report: Report) -> None:
    first = report.events[0]
    slow = replace(first.read, longest=replace(first.read.longest, end=first.read.longest.begin + 5.0))
    event = replace(first, read=slow)
    assert (event.write_met, event.read_met, event.met) == (True, False, False)


def test_an_outage_that_never_ended_is_a_miss_however_short(report: Report) -> None:
    first = report.events[0]
    unended = replace(first.write, longest=replace(first.write.longest, open=True))
    assert not replace(first, write=unended).met
    assert page.duration(unended).startswith("more than")


def test_the_lanes_tell_who_was_primary_and_who_held_the_vip(report: Report) -> None:
    primaries = primary_lane(report.history, report.topology)
    assert [lane.holder for lane in primaries] == ["db1", "db2", "db3", "db1"]
    holders = vip_lane([event.trial for event in report.events], report.span)
    assert [lane.holder for lane in holders] == ["lb1", "lb2"]
    assert isinstance(holders[0], Lane)
    assert holders[1].span.begin == 1027.32


def test_the_page_needs_nothing_from_anywhere(report: Report) -> None:
    html = page.render(report, finished="today")
    assert not re.search(r"""(?:src|href|url|import|https?:)\s*[=(]?\s*["']?(?:https?:)?//""", html)
    assert "<script" not in html
    assert "$" not in html


def test_the_page_shows_every_figure_of_the_table(report: Report) -> None:
    html = page.render(report, finished="today")
    for event in report.events:
        assert page.seconds(event.write.seconds) in html
        assert f"{event.write.acknowledged:,}" in html
    assert html.count("<svg") == 1 + len(report.events)


def test_the_page_of_a_loss_says_so_first(report_with_a_loss: Report) -> None:
    html = page.render(report_with_a_loss, finished="today")
    assert "2 lost." in html
    assert 'class="badge violated"' in html
    assert "2 acknowledged writes lost: writer-1/7, writer-2/9" in html


def test_what_stands_on_the_page_is_escaped(report: Report) -> None:
    assert "<b>evil" not in page.render(replace(report, system="<b>evil"), finished="today")


@pytest.mark.parametrize(("value", "text"), [(0.0, "0 ms"), (0.0123, "12 ms"), (0.4, "400 ms"), (22.304, "22.30 s")])
def test_durations_have_the_digits_that_matter(value: float, text: str) -> None:
    assert page.seconds(value) == text


def test_verdicts_become_exit_codes(report: Report, report_with_a_loss: Report) -> None:
    page_file = Path("page.html")
    conclude(report, page_file)
    with pytest.raises(Error, match="2 acknowledged writes lost: writer-1/7, writer-2/9") as broken:
        conclude(report_with_a_loss, page_file)
    assert broken.value.exit_code == 1
    first = report.events[0]
    slow = replace(first.write, longest=replace(first.write.longest, end=first.write.longest.begin + 3.0))
    with pytest.raises(ObjectiveMissedError) as missed:
        conclude(replace(report, events=(replace(first, write=slow),)), page_file)
    assert missed.value.exit_code == 5
