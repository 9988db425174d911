"""What all tests have in common: how many examples properties are tried with, and what goes to which process.

`quick` is for every run, and draws others each time; `--hypothesis-profile=thorough` takes minutes. A few properties
say their own number, where theirs are costly or many.

`./run test` has several processes. Files go to any of them, the model's tests one by one, since each takes long; what
runs on machines goes to one alone and comes last, because labs share the processors and some of it is about time.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# No deadline an example: it would measure the machine. Every test has one of its own.
settings.register_profile("quick", max_examples=50, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile("quick")

ONE_BY_ONE = Path(__file__).with_name("model")


@pytest.hookimpl(tryfirst=True)  # xdist looks at what is said here
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Say of each test what it has to stay in one process with; those of the model need not stay with any."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        if item.get_closest_marker("lab"):
            item.add_marker(pytest.mark.xdist_group("lab"))
        elif ONE_BY_ONE not in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(str(item.path)))
