"""From the text of a topology file to a topology, or to everything that is wrong with it."""

from __future__ import annotations

import copy
import json
import re
import sys
import tomllib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from pgbaton.errors import Problem, TopologyError
from pgbaton.topology import rules
from pgbaton.topology.lines import line_of, locate
from pgbaton.topology.model import Topology
from pgbaton.topology.objections import Objection, at, shown, spell
from pgbaton.topology.plain import translate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path as FilePath

    from pydantic_core import ErrorDetails

    from pgbaton.topology.lines import Path

#: A topology is a few kilobytes; more is a mistake or an attack.
LARGEST_BYTES = 1024 * 1024
#: Tables within tables within arrays: the format itself needs four.
DEEPEST = 8
#: Dots in one key; tomllib takes quadratic time over them.
MOST_DOTS = 32
_PLACE = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
#: How a rendered file refers to a secret; see pgbaton.references.
REFERENCE_MARK = "<<secret:"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def load(path: FilePath) -> Topology:
    """Read a topology file; raises TopologyError with all that is wrong with it."""
    return _accepted(parse_bytes(read(path), str(path)))


def loads(text: str, *, source: str = "topology.toml") -> Topology:
    """Read a topology from text; ``source`` is the name that messages give it."""
    return _accepted(parse(text, source))


def read(path: FilePath) -> bytes:
    """Read the bytes of a file, no more than a topology may have; raises TopologyError."""
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_BYTES + 1)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
        fix = "write one with `pgbaton init`, or name another file"
        raise TopologyError((_whole(str(path), reason, fix),)) from None


def parse_bytes(data: bytes, source: str) -> tuple[Topology | None, tuple[Problem, ...]]:
    """Return the topology that UTF-8 bytes hold, and everything to say about them."""
    try:
        return parse(data.decode("utf-8"), source)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        reason = f"is not UTF-8: byte 0x{data[error.start]:02x} cannot stand there"
        return None, (_whole(source, reason, "save the file as UTF-8", line),)


def parse(text: str, source: str) -> tuple[Topology | None, tuple[Problem, ...]]:
    """Return the topology of a text, or None when it has errors, and all problems in the order of the file."""
    data, refusal = _read_toml(text, source)
    if data is None:
        return None, refusal
    topology, objections = examine(data)
    lines = locate(text)
    problems = [_place(objection, data, topology, lines, source) for objection in objections]
    problems.sort(key=lambda problem: (problem.level, problem.line or sys.maxsize))
    return (None if any(problem.level == "error" for problem in problems) else topology), tuple(problems)


def examine(data: Mapping[str, Any]) -> tuple[Topology, tuple[Objection, ...]]:
    """Return the topology of parsed TOML as far as it is sound, and everything against it."""
    objections = list(_smuggled((), data))
    errors = _errors(data)
    known = {objection.path for objection in objections}
    objections += [objection for objection in translate(errors, data) if objection.path not in known]
    topology, sound = _sound_part(_without_unknown(data, errors))
    sound -= {str(objection.path[0]) for objection in objections if objection.path in known}
    objections += rules.check(topology, sound=sound)
    return topology, tuple(objections)


def _errors(data: Mapping[str, Any]) -> list[ErrorDetails]:
    """Return what pydantic has against the data.

    It goes through JSON because only there pydantic is strict about types and still takes arrays and addresses.
    """
    try:
        Topology.model_validate_json(_json(data), strict=True)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def _without_unknown(data: Mapping[str, Any], errors: list[ErrorDetails]) -> Mapping[str, Any]:
    """Return the data without unknown keys, so that those do not keep rules from being checked."""
    known = copy.deepcopy(data)
    for error in errors:
        if error["type"] == "extra_forbidden":
            *table, key = error["loc"]
            at(known, tuple(table)).pop(key)  # type: ignore[attr-defined]
    return known


def _json(value: object) -> str:
    return json.dumps(value, default=lambda moment: {"date or time": str(moment)})


def _sound_part(data: Mapping[str, Any]) -> tuple[Topology, set[str]]:
    """Return the topology, with the names of its tables; without those that are not sound in themselves."""
    try:
        return Topology.model_validate_json(_json(data), strict=True), set(Topology.model_fields)
    except ValidationError as error:
        unsound = {str(detail["loc"][0]) for detail in error.errors()}
    values: dict[str, Any] = {}
    for name, field in Topology.model_fields.items():
        if name in data and name not in unsound:
            adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
            values[name] = adapter.validate_json(_json(data[name]), strict=True)
    return Topology.model_construct(**values), set(Topology.model_fields) - unsound


