"""What pydantic finds, in the words of somebody who writes a topology file."""

from __future__ import annotations

import difflib
import math
import re
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import TYPE_CHECKING, Any

from pgbaton.topology.addresses import IPV4, IPV6, NAMES
from pgbaton.topology.objections import Objection, at, kind, spell, strange_letters
from pgbaton.topology.tables import base, foreign
from pgbaton.topology.unknown import description, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pydantic_core import ErrorDetails

    from pgbaton.topology.lines import Path

SETTINGS: Path = ("postgresql", "settings")
ENDPOINTS: Path = ("etcd", "endpoints")
_LONG = 40

#: How an address of each family is written, with a network and a host for examples.
_FORMS = {
    IPV4: ("four numbers from 0 to 255 without leading zeros", "10.77.0.0/24", "10.77.0.11"),
    IPV6: ("up to eight groups of hexadecimal digits, with :: for zeros in between", "fd00:77::/64", "fd00:77::11"),
}

#: What a text must look like, by the pattern that says so to machines.
PATTERNS: Mapping[str, tuple[str, str]] = {
    base.IDENTIFIER: (
        "is no name that PostgreSQL, PgBouncer and pg_hba.conf all take without quotes",
        "use up to 63 of a-z, 0-9 and _, not beginning with a digit",
    ),
    base.HOST_NAME: (
        "is no host name: small letters, digits and hyphens only, so that no two names lead to one replication slot",
        "use up to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit, as db1",
    ),
    base.DNS_NAME: (
        "is no name that a certificate can be good for: small letters, digits, hyphens and dots between them",
        "write it as clients have it, without a dot at its end, as db.example.com",
    ),
    base.SLUG: (
        "is no cluster name: it becomes part of paths and of keys in etcd",
        "use up to 32 of a-z, 0-9 and -, beginning and ending with a letter or digit",
    ),
    base.SETTING: (
        "is no name of a PostgreSQL setting",
        'write it in small letters, as work_mem, or with its extension in quotes, as "auto_explain.log_analyze"',
    ),
    base.FAILURE_DOMAIN: (
        "is no failure domain's name",
        "use up to 63 letters, digits, dots, hyphens and underscores, as rack-2",
    ),
    base.INTERFACE: (
        "is no network interface's name: Linux allows 15 characters, and configuration files carry them bare",
        "write the name that `ip link` shows, as eth0",
    ),
    base.LOGIN: (
        "is no login name; one that begins with - would be taken for an option of ssh",
        "use letters, digits, dots, hyphens and underscores, beginning with a letter",
    ),
    base.LOCALE: (
        "is no name of a locale",
        "write one that `locale -a` shows on every database host, as C.UTF-8 or de_DE.utf8",
    ),
    base.EXTENSION: (
        "is no name of an extension: small letters, digits, hyphens and underscores",
        "write it as pg_available_extensions does, as pg_stat_statements",
    ),
    foreign.ENDPOINT: (
        "is no endpoint: a scheme, a name in small letters or an address, a port, and nothing after it",
        "write it as https://etcd1.example.org:2379, an address of IPv6 in brackets, as https://[fd00:9::1]:2379",
    ),
    foreign.NAMESPACE: (
        "is no namespace: keys of etcd begin with it, and end up elsewhere where a part is empty or begins with a dot",
        "write it as /service or /pg/production, without a slash at the end",
    ),
    foreign.LOCAL_FILE: (
        "is no absolute path: what a relative one means depends on where pgbaton is called",
        "write it from the root on, without spaces, as /home/dba/etcd/ca.crt",
    ),
    foreign.ETCD_USER: (
        "is no user's name that is passed on as it is",
        "use up to 63 letters, digits, dots, hyphens, underscores and @, as pgbaton",
    ),
}

#: Where a number's unit is in its name or table: the unit, and what to write.
_UNITS: tuple[tuple[str, str, str], ...] = (
    (r"_mb$", " MiB", "write the number of MiB alone, without quotes or a unit"),
    (r"_days$", " days", "write the number of days alone, without quotes or a unit"),
    (r"^timings\.(?!check_fall)", " seconds", "write the number of seconds alone, without quotes or a unit"),
)

_EXPECTED: Mapping[str, str] = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number of usual size",
    "float_type": "a number",
    "string_type": "text in quotes",
    "bool_type": "true or false, without quotes",
    "tuple_type": "an array in brackets",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dict_type": "a table",
}

_LIMITS: Mapping[str, tuple[str, str]] = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}

_EXAMPLES: Mapping[str, str] = {
    "schema": "write schema = 1 as the first line",
    "cluster": 'add a [cluster] table with name = "…"',
    "hosts": "add a [[hosts]] table for each machine, or begin with `pgbaton init`",
    "network": 'add a [network] table with subnet = "…" and vip = "…"',
}


def translate(errors: Iterable[ErrorDetails], data: Mapping[str, Any]) -> Iterator[Objection]:
    """Turn pydantic's errors into objections, one a place."""
    seen: set[Path] = set()
    for error in errors:
        path = _path(error, data)
        if path not in seen and not _is_echo(error, path, data):
            seen.add(path)
            yield _translate(error, path, at(data, path))


def _path(error: ErrorDetails, data: Mapping[str, Any]) -> Path:
    """Return the place in the file: pydantic adds the names of types it tried, and of keys it read."""
    path: Path = ()
    for part in error["loc"]:
        if path and at(data, (*path, part)) is None and error["type"] != "missing":
            break
        path = (*path, part)
    return path


