from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import made_runs as made
import pytest

from pgbaton.proof.checkers.base import Validity
from pgbaton.proof.outage import Span
from pgbaton.proof.reporting import overview, page, timeline
from pgbaton.proof.results import NotRun, RunResult, TrialResult

VOID = {"meta", "br"}


class Balance(HTMLParser):
    """Holds that every element that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.ids += [str(named["id"])] if "id" in named else []
        self.links += [str(named["href"])] if "href" in named else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Leave alone what closes itself."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(html: str) -> Balance:
    parser = Balance()
    parser.feed(html)
    assert parser.open == []
    return parser


def render(run: RunResult) -> str:
    def history_of(trial: TrialResult) -> made.History:
        return made.history(made.story(trial), clients=4, pace=0.05)

    return page.render(run, made.story, history_of)


@pytest.fixture(scope="module")
def large() -> RunResult:
    return made.large()


@pytest.fixture(scope="module")
def html(large: RunResult) -> str:
    return render(large)


def test_the_page_needs_nothing_from_anywhere(html: str) -> None:
    assert not re.search(r"""(?:src|href|url|import|https?:)\s*[=(]?\s*["']?(?:https?:)?//""", html)
    assert "<script" not in html
    assert "$" not in html


def test_the_page_of_the_largest_run_is_small_and_well_formed(html: str) -> None:
    assert len(html.encode()) < 3_000_000
    parser = parsed(html)
    assert len(parser.ids) == len(set(parser.ids))
    assert {link.removeprefix("#") for link in parser.links} <= set(parser.ids)


def test_every_trial_is_a_dot_with_its_verdict_and_every_fault_a_picture(html: str, large: RunResult) -> None:
    verdicts = re.findall(r'<i class="dot (?:unended )?row-\d (\w+)"', html)
    assert sorted(verdicts) == sorted(str(trial.verdict) for trial in large.trials)
    assert len(re.findall(r'<div class="card trial"', html)) == len(large.summary)


def test_what_did_not_come_back_lies_at_the_edge_with_a_mark_of_its_own() -> None:
    unserved = made.trial(outage=math.inf, served=False)
    assert overview.dot(unserved, 0, 1).startswith('<i class="dot unended row-1 missed" style="left:100.00%"')
    assert "unended" not in overview.dot(made.trial(outage=500.0, limit_seconds=None), 0, 1)


@pytest.mark.parametrize(
    ("seconds", "percent"), [(0.0001, 0.0), (0.01, 0.0), (math.sqrt(1.2), 50.0), (120.0, 100.0), (math.inf, 100.0)]
)
def test_the_axis_is_logarithmic_and_nothing_lies_outside_it(seconds: float, percent: float) -> None:
    assert overview.position(seconds) == pytest.approx(percent)


def test_the_page_says_the_verdict_first_and_lists_all_findings() -> None:
    broken = made.trial(lost=3, checks=made.checks(set=Validity.INVALID))
    text = render(made.run(made.trial(), broken))
    assert "3 lost." in text
    assert '<span class="badge violated">violated</span></h1>' in text
    assert "<li>set: set saw something</li>" in text
    assert "✕ 1/2" in text


def test_what_was_not_run_is_told_with_its_reason() -> None:
    run = made.run(made.trial(), not_run=(NotRun("clock", "Clock jumps", "no time namespaces"),))
    assert "no time namespaces" in render(run)
    assert "Everything that was asked for was run." in render(made.run(made.trial()))


def test_a_run_without_a_single_trial_is_a_page_too() -> None:
    text = render(made.run())
    parsed(text)
    assert "Not proven: no trial was made." in text


def test_a_trial_without_its_files_says_so_instead_of_a_picture() -> None:
    text = page.render(made.run(made.trial()), lambda _: None, lambda _: None)
    assert "No picture: its own files are not in trials/001-postmaster-killed." in text


def test_what_stands_on_the_page_is_escaped() -> None:
    evil = "<b>evil"
    bad = replace(made.checks(set=Validity.INVALID)[0], findings=(evil,))
    trial = made.trial(title=evil, hosts=(evil,), remarks=(evil,), checks=(bad,), folder=evil, vip=(evil, "lb2"))
    run = made.run(
        trial, label=evil, system=evil, asked=evil, versions={evil: evil}, not_run=(NotRun(evil, evil, evil),)
    )
    assert evil not in render(run)


def test_a_command_to_repeat_the_worst_trial_is_given() -> None:
    run = made.run(made.trial(seed=1), made.trial(seed=2, outage=3.0))
    assert "<code>pgbaton prove --fault postmaster-killed --seed 2</code>" in render(run)


@pytest.mark.parametrize(
    ("asked", "command"),
    [
        ({"suite": "soak", "minutes": None}, "--suite soak"),
        ({"suite": "soak", "minutes": 3.0}, "--suite soak --minutes 3"),
        ({"suite": "chaos", "minutes": 2.5, "fault": ["switchover"]}, "--suite chaos --fault switchover --minutes 2.5"),
        ({"suite": None, "minutes": None, "schedule": "/a b.json"}, "--schedule &#x27;/a b.json&#x27;"),
        ({"suite": "full", "minutes": 3.0}, "--fault full-load"),
    ],
)
def test_what_was_made_for_its_run_is_asked_for_again_as_it_was(asked: dict[str, object], command: str) -> None:
    page = render(made.run(made.trial("full-load", seed=9), request=asked))
    assert f"<code>pgbaton prove {command} --seed 9</code>" in page


def test_a_curve_never_has_more_steps_than_pixels_and_whole_buckets_of_10_ms() -> None:
    for length in (0.05, 0.6, 9.99, 10.0, 63.21):
        seen = timeline.view(Span(5.0, 5.0 + length), 5.0)
        buckets = seen.span.seconds / seen.bucket_seconds
        assert buckets == pytest.approx(round(buckets))
        assert round(buckets) <= timeline.PIXELS
        assert seen.bucket_seconds / 0.01 == pytest.approx(round(seen.bucket_seconds / 0.01))
        assert seen.span.end >= 5.0 + length - 1e-6


def test_equal_neighbours_of_a_curve_are_one_step() -> None:
    assert timeline.stepped([0, 0, 2, 2, 1], 2) == "V100h2V1h2V50h1"


def test_two_servers_that_acknowledge_at_once_are_drawn_beneath_each_other() -> None:
    trial = made.trial()
    story = made.story(trial)
    both = made.history(story, clients=3, pace=0.02).operations
    other = tuple(replace(each, server="10.77.0.23", client=f"other-{each.client}") for each in both)
    history = made.History(tuple(sorted((*both, *other), key=lambda each: each.end)))
    found = timeline.primaries(history, story, story.window)
    assert sorted(each.host for each in found) == ["db1", "db2", "db3", "db3"]
    assert 'class="lane twice"' in timeline.draw(story, history)
    alone = made.history(story, clients=3, pace=0.02)
    assert 'class="lane twice"' not in timeline.draw(story, alone)


def test_a_vip_that_two_balancers_hold_is_seen_twice() -> None:
    story = made.story(made.trial(), twice=True)
    drawn = timeline.draw(story, made.history(story, clients=3, pace=0.05))
    assert drawn.count('class="lane twice"') == 2  # whole and near


def test_each_of_several_vips_has_a_lane_and_one_that_another_takes_over_is_not_held_twice() -> None:
    story = made.story(made.trial())
    (held,) = story.holdings
    both = (replace(held, vip="10.77.0.100"), replace(held, vip="10.77.0.101"))
    drawn = timeline.draw(replace(story, holdings=both), made.history(story, clients=3, pace=0.05))
    assert drawn.count("<small>10.77.0.101</small>") == 2  # whole and near
    assert 'class="lane twice"' not in drawn


def test_the_primaries_stretches_end_where_writes_stop() -> None:
    story = made.story(made.trial(outage=2.0))
    first, second = timeline.primaries(made.history(story), story, story.window)
    assert first.span.end == pytest.approx(story.outage.begin, abs=0.03)
    assert second.span.begin == pytest.approx(story.outage.end, abs=0.03)


def test_labels_that_would_run_into_each_other_share_one() -> None:
    assert timeline.grouped([(10.0, "detected"), (12.0, "elected"), (80.0, "writable")]) == [[0, 1], [2]]


def test_the_outage_is_shaded_over_its_whole_length() -> None:
    story = made.story(made.trial(outage=4.0))
    seen = timeline.view(Span(story.injected - 1.0, story.injected + 9.0), story.injected)
    style = re.search(r'class="shade" style="left:([\d.]+)%;width:([\d.]+)%"', timeline.backdrop(seen, story))
    assert style is not None
    assert (float(style[1]), float(style[2])) == (pytest.approx(10.2), pytest.approx(40.0))
