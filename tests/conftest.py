"""What all tests have in common: how many examples properties are tried with, and what goes to which process.

`quick` is for every run, and draws others each time; `--hypothesis-profile=thorough` takes minutes. A few properties
say their own number, where theirs are costly or many.

`./run test` has several processes. Files go to any of them, the model's tests one by one, since each takes long; what
runs on machines goes to one alone and comes last, because labs share the processors and some of it is about time.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# No deadline an example: it would measure the machine. Every test has one of its own.
settings.register_profile("quick", max_examples=50, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile("quick")


class Together(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Keeps in one process what is in one file, and all that runs on machines."""

    def _split_scope(self, nodeid: str) -> str:
        """Return what a test has to stay in one process with."""
        file = nodeid.partition("::")[0]
        if file.startswith("tests/lab/"):
            return "lab"
        return nodeid if file.startswith("tests/model/") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:  # noqa: ANN401 - xdist's own
    """Have xdist give tests to processes as is said here."""
    return Together(config, log)
