"""What an agent answers to those who ask over HTTPS: pure, from what it knows to a status and a text.

Every answer but the metrics is for machines that look at the status alone: 200 is yes, 503 is no. A host that is
fenced, isolated, hung, in between or unknown is never said to be the primary.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from pgbaton.agent.protocols.http1 import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

JSON = {"content-type": "application/json"}
TEXT = {"content-type": "text/plain; version=0.0.4; charset=utf-8"}
UNITS = {"": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3}


@dataclass(frozen=True, slots=True)
class Health:
    """What an agent says of its host.

    ``role`` is primary, standby, none or unknown, ``writable`` whether the server is out of recovery and serves, and
    ``lock`` whether the leader lock is this host's in etcd, or where a person promotes, that it takes writes and no
    other server's word speaks against it; ``rival`` is that word. ``lag_bytes`` is how much the primary has beyond what
    was received, ``unreplayed_bytes`` how much of that is not replayed; each is None where it is not known. ``fenced``
    are the hosts that are fenced here, ``silent`` those that are not heard. ``path`` says why clients do not reach the
    primary through this balancer, nothing when they do, and is None where nobody tries. ``gauges`` are further figures
    by name, with labels where there are some.
    """

    host: str
    role: str
    writable: bool = False
    lock: bool = False
    following: bool = False
    synchronous: bool = False
    isolated: bool = False
    stalled: bool = False
    timeline: int = 0
    lag_bytes: int | None = None
    unreplayed_bytes: int | None = None
    rival: str = ""
    server: str = "unknown"
    fenced: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    path: str | None = None
    gauges: Mapping[str, float] = field(default_factory=dict)


def is_primary(health: Health) -> bool:
    """Tell whether writes may go to this host: it takes them, the lock is its, and it is not cut off."""
    return health.role == "primary" and health.writable and health.lock and not health.isolated


def is_standby(health: Health, limit_bytes: int | None) -> bool:
    """Tell whether reads may go to this standby: it streams, and is no further behind than is asked for."""
    if health.role != "standby" or not health.following:
        return False
    if limit_bytes is None:
        return True
    return health.lag_bytes is not None and health.lag_bytes + (health.unreplayed_bytes or 0) <= limit_bytes


def is_stranded(health: Health, limit_bytes: int | None) -> bool:
    """Tell whether reads may go to this standby while there is no primary: it has replayed all but so much of its WAL.

    One that streams must not be too far behind its primary either, as far as that one's agent tells where it is.
    """
    if health.following and health.lag_bytes is not None:
        return is_standby(health, limit_bytes)
    if health.role != "standby" or health.unreplayed_bytes is None:
        return False
    return limit_bytes is None or health.unreplayed_bytes <= limit_bytes


def answer(health: Health, path: str, query: str) -> Response:
    """Return the answer to a request."""
    try:
        limit = lag_limit(query)
    except ValueError as error:
        return told(HTTPStatus.BAD_REQUEST, {"error": str(error)})
    if path == "/metrics":
        return Response(HTTPStatus.OK, metrics(health).encode(), TEXT)
    question = QUESTIONS.get(path)
    if question is None:
        known = ", ".join((*QUESTIONS, "/metrics"))
        return told(HTTPStatus.NOT_FOUND, {"error": f"ask one of {known}"})
    status = HTTPStatus.OK if question(health, limit) else HTTPStatus.SERVICE_UNAVAILABLE
    return told(status, described(health))


def told(status: HTTPStatus, document: Mapping[str, object]) -> Response:
    """Return an answer of JSON, one line long."""
    return Response(status, json.dumps(document).encode() + b"\n", JSON)


#: What can be asked, and who is a yes.
QUESTIONS: Mapping[str, Callable[[Health, int | None], bool]] = {
    "/primary": lambda health, _: is_primary(health),
    "/replica": is_standby,
    "/stranded": is_stranded,
    "/read-only": lambda health, limit: is_primary(health) or is_standby(health, limit),
    "/sync": lambda health, limit: health.synchronous and is_standby(health, limit),
    "/health": lambda health, _: health.role in {"primary", "standby"} and not health.isolated,
}


def lag_limit(query: str) -> int | None:
    """Return the bytes of ``lag=16MB``, None when nothing is asked; raises ValueError saying what is wanted."""
    asked = parse_qs(query).get("lag")
    if not asked:
        return None
    number = asked[-1].rstrip("kMGB")
    unit = asked[-1][len(number) :]
    if not number.isdecimal() or unit not in UNITS:
        message = f"lag={asked[-1]}: wanted bytes, as lag=16777216 or lag=16MB"
        raise ValueError(message)
    return int(number) * UNITS[unit]


def described(health: Health) -> dict[str, object]:
    """Return what is told with every answer."""
    return {
        "host": health.host,
        "role": health.role,
        "writable": health.writable,
        "lock": health.lock,
        "following": health.following,
        # As Patroni has it, for checks that ask for it when the agent answers in its place.
        "replication_state": "streaming" if health.following else "",
        "synchronous": health.synchronous,
        "isolated": health.isolated,
        "stalled": health.stalled,
        "timeline": health.timeline,
        "lag_bytes": health.lag_bytes,
        "unreplayed_bytes": health.unreplayed_bytes,
        "rival": health.rival,
        "server": health.server,
        "fenced": sorted(health.fenced),
        "silent": sorted(health.silent),
        "path": health.path,
    }


def metrics(health: Health) -> str:
    """Return the figures in Prometheus' text form."""
    flags = {
        "primary": is_primary(health),
        "writable": health.writable,
        "lock": health.lock,
        "following": health.following,
        "isolated": health.isolated,
        "stalled": health.stalled,
    }
    figures = {**{name: float(value) for name, value in flags.items()}, **health.gauges}
    figures |= {"timeline": float(health.timeline), "fences": float(len(health.fenced))}
    figures["silent_hosts"] = float(len(health.silent))
    for name, count in (("lag_bytes", health.lag_bytes), ("unreplayed_bytes", health.unreplayed_bytes)):
        if count is not None:
            figures[name] = float(count)
    lines: list[str] = []
    for name, value in sorted(figures.items()):
        kind = f"# TYPE pgbaton_{name.partition('{')[0]} gauge"
        lines += [line for line in (kind,) if line not in lines]
        lines.append(f"pgbaton_{name} {value:.9g}")
    return "\n".join((*lines, ""))
