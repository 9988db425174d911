"""What the proxies keep in memory for clients that do nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pgbaton.components import pgbouncer
from pgbaton.hosts import files
from pgbaton.measure.client import DIRECTORY, UNIT
from pgbaton.operate.waiting import until

if TYPE_CHECKING:
    from pgbaton.hosts.base import Host
    from pgbaton.measure.client import Client
    from pgbaton.measure.ways import Layout
    from pgbaton.proof.target import Target

IDLE_SECONDS = 600
#: So long may all clients take to log in, one after another.
LOGIN_SECONDS = 180.0
#: Each client asks once, then holds its connection and says nothing.
SCRIPT = f"SELECT 1;\n\\sleep {IDLE_SECONDS} s\n"
#: Proportional sizes of a program's processes, in which what they share is shared out, and resident ones, in KiB.
SIZES = r"""
for program in haproxy pgbouncer; do
  for pid in $(pidof "$program"); do
    awk -v program="$program" '$1 == "Pss:" || $1 == "Rss:" { print program, $1, $2 }' "/proc/$pid/smaps_rollup"
  done
done
"""


async def measure(target: Target, layout: Layout, ready: Client, counts: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return the sizes without clients, and with each number of idle ones, as JSON has them."""
    balancer = target.hosts[layout.balancer]
    sizes = [{"clients": 0, **await look(balancer)}]
    await files.write_file(ready.host, f"{DIRECTORY}/idle.sql", SCRIPT)
    for count in counts:
        target.report(f"{count:,} idle clients through the VIP")
        sizes.append({"clients": count, **await with_idle(target, layout, ready, count)})
    return sizes


async def with_idle(target: Target, layout: Layout, ready: Client, count: int) -> dict[str, int]:
    """Return the sizes while so many clients are logged in and idle."""
    balancer = target.hosts[layout.balancer]
    conninfo = ready.login.conninfo(layout.way("vip"))
    argv = (ready.program, "--no-vacuum", f"--file={DIRECTORY}/idle.sql", f"--client={count}", f"--jobs={ready.cores}")
    idle = asyncio.create_task(
        ready.start(*argv, "--transactions=1", conninfo, clients=count, seconds=IDLE_SECONDS + LOGIN_SECONDS)
    )
    listing = (*pgbouncer.console(target.topology, "write"), "-c", "SHOW LISTS")

    async def all_in() -> str | None:
        if idle.done():
            return f"pgbench has ended: {idle.result().stderr.strip()[-200:]}"
        inside = lists((await balancer.run(*listing)).stdout).get("used_clients", 0)
        return None if inside >= count else f"{inside} are in"

    try:
        await until(f"{count} clients are logged in", all_in, seconds=LOGIN_SECONDS, interval_seconds=0.5)
        await asyncio.sleep(2.0)
        return await look(balancer)
    finally:
        await ready.host.run("systemctl", "stop", f"{UNIT}.service", check=False)
        await idle


def lists(printed: str) -> dict[str, int]:
    """Read PgBouncer's SHOW LISTS. Pure."""
    pairs = (line.split("|")[:2] for line in printed.splitlines() if "|" in line)
    return {name: int(number) for name, number in pairs if number.isdecimal()}


async def look(balancer: Host) -> dict[str, int]:
    """Return the bytes that all proxies of a balancer take together, and each program by itself."""
    return sizes((await balancer.run("sh", "-c", SIZES)).stdout)


def sizes(printed: str) -> dict[str, int]:
    """Read what SIZES prints. Pure."""
    sums: dict[str, int] = {"pss_bytes": 0, "rss_bytes": 0, "haproxy_pss_bytes": 0, "pgbouncer_pss_bytes": 0}
    for line in printed.splitlines():
        program, kind, kibibytes = line.split()
        key = "pss_bytes" if kind == "Pss:" else "rss_bytes"
        sums[key] += int(kibibytes) * 1024
        if kind == "Pss:":
            sums[f"{program}_pss_bytes"] += int(kibibytes) * 1024
    return sums
