"""From the files ``agent.json`` and ``agent-secrets.json`` to what an agent is told."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import stat
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pgbaton.agent import contradictions
from pgbaton.agent.settings import KEY_BYTES, Secrets, Settings, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable


def load(path: Path, secrets_path: Path) -> Settings:
    """Read both files; raises SettingsError, which names the file and the key."""
    document, secrets = _read(path, private=False), load_secrets(secrets_path)
    try:
        return _settings(document, secrets)
    except SettingsError as refused:
        raise refused.within(path) from None


def load_secrets(path: Path) -> Secrets:
    """Read the file of secrets alone, which may change while the agent runs; raises SettingsError, which names it."""
    document = _read(path, private=True)
    try:
        return _secrets(document)
    except SettingsError as refused:
        raise refused.within(path) from None


def parse(document: object, secrets: object) -> Settings:
    """Return the settings that two JSON documents say; raises SettingsError."""
    return _settings(document, _secrets(secrets))


def _settings(document: object, secrets: Secrets) -> Settings:
    named = _fields(Settings, document, "", _shown, without="secrets")
    settings = typing.cast("Callable[..., Settings]", Settings)(**named, secrets=secrets)
    for key, seen, wanted in contradictions.found(settings):
        raise SettingsError(key=key, seen=seen, wanted=wanted)
    return settings


def _secrets(document: object) -> Secrets:
    secrets = typing.cast("Callable[..., Secrets]", Secrets)(**_fields(Secrets, document, "", _hidden))
    try:
        keys = secrets.heartbeat_keys
    except ValueError:
        keys = ()
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        wanted = f"{2 * KEY_BYTES} hexadecimal digits, or two such keys with a comma between them"
        raise SettingsError(key="heartbeat_key", seen=_hidden(secrets.heartbeat_key), wanted=wanted)
    return secrets


def _read(path: Path, *, private: bool) -> object:
    """Return a JSON document; a private one must not be readable by everybody."""
    wanted = "a readable file of JSON"
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if private and mode & stat.S_IRWXO:
                seen, wanted = f"mode {mode:04o}", "a file that only its owner and group may read (chmod 0600)"
                raise SettingsError(key="whole file", seen=seen, wanted=wanted, where=str(path))
            document: object = json.load(file)
            return document
    except OSError as error:
        seen = error.strerror or type(error).__name__
    except json.JSONDecodeError as error:
        seen = f"{error.msg} in line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError) as error:
        seen = type(error).__name__
    # Not as the cause of this one: it would carry the file's content into a log.
    raise SettingsError(key="whole file", seen=seen, wanted=wanted, where=str(path))


# From JSON to types: every key of a dataclass must be there unless it may be None, no other may, and each has exactly
# its type.


def _fields(
    kind: type, value: object, key: str, show: Callable[[object], str], *, without: str = ""
) -> dict[str, object]:
    if not isinstance(value, dict):
        raise SettingsError(key=key or "whole file", seen=show(value), wanted="an object")
    known = _types(kind)
    names = [name for name in known if name != without]
    for name in value:
        if name not in names:
            raise SettingsError(key=_below(key, str(name)), seen="an unknown key", wanted=f"one of {', '.join(names)}")
    for name in names:
        if name not in value and not isinstance(known[name], types.UnionType):
            raise SettingsError(key=_below(key, name), seen="nothing", wanted=_wanted(known[name]))
    there = [name for name in names if name in value]
    return {name: _value(_present(known[name]), value[name], _below(key, name), show) for name in there}


def _present(kind: object) -> object:
    """Return the type of what is there, of a field that may be None, or the field's own."""
    return typing.get_args(kind)[0] if isinstance(kind, types.UnionType) else kind


@functools.cache
def _types(kind: type) -> dict[str, object]:
    return typing.get_type_hints(kind)


def _value(kind: object, value: object, key: str, show: Callable[[object], str]) -> object:
    """Return a value as the type that a field has; raises SettingsError."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return typing.cast("Callable[..., object]", kind)(**_fields(kind, value, key, show))
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], each, f"{key}[{number}]", show) for number, each in enumerate(value))
    if origin is Literal and value in arguments:
        return value
    if kind is Path and isinstance(value, str) and value.startswith("/") and "\0" not in value:
        return Path(value)
    if kind is float and type(value) in {int, float} and _is_finite(value):
        return float(typing.cast("float", value))
    if kind in {str, int, bool} and type(value) is kind and value != "":
        return value
    raise SettingsError(key=key, seen=show(value), wanted=_wanted(kind))


def _is_finite(value: object) -> bool:
    try:
        return math.isfinite(typing.cast("float", value))
    except OverflowError:
        return False


WANTED: types.MappingProxyType[object, str] = types.MappingProxyType(
    {
        str: "text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        Path: "an absolute path",
        tuple: "a list",
    }
)


def _wanted(kind: object) -> str:
    origin = typing.get_origin(kind)
    if origin is Literal:
        return f"one of {', '.join(typing.get_args(kind))}"
    return WANTED.get(origin or kind, "an object")  # a dataclass


def _below(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return repr(value)[:80]


def _hidden(value: object) -> str:
    return f"{len(value)} characters of text" if isinstance(value, str) else f"a value of type {type(value).__name__}"
