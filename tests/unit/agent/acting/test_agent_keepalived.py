"""When the VIP is given up, and how the file is put in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgbaton.agent.acting.keepalived import APART_SECONDS, GIVE_UP, WELL, Advice, TrackFile, View, advise
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
