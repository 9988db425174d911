"""Topologies to begin with: commented files that need little more than addresses."""

from __future__ import annotations

import re
from importlib import resources

from pgbaton.errors import UsageError

#: The presets, the default first.
NAMES = ("standard", "classic", "compact", "manual")
#: Those with automatic failover.
WITH_PATRONI = NAMES[:3]


def text(name: str, *, cluster: str | None = None) -> str:
    """Return a preset as TOML, its cluster named ``cluster`` if that is given; raises UsageError for unknown names."""
    if name not in NAMES:
        message = f"there is no preset named {name}"
        raise UsageError(message, hint=f"choose one of {', '.join(NAMES)}")
    preset = resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    if cluster is None:
        return preset
    from pgbaton.topology.tables.base import SLUG  # noqa: PLC0415 - pydantic takes a while

    if not re.fullmatch(SLUG, cluster):
        message = f"{cluster!r} cannot be a cluster's name: it becomes part of paths and of keys in etcd"
        raise UsageError(message, hint="use up to 32 of a-z, 0-9 and -, beginning and ending with a letter or digit")
    return preset.replace(f'name = "{name}"', f'name = "{cluster}"', 1)
