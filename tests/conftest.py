"""How many examples a property is tried with; a few say their own number, where theirs are costly or many.

`quick` is for every run, and draws others each time; `--hypothesis-profile=thorough` takes minutes.
"""

from __future__ import annotations

from hypothesis import settings

# No deadline an example: it would measure the machine. Every test has one of its own.
settings.register_profile("quick", max_examples=50, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile("quick")
