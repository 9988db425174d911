"""A made-up demonstration, for whoever wants its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from demonstration import made_report

if TYPE_CHECKING:
    from pgbaton.proof.report import Report


@pytest.fixture
def report() -> Report:
    return made_report()


@pytest.fixture
def report_with_a_loss() -> Report:
    return made_report(lose=(("writer-1", 7), ("writer-2", 9)))
