"""The static checks are part of the tests: what fails there fails here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_every_static_check_passes() -> None:
    ran = subprocess.run((ROOT / "scripts" / "check",), capture_output=True, text=True, check=False, timeout=290)
    assert ran.returncode == 0, ran.stdout + ran.stderr
