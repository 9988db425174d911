"""Labs that several tests share, made and removed by the commands that users run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from labs import Lab, down, up

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
def standard_lab(lab_home: Path) -> Iterator[Lab]:
    """A healthy cluster of the standard preset; whoever breaks it mends it."""
    del lab_home
    try:
        yield up("test-standard", "--preset", "standard")
    finally:
        down("test-standard")
