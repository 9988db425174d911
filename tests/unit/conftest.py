"""What all unit tests have."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def python3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have ``python3`` be the interpreter of the tests: in PATH it may be a script that starts forty programs first."""
    found = tmp_path_factory.mktemp("bin")
    (found / "python3").symlink_to(Path(sys.executable).resolve())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{found}:{os.environ['PATH']}")
        yield
