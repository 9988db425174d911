from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from benches import Bench, build, copy

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A fake cluster with nothing on it, whose first database will be primary once it is started."""
    made = build(tmp_path)
    made.server.dynamic |= made.dynamic
    made.lead_when_started()
    return made


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A fake cluster that was deployed, to be copied."""
    made = build(tmp_path_factory.mktemp("running"))
    made.server.dynamic |= made.dynamic
    made.lead_when_started()
    asyncio.run(made.apply())
    made.forget_calls()
    return made


@pytest.fixture
def deployed(running: Bench, tmp_path: Path) -> Bench:
    """A fake cluster that was deployed and runs."""
    return copy(running, tmp_path)
