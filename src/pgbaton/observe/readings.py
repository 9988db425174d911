"""From what a host printed to its view. Pure: one small reader for each part of the probe's answer."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pgbaton.observe import codec
from pgbaton.observe.snapshot import (
    AgentView,
    CertificateView,
    DiskView,
    EndpointView,
    EtcdView,
    FencesView,
    FenceView,
    HaproxyView,
    HostView,
    MemberView,
    PatroniView,
    PoolView,
    PostgresView,
    Problem,
    ProxyView,
    ServerView,
    UnitView,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: What a reader may stumble over when a program answers in a form that is not known here.
UNREADABLE = (LookupError, ValueError, TypeError, AttributeError)
#: Of the agent's figures, the one that is there for each host whose heartbeats came in the last minute.
GAP = re.compile(r'^pgbaton_heartbeat_gap_seconds\{host="([^"]*)"\} (\S+)$', re.MULTILINE)
#: The sets of the agent's table that name fenced hosts.
FENCED = ("fenced4", "fenced6")


def host_view(
    name: str,
    answer: Mapping[str, Any],
    *,
    vip: str | None,
    more_vips: Sequence[str] = (),
    twin_vips: Sequence[str] = (),
    clock_offset_seconds: float,
) -> HostView:
    """Return a host's view from the probe's answer; what cannot be read becomes a problem, never an exception."""
    views: dict[str, Any] = {}
    problems: list[Problem] = []
    pools: list[PoolView] = []
    for part, reply in answer["parts"].items():
        if "error" in reply:
            problems.append(Problem(part, plain(reply["error"])))
            continue
        try:
            if part.startswith("pooler "):
                pools.append(pool(part.removeprefix("pooler "), reply["answer"]))
            else:
                views[part] = READERS[part](reply["answer"])
        except UNREADABLE as error:
            problems.append(Problem(part, f"its answer could not be read: {type(error).__name__}: {error}"))
    found = views.pop("addresses", ())
    return HostView(
        name,
        reachable=True,
        holds_vip=vip in found,
        more_vips=tuple(address for address in more_vips if address in found) if more_vips else None,
        twin_vips=tuple(address for address in twin_vips if address in found) if twin_vips else None,
        pools=tuple(pools),
        clock_offset_seconds=clock_offset_seconds,
        problems=tuple(problems),
        **views,
    )


def plain(error: str) -> str:
    """Return an error without the words that psql puts around what went wrong."""
    return error.removeprefix("psql: error: ").partition(" Is the server running")[0]


def units(text: str) -> tuple[UnitView, ...]:
    """Read the blocks of ``systemctl show``."""
    blocks = (dict(line.split("=", 1) for line in block.splitlines()) for block in text.strip().split("\n\n"))
    return tuple(
        UnitView(
            block["Id"], block["ActiveState"], block["SubState"], block["UnitFileState"], int(block.get("NRestarts", 0))
        )
        for block in blocks
    )


def addresses(links: list[dict[str, Any]]) -> frozenset[str]:
    """Read the addresses of ``ip -j address``."""
    return frozenset(entry["local"] for link in links for entry in link.get("addr_info", ()))


def haproxy(text: str) -> HaproxyView:
    """Read the runtime socket's ``show info`` and ``show stat``."""
    head, _, table = text.partition("\n# ")
    info = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
    rows = list(csv.DictReader(io.StringIO(table)))
    names = dict.fromkeys(row["pxname"] for row in rows)
    return HaproxyView(
        version=info["Version"],
        uptime_seconds=int(info["Uptime_sec"]),
        sessions=int(info["CurrConns"]),
        max_connections=int(info["Maxconn"]),
        proxies=tuple(proxy(name, [row for row in rows if row["pxname"] == name]) for name in names),
    )


def proxy(name: str, rows: list[dict[str, str]]) -> ProxyView:
    """Read one proxy's rows; the one that sums the servers up is BACKEND, or FRONTEND where there are none."""
    totals = {row["svname"]: row for row in rows if row["svname"] in {"FRONTEND", "BACKEND"}}
    total = totals.get("BACKEND") or totals["FRONTEND"]
    servers = tuple(server(row) for row in rows if row["svname"] not in {"FRONTEND", "BACKEND"})
    return ProxyView(name, total["status"], int(total["scur"] or 0), servers)


