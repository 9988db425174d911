"""The topology as a lab has it: named as asked, with an application machine. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pgbaton.errors import UsageError
from pgbaton.topology.addresses import IPV6
from pgbaton.topology.model import HostSpec, Role
from pgbaton.topology.tables.base import SLUG

if TYPE_CHECKING:
    from pgbaton.lab.recipe import System
    from pgbaton.topology.addresses import Address
    from pgbaton.topology.model import Topology

APPLICATION = "app"
#: How many addresses of a network of IPv6 differ in their last group alone.
GROUP = 1 << 16


def check_name(name: str, *, option: str = "--cluster") -> None:
    """Raise UsageError unless a name may be a cluster's: it becomes part of paths and of the kernel's names.

    ``option`` is where it was given.
    """
    if not re.fullmatch(SLUG, name):
        message = f"{name!r} cannot be a cluster's name"
        raise UsageError(message, where=option, hint="use up to 32 of a-z, 0-9 and inner hyphens")


def complete(topology: Topology, name: str) -> Topology:
    """Return the topology under the lab's name, with an application host if it has none."""
    check_name(name)
    cluster = topology.cluster.model_copy(update={"name": name})
    hosts = topology.hosts
    if not topology.with_role(Role.APPLICATION):
        hosts = (*hosts, application_host(topology))
    return topology.model_copy(update={"cluster": cluster, "hosts": hosts})


def application_host(topology: Topology) -> HostSpec:
    """Return the machine that clients run on, at the highest address that is free."""
    if topology.has_host(APPLICATION):
        message = f"host {APPLICATION} has no role application, and the lab needs one that has"
        raise UsageError(message, hint=f"give {APPLICATION} the role application, or another name")
    return HostSpec(name=APPLICATION, address=free_address(topology), roles=(Role.APPLICATION,))


def free_address(topology: Topology) -> Address:
    """Return the highest address of the network that nobody has; raises UsageError when all are taken.

    With IPv6 it is the highest that differs from the network's own in its last group alone: people are to read it.
    """
    network = topology.network
    count = network.subnet.num_addresses
    count = min(count, GROUP) if network.subnet.version == IPV6 else count
    taken = {*network.vips, network.gateway, *(host.address for host in topology.hosts)}
    for offset in range(count - 2, 0, -1):
        candidate = network.subnet.network_address + offset
        if candidate not in taken:
            return candidate
    message = f"no address of {network.subnet} is free for the lab's application machine"
    raise UsageError(message, where="network.subnet", hint="give the lab a larger network")


def on_system(topology: Topology, system: System) -> Topology:
    """Return the topology with the PostgreSQL of an operating system; raises UsageError when it asks for another."""
    postgresql = topology.postgresql
    if postgresql.version == system.postgresql:
        return topology
    if "version" in postgresql.model_fields_set:
        message = f"{system.name} has PostgreSQL {system.postgresql}, the topology asks for {postgresql.version}"
        raise UsageError(message, where="postgresql.version", hint="choose another --os, or leave the version out")
    changed = postgresql.model_copy(update={"version": system.postgresql})
    return topology.model_copy(update={"postgresql": changed})


def to_toml(topology: Topology) -> str:
    """Return a topology file that says the same as a topology, its defaults left out."""
    data = topology.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    return "\n".join(table_lines("", data)).lstrip("\n") + "\n"


def table_lines(path: str, table: dict[str, Any]) -> list[str]:
    """Return the lines of a table: its plain values first, as TOML demands, then the tables in it."""
    lines = [f"{key_text(key)} = {value_text(value)}" for key, value in table.items() if not is_nested(value)]
    for key, value in table.items():
        inner = f"{path}.{key_text(key)}" if path else key_text(key)
        if isinstance(value, dict):
            lines += ["", f"[{inner}]", *table_lines(inner, value)]
        elif is_nested(value):
            for item in value:
                lines += ["", f"[[{inner}]]", *table_lines(inner, item)]
    return lines


def key_text(key: str) -> str:
    """Return a key as TOML: bare where it may be, quoted where it has a dot in it."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def is_nested(value: object) -> bool:
    """Tell whether a value is written as a table of its own."""
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and all(isinstance(i, dict) for i in value)
    )


def value_text(value: object) -> str:
    """Return a plain value as TOML; strings and lists of them are written as in JSON, which TOML includes."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
