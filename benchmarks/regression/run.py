#!/usr/bin/env python3
"""Run PostgreSQL's own regression suite in a lab, directly and through the VIP, and compare what it prints.

As root: ``.venv/bin/python benchmarks/regression/run.py SUITE --suite-version 17.7 --write``, SUITE being
src/test/regress of PostgreSQL's source. The lab is benchmarks/regression/regression.toml. In it a superuser is let
through the poolers, which pgbaton otherwise never does: the suite makes roles, tablespaces and files.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import sys
import tarfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import outputs

from pgbaton import state as states
from pgbaton.components import pgbouncer
from pgbaton.components.base import AUTHORITY_FILE
from pgbaton.components.postgres import SOCKETS
from pgbaton.hosts import process
from pgbaton.hosts.files import write_file
from pgbaton.proof.target import Target
from pgbaton.topology import placement
from pgbaton.topology.load import load

if TYPE_CHECKING:
    from pgbaton.hosts.base import Host

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "reference" / "regression-suite.md"
TOPOLOGY, REASONS, RESULTS = HERE / "regression.toml", HERE / "reasons.toml", HERE / "results.json"
USER, DATABASE = "suite", "regression"
#: Where the suite is on the primary's host, and what it may read there.
PLACE = "/srv/regression"
#: The superuser's own home and a directory it may read: psql looks into both.
AS_POSTGRES = ("runuser", "-u", "postgres", "--", "env", "--chdir=/", "HOME=/var/lib/postgresql")
#: The longest that one run may take.
RUN_SECONDS = 3600.0
#: What pg_regress sets for a database that it makes, and what it says in logins, since PgBouncer passes on only a part.
SETTINGS = {
    "lc_messages": "C",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "bytea_output": "hex",
    "timezone_abbreviations": "Default",
    "intervalstyle": "postgres_verbose",
    "datestyle": "Postgres, MDY",
    "timezone": "America/Los_Angeles",
}
#: Roles and tablespaces that a run has left.
LEFT = """
SELECT format('DROP ROLE %I', rolname) FROM pg_roles WHERE rolname LIKE 'regress%'
UNION ALL SELECT format('DROP TABLESPACE %I', spcname) FROM pg_tablespace WHERE spcname LIKE 'regress%'
"""


@dataclass(frozen=True)
class Bench:
    """The lab, its primary's host, and the suite there."""

    target: Target
    primary: Host
    version: int

    async def sql(self, *statements: str, database: str = "postgres") -> str:
        """Run statements as the superuser of the primary, each by itself."""
        psql = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database)
        commands = [word for statement in statements for word in ("-c", statement)]
        return (await self.primary.run(*AS_POSTGRES, *psql, *commands, timeout=120)).stdout

    async def prepare(self, suite: Path) -> None:
        """Put the suite on the primary's host, and let its superuser through the poolers."""
        password = self.target.conninfo()["password"]
        await self.primary.run("mkdir", "-p", PLACE)
        await self.primary.run("tar", "x", "-C", PLACE, input=packed(suite), timeout=120)
        await self.primary.run("chown", "-R", "postgres:", PLACE)
        await write_file(self.primary, f"{PLACE}/pgpass", f"*:*:*:{USER}:{password}\n", owner="postgres", mode=0o600)
        await self.sql(f"ALTER ROLE {USER} SUPERUSER")
        verifier = (await self.sql(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{USER}'")).strip()  # noqa: S608 - a constant
        topology, hosts = self.target.topology, self.target.hosts
        for spec in placement.poolers(topology):
            entry = f'"{USER}" "{verifier}"\n'
            await hosts[spec.name].run("sh", "-c", 'cat >> "$1"', "sh", pgbouncer.USERS_FILE, input=entry)
            for instance in pgbouncer.instances(topology):
                await hosts[spec.name].run(*pgbouncer.console(topology, instance), "-c", "RELOAD")

    async def renew(self) -> None:
        """Make the database anew, as pg_regress does."""
        await self.sql(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        for statement in (await self.sql(LEFT)).splitlines():
            await self.sql(statement)
        await self.sql(f"CREATE DATABASE {DATABASE} OWNER {USER} TEMPLATE template0")
        await self.sql(*(f"ALTER DATABASE {DATABASE} SET {name} = '{value}'" for name, value in SETTINGS.items()))
        await self.primary.run("rm", "-rf", f"{PLACE}/out")

    async def run(self, name: str, **environment: str) -> outputs.Run:
        """Run the suite; ``environment`` says how it connects."""
        await self.renew()
        tools = f"/usr/lib/postgresql/{self.version}"
        options = {
            "bindir": f"{tools}/bin",
            "dlpath": f"{tools}/lib",
            "inputdir": f"{PLACE}/suite",
            "expecteddir": f"{PLACE}/suite",
            "outputdir": f"{PLACE}/out",
            "schedule": f"{PLACE}/suite/parallel_schedule",
            "max-connections": "10",
            "user": USER,
            "dbname": DATABASE,
            "host": environment.pop("host"),
            "port": environment.pop("port"),
        }
        words = ("--use-existing", *(f"--{key}={value}" for key, value in options.items()))
        variables = {"PGPASSFILE": f"{PLACE}/pgpass", **environment}
        await self.primary.run("install", "-d", "-o", "postgres", f"{PLACE}/out")
        argv = (
            *AS_POSTGRES,
            f"--chdir={PLACE}/out",
            *(f"{key}={value}" for key, value in variables.items()),
            f"{tools}/lib/pgxs/src/test/regress/pg_regress",
            *words,
        )
        began = time.monotonic()
        said = await self.primary.run(*argv, check=False, timeout=RUN_SECONDS)
        took = time.monotonic() - began
        passed, failed = outputs.verdicts(said.stdout)
        if not passed:
            sys.exit(f"the suite did not run: {said.stdout[-2000:]}{said.stderr[-2000:]}")
        print(f"{name}: {len(passed)} as expected, {len(failed)} not, {took:.0f} s", flush=True)
        return outputs.Run(name, took, passed, failed, await self.printed())

    async def printed(self) -> dict[str, str]:
        """Return what each test printed."""
        said = await self.primary.run("sh", "-c", f"tar c -C {PLACE}/out/results . | base64", timeout=300)
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(said.stdout))) as archive:
            files = [member for member in archive.getmembers() if member.name.endswith(".out")]
            texts = {Path(member.name).stem: archive.extractfile(member) for member in files}
            return {name: text.read().decode(errors="replace") for name, text in texts.items() if text}


def packed(suite: Path) -> bytes:
    """Return the suite as an archive, with everything under ``suite/``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(suite, "suite")
    return buffer.getvalue()


async def measure(cluster: str, suite: Path, suite_version: str) -> tuple[dict[str, Any], dict[str, outputs.Run]]:
    """Run the suite in both ways; return what there is to say, and the runs."""
    state = states.cluster(cluster)
    topology = load(state.topology_file)
    target = Target(topology, state, lambda _: None)
    await target.until_whole(seconds=180)
    bench = Bench(target, target.hosts[await target.primary()], topology.postgresql.version)
    await bench.prepare(suite)
    way = target.conninfo()
    socket = {"host": SOCKETS, "port": str(topology.postgresql.port)}
    vip = {
        "host": str(way["host"]),
        "port": str(way["port"]),
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": AUTHORITY_FILE,
    }
    direct = await bench.run("directly", **socket)
    pooled = await bench.run("through the VIP", **vip)
    server = (await bench.sql("SHOW server_version")).split()[0]
    reasons = tomllib.loads(REASONS.read_text(encoding="utf-8")) if REASONS.exists() else {}
    found = outputs.summary(direct, pooled, reasons=reasons, server=server, suite=suite_version)
    return found, {"direct": direct, "pooled": pooled}


def keep(directory: Path, runs: dict[str, outputs.Run]) -> None:
    """Write what every test printed in every run, and the differences, for whoever explains them."""
    for name, run in runs.items():
        place = directory / name
        place.mkdir(parents=True, exist_ok=True)
        for test, text in run.outputs.items():
            (place / f"{test}.out").write_text(text, encoding="utf-8")
    for test, lines in outputs.differences(runs["direct"], runs["pooled"]).items():
        (directory / f"{test}.diff").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line; make the lab, measure, write, take the lab down."""
    parser = argparse.ArgumentParser(description="Run PostgreSQL's regression suite directly and through the VIP.")
    parser.add_argument("suite", type=Path, help="src/test/regress of PostgreSQL's source")
    parser.add_argument("--suite-version", required=True, help="the version that the suite is of, such as 17.7")
    parser.add_argument("--cluster", default="regression", help="the lab's name")
    parser.add_argument("--outputs", type=Path, help="write all that was printed into this directory")
    parser.add_argument("--write", action="store_true", help="write the page and results.json")
    chosen = parser.parse_args()
    if not (chosen.suite / "parallel_schedule").exists():
        parser.error(f"{chosen.suite} has no parallel_schedule: name src/test/regress of PostgreSQL's source")
    command = (sys.executable, "-m", "pgbaton", "lab")
    asyncio.run(process.run(*command, "up", str(TOPOLOGY), "--cluster", chosen.cluster, timeout=900))
    try:
        found, runs = asyncio.run(measure(chosen.cluster, chosen.suite, chosen.suite_version))
    finally:
        asyncio.run(process.run(*command, "down", "--cluster", chosen.cluster, timeout=300))
    if chosen.outputs:
        keep(chosen.outputs, runs)
    for each in found["changed"]:
        print(f"differs through the VIP: {each['test']} ({each['lines']} lines)  {each['why']}")
    if chosen.write:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(outputs.page(found), encoding="utf-8")
    if missing := outputs.unexplained(found):
        sys.exit(f"not explained in {REASONS.name}: {', '.join(missing)}")


if __name__ == "__main__":
    main()
