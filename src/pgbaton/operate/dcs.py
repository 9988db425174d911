"""Patroni's record in etcd: who holds the leader lock, who is synchronous, what each member last said."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgbaton.components import foreign
from pgbaton.components.etcd import etcdctl
from pgbaton.errors import Error
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import Topology

#: Patroni's own default: a standby further behind is never promoted by it, in bytes.
MAXIMUM_LAG = 1_048_576


@dataclass(frozen=True)
class Record:
    """What one Patroni last wrote about its own member."""

    state: str
    timeline: int | None = None
    pending_restart: bool = False
    no_failover: bool = False


@dataclass(frozen=True)
class Dcs:
    """Patroni's keys of one cluster, read at one moment.

    ``position`` is the WAL position (bytes) that the primary last reported, at most one loop before it died.
    ``leader_revision`` is etcd's revision at which the leader key was made: it is another one once the lock was lost,
    whoever has it then.
    """

    leader: str | None
    sync_leader: str | None = None
    sync_standbys: frozenset[str] = frozenset()
    synchronous: bool = False
    quorum: bool = False
    strict: bool = False
    paused: bool = False
    position: int = 0
    maximum_lag_bytes: int = MAXIMUM_LAG
    request: str | None = None
    leader_revision: int = 0
    members: Mapping[str, Record] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """Which hosts got etcd's answer with a majority behind it, what it was, and why the others got none.

    Those asked are the members' own hosts. Where etcd is ``foreign``, they are the databases, and what one of them is
    told is as good: no member of that etcd is on any of them.
    """

    answered: tuple[str, ...]
    asked: tuple[str, ...]
    dcs: Dcs | None
    silent: Mapping[str, str] = field(default_factory=dict)
    foreign: bool = False

    @property
    def needed(self) -> int:
        """Return how many have to answer: a majority of the members, or one who was told by a foreign etcd."""
        return 1 if self.foreign else len(self.asked) // 2 + 1


def parse(output: str, prefix: str) -> Dcs:
    """Read what ``etcdctl get --prefix -w json`` printed."""
    found = {decode(pair["key"]).removeprefix(prefix): pair for pair in json.loads(output).get("kvs", [])}
    pairs = {key: decode(pair.get("value", "")) for key, pair in found.items()}
    config, sync, status = (table(pairs.get(key)) for key in ("config", "sync", "status"))
    mode = config.get("synchronous_mode") or False
    return Dcs(
        leader=pairs.get("leader"),
        sync_leader=sync.get("leader") or None,
        sync_standbys=frozenset(filter(None, (sync.get("sync_standby") or "").split(","))),
        synchronous=bool(mode),
        quorum=mode == "quorum",
        strict=bool(config.get("synchronous_mode_strict")),
        paused=bool(config.get("pause")),
        position=int(status.get("optime") or 0),
        maximum_lag_bytes=int(config.get("maximum_lag_on_failover", MAXIMUM_LAG)),
        request=pairs.get("failover") if table(pairs.get("failover")) else None,
        leader_revision=found.get("leader", {}).get("create_revision", 0),
        members={
            key.removeprefix("members/"): record(table(value))
            for key, value in pairs.items()
            if key.startswith("members/")
        },
    )


def decode(text: str) -> str:
    """Return a key or a value of etcd's JSON."""
    return base64.b64decode(text).decode()


def table(text: str | None) -> dict[str, Any]:
    """Return a value that holds a JSON object; an empty one for a missing key or anything else."""
    try:
        value = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def record(data: dict[str, Any]) -> Record:
    """Read a member's own key."""
    return Record(
        state=str(data.get("state", "unknown")),
        timeline=data.get("timeline"),
        pending_restart=bool(data.get("pending_restart")),
        no_failover=bool((data.get("tags") or {}).get("nofailover")),
    )


async def read(topology: Topology, hosts: Mapping[str, Host]) -> Reading:
    """Ask every etcd member at once; an answer is a linearizable read, so it has a majority behind it.

    A foreign etcd is asked from every database.
    """
    is_foreign = topology.foreign_etcd is not None
    asked = tuple(host.name for host in topology.with_role(Role.DATABASE if is_foreign else Role.DCS))
    outcomes = await asyncio.gather(*(ask(topology, hosts[name]) for name in asked))
    outputs = {name: outcome for name, outcome in zip(asked, outcomes, strict=True) if isinstance(outcome, str)}
    silent = {
        name: reason(outcome) for name, outcome in zip(asked, outcomes, strict=True) if isinstance(outcome, Error)
    }
    found = parse(next(iter(outputs.values())), topology.dcs_prefix) if outputs else None
    return Reading(tuple(outputs), asked, found, silent, is_foreign)


def reason(error: Error) -> str:
    """Return the last line of what an error says, where programs put what matters."""
    return error.message.strip().splitlines()[-1]


async def ask(topology: Topology, host: Host) -> str | Error:
    """Return etcd's answer on one host as it was printed, or why there is none: dead, or without a majority."""
    try:
        result = await host.run(*question(topology), timeout=6)
    except Error as error:
        return error
    return result.stdout


def question(topology: Topology) -> tuple[str, ...]:
    """Return the program that prints Patroni's record on a host that etcd is asked from."""
    if topology.foreign_etcd:
        return (*foreign.RUN, "keys")
    return (*etcdctl(topology), "get", "--prefix", topology.dcs_prefix, "-w", "json")