def _is_echo(error: ErrorDetails, path: Path, data: Mapping[str, Any]) -> bool:
    """Tell whether this only repeats that a list's items are wrong: pydantic counts the sound ones."""
    return error["type"] == "too_short" and bool(at(data, path))


def _translate(error: ErrorDetails, path: Path, value: object) -> Objection:
    what = error["type"]
    if what != "string_pattern_mismatch" and path[:2] == SETTINGS and path != SETTINGS:
        return _setting(path, value)
    return _HANDLERS.get(what, _other)(path, value, error)


def _pattern(path: Path, value: object, error: ErrorDetails) -> Objection:
    del value
    reason, fix = PATTERNS[error["ctx"]["pattern"]]
    if letter := strange_letters(str(error["input"])):
        reason += f"; it has {letter}, a letter that may look like another"
    return Objection(path, reason, fix)


def _limit(path: Path, value: object, error: ErrorDetails) -> Objection:
    if isinstance(value, float) and not math.isfinite(value):
        return Objection(path, "is no finite number", "write a number")
    key, words = _LIMITS[error["type"]]
    unit = next((unit for pattern, unit, _ in _UNITS if re.search(pattern, spell(path))), "")
    bound = f"{words} {error['ctx'][key]:g}"
    return Objection(path, f"must be {bound}{unit}", f"write a value of {bound}{unit}; it means: {_meaning(path)}")


def _missing(path: Path, value: object, error: ErrorDetails) -> Objection:
    del value, error
    fix = _EXAMPLES.get(str(path[0])) if len(path) == 1 else None
    return Objection(path, "is missing", fix or f"add {path[-1]}: {_meaning(path)}")


def _unknown(path: Path, value: object, error: ErrorDetails) -> Objection:
    del value, error
    return unknown(path)


def _setting(path: Path, value: object) -> Objection:
    if kind(value) == "a table":
        reason = "is a table: a setting's name with a dot in it needs quotes"
        return Objection(path, reason, f'write the whole name in quotes, as "{path[-1]}.name" = …')
    return Objection(path, f"is {kind(value)}, and a setting is text, a number, true or false", "write a single value")


def _wrong_type(path: Path, value: object, error: ErrorDetails) -> Objection:
    expected = _EXPECTED[error["type"]]
    fix = next((fix for pattern, _, fix in _UNITS if re.search(pattern, spell(path))), f"write {expected}")
    if path == ("network", "vip") and kind(value) == "an array":
        fix = "write the first one in quotes, and the others as network.more_vips"
        return Objection(path, "is an array, and must be one floating address", fix)
    return Objection(
        path, f"is {kind(value)}, and must be {expected}", fix if kind(value) == "text" else f"write {expected}"
    )


def _choice(path: Path, value: object, error: ErrorDetails) -> Objection:
    expected = str(error["ctx"]["expected"])
    near = difflib.get_close_matches(str(value).lower(), re.findall(r"'([^']*)'", expected), n=1, cutoff=0.5)
    fix = f'did you mean "{near[0]}"?' if near else f"write {expected}"
    return Objection(path, f"must be {expected}", fix)


def _empty(path: Path, value: object, error: ErrorDetails) -> Objection:
    del value, error
    return Objection(path, "is empty, and needs at least one item", f"add one: {_meaning(path)}")


def _address(path: Path, value: object, error: ErrorDetails) -> Objection:
    """Explain what is wrong with an address or network; what has a colon in it was meant to be of IPv6."""
    del error
    if path[:2] == ENDPOINTS:
        return Objection(path, *PATTERNS[foreign.ENDPOINT])
    text = str(value)
    is_network = bool(re.search(r"subnet|networks", spell(path)))
    if is_network and (network := _network_around(text)):
        return Objection(path, "has bits set behind its mask, so it is a host and no network", f"write {network}")
    version = IPV6 if ":" in text else IPV4
    why = _refusal(text, is_network=is_network) if version == IPV4 else ""
    reason = f"is no {NAMES[version]} {'network' if is_network else 'address'}{why}"
    form, a_network, a_host = _FORMS[version]
    return Objection(path, reason, f"write {form}, as {a_network if is_network else a_host}")


def _refusal(text: str, *, is_network: bool) -> str:
    """Return in brackets what exactly is wrong with a text that was meant to be of IPv4."""
    try:
        IPv4Network(text) if is_network else IPv4Address(text)
    except ValueError as refusal:
        return f" ({str(refusal).split(' in ')[0].lower()})" if len(text) < _LONG else ""
    return ""


def _network_around(text: str) -> str | None:
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        return None


def _other(path: Path, value: object, error: ErrorDetails) -> Objection:
    del value, error
    return Objection(path, "cannot be read as what belongs here", f"it means: {_meaning(path)}")


def _meaning(path: Path) -> str:
    """Return what the format says of a key, or of the list that an item is in."""
    named = path if isinstance(path[-1], str) else path[:-1]
    return description(named) or f"see {spell(named)} in `pgbaton schema`"


_HANDLERS: Mapping[str, Callable[[Path, object, ErrorDetails], Objection]] = {
    "string_pattern_mismatch": _pattern,
    "extra_forbidden": _unknown,
    "missing": _missing,
    "enum": _choice,
    "literal_error": _choice,
    "too_short": _empty,
    "value_error": _address,
    **dict.fromkeys(_LIMITS, _limit),
    **dict.fromkeys(_EXPECTED, _wrong_type),
}
