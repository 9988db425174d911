"""Keys that the format does not have: the nearest that it has, or why there is none."""

from __future__ import annotations

import difflib
import re
import typing
from functools import cache
from typing import TYPE_CHECKING

from pydantic import BaseModel

from pgbaton.topology.model import Topology
from pgbaton.topology.objections import Objection, spell, strange_letters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.topology.lines import Path

#: Keys that people look for, by pattern over the path: why they are not here, and what serves instead.
ELSEWHERE: tuple[tuple[str, str, str], ...] = (
    (
        r"^etcd\.(password|passwd|pass|secret|token)$",
        "secrets do not belong into this file",
        "write the password into a file that only you can read, and its path as etcd.password_file",
    ),
    (
        r"(^|[._])(password|passwd|pass|secret|token|auth_pass)$",
        "secrets do not belong into this file",
        "take it out; pgbaton generates every secret, and `pgbaton secrets show` prints it",
    ),
    (
        r"^hosts\[\d+\]\.(version|postgresql|postgresql_version|major)$",
        "streaming replication needs the same PostgreSQL major version on every database host",
        "set postgresql.version once for the whole cluster",
    ),
    (
        r"^(postgresql|security)\.(pg_)?hba(_\w+)?$",
        "pg_hba.conf is generated: no trust, no address that the cluster does not need, and a final reject",
        "open the cluster to networks with security.client_networks, and list roles in [[users]]",
    ),
    (
        r"^network\.(vips|virtual_ips|virtual_addresses)$",
        "the first floating address has a key of its own",
        "write the first one as network.vip, and others, if there are to be several, as network.more_vips",
    ),
    (
        r"\.(ipv6|address6|vip6|subnet6)$",
        "a host has one address, of either family, and all hosts, sites and VIPs are of the same",
        "take it out, and write IPv6 addresses in the usual keys: network.subnet, network.vip, hosts[…].address",
    ),
    (
        r"\.(peers?|unicast_peers?|unicast_src_ip)$",
        "peers follow from the roles: every other host of the role, never the host itself",
        "take it out, and give each peer its role in [[hosts]]",
    ),
    (
        r"^replication\.(strict|synchronous\w*)$",
        "there is one switch for what an acknowledged commit means",
        'write replication.mode = "asynchronous", "synchronous", "strict" or "quorum"',
    ),
    (
        r"^agents?$",
        "the agents are part of the orchestration",
        "write agent = true or false in [orchestration]; their durations are in [timings]",
    ),
)


@cache
def tables() -> Mapping[str, type[BaseModel]]:
    """Return every table of the format by its path, with ``[]`` for arrays: ``hosts[]``."""
    found: dict[str, type[BaseModel]] = {"": Topology}
    for name, field in Topology.model_fields.items():
        model = field.annotation
        arguments = typing.get_args(model)
        if arguments and isinstance(arguments[0], type) and issubclass(arguments[0], BaseModel):
            found[f"{name}[]"] = arguments[0]
        elif isinstance(model, type) and issubclass(model, BaseModel):
            found[name] = model
    return found


def keys(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the keys of a table, as the file spells them."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def description(path: Path) -> str:
    """Return what the format says about a key; empty when it has no such key."""
    model = tables().get(_table(path[:-1]))
    for name, field in model.model_fields.items() if model else ():
        if path[-1] in {name, field.alias}:
            return field.description or ""
    return ""


def unknown(path: Path) -> Objection:
    """Object to a key that the format does not have."""
    text = spell(path)
    for pattern, reason, fix in ELSEWHERE:
        if re.search(pattern, text, re.IGNORECASE):
            return Objection(path, reason, fix, is_unknown=True)
    key = str(path[-1])
    reason = f"there is no key {key!a} here"
    if letter := strange_letters(key):
        reason += f": it is written with {letter}, a letter that looks like another"
    return Objection(path, reason, _nearest(path, key), is_unknown=True)


def _nearest(path: Path, key: str) -> str:
    table = _table(path[:-1])
    here = keys(tables()[table])
    near = difflib.get_close_matches(key.lower().replace("-", "_"), here, n=1, cutoff=0.6)
    elsewhere = [
        f"{name}.{key}".replace("[]", "[…]") for name, model in tables().items() if name and key in keys(model)
    ]
    if near or elsewhere:
        return f"did you mean {' or '.join([*elsewhere, *near])}?"
    return f"take it out; known here: {', '.join(here)}"


def _table(path: Path) -> str:
    return re.sub(r"\[\d+\]", "[]", spell(path))
