"""A healthy cluster as an operation sees it, and small changes to it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pgbaton.operate.dcs import Dcs, Reading, Record
from pgbaton.operate.members import View
from pgbaton.operate.servers import Absence, Server
from pgbaton.topology.model import Topology

if TYPE_CHECKING:
    from collections.abc import Mapping

DEAD = Absence("connection refused", host_answers=True)
GONE = Absence("the machine is powered off", host_answers=False)
POSITION = 100 * 2**20


def topology(**hosts: Any) -> Topology:  # noqa: ANN401 - any field
    """Return three databases with etcd behind two balancers, without agents; keywords override a host's keys."""
    names = {"lb1": 1, "lb2": 2, "db1": 11, "db2": 12, "db3": 13}
    roles = {"lb": ["balancer", "pooler"], "db": ["database", "dcs"]}
    listed = [
        {"name": name, "address": f"10.77.0.{last}", "roles": roles[name[:2]], **hosts.get(name, {})}
        for name, last in names.items()
    ]
    network = {"subnet": "10.77.0.0/24", "vip": "10.77.0.100"}
    sections = {"cluster": {"name": "test"}, "network": network, "orchestration": {"agent": False}}
    return Topology.model_validate({"schema": 1, "hosts": listed, **sections})


def standby(**changes: Any) -> Server:  # noqa: ANN401 - any field
    server = Server(in_recovery=True, position=POSITION, replayed=POSITION, receiving=True, started=1.0)
    return replace(server, **changes)


def primary(**changes: Any) -> Server:  # noqa: ANN401 - any field
    streaming_to = frozenset({"db2", "db3"})
    server = Server(in_recovery=False, position=POSITION, replayed=POSITION, streaming_to=streaming_to, started=1.0)
    return replace(server, **changes)


def record(**changes: Any) -> Dcs:  # noqa: ANN401 - any field
    members = {name: Record("running", timeline=1) for name in ("db1", "db2", "db3")}
    dcs = Dcs("db1", "db1", frozenset({"db2"}), synchronous=True, position=POSITION, members=members)
    return replace(dcs, **changes)


def view(
    servers: Mapping[str, Server | Absence] | None = None,
    *,
    dcs: Dcs | None = None,
    answered: tuple[str, ...] = ("db1", "db2", "db3"),
    routes: Mapping[str, frozenset[str] | str] | None = None,
) -> View:
    """Return a healthy view (primary db1, synchronous db2) with some servers replaced."""
    healthy: dict[str, Server | Absence] = {"db1": primary(), "db2": standby(), "db3": standby()}
    reading = Reading(answered, ("db1", "db2", "db3"), (dcs or record()) if answered else None)
    seen = {"lb1": frozenset({"db1"}), "lb2": frozenset({"db1"})}
    return View({**healthy, **(servers or {})}, reading, seen if routes is None else routes)


def orphaned(**changes: Any) -> View:  # noqa: ANN401 - any field
    """Return a cluster whose primary's host is gone and whose lock is free."""
    dcs = record(**{"leader": None, "members": {name: Record("running") for name in ("db2", "db3")}, **changes})
    lonely: dict[str, Server | Absence] = {
        "db1": GONE,
        "db2": standby(receiving=False),
        "db3": standby(receiving=False),
    }
    return view(lonely, dcs=dcs, routes={"lb1": frozenset(), "lb2": frozenset()})
