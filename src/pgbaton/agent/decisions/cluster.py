"""What Patroni's keys in etcd say of a cluster. Pure: bytes in, values out.

Written by Patroni 3.0 to 4.1, and read as tolerantly as Patroni itself reads it: a key that is missing or holds
nonsense says nothing (Patroni's ``dcs/__init__.py``: ``Cluster``, ``SyncState``, ``Status``, ``Member``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.agent.services.keys import KeyValue

#: The key that every early release and every broken promise changes; ours, beside Patroni's.
VERDICT = "pgbaton-verdict"
#: Patroni's default for a standby that is too far behind to be promoted.
MAXIMUM_LAG_BYTES = 1_048_576
#: Patroni's default for how long a crashed server may take to start again before another one is promoted.
START_SECONDS = 300

#: Digits of a 64-bit number.
LONGEST_NUMBER = 20
_MEMBERS = "members/"
_YES = ("on", "true", "yes", "1")
#: Patroni's words, where ours differ. Before 4.0 a primary was a master.
_ROLES = {"master": "primary", "replica": "standby"}


@dataclass(frozen=True, slots=True)
class Member:
    """What one Patroni last wrote about its server; up to one of its loops old.

    ``role`` is primary, standby, standby_leader, or another word of Patroni's: demoted, uninitialized, or promoted,
    which was told to be primary and is perhaps in recovery yet. ``position`` is in bytes. Numbers are 0 when not told.
    ``replication_state`` is streaming, in archive recovery, or empty: always so before Patroni 3.0.4.
    """

    role: str
    state: str
    timeline: int = 0
    position: int = 0
    replication_state: str = ""
    nofailover: bool = False


@dataclass(frozen=True, slots=True)
class Failover:
    """A request for a change of leader that is not done yet; a switchover names the leader that is to go."""

    leader: str | None
    candidate: str | None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as etcd had it at one revision of the store.

    The other revisions are the keys' own mod revisions, 0 for a key that is not there. ``sync`` are the synchronous
    standbys, without the leader; ``sync_quorum`` is how many of ``sync`` and the sync leader a candidate has to see
    beside itself, which is how many of ``sync`` a commit may lack. ``sync_value`` is the key's content as it stands, to
    be put again. ``mode`` is off, on or quorum, as configured: it is in force once ``sync_leader`` names somebody.
    ``fails_over``: a primary that crashed is not started again while another one may be promoted.
    """

    revision: int
    leader: str | None
    leader_revision: int
    leader_lease: int
    sync: tuple[str, ...]
    sync_leader: str | None
    sync_revision: int
    sync_quorum: int
    mode: str
    strict: bool
    paused: bool
    verdict_revision: int
    members: Mapping[str, Member] = field(default_factory=dict)
    sync_value: bytes = b""
    config_revision: int = 0
    failover: Failover | None = None
    failsafe: bool = False
    failsafe_members: tuple[str, ...] = ()
    standby_cluster: bool = False
    initialize: str = ""
    timeline: int = 0
    position: int = 0
    maximum_lag_bytes: int = MAXIMUM_LAG_BYTES
    fails_over: bool = False


def parse(prefix: str, keys: Mapping[str, KeyValue], revision: int) -> Cluster:
    """Return what the keys under a prefix (``/service/<scope>/``) say; ``revision`` is the store's, of all of them."""
    found = {key.removeprefix(prefix): there for key, there in keys.items() if key.startswith(prefix)}
    leader, sync, config = found.get("leader"), found.get("sync"), _table(found.get("config"))
    state = _table(sync)
    sync_leader = _name(state.get("leader"))
    failsafe = _table(found.get("failsafe"))
    return Cluster(
        revision=revision,
        leader=_text(leader) or None,
        leader_revision=leader.revision if leader else 0,
        leader_lease=leader.lease if leader else 0,
        sync=_standbys(state.get("sync_standby"), sync_leader),
        sync_leader=sync_leader,
        sync_revision=sync.revision if sync else 0,
        sync_quorum=_integer(state.get("quorum")) if sync_leader else 0,
        sync_value=sync.value if sync else b"",
        mode=_mode(config),
        strict=_is_on(config.get("synchronous_mode_strict")),
        paused=_is_on(config.get("pause")),
        config_revision=found["config"].revision if "config" in found else 0,
        verdict_revision=found[VERDICT].revision if VERDICT in found else 0,
        members=_members(found),
        failover=_failover(found.get("failover")),
        failsafe=_is_on(config.get("failsafe_mode")),
        failsafe_members=tuple(sorted(failsafe)),
        standby_cluster=_is_standby_cluster(config),
        initialize=_text(found.get("initialize")),
        timeline=_timeline(found.get("history")),
        position=_position(found),
        maximum_lag_bytes=_integer(config.get("maximum_lag_on_failover"), MAXIMUM_LAG_BYTES),
        fails_over=_integer(config.get("primary_start_timeout"), START_SECONDS) == 0,
    )


