"""When a host wants to give up its own lock, and whom it keeps from waiting."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from small_cluster import Seen, cluster

from pgbaton.agent.acting import resigning
from pgbaton.agent.acting.resigning import Resigning
from pgbaton.agent.kernel.fences import FenceError


@dataclass
class Server:
    """A server that has crashed or not, or was stopped for another one."""

    crashed: bool = False
    handed_over: bool = False


class Fences:
    """Resets whoever asks Patroni, or fails."""

    def __init__(self, refusal: str = "") -> None:
        self.refusal = refusal
        self.resigned = 0

    def resign(self) -> None:
        if self.refusal:
            raise FenceError(self.refusal)
        self.resigned += 1


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    made = Seen("db1")
    monkeypatch.setattr(resigning, "clock", lambda: made.now)
    return made


def test_it_is_wanted_after_a_crash_where_patroni_would_not_start_the_server_again(seen: Seen) -> None:
    server = Server()
    one = Resigning(seen.sight, Fences(), server)  # type: ignore[arg-type]
    seen.sight.cluster = replace(cluster(), fails_over=True)
    assert not one.is_wanted()
    server.crashed = True
    assert one.is_wanted()
    seen.sight.cluster = cluster()
    assert not one.is_wanted()
    server.handed_over = True
    assert one.is_wanted()
    seen.sight.cluster = None
    assert not one.is_wanted()


def test_it_is_not_wanted_while_nobody_who_could_be_promoted_says_that_it_is_a_standby(seen: Seen) -> None:
    one = Resigning(seen.sight, Fences(), Server(crashed=True))  # type: ignore[arg-type]
    seen.sight.cluster = replace(cluster(sync=["db2"]), fails_over=True)
    seen.sight.forget("db2")
    assert not one.is_wanted()
    seen.sight.cluster = replace(cluster(sync=["db2", "db3"]), fails_over=True)
    assert one.is_wanted()


def test_a_host_without_a_server_has_nothing_to_give_up(seen: Seen) -> None:
    assert not Resigning(seen.sight, Fences(), None).is_wanted()  # type: ignore[arg-type]


def test_a_kernel_that_resets_nobody_makes_an_election_slower_and_no_more(
    seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    kernel = Fences()
    Resigning(seen.sight, kernel, Server()).begin()  # type: ignore[arg-type]
    assert kernel.resigned == 1
    Resigning(seen.sight, Fences("nft: not permitted"), Server()).begin()  # type: ignore[arg-type]
    assert "an election may have to wait for this host's Patroni: nft: not permitted" in caplog.text
