"""Labs that several tests share, made and removed by the commands that users run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from labs import Lab, down, up

from pgbaton.cli.demo import AGENTS, STOCK
from pgbaton.topology import presets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def lab_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the state of the tests' labs apart from the user's own."""
    if os.geteuid() != 0:
        pytest.skip("labs need root")
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("labs")
        patch.setenv("PGBATON_STATE_HOME", str(directory))
        patch.delenv("PGBATON_CLUSTER", raising=False)
        yield directory


@pytest.fixture(scope="session")
def stock_lab(lab_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A healthy cluster without agents, which would mend what tests break; whoever breaks it mends it."""
    assert lab_home
    file = tmp_path_factory.mktemp("stock") / "stock.toml"
    file.write_text(presets.text("standard", cluster="test-stock") + STOCK)
    try:
        yield up("test-stock", str(file))
    finally:
        down("test-stock")


@pytest.fixture(scope="module")
def standard_lab(lab_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A healthy cluster with agents, as the demonstration has them; whoever breaks it mends it.

    It goes with the module that wants it: beside another lab, both are slow.
    """
    assert lab_home
    file = tmp_path_factory.mktemp("standard") / "standard.toml"
    file.write_text(presets.text("standard", cluster="test-standard") + AGENTS)
    try:
        yield up("test-standard", str(file))
    finally:
        down("test-standard")
