"""Faults of load: more clients than there is room for, and sessions that hold on to what moves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgbaton.hosts import files, process
from pgbaton.operate.switchover import switchover
from pgbaton.proof import final
from pgbaton.proof.faults.base import Fault, Suite, primary, within
from pgbaton.proof.faults.expectations import no_longer_than
from pgbaton.proof.faults.signals import signal_server
from pgbaton.proof.faults.victims import entry
from pgbaton.proof.parts import PRIMARY_PARTS, SWITCHOVER_PARTS
from pgbaton.proof.storm import Storm
from pgbaton.secrets import Vault
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.hosts.base import Host
    from pgbaton.proof.faults.base import Strike
    from pgbaton.proof.target import Target

#: How many sessions there are for each connection of the pool, and for how long.
TIMES_POOL = 10
STORM_SECONDS = 10.0
#: Keeps a connection of the pool busy for a moment, and the server idle.
BRIEF = "SELECT pg_sleep(0.02)"
#: A write's place in a queue of ten clients a connection, each busy for 20 ms; and logins of all of them first.
QUEUED_SECONDS = 3.0
#: Longer than any switchover: held until then.
HELD_SECONDS = 60.0
SETTLED_SECONDS = 1.0
#: pgbench's clients, and how long they work before the fault.
BENCH_CLIENTS = 10
BENCH_SECONDS = 5.0
BENCH_UNIT = "pgbaton-bench"
BENCH_LONGEST_SECONDS = 300
BENCH_TABLES = "pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers"
BENCH_DIRECTORY = "/run/pgbaton-bench"
INITIALIZE_SECONDS = 60.0


async def storm(strike: Strike) -> None:
    """Open ten times as many sessions as the pool has connections, all at once, and keep them busy."""
    target = strike.target
    sessions = TIMES_POOL * pool_size(target)
    ended = await process.run(
        *target.client_argv("pgbaton.proof.storm"),
        input=Storm(writer(target), sessions, STORM_SECONDS, BRIEF).dump(),
        timeout=3 * STORM_SECONDS,
    )
    target.report(f"the storm saw {ended.stdout.strip()}")


def pool_size(target: Target) -> int:
    """Return how many server connections the application's database has on each balancer."""
    return target.topology.databases[0].pool_size or target.topology.pooling.size


def writer(target: Target) -> dict[str, str | int]:
    """Return how the application connects for writes."""
    return target.conninfo(target.topology.balancing.write_port)


async def switch_over_held(strike: Strike) -> None:
    """Move the primary while half of the pool is held by transactions that never end."""
    target = strike.target
    held = Storm(writer(target), pool_size(target) // 2, HELD_SECONDS, "SELECT pg_current_xact_id()", hold=True)
    log = target.directory / "storm.log"
    holding = await process.start(*target.client_argv("pgbaton.proof.storm"), input=held.dump(), log=log)
    try:
        await asyncio.sleep(SETTLED_SECONDS)
        await switchover(target.operation, to=None)
    finally:
        await holding.end(timeout=10)
    target.report(f"the sessions that were held saw {log.read_text(encoding='utf-8').splitlines()[-1]}")


async def kill_under_load(strike: Strike) -> None:
    """Kill the postmaster while pgbench keeps the pool busy."""
    target = strike.target
    bench = await prepare_bench(target)
    await bench.run(
        "systemd-run", f"--unit={BENCH_UNIT}", "--collect", "--quiet", *environment(), *pgbench(target),
        f"--client={BENCH_CLIENTS}", f"--time={BENCH_LONGEST_SECONDS}", "--no-vacuum",
    )  # fmt: skip
    await asyncio.sleep(BENCH_SECONDS)
    await signal_server(strike, "KILL", "postmaster")


async def prepare_bench(target: Target) -> Host:
    """Give pgbench its tables, and a password file of its own on the application's machine; return that."""
    spec = target.topology.with_role(Role.APPLICATION)[0]
    host, database = target.hosts[spec.name], target.topology.databases[0]
    vault = Vault(target.state.vault_directory)
    password = vault.value(f"password/user/{database.owner}").replace("\\", "\\\\").replace(":", "\\:")
    await files.write_file(host, f"{BENCH_DIRECTORY}/pgpass", f"*:*:*:*:{password}\n", mode=0o600)
    await files.write_file(host, f"{BENCH_DIRECTORY}/ca.crt", vault.value("ca"))
    settings = [word.removeprefix("--setenv=") for word in environment()]
    await host.run("env", *settings, *pgbench(target), "--initialize", "--quiet", timeout=INITIALIZE_SECONDS)
    return host


def environment() -> tuple[str, ...]:
    """Return systemd-run's arguments that say how pgbench logs in."""
    variables = {
        "PGPASSFILE": f"{BENCH_DIRECTORY}/pgpass",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": f"{BENCH_DIRECTORY}/ca.crt",
    }
    return tuple(f"--setenv={name}={value}" for name, value in variables.items())


def pgbench(target: Target) -> tuple[str, ...]:
    """Return pgbench's command line up to what it is to do."""
    topology = target.topology
    database = topology.databases[0]
    port = str(topology.balancing.write_port)
    return ("pgbench", "-h", str(topology.entry_address), "-p", port, "-U", database.owner, database.name)


async def end_bench(strike: Strike) -> None:
    """End pgbench, and take its tables and files away."""
    target = strike.target
    for spec in target.topology.with_role(Role.APPLICATION):
        host = target.hosts[spec.name]
        await host.run("systemctl", "stop", BENCH_UNIT, check=False)
        await host.run("rm", "-rf", BENCH_DIRECTORY)
    primary_now = (await target.roles()).primary
    await final.sql(target, primary_now, f"DROP TABLE IF EXISTS {BENCH_TABLES}")


async def no_pgbench(target: Target) -> str | None:
    """Tell when there is no machine for pgbench, or no pgbench on it."""
    spec = next(iter(target.topology.with_role(Role.APPLICATION)), None)
    if spec is None:
        return "no machine has the role application"
    found = await target.hosts[spec.name].run("sh", "-c", "command -v pgbench", check=False)
    return None if found.ok else f"{spec.name} has no pgbench"


FAULTS = (
    Fault(
        name="connection-storm",
        title="Connection storm",
        does="ten times as many sessions as the pool has connections log in at once and keep working for 10 s",
        right="they queue, with few errors; writers go on, and PostgreSQL and Patroni notice nothing",
        victims=entry,
        inject=storm,
        expects=within(QUEUED_SECONDS),
        needs=((Role.BALANCER, 1),),
        suite=Suite.STANDARD,
    ),
    Fault(
        name="switchover-with-held-sessions",
        title="Switchover while sessions hold the pool",
        does="half of the pool is held by transactions that do not end, and the primary is moved to a standby",
        right="those sessions are ended, every other one writes to the new primary, none stays with the old one",
        victims=primary,
        inject=switch_over_held,
        expects=no_longer_than("switchover", SWITCHOVER_PARTS),
        needs=((Role.DATABASE, 2),),
    ),
    Fault(
        name="postmaster-killed-under-load",
        title="Postmaster killed under load",
        does="SIGKILL to the primary's postmaster while pgbench keeps the pool busy",
        right="a synchronous standby takes over with everything acknowledged; the old primary is rewound and rejoins",
        victims=primary,
        inject=kill_under_load,
        heal=end_bench,
        expects=no_longer_than("postmaster-killed", PRIMARY_PARTS, extra_seconds=1.0),
        needs=((Role.DATABASE, 2),),
        obstacle=no_pgbench,
    ),
)
