"""A storm of logins: so many clients connect in the same moment, ask one question, and go."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pgbaton.errors import Error
from pgbaton.hosts import files
from pgbaton.measure import database, latency, pgbench
from pgbaton.measure.client import DIRECTORY

if TYPE_CHECKING:
    from pgbaton.measure.client import Client
    from pgbaton.measure.ways import Layout
    from pgbaton.proof.target import Target

STORM_SECONDS = 180.0
SCRIPT = "SELECT 1;\n"
#: From the moment in which pgbench is started to the end of each client's only transaction.
RUN = f"""
cd "$1" || exit 1
shift
rm -f log.*
began=$(date +%s%6N)
"$@" 2> complaints
status=$?
echo '{pgbench.BETWEEN}'
cat log.* 2> /dev/null | awk -v began="$began" -f waits.awk
cat complaints >&2
rm -f log.* complaints
exit $status
"""
WAITS = f"""{latency.COUNT.partition("$3 ~")[0]}
$3 ~ /^[0-9]+$/ {{ count[bucket($5 * 1000000 + $6 - began)]++ }}
END {{ for (each in count) print each, count[each] }}
"""
#: How many connections a user has, looked at twenty times a second by one session, which costs the server little.
LOOKS = "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE usename = '{user}'\n\\watch i=0.05 c=60\nSELECT 0"
WAITED = {"median": 0.5, "p99": 0.99, "last": 1.0}


async def measure(target: Target, layout: Layout, ready: Client, way: str, count: int) -> dict[str, Any]:
    """Return what became of a storm of so many clients, as JSON has it."""
    target.report(f"a storm of {count:,} clients, {way}")
    await files.write_file(ready.host, f"{DIRECTORY}/storm.sh", RUN)
    await files.write_file(ready.host, f"{DIRECTORY}/waits.awk", WAITS)
    await files.write_file(ready.host, f"{DIRECTORY}/storm.sql", SCRIPT)
    argv = (
        ready.program, "--no-vacuum", f"--file={DIRECTORY}/storm.sql", f"--client={count}", f"--jobs={count}",
        "--transactions=1", "--connect", "--log", "--log-prefix=log", ready.login.conninfo(layout.way(way)),
    )  # fmt: skip
    script = ("sh", f"{DIRECTORY}/storm.sh", DIRECTORY)
    over = asyncio.Event()
    most = asyncio.create_task(highest(target, layout.primary, ready.login.user, over))
    try:
        ended = await ready.start(*script, *argv, clients=count, seconds=STORM_SECONDS)
    finally:
        over.set()
    seen = pgbench.read(ended.stdout, ended.stderr, ended.exit_status)
    return {
        "clients": count,
        "path": way,
        "served": seen.transactions,
        "errors": count - seen.transactions,
        "complaints": dict(seen.errors),
        "wait_milliseconds": {name: seen.latencies.quantile(share) for name, share in WAITED.items()},
        "server_connections_at_most": await most,
    }


async def highest(target: Target, primary: str, user: str, over: asyncio.Event) -> int | None:
    """Return how many connections a user had on a server at the most; None when it never answered."""
    seen: list[int] = []
    while not over.is_set():
        with suppress(Error):
            said = await database.sql(target, primary, LOOKS.format(user=user))
            seen += [int(line) for line in said.splitlines() if line.isdecimal()]
    return max(seen, default=None)
