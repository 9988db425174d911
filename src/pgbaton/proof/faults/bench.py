"""pgbench on the application's machine, through the VIP: its tables, its login, its work and its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.hosts import files
from pgbaton.proof import final
from pgbaton.secrets import Vault
from pgbaton.topology import placement
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.hosts.base import Host
    from pgbaton.proof.faults.base import Strike
    from pgbaton.proof.target import Target

UNIT = "pgbaton-bench"
TABLES = "pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers"
DIRECTORY = "/run/pgbaton-bench"
#: How long the tables may take to be made, and how much longer for each further branch, which is 100,000 accounts.
INITIALIZE_SECONDS = 60.0
BRANCH_SECONDS = 10.0
#: pgbench goes on with the clients that are left where one was lost, unless it can be told to end (since 17).
ENDS_WITH_A_CLIENT_SINCE = 17
#: However soon it ends, and however often.
AGAIN = ("--property=Restart=on-failure", "--property=RestartSec=1", "--property=StartLimitIntervalSec=0")


@dataclass(frozen=True)
class Bench:
    """How pgbench works: with how many clients, for how long at most, in tables of how many branches.

    ``again``: it is started again, with all of its clients, whenever it ends before its time or loses one of them.
    """

    clients: int
    seconds: int
    branches: int = 1
    again: bool = False


async def start(target: Target, bench: Bench) -> None:
    """Make pgbench's tables, and let it work in the background."""
    host = await prepare(target, branches=bench.branches)
    await host.run(*in_background(target, bench))


async def prepare(target: Target, *, branches: int) -> Host:
    """Give pgbench its tables, and a password file of its own on the application's machine; return that."""
    host, database = machine(target), target.topology.databases[0]
    vault = Vault(target.state.vault_directory)
    password = vault.value(f"password/user/{database.owner}").replace("\\", "\\\\").replace(":", "\\:")
    await files.write_file(host, f"{DIRECTORY}/pgpass", f"*:*:*:*:{password}\n", mode=0o600)
    await files.write_file(host, f"{DIRECTORY}/ca.crt", vault.value("ca"))
    settings = [word.removeprefix("--setenv=") for word in environment()]
    argv = ("env", *settings, *pgbench(target), "--initialize", "--quiet", f"--scale={branches}")
    await host.run(*argv, timeout=INITIALIZE_SECONDS + BRANCH_SECONDS * (branches - 1))
    return host


def machine(target: Target) -> Host:
    """Return the application's machine."""
    return target.hosts[target.topology.with_role(Role.APPLICATION)[0].name]


def in_background(target: Target, bench: Bench) -> tuple[str, ...]:
    """Return the command line that lets pgbench work as a unit of its machine's."""
    complete = bench.again and target.topology.postgresql.version >= ENDS_WITH_A_CLIENT_SINCE
    return (
        "systemd-run", f"--unit={UNIT}", "--collect", "--quiet", *(AGAIN if bench.again else ()), *environment(),
        *pgbench(target), f"--client={bench.clients}", f"--time={bench.seconds}", "--no-vacuum",
        *(("--exit-on-abort",) if complete else ()),
    )  # fmt: skip


def environment() -> tuple[str, ...]:
    """Return systemd-run's arguments that say how pgbench logs in."""
    variables = {
        "PGPASSFILE": f"{DIRECTORY}/pgpass",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": f"{DIRECTORY}/ca.crt",
    }
    return tuple(f"--setenv={name}={value}" for name, value in variables.items())


def pgbench(target: Target) -> tuple[str, ...]:
    """Return pgbench's command line up to what it is to do."""
    topology = target.topology
    database = topology.databases[0]
    entrance = placement.entrance(topology)
    where = ("-h", entrance.hosts, "-p", str(entrance.write_port))
    return ("pgbench", *where, "-U", database.owner, database.name)


async def started_again(strike: Strike) -> int:
    """Return how often pgbench was started again."""
    said = await machine(strike.target).run("systemctl", "show", "--property=NRestarts", "--value", UNIT)
    return int(said.stdout)


async def transactions(strike: Strike) -> int:
    """Return how many of pgbench's transactions were committed: each leaves a row in its history."""
    return int(await final.sql(strike.target, strike.before.primary, "SELECT count(*) FROM pgbench_history"))


async def end(strike: Strike) -> None:
    """End pgbench, and take its tables and files away."""
    target = strike.target
    for spec in target.topology.with_role(Role.APPLICATION):
        host = target.hosts[spec.name]
        await host.run("systemctl", "stop", UNIT, check=False)
        await host.run("rm", "-rf", DIRECTORY)
    primary_now = (await target.roles()).primary
    await final.sql(target, primary_now, f"DROP TABLE IF EXISTS {TABLES}")


async def missing(target: Target) -> str | None:
    """Tell when there is no machine for pgbench, or no pgbench on it."""
    spec = next(iter(target.topology.with_role(Role.APPLICATION)), None)
    if spec is None:
        return "no machine has the role application"
    found = await target.hosts[spec.name].run("sh", "-c", "command -v pgbench", check=False)
    return None if found.ok else f"{spec.name} has no pgbench"