def server(row: Mapping[str, str]) -> ServerView:
    """Read a server's row."""
    check = " ".join(part for part in (row.get("check_status"), row.get("last_chk")) if part)
    return ServerView(row["svname"], row["status"], int(row["scur"] or 0), int(row["lastchg"] or 0), check)


def pool(instance: str, tables: list[str]) -> PoolView:
    """Read PgBouncer's SHOW VERSION, STATE, POOLS and DATABASES; its own administrative database does not count."""
    version, state, pools, databases = (list(csv.DictReader(io.StringIO(table))) for table in tables)
    rows = [row for row in pools if row["database"] != "pgbouncer"]

    def total(*columns: str) -> int:
        return sum(int(row[column]) for row in rows for column in columns)

    return PoolView(
        instance=instance,
        version=version[0]["version"].removeprefix("PgBouncer "),
        clients_active=total("cl_active"),
        clients_waiting=total("cl_waiting"),
        servers_active=total("sv_active"),
        servers_idle=total("sv_idle", "sv_used", "sv_tested"),
        wait_seconds=max((int(row["maxwait"]) + int(row["maxwait_us"]) / 1e6 for row in rows), default=0.0),
        paused=paused(state, databases),
    )


def paused(state: list[dict[str, str]], databases: list[dict[str, str]]) -> tuple[str, ...]:
    """Return the paused databases: a PAUSE without a name pauses them all, and shows in the state alone."""
    everything = {"key": "paused", "value": "yes"} in state
    return tuple(
        row["name"] for row in databases if row["name"] != "pgbouncer" and (everything or row["paused"] != "0")
    )


def patroni(answer: Mapping[str, Any]) -> PatroniView:
    """Read ``/patroni`` and ``/cluster``."""
    own, cluster = answer["own"], answer["cluster"]
    members = tuple(member(entry) for entry in cluster["members"])
    seen = own.get("dcs_last_seen")
    switchover = cluster.get("scheduled_switchover")
    return PatroniView(
        version=own["patroni"]["version"],
        role="primary" if own["role"] in {"primary", "master", "leader"} else "standby",
        state=own["state"],
        timeline=own.get("timeline"),
        pending_restart=bool(own.get("pending_restart")),
        paused=bool(cluster.get("pause") or own.get("pause")),
        unlocked=bool(own.get("cluster_unlocked")),
        tags=own.get("tags") or {},
        dcs_seen_seconds=max(0.0, answer["now"] - seen) if seen else None,
        leader=next((member.name for member in members if member.role in {"leader", "standby_leader"}), None),
        members=members,
        scheduled_switchover=switchover["at"] if switchover else None,
    )


def member(entry: Mapping[str, Any]) -> MemberView:
    """Read one member; Patroni gives an unknown lag as a word."""
    lag = entry.get("lag")
    return MemberView(
        entry["name"], entry["role"], entry["state"], entry.get("timeline"), lag if isinstance(lag, int) else None
    )


def etcd(answer: Mapping[str, Any]) -> EtcdView:
    """Read the JSON gateway's answers; it leaves out what is zero and writes 64-bit numbers as text."""
    health = answer["health"]
    status = answered(answer["status"])
    listed = answered(answer["members"], optional=True).get("members", ())
    names = {entry["ID"]: entry.get("name") or "(not started)" for entry in listed}
    own, leader = status["header"]["member_id"], status.get("leader", "0")
    alarms = answered(answer["alarms"], optional=True).get("alarms", ())
    return EtcdView(
        version=status["version"],
        name=names.get(own, own),
        healthy=str(health.get("health")).lower() == "true",
        reason=health.get("reason") or "",
        leader=None if leader == "0" else names.get(leader, leader),
        is_leader=own == leader,
        members=tuple(sorted(names.values())),
        alarms=tuple(sorted({entry.get("alarm", "NONE") for entry in alarms if entry.get("memberID") in {None, own}})),
        db_size_bytes=int(status.get("dbSize", 0)),
        term=int(status.get("raftTerm", 0)),
        raft_index=int(status.get("raftIndex", 0)),
    )


