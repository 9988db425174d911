"""Where each key of a TOML text stands: a path, as ``("hosts", 1, "address")``, to its line.

tomllib gives lines for syntax errors only, and tomlkit keeps no positions either. The text has been accepted by
tomllib before it comes here, so this reads just enough of TOML to follow keys: strings, comments, brackets, commas.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Path: TypeAlias = tuple[str | int, ...]

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r]+ | \#[^\n]*)
  | (?P<newline>\n)
  | (?P<string>\"{3}(?:[^\\]|\\.)*?\"{3,5} | '{3}.*?'{3,5} | "(?:[^"\\\n]|\\.)*" | '[^'\n]*')
  | (?P<mark>[\[\]{}=,.])
  | (?P<bare>[^\s\#\[\]{}=,."']+)
    """,
    re.VERBOSE | re.DOTALL,
)


class _Reader:
    """A walk over the text's tokens that notes the line of every key and array item."""

    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.at = 0
        self.lines: dict[Path, int] = {}
        self.last_item: dict[Path, int] = {}

    def peek(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        text = self.peek()
        self.at += 1
        return text

    def skip(self, *texts: str) -> None:
        while self.at < len(self.tokens) and self.peek() in texts:
            self.at += 1

    @property
    def line(self) -> int:
        return self.tokens[min(self.at, len(self.tokens) - 1)][1]

    def note(self, path: Path, line: int) -> None:
        self.lines.setdefault(path, line)

    def document(self) -> None:
        table: Path = ()
        self.skip("\n")
        while self.at < len(self.tokens):
            if self.peek() == "[":
                table = self.header()
            else:
                self.pair(table)
            self.skip("\n")

    def header(self) -> Path:
        line = self.line
        start = self.at
        self.skip("[")
        is_array = self.at - start > 1
        keys = self.key()
        self.skip("]")
        path: Path = ()
        for key in keys[:-1]:
            path = self._current((*path, key))
            self.note(path, line)
        path = (*path, keys[-1])
        self.note(path, line)
        if is_array:
            self.last_item[path] = self.last_item.get(path, -1) + 1
        path = self._current(path)
        self.note(path, line)
        return path

    def _current(self, path: Path) -> Path:
        """Lead into the last item where the path is an array of tables."""
        return (*path, self.last_item[path]) if path in self.last_item else path

    def key(self) -> tuple[str, ...]:
        parts = [_unquoted(self.take())]
        while self.peek() == ".":
            self.take()
            parts.append(_unquoted(self.take()))
        return tuple(parts)

    def pair(self, table: Path) -> None:
        line = self.line
        path = table
        for key in self.key():
            path = (*path, key)
            self.note(path, line)
        self.skip("=")
        self.value(path)

    def value(self, path: Path) -> None:
        opening = self.take()
        if opening == "[":
            self.array(path)
        elif opening == "{":
            self.inline_table(path)
        else:
            self.scalar()

    def scalar(self) -> None:
        """Pass over what is left of a number or date: ``1.5`` and ``07:32:00.5`` hold dots."""
        while self.peek() not in {"", "\n", ",", "]", "}"}:
            self.take()

    def array(self, path: Path) -> None:
        index = 0
        self.skip("\n", ",")
        while self.peek() not in {"]", ""}:
            self.note((*path, index), self.line)
            self.value((*path, index))
            index += 1
            self.skip("\n", ",")
        self.take()

    def inline_table(self, path: Path) -> None:
        self.skip("\n", ",")
        while self.peek() not in {"}", ""}:
            self.pair(path)
            self.skip("\n", ",")
        self.take()


def _tokens(text: str) -> list[tuple[str, int]]:
    """Return the tokens that matter, each with its line."""
    line = 1
    found = []
    for match in _TOKEN.finditer(text):
        if match.lastgroup != "space":
            found.append((match[0], line))
        line += match[0].count("\n")
    return found


def _unquoted(key: str) -> str:
    if key[:1] in {'"', "'"}:
        return str(tomllib.loads(f"key = {key}")["key"])
    return key


def locate(text: str) -> Mapping[Path, int]:
    """Return the line, from 1, of every table, key and array item of a valid TOML text."""
    reader = _Reader(text)
    reader.document()
    return reader.lines


def line_of(lines: Mapping[Path, int], path: Path) -> int | None:
    """Return the line of a path, or of the nearest table around it; None for the file as a whole."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None