def _smuggled(path: Path, value: object) -> Iterator[Objection]:
    """Object to control characters, in keys and values alike: no configuration file carries them."""
    if isinstance(value, str) and _CONTROL.search(value):
        reason = "holds a newline or another control character, which could begin a line of its own elsewhere"
        yield Objection(path, reason, "write it on one line, without control characters")
    elif isinstance(value, str) and REFERENCE_MARK in value:
        reason = "holds a reference to a secret, which would be put into a file in its place"
        yield Objection(path, reason, f"write no {REFERENCE_MARK} in a topology file")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if _CONTROL.search(key):
                yield Objection((*path, key), "is a key with a control character in it", "use plain letters in keys")
            else:
                yield from _smuggled((*path, key), item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _smuggled((*path, index), item)


def _read_toml(text: str, source: str) -> tuple[Mapping[str, Any] | None, tuple[Problem, ...]]:
    """Return the parsed text, or why it cannot be parsed."""
    if len(text.encode("utf-8", "surrogatepass")) > LARGEST_BYTES:
        fix = "a topology takes a few kilobytes: name the right file"
        return None, (_whole(source, f"is larger than {LARGEST_BYTES // 1024} KiB", fix),)
    if text.startswith("\ufeff"):
        reason = "begins with a byte-order mark, which TOML does not allow"
        return None, (_whole(source, reason, "save the file as UTF-8 without a byte-order mark", 1),)
    if _has_long_keys(text):
        return None, (_too_deep(source),)
    try:
        data = tomllib.loads(text)
    except RecursionError:
        return None, (_too_deep(source),)
    except ValueError as error:
        return None, (_syntax(error, text, source),)
    return (None, (_too_deep(source),)) if _is_deep(data, DEEPEST) else (data, ())


def _has_long_keys(text: str) -> bool:
    """Tell whether there may be a dotted key too long to be parsed in good time."""
    pieces = re.split(r"[=,{}\[\]\n]", text)
    return any(piece.count(".") > MOST_DOTS for piece in pieces if not piece.lstrip().startswith("#"))


def _is_deep(value: object, levels: int) -> bool:
    if levels == 0:
        return True
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return any(_is_deep(item, levels - 1) for item in items)


def _too_deep(source: str) -> Problem:
    return _whole(source, f"has tables or arrays nested more than {DEEPEST} deep", "see `pgbaton init` for the shape")


def _syntax(error: ValueError, text: str, source: str) -> Problem:
    """Return what tomllib has against a text, with its line."""
    message = str(error)
    place = _PLACE.search(message)
    what = message[: place.start()] if place else message
    line = int(place["line"]) if place and place["line"] else text.count("\n") + 1 if place else None
    column = f" at column {place['column']}" if place and place["column"] else ""
    reason = f"is no valid TOML{column}: {what[:1].lower()}{what[1:]}"
    fix = 'mend the line: every key is written once, as key = value, with text in "quotes"'
    return _whole(source, reason, fix, line)


def _whole(source: str, reason: str, fix: str, line: int | None = None) -> Problem:
    return Problem(source, line, "", None, reason, fix)


def _place(
    objection: Objection, data: Mapping[str, Any], topology: Topology, lines: Mapping[Path, int], source: str
) -> Problem:
    """Give an objection its file, line and value: the file's, or the default that is meant."""
    path = objection.path
    value = at(data, path)
    if value is None:
        value = _default(topology, path)
    is_single = value is not None and not isinstance(value, Mapping | list)
    text = shown(path, value) if is_single and not objection.is_unknown else None
    return Problem(source, line_of(lines, path), spell(path), text, objection.reason, objection.fix, objection.level)


def _default(topology: Topology, path: Path) -> object:
    """Return the value that holds where the file says nothing."""
    value: object = topology
    for part in path:
        value = (
            getattr(value, str(part), None)
            if isinstance(value, BaseModel) and part in type(value).model_fields
            else None
        )
    return value


def _accepted(parsed: tuple[Topology | None, tuple[Problem, ...]]) -> Topology:
    topology, problems = parsed
    if topology is None:
        raise TopologyError(problems)
    return topology
