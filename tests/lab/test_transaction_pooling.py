"""What pooling by transaction takes away, and what it does not, shown through the VIP; the docs have the same table."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from poolers import in_network, pooling, target_of
from pooling_cases import CASES, Case

from pgbaton.hosts import process

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labs import Lab

pytestmark = pytest.mark.lab

PROGRAM = Path(__file__).with_name("pooling_cases.py")
SECONDS = 90.0


def seen_by_clients(lab: Lab, mode: str) -> Mapping[str, str]:
    """Return what each case comes to in a pool mode."""
    target = target_of(lab)
    asyncio.run(target.until_whole(seconds=120))
    where = json.dumps(target.conninfo()) + "\n"
    with pooling(lab, mode):
        argv = in_network(lab, sys.executable, str(PROGRAM))
        said = asyncio.run(process.run(*argv, input=where, check=False, timeout=SECONDS))
    assert said.ok, said.stderr
    return dict(json.loads(said.stdout))


@pytest.fixture(scope="module")
def by_transaction(stock_lab: Lab) -> Mapping[str, str]:
    return seen_by_clients(stock_lab, "transaction")


@pytest.fixture(scope="module")
def by_session(stock_lab: Lab) -> Mapping[str, str]:
    return seen_by_clients(stock_lab, "session")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_pooling_by_transaction_does_what_the_table_says(by_transaction: Mapping[str, str], case: Case) -> None:
    assert by_transaction[case.what] == case.transaction


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_pooling_by_session_does_what_the_table_says(by_session: Mapping[str, str], case: Case) -> None:
    assert by_session[case.what] == case.session
