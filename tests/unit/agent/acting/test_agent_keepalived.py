"""When the VIP is given up, and how the file is put in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgbaton.agent.acting.keepalived import APART_SECONDS, GIVE_UP, REST_SECONDS, WELL, Advice, TrackFile, View, advise
from pgbaton.agent.decisions.hung import Verdict

if TYPE_CHECKING:
    from pathlib import Path

UNCERTAIN = [Verdict.SUSPECTED]
USELESS = [Verdict.HUNG, Verdict.GONE]
USEFUL = [Verdict.WELL, Verdict.BUSY]


def seen(now: float, haproxy: Verdict = Verdict.WELL, *, leads: bool = True, peer_leads: bool = True) -> View:
    return View(now, haproxy, leads, peer_leads)


@pytest.mark.parametrize("verdict", USELESS)
def test_a_haproxy_that_hangs_or_is_gone_gives_up_the_vip_whatever_the_peer_does(verdict: Verdict) -> None:
    for peer_leads in (True, False):
        assert advise(Advice(), seen(0, verdict, peer_leads=peer_leads)).value == GIVE_UP


@pytest.mark.parametrize("verdict", USEFUL)
def test_a_haproxy_that_answers_has_the_vip_again(verdict: Verdict) -> None:
    assert advise(Advice(GIVE_UP), seen(0, verdict)).value == WELL


@pytest.mark.parametrize("value", [WELL, GIVE_UP])
def test_a_suspicion_changes_nothing(value: int) -> None:
    assert advise(Advice(value), seen(0, Verdict.SUSPECTED)).value == value


def test_the_vip_stays_when_nobody_leads_to_the_primary() -> None:
    advice = Advice()
    for now in range(20):
        advice = advise(advice, seen(now, leads=False, peer_leads=False))
        assert advice.value == WELL


def test_the_vip_goes_to_the_peer_when_only_that_one_leads_to_the_primary_for_a_while() -> None:
    advice = advise(Advice(), seen(10, leads=False))
    assert advice.value == WELL
    assert advise(advice, seen(10 + APART_SECONDS - 0.01, leads=False)).value == WELL
    advice = advise(advice, seen(10 + APART_SECONDS, leads=False))
    assert advice.value == GIVE_UP
    assert advise(advice, seen(13, leads=False)).value == GIVE_UP
    assert advise(advice, seen(13)) == Advice(WELL)


def test_a_failover_that_one_balancer_sees_first_moves_no_vip() -> None:
    advice = Advice()
    for now, leads, peer_leads in [(0.0, True, True), (0.1, False, True), (0.3, False, False), (1.9, False, True)]:
        advice = advise(advice, seen(now, leads=leads, peer_leads=peer_leads))
    assert advise(advice, seen(2.2, leads=False)).value == WELL


def cut_off(now: float, *, broken: bool = True, peer_leads: bool = True) -> View:
    return View(now, Verdict.WELL, leads=not broken, peer_leads=peer_leads, cut_off=broken)


def test_a_broken_path_gives_up_the_vip_after_the_usual_patience_and_for_as_long_as_it_lasts() -> None:
    advice = Advice()
    for now, value in [(10.0, WELL), (11.9, WELL), (12.0, GIVE_UP), (12.0 + 2 * REST_SECONDS, GIVE_UP)]:
        advice = advise(advice, cut_off(now))
        assert advice.value == value
    assert advise(advice, cut_off(133.0, peer_leads=False)).value == WELL
    advice = advise(advice, cut_off(133.0, broken=False))
    assert advice.value == WELL
    for now, value in [(134.0, WELL), (136.0, GIVE_UP)]:  # it was given up long ago
        advice = advise(advice, cut_off(now))
        assert advice.value == value


def test_a_path_that_clients_break_does_not_send_the_vip_to_and_fro() -> None:
    """Whoever has the VIP is cut off after a while, and the other one is well as soon as its clients have left."""
    said, holder, since = {"lb1": Advice(), "lb2": Advice()}, "lb1", 0.0
    moves = []
    for tick in range(2 * 10 * round(REST_SECONDS)):
        now = tick / 10
        is_broken = {name: name == holder and now - since >= 3.0 for name in said}
        for name, other in (("lb1", "lb2"), ("lb2", "lb1")):
            view = cut_off(now, broken=is_broken[name], peer_leads=not is_broken[other])
            said[name] = advise(said[name], view)
        if said[holder].value == GIVE_UP:
            holder, since = "lb2" if holder == "lb1" else "lb1", now
            moves.append(now)
    assert len(moves) == 4, "each balancer once a minute"
    assert moves[2] - moves[0] >= REST_SECONDS


def test_rest_is_for_broken_paths_alone() -> None:
    advice = advise(advise(Advice(), cut_off(10.0)), cut_off(12.0))
    advice = advise(advice, cut_off(13.0, broken=False))
    for now, value in [(14.0, WELL), (16.0, GIVE_UP)]:
        advice = advise(advice, seen(now, leads=False))
        assert advice.value == value
    advice = advise(Advice(cut_off_seconds=12.0), seen(13.0, Verdict.GONE))
    assert advice.value == GIVE_UP


@pytest.fixture
def file(tmp_path: Path) -> TrackFile:
    return TrackFile(tmp_path / "balancer-state")


def test_a_file_is_put_in_place_as_a_whole_under_a_name_that_keepalived_does_not_watch(file: TrackFile) -> None:
    file.write(GIVE_UP)
    with file.path.open() as reader:
        file.write(WELL)
        assert reader.read() == "-254\n"
    assert file.path.read_text() == "0\n"
    assert list(file.path.parent.iterdir()) == [file.path]
    assert file.path.stat().st_mode & 0o777 == 0o644


def test_a_value_that_is_there_is_not_written_again(file: TrackFile) -> None:
    assert file.write(WELL)
    before = file.path.stat().st_ino
    assert not file.write(WELL)
    assert file.path.stat().st_ino == before
    assert file.write(GIVE_UP)
    assert file.read() == GIVE_UP


@pytest.mark.parametrize("damage", ["", "x", "7\n"])
def test_a_file_that_somebody_else_changed_is_put_right(file: TrackFile, damage: str) -> None:
    file.write(GIVE_UP)
    file.path.write_text(damage)
    assert file.write(GIVE_UP)
    assert file.read() == GIVE_UP


def test_no_file_is_what_keepalived_takes_it_for(file: TrackFile) -> None:
    assert file.read() == WELL
