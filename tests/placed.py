"""The standard topology with its pools in another place, for the tests of what becomes of them there."""

from __future__ import annotations

from pgbaton.topology import presets

POOLERS = """
[[hosts]]
name = "pool1"
address = "10.77.0.31"
roles = ["pooler"]

[[hosts]]
name = "pool2"
address = "10.77.0.32"
roles = ["pooler"]
"""
SHOP = """
[[hosts]]
name = "shop"
address = "10.77.0.41"
roles = ["application"]
"""


def text(where: str, more: str = "") -> str:
    """Return a topology file's text; what the place needs further hosts for is not in it, unless ``more`` is that."""
    return presets.text("standard").replace("[pooling]", f'[pooling]\nplacement = "{where}"') + more
