"""Connection strings that name several hosts, taken apart into one attempt a host. Pure."""

from __future__ import annotations

from functools import cache
from itertools import cycle
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How a preference is met: in the order in which libpq goes through the hosts (PostgreSQL docs, 32.1.1.3).
PREFERENCES = {"prefer-standby": ("standby", "any")}


@cache
def attempts(conninfo: bytes) -> tuple[bytes, ...]:
    """Return a connection string for each host that one names, in the order in which libpq would try them.

    libpq driven without blocking stays with a silent host until its caller gives up, and then begins with that host
    again: who wants the next one has to turn to it.
    """
    parameters = conninfo_to_dict(conninfo.decode())
    hosts = str(parameters.get("host", "")).split(",")
    if len(hosts) == 1:
        return (conninfo,)
    ports = str(parameters.get("port", "5432")).split(",")
    wanted = str(parameters.get("target_session_attrs", "any"))
    return tuple(
        make_conninfo("", **{**parameters, "host": host, "port": port, "target_session_attrs": attributes}).encode()
        for attributes in PREFERENCES.get(wanted, (wanted,))
        for host, port in zip(hosts, cycle(ports))
    )


def beginning_at(parameters: Mapping[str, Any], place: int) -> dict[str, Any]:
    """Return libpq parameters whose list of hosts begins so many places later, in the same ring.

    All of its hosts have one port. Clients that begin at different places are spread as ``load_balance_hosts`` would
    have it, but each host has its share for certain.
    """
    hosts = str(parameters.get("host", "")).split(",")
    start = place % len(hosts)
    return {**parameters, "host": ",".join([*hosts[start:], *hosts[:start]])}
