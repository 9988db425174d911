"""What runs of pgbench come to: rows, table, page, JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from made_measurement import measurement, outcome

from pgbaton.measure import axes, chart, page, summary, tables
from pgbaton.measure.plan import Case, Step
from pgbaton.measure.summary import Run

CASE = Case("select-only", "simple", 16)


def runs(**paces: tuple[float, ...]) -> list[Run]:
    return [
        Run(Step(number, CASE, way), outcome(pace))
        for way, rounds in paces.items()
        for number, pace in enumerate(rounds, 1)
    ]


def test_paths_are_compared_within_each_round_not_by_their_medians() -> None:
    direct, vip = summary.rows(runs(vip=(500, 100, 90), direct=(1000, 125, 100)))
    assert (direct.way, direct.per_second, direct.ratio) == ("direct", 125, 1.0)
    assert (vip.way, vip.per_second, vip.ratio) == ("vip", 100, pytest.approx(0.8))


def test_a_round_without_the_direct_path_compares_with_nothing() -> None:
    (vip,) = summary.rows(runs(vip=(500,)))
    assert (vip.ratio, vip.added_ms) == (None, None)
    _, beside = summary.rows(runs(vip=(500, 400), direct=(0.0, 800)))
    assert beside.ratio == pytest.approx(0.5)


def test_errors_and_transactions_add_up_over_the_rounds() -> None:
    made = [Run(Step(number, CASE, "vip"), outcome(10, lost=2, late=number)) for number in (1, 2)]
    (row,) = summary.rows(made)
    assert (row.transactions, row.failures, row.errors) == (20, 7, {"lost": 4, "late": 3})


def test_the_added_latency_is_the_difference_of_medians() -> None:
    rows = {(row.case, row.way): row for row in measurement().rows}
    assert rows[Case("tpcb", "simple", 1), "vip"].added_ms == pytest.approx(0.12)


def test_the_json_has_every_figure_and_its_unit() -> None:
    data = json.loads(json.dumps(measurement().to_dict()))
    assert (data["client"], data["primary"], data["vip_holder"], data["complete"]) == ("lb2", "db1", "lb1", True)
    assert [each["name"] for each in data["paths"]] == ["direct", "balancer", "vip"]
    row = next(row for row in data["rows"] if (row["path"], row["profile"], row["clients"]) == ("vip", "tpcb", 16))
    assert row["transactions_per_second"] == 2160.0
    assert row["rounds"] == [2400.0, 2160.0, 1920.0]
    assert row["ratio_to_direct"] == 0.6
    assert row["latency_milliseconds"] == {"median": 0.62, "p95": 1.24, "p99": 3.1}
    assert data["not_run"][0] == {
        "profile": "select-only",
        "protocol": "simple",
        "clients": 500,
        "connect": False,
        "path": "direct",
        "reason": "there is room for 74",
    }


def test_the_table_has_a_line_for_each_case_and_path_and_says_what_is_not_in_it() -> None:
    lines = [line.text for line in tables.lines(measurement(), width=200)]
    head, *rows = lines
    assert head.split() == [
        "Profile",
        "Protocol",
        "Clients",
        "Path",
        "Trans./s",
        "Of",
        "direct",
        "Median",
        "ms",
        "p95",
        "p99",
        "Errors",
    ]
    assert len(rows) == 2 * 2 * 3 + 1
    assert rows[2].split() == ["select-only", "simple", "1", "vip", "540", "0.60", "0.620", "1.24", "3.10", "0"]
    assert rows[-1] == "not measured: direct, select-only, simple, 500 clients: there is room for 74"


def test_a_row_with_errors_stands_out_and_its_complaints_are_told() -> None:
    made = measurement(rounds=1)
    broken = Run(made.runs[0].step, outcome(10, **{"a client aborted": 4}))
    lines = tables.lines(replace(made, runs=(broken, *made.runs[1:])), width=200)
    assert lines[1].tone == "violated"
    assert "direct, select-only, simple, 1 client: 4 times: a client aborted" in [line.text for line in lines]


def test_the_page_needs_nothing_else_and_has_every_figure() -> None:
    html = page.render(measurement())
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")
    assert html.count("<svg ") == 4
    assert "Through the balancers: 0.60 to 0.70 times as many transactions as directly." in html
    assert "there is room for 74" in html
    assert html.count("<tr>") == 1 + 3 + 1 + 12


def test_a_page_of_what_was_interrupted_says_so() -> None:
    made = measurement()
    html = page.render(replace(made, runs=made.runs[:1], complete=False))
    assert "not brought to its end" in html


def test_pictures_have_a_bar_for_each_path_and_keep_inside_their_frame() -> None:
    rows = [row for row in measurement(clients=(1, 4, 16, 150, 500, 2000)).rows if row.case.profile == "tpcb"]
    drawn = ET.fromstring(chart.alone(chart.throughput(rows), "TPC-B <like>", ("direct", "balancer", "vip")))  # noqa: S314 - our own
    svg = "{http://www.w3.org/2000/svg}"
    bars = [each for each in drawn.iter(f"{svg}rect") if float(each.get("width", "0")) > 11]
    assert len(bars) == 6 * 3
    assert all(float(each.get("x", "-1")) >= 0 and float(each.get("y", "-1")) >= 0 for each in bars)
    spans = sorted((float(each.get("x", "0")), float(each.get("width", "0"))) for each in bars)
    assert all(x + width <= later for (x, width), (later, _) in pairwise(spans))
    assert "TPC-B <like>" in [each.text for each in drawn.iter(f"{svg}text")]


def test_latencies_that_were_not_measured_are_not_drawn() -> None:
    rows = summary.rows([Run(Step(1, CASE, "vip"), replace(outcome(10), latencies=type(outcome(1).latencies)({})))])
    assert chart.latency(rows) == ""
    assert ET.fromstring(chart.throughput(rows)) is not None  # noqa: S314 - our own


@pytest.mark.parametrize("most", [0.4, 7.0, 99.0, 1_234.0, 56_789.0])
def test_an_axis_has_a_few_round_numbers_from_zero_to_its_end(most: float) -> None:
    axis = axes.linear(most, top=0, bottom=100)
    assert axis.ticks[0] == 0
    assert 2 < len(axis.ticks) <= axes.MOST_TICKS + 1
    assert 0 <= axis.y(most) < axis.y(axis.ticks[1]) < axis.y(0) == 100


def test_a_logarithmic_axis_ends_at_powers_of_ten() -> None:
    axis = axes.logarithmic([0.2, 45.0], top=0, bottom=90)
    assert axis.ticks == (0.1, 1.0, 10.0, 100.0)
    assert [round(axis.y(value)) for value in (0.01, 0.1, 1.0, 100.0, 5000.0)] == [90, 90, 60, 0, 0]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0831, "0.083"), (1.0, "1.00"), (12.34, "12.3"), (123.4, "123"), (4567.0, "4,567")],
)
def test_latencies_have_three_digits(value: float | None, text: str) -> None:
    assert tables.milliseconds(value) == text
