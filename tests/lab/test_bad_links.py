"""Links that are bad on purpose, on machines that are really there."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest
from machines import command_lines, topology

from pgbaton import state as states
from pgbaton.lab import image, lifecycle, links, recipe, relay
from pgbaton.lab.record import Cut, Delay, Loss
from pgbaton.operate.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pgbaton.state import ClusterState

pytestmark = pytest.mark.lab

#: Sends so many bytes one after the other, and prints how many came back.
ECHO = """
import socket
with socket.create_connection(("two", PORT), 5) as peer:
    peer.settimeout(10)
    peer.sendall(b"x" * 3_000_000)
    peer.shutdown(socket.SHUT_WR)
    print(sum(iter(lambda: len(peer.recv(1 << 16)), 0)))
"""
SERVER = """
import socket, threading
def answer(peer):
    seen = b"".join(iter(lambda: peer.recv(1 << 16), b""))
    peer.sendall(seen)
    peer.close()
def serve(port):
    with socket.create_server(("", port)) as server:
        while True:
            threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()
threading.Thread(target=serve, args=(7001,), daemon=True).start()
serve(7000)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[ClusterState]:
    """Two machines and the clients', with a server on one of them that says again what it is told."""
    made = asyncio.run(image.ensure(recipe.system("debian-13"), report=print))
    state = states.cluster("test-links")
    asyncio.run(lifecycle.create(state, topology(state.name), image=made))
    asyncio.run(serve(state))
    yield state
    asyncio.run(lifecycle.destroy(state))
    assert not [line for line in command_lines() if relay.__name__ in line and state.name in line]


async def serve(state: ClusterState) -> None:
    """Start the server, and return when it answers."""
    two = lifecycle.host(state, "two")
    await two.run("systemd-run", "--quiet", "python3", "-c", SERVER)

    async def listening() -> str | None:
        said = (await two.run("ss", "-Hltn")).stdout
        return None if ":7000 " in said and ":7001 " in said else said or "nobody listens"

    await until("the server listens", listening, seconds=30)


@pytest.fixture
async def state(lab: ClusterState) -> AsyncIterator[ClusterState]:
    yield lab
    await links.heal(lab)


async def ping(state: ClusterState, source: str, target: str, count: int = 5) -> tuple[int, float]:
    """Return how many of so many requests were answered, and the shortest time that it took, in milliseconds."""
    argv = ("ping", "-q", "-c", str(count), "-i", "0.05", "-W", "1", target)
    said = (await lifecycle.host(state, source).run(*argv, check=False)).stdout
    answered, shortest = re.search(r"(\d+) received", said), re.search(r"= ([\d.]+)/", said)
    assert answered is not None, said
    return int(answered[1]), float(shortest[1]) if shortest else 0.0


async def echo(state: ClusterState, source: str, port: int) -> bool:
    """Tell whether three megabytes come back whole from the server."""
    program = ECHO.replace("PORT", str(port))
    said = await lifecycle.host(state, source).run("python3", "-c", program, check=False)
    return said.ok and int(said.stdout) == 3_000_000


async def test_a_delay_slows_everything_to_and_from_a_machine_down_and_nothing_else(state: ClusterState) -> None:
    assert await echo(state, "one", 7000)
    await links.impair(state, Delay("two", 25.0, "it"))
    for source, target in (("one", "two"), ("two", "one")):
        answered, shortest = await ping(state, source, target)
        assert answered == 5
        assert shortest >= 50
    assert (await ping(state, "one", "app"))[1] < 50
    assert await echo(state, "one", 7000)


async def test_a_delay_goes_with_its_maker_and_the_slowest_counts(state: ClusterState) -> None:
    await links.impair(state, Delay("two", 10.0, "one"))
    await links.impair(state, Delay("two", 40.0, "another"))
    assert (await ping(state, "one", "two"))[1] >= 80
    await links.mend(state, by="another")
    assert 20 <= (await ping(state, "one", "two"))[1] < 80
    await links.mend(state, by="one")
    assert (await ping(state, "one", "two"))[1] < 20


async def test_a_slow_link_can_be_cut_and_stays_slow_when_it_is_mended(state: ClusterState) -> None:
    await links.impair(state, Delay("two", 25.0, "slow"))
    await links.impair(state, Cut("one", "two", by="cut"))
    assert (await ping(state, "one", "two"))[0] == 0
    await links.mend(state, by="cut")
    answered, shortest = await ping(state, "one", "two")
    assert answered == 5
    assert shortest >= 50


async def test_a_slow_machine_that_was_off_is_slow_again(state: ClusterState) -> None:
    await links.impair(state, Delay("one", 25.0, "slow"))
    await lifecycle.power_off(state, "one")
    await lifecycle.power_on(state, "one")
    assert (await ping(state, "one", "two"))[1] >= 50


async def test_a_loss_drops_some_frames_and_tcp_gets_through(state: ClusterState) -> None:
    await links.impair(state, Loss("two", 20, "it"))
    answered, _ = await ping(state, "one", "two", count=100)
    assert 30 <= answered <= 95
    assert (await ping(state, "one", "app", count=20))[0] == 20
    await links.mend(state, by="it")
    assert (await ping(state, "one", "two", count=20))[0] == 20


async def test_a_cut_of_a_port_lets_everything_else_through(state: ClusterState) -> None:
    await links.impair(state, Cut("one", "two", (7001,)), Cut("two", "one", (7001,)))
    assert not await echo(state, "one", 7001)
    assert await echo(state, "one", 7000)
    assert await echo(state, "app", 7001)
    assert (await ping(state, "one", "two"))[0] == 5


async def test_a_relay_ends_when_its_lab_has_forgotten_it(state: ClusterState) -> None:
    made = await links.impair(state, Delay("two", 25.0, "it"))
    note = relay.note(made, made.machine("two"))

    async def ended() -> str | None:
        running = [line for line in command_lines() if str(note) in line]
        return running[0] if running else None

    assert await ended() is not None
    note.unlink()
    await until("the relay ends", ended, seconds=10)
    await links.heal(state)
    assert (await ping(state, "one", "two"))[1] < 50
