"""Ask a foreign etcd, from where it has to be reached. Runs on a host: Python 3.11 or later, standard library only.

What it is told is a JSON object: ``endpoints`` (``host:port``, an address of IPv6 in brackets), ``plain`` (no TLS),
``prefix``, and where they are needed ``authority``, ``certificate``, ``key`` (paths), ``user`` and ``password``. For a
look before anything is deployed certificates come as texts instead (``authority_text`` and so on), and are never
written to a disk. What it prints is JSON, and holds no secret.

Nothing here changes anything in that etcd.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import ssl
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = Path("/etc/pgbaton/etcd.json")
#: How long a member may take for one answer, in seconds. A connection is made for each member, and used for all of it.
ANSWER_SECONDS = 1.5
#: How long all answers of a member may take: a look at its health is one of many, before a deploy there is more time.
HEALTH_SECONDS, FITNESS_SECONDS = 2.0, 8.0
OK = 200
#: Where a server's data have its system identifier: the first eight bytes, as the machine writes them.
CONTROL = "global/pg_control"
IDENTIFIER_BYTES = 8

Json = dict[str, Any]
#: A look at a member that is logged in to, as the settings say.
Look = Callable[[Json, "Member"], Json]


class RefusedError(Exception):
    """A member answered that it will not do it, or in a way that nobody understands."""


class Member:
    """A connection to one of etcd's members, logged in where there is a user."""

    def __init__(self, settings: Json, endpoint: str, tls: ssl.SSLContext | None) -> None:
        host, _, port = endpoint.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        self._token = ""
        self._settings = settings
        if tls is None:
            self._connection = http.client.HTTPConnection(host, int(port), timeout=ANSWER_SECONDS)
        else:
            self._connection = http.client.HTTPSConnection(host, int(port), timeout=ANSWER_SECONDS, context=tls)

    def log_in(self) -> None:
        """Get a token, where there is a user; raises RefusedError."""
        if self._settings.get("user"):
            asked = {"name": self._settings["user"], "password": self._settings["password"]}
            self._token = str(self.ask("/v3/auth/authenticate", asked)["token"])

    def ask(self, path: str, fields: Json) -> Json:
        """Return the answer to a question; raises RefusedError, OSError, http.client.HTTPException."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": self._token} if self._token else {})
        self._connection.request("POST", path, json.dumps(fields), headers)
        response = self._connection.getresponse()
        text = response.read().decode(errors="replace")
        try:
            told = json.loads(text)
        except ValueError:
            told = None
        if response.status != OK or not isinstance(told, dict):
            said = (told.get("message") or told.get("error")) if isinstance(told, dict) else text[:200]
            message = f"{path}: {said or f'status {response.status}'}"
            raise RefusedError(message)
        return told

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def context(settings: Json) -> ssl.SSLContext | None:
    """Return the TLS to ask with; None without."""
    if settings.get("plain"):
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_verify_locations(cafile=settings.get("authority"), cadata=settings.get("authority_text"))
    if settings.get("certificate"):
        made.load_cert_chain(settings["certificate"], settings["key"])
    elif settings.get("certificate_text"):
        with in_memory(settings["certificate_text"]) as certificate, in_memory(settings["key_text"]) as key:
            made.load_cert_chain(certificate, key)
    return made


@contextlib.contextmanager
def in_memory(text: str) -> Iterator[str]:
    """Return a path to a text that is on no disk, for as long as the block lasts."""
    descriptor = os.memfd_create("pgbaton")
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def logged_in(settings: Json, endpoint: str) -> Iterator[Member]:
    """Return a member that can be asked, for as long as the block lasts."""
    member = Member(settings, endpoint, context(settings))
    try:
        member.log_in()
        yield member
    finally:
        member.close()


def b64(text: str) -> str:
    """Return a key as the gateway writes it."""
    return base64.b64encode(text.encode()).decode()


def beneath(prefix: str) -> Json:
    """Return the range of all keys with a prefix."""
    return {"key": b64(prefix), "range_end": b64(prefix[:-1] + chr(ord(prefix[-1]) + 1))}


def reason(error: Exception) -> str:
    """Return why a member could not be asked, in a line."""
    text = " ".join(str(error).split())
    return text or type(error).__name__


def every(settings: Json, look: Look, *, seconds: float) -> list[Json]:
    """Look at every endpoint at the same time; one that takes longer is not waited for."""
    found: dict[str, Json] = {}

    def note(endpoint: str) -> None:
        found[endpoint] = guarded(settings, endpoint, look)

    ends = time.monotonic() + seconds
    threads = [threading.Thread(target=note, args=(endpoint,), daemon=True) for endpoint in settings["endpoints"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    late = {"ok": False, "reason": f"no answer within {seconds:g} s"}
    return [found.get(endpoint, {"endpoint": endpoint, **late}) for endpoint in settings["endpoints"]]


def guarded(settings: Json, endpoint: str, look: Look) -> Json:
    """Return what a look at one endpoint came to, or why it came to nothing."""
    try:
        with logged_in(settings, endpoint) as member:
            return {"endpoint": endpoint, "ok": True, **look(settings, member)}
    except (OSError, http.client.HTTPException, RefusedError, KeyError, ValueError) as error:
        return {"endpoint": endpoint, "ok": False, "reason": reason(error)}


def seen(settings: Json, member: Member) -> Json:
    """Return how a member is: the question for a key has a majority behind it, so its answer says that there is one.

    What this user may not ask, or this version does not tell, is None.
    """
    header = member.ask("/v3/kv/range", {"key": b64(f"{settings['prefix']}leader"), "keys_only": True})["header"]
    status = allowed(member, "/v3/maintenance/status", {})
    alarms = allowed(member, "/v3/maintenance/alarm", {"action": "GET"})
    members = allowed(member, "/v3/cluster/member/list", {})
    names = {each["ID"]: each.get("name") or each["ID"] for each in (members or {}).get("members", ())}
    leader = (status or {}).get("leader")
    return {
        "cluster": header["cluster_id"],
        "version": (status or {}).get("version"),
        "leader": names.get(leader, leader),
        "members": sorted(names.values()) if members is not None else None,
        "db_size_bytes": int(status.get("dbSize", 0)) if status is not None else None,
        "quota_bytes": int(status["dbSizeQuota"]) if status and status.get("dbSizeQuota") else None,
        "alarms": alarm_names(alarms),
    }


def alarm_names(told: Json | None) -> list[str] | None:
    """Return the alarms that stand; None when this user is not told."""
    if told is None:
        return None
    return sorted({str(each.get("alarm", "NONE")) for each in told.get("alarms", ())} - {"NONE"})


def allowed(member: Member, path: str, fields: Json) -> Json | None:
    """Return an answer, None when a member refuses it."""
    try:
        return member.ask(path, fields)
    except RefusedError:
        return None


def health(settings: Json) -> Json:
    """Return how every endpoint is, as seen from here."""
    return {"endpoints": every(settings, seen, seconds=HEALTH_SECONDS)}


def keys(settings: Json) -> Json:
    """Return all keys of the cluster, with a majority behind them; raises RefusedError when no endpoint tells them."""
    failures = []
    for endpoint in settings["endpoints"]:
        try:
            with logged_in(settings, endpoint) as member:
                told = member.ask("/v3/kv/range", beneath(settings["prefix"]))
                return {"kvs": [numbered(pair) for pair in told.get("kvs", ())]}
        except (OSError, http.client.HTTPException, RefusedError, KeyError, ValueError) as error:
            failures.append(f"{endpoint}: {reason(error)}")
    message = "no endpoint answers: " + "; ".join(failures)
    raise RefusedError(message)


def numbered(pair: Json) -> Json:
    """Return a key as etcdctl prints it: the gateway writes numbers of 64 bits as text."""
    return pair | {name: int(pair[name]) for name in ("create_revision", "mod_revision") if name in pair}


def fitness(settings: Json) -> Json:
    """Return whether that etcd serves the cluster, before anything leans on it: see :func:`fit`."""
    endpoints = every(settings, fit, seconds=FITNESS_SECONDS)
    return {"endpoints": endpoints, "system": system_identifier(settings.get("data_directory"))}


def fit(settings: Json, member: Member) -> Json:
    """Return how a member is, whether it would let this user write, and whose record is there.

    The transaction that would write has a condition that is never true, a version below 0: rights are checked all the
    same, and so is the room that is left.
    """
    prefix = settings["prefix"]
    initialize = member.ask("/v3/kv/range", {"key": b64(f"{prefix}initialize")}).get("kvs", ())
    count = int(member.ask("/v3/kv/range", {**beneath(prefix), "count_only": True}).get("count", 0))
    never = {"key": b64(f"{prefix}initialize"), "target": "VERSION", "result": "LESS", "version": "0"}
    put = {"request_put": {"key": b64(f"{prefix}initialize"), "value": b64("0")}}
    member.ask("/v3/kv/txn", {"compare": [never], "success": [put]})
    owner = base64.b64decode(initialize[0].get("value", "")).decode() if initialize else None
    return {**seen(settings, member), "initialize": owner, "keys": count}


def system_identifier(data_directory: str | None) -> str | None:
    """Return which database's data are on this host; None when there are none."""
    if not data_directory:
        return None
    try:
        with (Path(data_directory) / CONTROL).open("rb") as file:
            return str(int.from_bytes(file.read(IDENTIFIER_BYTES), sys.byteorder))
    except FileNotFoundError:
        return None


def main(command: str, settings: Json) -> None:
    """Print what is asked for; a failure is one line on standard error, and the exit status 1."""
    try:
        told = {"health": health, "keys": keys, "fitness": fitness}[command](settings)
    except (RefusedError, OSError, ValueError) as error:
        sys.stderr.write(f"{reason(error)}\n")
        sys.exit(1)
    sys.stdout.write(json.dumps(told) + "\n")


def deployed() -> None:
    """Answer what the command line asks, with the settings that are on this host."""
    try:
        settings = json.loads(SETTINGS.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{SETTINGS}: {reason(error)}\n")
        sys.exit(1)
    main(sys.argv[1], settings)
