"""What a host can tell of itself, as JSON on standard output. Runs there: Python 3.11 or later, standard library only.

The program comes over standard input with a call of ``main`` as its last line. Every part is asked at the same time and
has its own deadline, so that one that hangs takes only its own answer away. Secrets are neither needed nor printed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import ssl
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

TLS = Path("/etc/pgbaton/tls")
#: Whose certificate each service has to show.
AUTHORITIES = {"patroni": TLS / "ca.crt", "etcd": TLS / "etcd-ca.crt", "agent": TLS / "ca.crt"}
UNIT_PROPERTIES = "Id,ActiveState,SubState,UnitFileState,NRestarts"
AGENT_PROGRAM = Path("/usr/lib/pgbaton/agent.pyz")
#: An agent answers in milliseconds. The rest is for this program, which asks everything else at the same time.
AGENT_SECONDS = 3.0
NFT = "/usr/sbin/nft"
#: The table of the agent's fences, and what nft says where it is not.
FENCES = ("inet", "pgbaton_fence")
NO_TABLE = "No such file or directory"

# One statement, one snapshot of the server. CASE keeps the functions that a standby refuses from being called there.
SERVER = """
with here as (
  select case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end as lsn
), receiver as (
  select status, sender_host, received_tli from pg_stat_wal_receiver
), standbys as (
  select application_name as name, host(client_addr) as address, state, sync_state,
         pg_wal_lsn_diff(here.lsn, write_lsn)::bigint as write_lag_bytes,
         pg_wal_lsn_diff(here.lsn, flush_lsn)::bigint as flush_lag_bytes,
         pg_wal_lsn_diff(here.lsn, replay_lsn)::bigint as replay_lag_bytes,
         extract(epoch from write_lag)::float8 as write_lag_seconds,
         extract(epoch from flush_lag)::float8 as flush_lag_seconds,
         extract(epoch from replay_lag)::float8 as replay_lag_seconds
  from pg_stat_replication, here order by application_name
), slots as (
  select slot_name as name, active, wal_status,
         pg_wal_lsn_diff(coalesce(here.lsn, pg_last_wal_replay_lsn()), restart_lsn)::bigint as retained_bytes
  from pg_replication_slots, here order by slot_name
)
select json_build_object(
  'version', current_setting('server_version'),
  'role', case when pg_is_in_recovery() then 'standby' else 'primary' end,
  'timeline', case when pg_is_in_recovery()
    then coalesce((select received_tli from receiver), (select timeline_id from pg_control_checkpoint()))
    else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end,
  'current_lsn', case when not pg_is_in_recovery() then pg_current_wal_lsn() end,
  'received_lsn', pg_last_wal_receive_lsn(),
  'replayed_lsn', pg_last_wal_replay_lsn(),
  'replay_age_seconds', extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::float8,
  'receiver', (select status from receiver),
  'upstream', (select sender_host from receiver),
  'standbys', (select coalesce(json_agg(standbys), '[]') from standbys),
  'slots', (select coalesce(json_agg(slots), '[]') from slots),
  'synchronous_standby_names', current_setting('synchronous_standby_names'),
  'pending_restart', (select coalesce(json_agg(name order by name), '[]') from pg_settings where pending_restart),
  'connections', (select count(*) from pg_stat_activity where backend_type = 'client backend'),
  'max_connections', current_setting('max_connections')::int,
  'started_at', pg_postmaster_start_time()
)
"""


async def output(*argv: str, user: str | None = None, any_status: bool = False) -> str:
    """Return what a program prints, run as ``user`` where one is given; it is killed when the caller gives up."""
    identity: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user else {}
    pipe = asyncio.subprocess.PIPE
    quiet = asyncio.subprocess.DEVNULL
    # On the host itself there is no seam to go through.
    start = asyncio.create_subprocess_exec
    process = await start(*argv, stdin=quiet, stdout=pipe, stderr=pipe, cwd="/", **identity)
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode and not any_status:
        said = err.decode(errors="replace").strip() or f"exit status {process.returncode}"
        raise OSError(said)
    return out.decode(errors="replace")


async def psql(user: str, *arguments: str) -> str:
    """Return what psql prints as a user of the host."""
    return await output(psql_program(), "-X", "-q", *arguments, user=user)


def psql_program() -> str:
    """Return the newest psql itself: Debian's wrapper of the same name is slower to start."""
    return str(max(Path("/usr/lib/postgresql").glob("*/bin/psql"), default="psql"))


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: str) -> str:
    """Return everything a peer says to a question until it closes the connection."""
    try:
        writer.write(question.encode())
        return (await reader.read(-1)).decode(errors="replace")
    finally:
        writer.close()