def answered(reply: Mapping[str, Any], *, optional: bool = False) -> Mapping[str, Any]:
    """Return a nested answer; raises ValueError with the reason when there is none, unless it is optional."""
    if "error" in reply and not optional:
        raise ValueError(reply["error"])
    answer: Mapping[str, Any] = reply.get("answer", {})
    return answer


def foreign_etcd(found: list[dict[str, Any]]) -> tuple[EndpointView, ...]:
    """Read how the endpoints of an etcd that is elsewhere are."""
    return tuple(endpoint(each) for each in found)


def endpoint(told: Mapping[str, Any]) -> EndpointView:
    """Read how one of them is."""
    members, alarms = told.get("members"), told.get("alarms")
    return EndpointView(
        endpoint=told["endpoint"],
        healthy=told["ok"],
        reason=told.get("reason", ""),
        cluster=told.get("cluster"),
        version=told.get("version"),
        leader=told.get("leader"),
        members=None if members is None else tuple(members),
        db_size_bytes=told.get("db_size_bytes"),
        quota_bytes=told.get("quota_bytes"),
        alarms=None if alarms is None else tuple(alarms),
    )


def agent(answer: Mapping[str, Any]) -> AgentView:
    """Read what an agent says of itself, and its figures; what it is, it says itself, or its program does."""
    said, program = answer["health"], answer["program"]
    return AgentView(
        version=said.get("version") or program["version"],
        build=program["build"],
        role=said["role"],
        writable=said["writable"],
        lock=said["lock"],
        server=said["server"],
        stalled=said["stalled"],
        isolated=said["isolated"],
        fenced=tuple(said["fenced"]),
        silent=tuple(said["silent"]),
        heard=tuple(heartbeat_gaps(answer["metrics"])),
        path=said.get("path"),
        rival=said.get("rival") or None,
    )


def heartbeat_gaps(metrics: str) -> dict[str, float]:
    """Return the longest time between two heartbeats of each host in the last minute, from an agent's figures."""
    return {host: float(seconds) for host, seconds in GAP.findall(metrics)}


def fences(listing: Mapping[str, Any]) -> FencesView:
    """Read nft's listing of the agent's table; where there is none, nobody is fenced."""
    found = (entry["set"] for entry in listing.get("nftables", ()) if "set" in entry)
    sets = {each["name"]: each.get("elem", ()) for each in found}
    standing = sorted((fence(element) for name in FENCED for element in sets.get(name, ())), key=lambda it: it.host)
    refused, held = sets.get("refused"), sets.get("held")
    return FencesView(tuple(standing), "refused" if refused else "held" if held else "served")


def fence(element: str | Mapping[str, Any]) -> FenceView:
    """Read an element, host and reason from its comment; one that was put in by hand is named by its address."""
    entry = {"val": element} if isinstance(element, str) else element["elem"]
    host, _, reason = entry.get("comment", "").partition(" ")
    return FenceView(host or entry["val"], entry["val"], reason)


def certificates(found: Mapping[str, str]) -> tuple[CertificateView, ...]:
    """Read expiry times as ASN.1 writes them; two digits of a year below 50 mean 20xx (RFC 5280)."""
    return tuple(CertificateView(path, asn1_time(text).isoformat()) for path, text in found.items())


def asn1_time(text: str) -> datetime:
    """Read a UTCTime or a GeneralizedTime."""
    short = len(text) == len("YYMMDDHHMMSSZ")
    century = ("20" if int(text[:2]) < 50 else "19") if short else ""  # noqa: PLR2004 - the RFC's limit
    return datetime.strptime(century + text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def packages(text: str) -> dict[str, str]:
    """Read ``dpkg-query``'s lines; a package that is not installed has no version."""
    return {name: version for name, _, version in (line.partition(" ") for line in text.splitlines()) if version}


READERS: Mapping[str, Callable[[Any], Any]] = {
    "units": units,
    "addresses": addresses,
    "haproxy": haproxy,
    "postgres": lambda answer: codec.decode(PostgresView, answer),
    "patroni": patroni,
    "etcd": etcd,
    "certificates": certificates,
    "disk": lambda answer: codec.decode(DiskView, answer),
    "packages": packages,
    "agent": agent,
    "fences": fences,
    "tracked": lambda value: value,
    "foreign_etcd": foreign_etcd,
}