def _members(found: Mapping[str, KeyValue]) -> dict[str, Member]:
    names = ((key.removeprefix(_MEMBERS), there) for key, there in found.items() if key.startswith(_MEMBERS))
    return {name: _member(_table(there)) for name, there in names if name and "/" not in name}


def _member(told: Mapping[str, Any]) -> Member:
    role = str(told.get("role") or "unknown")
    tags = told.get("tags")
    return Member(
        role=_ROLES.get(role, role),
        state=str(told.get("state") or "unknown"),
        timeline=_integer(told.get("timeline")),
        position=_integer(told.get("xlog_location")),
        replication_state=str(told.get("replication_state") or ""),
        nofailover=isinstance(tags, dict) and _is_on(tags.get("nofailover")),
    )


def _standbys(told: object, leader: str | None) -> tuple[str, ...]:
    """Return the names of a list with commas; nobody is synchronous to nobody."""
    if leader is None or not isinstance(told, str):
        return ()
    names = (name.strip() for name in told.split(","))
    return tuple(name for name in names if name and name != leader)


def _mode(config: Mapping[str, Any]) -> str:
    """Return the replication mode; a standby cluster has none (Patroni's ``global_config.py``)."""
    if _is_standby_cluster(config):
        return "off"
    wanted = config.get("synchronous_mode")
    if str(wanted).lower() == "quorum":
        return "quorum"
    return "on" if _is_on(wanted) else "off"


def _is_standby_cluster(config: Mapping[str, Any]) -> bool:
    section = config.get("standby_cluster")
    return isinstance(section, dict) and any(section.get(key) for key in ("host", "port", "restore_command"))


def _failover(there: KeyValue | None) -> Failover | None:
    """Return the request; Patroni leaves an empty one behind when it is done."""
    told = _table(there)
    request = Failover(_name(told.get("leader")), _name(told.get("member")))
    return request if request.leader or request.candidate else None


def _timeline(there: KeyValue | None) -> int:
    """Return the timeline that follows the last of the history; 0 when that is not known."""
    lines = _json(there)
    if lines == []:
        return 1
    if isinstance(lines, list) and isinstance(lines[-1], list) and lines[-1]:
        last = _integer(lines[-1][0])
        return last + 1 if last else 0
    return 0


def _position(found: Mapping[str, KeyValue]) -> int:
    """Return the position that the leader last told, in bytes; members before Patroni 2.1 had a key for it alone."""
    if "status" in found:
        status = _json(found["status"])
        return _integer(status.get("optime") if isinstance(status, dict) else status)
    return _integer(_text(found.get("optime/leader")))


def _is_on(value: object) -> bool:
    return str(value).lower() in _YES


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _integer(value: object, default: int = 0) -> int:
    if isinstance(value, int):
        return int(value)
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) <= LONGEST_NUMBER else default


def _table(there: KeyValue | None) -> dict[str, Any]:
    value = _json(there)
    return value if isinstance(value, dict) else {}


def _json(there: KeyValue | None) -> object:
    try:
        return json.loads(_text(there))
    except (ValueError, RecursionError):
        return None


def _text(there: KeyValue | None) -> str:
    return there.value.decode(errors="replace") if there else ""
