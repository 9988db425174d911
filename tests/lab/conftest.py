"""Labs that several tests share, made and removed by the commands that users run.

A lab that idles takes half a processor from the tests that do not use it. So tests are sorted by the shared lab that
they want, those that want none first, and each of these labs goes when the last test that wants it is done.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from labs import Lab, clear_up, commands, down, note_session, up

from pgbaton.cli.demo import AGENTS, STOCK
from pgbaton.topology import presets

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

#: The fixtures of the labs that are shared, in the order in which they are used.
SHARED = ("stock_lab", "standard_lab")
#: What is to be done at the end of each of them, from when it is begun.
ENDS = pytest.StashKey[dict[str, ExitStack]]()
#: The last test that wants each of them.
LAST = pytest.StashKey[dict[str, pytest.Item]]()


def shared_lab(item: pytest.Item) -> int:
    """Return the place of the shared lab that a test wants, 0 for one that wants none."""
    wanted = getattr(item, "fixturenames", ())
    return next((place for place, name in enumerate(SHARED, 1) if name in wanted), 0)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the tests on machines by the lab they share; all others keep their places."""
    places = [place for place, item in enumerate(items) if item.get_closest_marker("lab")]
    for place, item in zip(places, sorted((items[place] for place in places), key=shared_lab), strict=True):
        items[place] = item
    config.stash[ENDS] = {}
    config.stash[LAST] = {SHARED[place - 1]: item for item in items if (place := shared_lab(item))}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Take a shared lab down once its last test, and what that had of its module, is done."""
    result = yield
    ends = item.config.stash[ENDS]
    for name in [name for name in ends if item.config.stash[LAST][name] is item]:
        ends.pop(name).close()
    return result


@pytest.fixture(scope="session", autouse=True)
def lab_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the state of the tests' labs apart from the user's own."""
    if os.geteuid() != 0:
        pytest.skip("labs need root")
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("labs")
        note_session(directory)
        clear_up()
        patch.setenv("PGBATON_STATE_HOME", str(directory))
        patch.delenv("PGBATON_CLUSTER", raising=False)
        yield directory
        if commands.cache_info().currsize:
            commands().end()


def shared(request: pytest.FixtureRequest, text: str) -> Iterator[Lab]:
    """Bring a lab up from a topology's text, named after the fixture; it goes with the last test that wants it."""
    name = f"test-{request.fixturename.removesuffix('_lab')}"
    file = request.getfixturevalue("tmp_path_factory").mktemp(name) / "topology.toml"
    file.write_text(text)
    with ExitStack() as ends:
        ends.callback(down, name)
        request.config.stash[ENDS][request.fixturename] = ends
        yield up(name, str(file))


@pytest.fixture(scope="session")
def stock_lab(lab_home: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A healthy cluster without agents, which would mend what tests break; whoever breaks it mends it."""
    assert lab_home
    yield from shared(request, presets.text("standard", cluster="test-stock") + STOCK)


@pytest.fixture(scope="session")
def standard_lab(lab_home: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A healthy cluster with agents, as the demonstration has them; whoever breaks it mends it."""
    assert lab_home
    yield from shared(request, presets.text("standard", cluster="test-standard") + AGENTS)
