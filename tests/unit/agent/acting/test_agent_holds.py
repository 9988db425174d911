"""Who is let go when an agent has ended, and who is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from small_cluster import settings

from pgbaton.agent.acting import balancer, holds
from pgbaton.agent.kernel import fences
from pgbaton.agent.kernel.fence_rules import Serving
from pgbaton.agent.kernel.fences import FenceError

if TYPE_CHECKING:
    from pathlib import Path

    from pgbaton.agent.settings import Settings


class Host:
    """What is held on a host."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.serving = Serving.REFUSED
        self.pools_let_go = 0
        self.error: Exception | None = None
        monkeypatch.setattr(fences, "serving", self.read)
        monkeypatch.setattr(fences.Fences, "serve", self.serve)
        monkeypatch.setattr(balancer, "let_go", self.let_go)

    def read(self) -> Serving:
        if self.error:
            raise self.error
        return self.serving

    async def serve(self, wanted: Serving) -> None:
        self.serving = wanted

    async def let_go(self, _: Settings) -> None:
        self.pools_let_go += 1
        if self.error:
            raise self.error


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


@pytest.mark.parametrize("code", ["exited", None])
async def test_an_agent_that_ended_by_itself_leaves_no_client_held(
    host: Host, code: str | None, tmp_path: Path
) -> None:
    await holds.let_go_after(settings("db1", directory=tmp_path), {"EXIT_CODE": code} if code else {})
    assert host.serving is Serving.OPEN
    assert host.pools_let_go == 0


@pytest.mark.parametrize("code", ["killed", "dumped"])
async def test_an_agent_that_was_killed_is_back_in_a_moment_and_decides_by_itself(host: Host, code: str) -> None:
    await holds.let_go_after(settings("db1"), {"EXIT_CODE": code})
    assert host.serving is Serving.REFUSED


@pytest.mark.parametrize("code", ["killed", "exited"])
async def test_a_balancers_pool_is_let_go_however_its_agent_ended(host: Host, code: str) -> None:
    host.serving = Serving.OPEN
    await holds.let_go_after(settings("lb1"), {"EXIT_CODE": code})
    assert host.pools_let_go == 1


@pytest.mark.parametrize("error", [FenceError("no netlink"), OSError("no disk")])
async def test_what_cannot_be_let_go_is_told_and_stops_nothing_else(
    host: Host, error: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def serving() -> Serving:
        raise error

    monkeypatch.setattr(fences, "serving", serving)
    host.error = error if isinstance(error, OSError) else None
    await holds.let_go_after(settings("lb1"), {})
    assert "may still be held" in caplog.text
    assert host.pools_let_go == 1


async def test_an_agent_that_stops_lets_its_own_clients_in_and_its_pool_go(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    class OwnFence:
        def __init__(self) -> None:
            self.asked = 0

        async def let_in(self) -> None:
            self.asked += 1
            if self.asked == 2:
                message = "no netlink"
                raise FenceError(message)

    own = OwnFence()
    for _ in range(2):
        await holds.let_go_of_all(settings("lb1"), own)  # type: ignore[arg-type]
    await holds.let_go_of_all(settings("db1"), None)
    assert (own.asked, host.pools_let_go) == (2, 2)
    assert caplog.text.count("no netlink") == 1
