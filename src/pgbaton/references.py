"""References to secrets: what stands in a rendered file where a secret value will be.

Rendering is pure and its output is shown, saved and compared, so it never holds a secret. The value takes the place
of its reference at the last moment, on the way to the host over standard input.
"""

from __future__ import annotations

import re

REFERENCE = re.compile(r"<<secret:([A-Za-z0-9_./-]+)>>")


def secret(name: str) -> str:
    """Return the reference to a secret by its name, as ``user/app`` or ``key/etcd/db1``."""
    return f"<<secret:{name}>>"


def names(text: str) -> tuple[str, ...]:
    """Return the names of all the secrets that a text refers to, in order of appearance, each once."""
    return tuple(dict.fromkeys(REFERENCE.findall(text)))