async def ask(service: str, address: str, port: int, path: str, body: str | None = None) -> Any:  # noqa: ANN401 - JSON
    """Return a service's JSON answer over mutual TLS, whatever its HTTP status; a POST when there is a body."""
    return json.loads(await told(service, address, port, path, body))


async def told(service: str, address: str, port: int, path: str, body: str | None = None) -> str:
    """Return the text of a service's answer over mutual TLS."""
    context = ssl.create_default_context(cafile=AUTHORITIES[service])
    context.load_cert_chain(TLS / f"{service}.crt", TLS / f"{service}.key")
    streams = await asyncio.open_connection(address, port, ssl=context, server_hostname=address)
    named = f"[{address}]" if ":" in address else address
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.0\r\nHost: {named}\r\n"
    answer = await talk(*streams, f"{head}Content-Length: {len(body or '')}\r\n\r\n{body or ''}")
    return answer.partition("\r\n\r\n")[2]


async def units(request: dict[str, Any]) -> str:
    """Return the properties of the units, a block each."""
    return await output("systemctl", "show", "--property", UNIT_PROPERTIES, "--", *request["units"])


async def addresses(request: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Return the interface's addresses."""
    return json.loads(await output("ip", "-j", "address", "show", "dev", request["interface"]))


async def haproxy(request: dict[str, Any]) -> str:
    """Return HAProxy's information and statistics; the round trip proves that it is not only there but alive."""
    streams = await asyncio.open_unix_connection(request["haproxy_socket"])
    return await talk(*streams, "show info;show stat\n")


async def pooler(request: dict[str, Any], instance: str) -> list[str]:
    """Return version, state, pools and databases of a PgBouncer instance, each as CSV.

    Before 1.19 it cannot tell its state: psql goes on after the error, and that table is empty. Where an agent may have
    paused all of it, there is another way to find out.
    """
    version, state, *rest = await shown(request, instance, "VERSION", "STATE", "POOLS", "DATABASES")
    console = console_of(request, instance)
    if not state and "agent" in request and instance.startswith("write"):
        state = await untold_state(*console)
    return [version, state, *rest]


def console_of(request: dict[str, Any], instance: str) -> tuple[str, ...]:
    """Return psql's options for the console of a PgBouncer instance."""
    where = ("-h", f"/run/pgbouncer-{instance}", "-p", str(request["pools"][instance]))
    return (*where, "-U", "pgbouncer", "-d", "pgbouncer")


async def shown(request: dict[str, Any], instance: str, *tables: str) -> list[str]:
    """Return what a PgBouncer instance shows, each table as CSV."""
    commands = (part for table in tables for part in ("-c", r"\echo ==", "-c", f"SHOW {table}"))
    return (await psql("pgbouncer", "--csv", *console_of(request, instance), *commands)).split("==\n")[1:]


async def sessions(request: dict[str, Any]) -> str:
    """Return HAProxy's sessions, with both ends of each."""
    streams = await asyncio.open_unix_connection(request["haproxy_socket"])
    return await talk(*streams, "show sess all\n")


async def pooled(request: dict[str, Any]) -> dict[str, list[str]]:
    """Return the clients and the servers of every PgBouncer instance of this host, each as CSV."""
    names = list(request["pools"])
    tables = await asyncio.gather(*(shown(request, name, "CLIENTS", "SERVERS") for name in names))
    return dict(zip(names, tables, strict=True))


async def untold_state(*console: str) -> str:
    """Return the state of a PgBouncer that has no SHOW STATE, by its reason for not pausing its own console.

    It always refuses, and looks first whether everything is paused already. Each question is an error in its log.
    """
    try:
        await psql("pgbouncer", *console, "-c", "PAUSE pgbouncer")
    except OSError as error:
        return "key,value\npaused,yes\n" if "already suspended/paused" in str(error) else ""
    return ""


async def postgres(request: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Return the server's own account, over its Unix socket."""
    socket = ("-h", "/var/run/postgresql", "-p", str(request["postgres_port"]), "-d", "postgres")
    return json.loads(await psql("postgres", "-A", "-t", *socket, "-c", SERVER))


async def patroni(request: dict[str, Any]) -> dict[str, Any]:
    """Return what Patroni says of itself and of the cluster."""
    where = ("patroni", request["address"], request["rest_port"])
    own, cluster = await asyncio.gather(ask(*where, "/patroni"), ask(*where, "/cluster"))
    return {"own": own, "cluster": cluster, "now": time.time()}


async def etcd(request: dict[str, Any]) -> dict[str, Any]:
    """Return the member's health, status, alarms and the list of members."""
    where = ("etcd", "127.0.0.1", request["etcd_port"])
    paths = {
        "status": "/v3/maintenance/status",
        "alarms": "/v3/maintenance/alarm",
        "members": "/v3/cluster/member/list",
    }
    # The alarms and a linearizable list of members need a quorum; without one only their own answers are missing.
    questions = {name: ask(*where, path, "{}") for name, path in paths.items()}
    answers = await asyncio.gather(
        ask(*where, "/health"), *(limited(question, request["deadline"] * 0.7) for question in questions.values())
    )
    return {"health": answers[0], **dict(zip(questions, answers[1:], strict=True))}


async def foreign_etcd(request: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Return how the endpoints of an etcd that is elsewhere are, as seen from this host."""
    return json.loads(await output(*request["foreign_etcd"]))["endpoints"]


async def agent(request: dict[str, Any]) -> dict[str, Any]:
    """Return what the agent says of its host and of the others, and which program it runs from."""
    said = await agent_says(request)
    if isinstance(said["health"], dict) and said["health"].get("stalled"):
        # One that overslept once is soon well again: it is stalled when it still is then.
        await asyncio.sleep(request["agent"]["catch_up_seconds"])
        said = await agent_says(request)
    return {**said, "program": program(AGENT_PROGRAM)}


async def agent_says(request: dict[str, Any]) -> dict[str, Any]:
    """Return the agent's word on its host's health, and its figures."""
    where = ("agent", request["address"], request["agent"]["port"])
    try:
        async with asyncio.timeout(AGENT_SECONDS):
            health, metrics = await asyncio.gather(ask(*where, "/health"), told(*where, "/metrics"))
    except TimeoutError:
        message = f"no answer within {AGENT_SECONDS:g} s"
        raise OSError(message) from None
    return {"health": health, "metrics": metrics}


def program(path: Path) -> dict[str, str | None]:
    """Return the agent's version, and what tells one build of it from another."""
    try:
        content = path.read_bytes()
    except OSError:
        return {"version": None, "build": None}
    # The archive's files are stored as they are.
    version = re.search(rb'^__version__ = "([^"]+)"', content, re.MULTILINE)
    return {"version": version[1].decode() if version else None, "build": hashlib.sha256(content).hexdigest()[:12]}


async def fences(request: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Return the table of the agent's fences as nft lists it, nothing where it is not."""
    del request
    try:
        return json.loads(await output(NFT, "-j", "list", "table", *FENCES))
    except OSError as error:
        # Without nft the same words come, from somebody else.
        if isinstance(error, FileNotFoundError) or NO_TABLE not in str(error):
            raise
        return {}


async def tracked(request: dict[str, Any]) -> int | None:
    """Return what the agent tells Keepalived."""
    return number(Path(request["agent"]["tracked_file"]))


def number(path: Path) -> int | None:
    """Return the number in a file; None when there is no file, which counts as 0 for Keepalived."""
    try:
        return int(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return None


async def certificates(request: dict[str, Any]) -> dict[str, str]:
    """Return when each certificate expires, as ASN.1 writes it, by path."""
    del request
    return expiries(TLS)


def expiries(directory: Path) -> dict[str, str]:
    """Return when each file's certificate expires, by path."""
    paths = sorted([*directory.glob("*.crt"), *directory.glob("*.pem")])
    return {str(path): end for path in paths if (end := expiry(path.read_text(encoding="ascii")))}


def expiry(text: str) -> str | None:
    """Return when a file's first certificate expires; None when it holds none."""
    block = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", text, re.DOTALL)
    der = ssl.PEM_cert_to_DER_cert(block[0]) if block else b""
    # Validity is two times in a row, each UTCTime or GeneralizedTime (RFC 5280, 4.1.2.5).
    times = re.search(rb"[\x17\x18][\x0d\x0f]\d{12,14}Z[\x17\x18][\x0d\x0f](\d{12,14}Z)", der)
    return times[1].decode() if times else None


async def disk(request: dict[str, Any]) -> dict[str, Any]:
    """Return size and free bytes of the fullest of the server's file systems, asked in threads because one may hang."""
    paths = request["directories"]
    found = zip(paths, await asyncio.gather(*(asyncio.to_thread(os.statvfs, path) for path in paths)), strict=True)
    path, status = min(found, key=lambda each: each[1].f_bavail / max(each[1].f_blocks, 1))
    return {
        "path": path,
        "size_bytes": status.f_blocks * status.f_frsize,
        "free_bytes": status.f_bavail * status.f_frsize,
    }


async def packages(request: dict[str, Any]) -> str:
    """Return the installed versions, a line each."""
    return await output("dpkg-query", "-W", "-f", "${Package} ${Version}\\n", *request["packages"], any_status=True)


async def limited(work: Coroutine[Any, Any, Any], deadline: float) -> dict[str, Any]:
    """Return a part's answer, or the reason why there is none."""
    try:
        return {"answer": await asyncio.wait_for(work, deadline)}
    except TimeoutError:
        return {"error": f"no answer within {deadline:g} s"}
    except (OSError, ValueError, LookupError) as error:
        return {"error": " ".join(str(error).split()) or type(error).__name__}


async def gather(request: dict[str, Any]) -> dict[str, Any]:
    """Ask all the parts that the request names, at the same time."""
    parts = {
        "units": units, "addresses": addresses, "haproxy": haproxy, "postgres": postgres, "patroni": patroni,
        "etcd": etcd, "certificates": certificates, "disk": disk, "packages": packages,
        "agent": agent, "fences": fences, "tracked": tracked, "sessions": sessions, "pooled": pooled,
        "foreign_etcd": foreign_etcd,
    }  # fmt: skip
    asked = {name: parts[name](request) for name in request["parts"]}
    if "pooled" not in asked:
        asked |= {f"pooler {instance}": pooler(request, instance) for instance in request["pools"]}
    answers = await asyncio.gather(*(limited(work, request["deadline"]) for work in asked.values()))
    return dict(zip(asked, answers, strict=True))


async def answer(request: dict[str, Any], started: float) -> None:
    """Print the answers with the clock's readings around them, then leave without waiting for a thread that hangs."""
    answers = await gather(request)
    json.dump({"started": started, "ended": time.time(), "parts": answers}, sys.stdout)
    sys.stdout.flush()
    os._exit(0)


def main(request: str) -> None:
    """Answer one request, given as JSON."""
    asyncio.run(answer(json.loads(request), time.time()))
