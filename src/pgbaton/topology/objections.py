"""What is said against a topology, before it is known which file and line it stands in."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pgbaton.topology.lines import Path

#: Keys whose values are never repeated on a screen or in JSON.
_SECRET_KEY = re.compile(
    r"pass(word|wd|phrase)?$|passphrase|password|secret|token|credential|conninfo|(^|_)auth", re.IGNORECASE
)
#: Values that carry a secret whatever their key: connection strings, URIs with a password, private keys.
_SECRET_VALUE = re.compile(
    r"pass(word|wd)?\s*=|sslkey|://[^/\s]*:[^/\s]*@|PRIVATE KEY|SCRAM-SHA-256\$|^md5[0-9a-f]{32}$", re.IGNORECASE
)
_BARE_KEY = re.compile(r"^[A-Za-z0-9_-]+$")
_LONGEST_SHOWN = 60


@dataclass(frozen=True)
class Objection:
    """A reason to refuse or doubt the value at ``path``, and what to write instead.

    ``is_unknown`` says that the format has no such key: nobody can tell whether its value is a secret.
    """

    path: Path
    reason: str
    fix: str
    level: Literal["error", "warning"] = "error"
    is_unknown: bool = False


def spell(path: Path) -> str:
    """Return a path as people write it: ``hosts[1].address``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.match(part) else json.dumps(part))
    return text


def shown(path: Path, value: object) -> str | None:
    """Return a value as it may be shown on any terminal, in TOML's spelling; None when it may hold a secret."""
    if any(isinstance(part, str) and _SECRET_KEY.search(part) for part in path):
        return None
    text = json.dumps(value, default=str)
    if _SECRET_VALUE.search(text):
        return None
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def at(data: object, path: Path) -> object:
    """Return the value that a path leads to in parsed TOML, or None."""
    for part in path:
        if isinstance(data, Mapping):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return None
    return data


def kind(value: Any) -> str:  # noqa: ANN401 - anything that TOML can say
    """Return what a TOML value is, in words."""
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "true or false"),
        (str, "text"),
        (int, "a whole number"),
        (float, "a number with decimals"),
        (Mapping, "a table"),
        ((date, datetime, time), "a date or time"),
        (Sequence, "an array"),
    )
    return next(name for types, name in names if isinstance(value, types))


def strange_letters(text: str) -> str | None:
    """Name the first letter of a text that is not plain ASCII; None when all are."""
    for letter in text:
        if not letter.isascii():
            return f"U+{ord(letter):04X} {unicodedata.name(letter, 'unnamed')}"
    return None
