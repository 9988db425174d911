"""Connection strings that name several hosts, taken apart into one attempt a host. Pure."""

from __future__ import annotations

from functools import cache
from itertools import cycle

from psycopg.conninfo import conninfo_to_dict, make_conninfo

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
