"""The programs in examples/clients, as their users run them: through the VIP, over verified TLS, and a failover."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from labs import Lab, pgbaton
from poolers import in_network, target_of, tell

from pgbaton.hosts import process
from pgbaton.operate.waiting import until
from pgbaton.state import write_private
from pgbaton.topology.load import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgbaton.hosts.process import Result

pytestmark = pytest.mark.lab

DIRECTORY = Path(__file__).parents[2] / "examples" / "clients"
CASES = Path(__file__).with_name("pooling_cases.py")
#: So many that nobody is right by chance.
CANCELS = 8
#: Orders of every program before the primary is killed, and after it.
BEFORE, AFTER = 10, 25
FAILOVER_SECONDS = 90.0
END_SECONDS = 75.0


@dataclass(frozen=True)
class Example:
    """A program, the table it writes to, and the library that has to be here."""

    program: str
    table: str
    library: str

    @property
    def obstacle(self) -> str | None:
        """Return why it cannot be run here, None when it can."""
        if self.program.endswith(".js"):
            if not shutil.which("node"):
                return "needs Node.js and npm on this machine (Debian: nodejs, npm), then ./run test"
            here = (DIRECTORY / self.program).parent.joinpath("node_modules", self.library).exists()
        else:
            here = importlib.util.find_spec(self.library) is not None
        return None if here else f"needs {self.library}, which ./run test installs"

    @property
    def argv(self) -> tuple[str, ...]:
        """Return its command line."""
        return ("node" if self.program.endswith(".js") else sys.executable, str(DIRECTORY / self.program))


EXAMPLES = {
    "psycopg": Example("psycopg/app.py", "psycopg_orders", "psycopg_pool"),
    "asyncpg": Example("asyncpg/app.py", "asyncpg_orders", "asyncpg"),
    "sqlalchemy": Example("sqlalchemy/app.py", "sqlalchemy_orders", "sqlalchemy"),
    "sqlalchemy-asyncio": Example("sqlalchemy/app_asyncio.py", "sqlalchemy_asyncio_orders", "sqlalchemy"),
    "django": Example("django/app.py", "django_orders", "django"),
    "node": Example("node/app.js", "node_orders", "pg"),
}
HERE = {name: example for name, example in EXAMPLES.items() if example.obstacle is None}


def example_of(name: str) -> Example:
    """Return a program by name; where it cannot be run, the test is skipped and says why."""
    example = EXAMPLES[name]
    if example.obstacle:
        pytest.skip(example.obstacle)
    return example


def environment(lab: Lab) -> tuple[str, ...]:
    """Return where and who, as variables; the password is in a file."""
    target = target_of(lab)
    way = target.conninfo()
    # Beside the clusters: what is in one's own directory is looked through for secrets.
    passfile = lab.state.directory.parent.parent / "pgpass"
    write_private(passfile, f"{way['host']}:*:{way['dbname']}:{way['user']}:{way['password']}\n")
    values = {
        "PGHOST": way["host"],
        "PGPORT": way["port"],
        "READ_PORT": target.conninfo(reads=True)["port"],
        "PGDATABASE": way["dbname"],
        "PGUSER": way["user"],
        "PGSSLROOTCERT": way["sslrootcert"],
        "PGPASSFILE": passfile,
    }
    return ("env", *(f"{name}={value}" for name, value in values.items()))


def command(lab: Lab, example: Example, verb: str) -> tuple[str, ...]:
    return in_network(lab, *environment(lab), *example.argv, verb)


async def run(lab: Lab, example: Example, verb: str) -> Result:
    """Run a program of one verb to its end."""
    return await process.run(*command(lab, example, verb), check=False, timeout=60)


@pytest.fixture(scope="module")
def whole_lab(stock_lab: Lab) -> Lab:
    """A whole cluster, whose poolers forget that reads once had to go to the primary."""
    asyncio.run(target_of(stock_lab).until_whole(seconds=120))
    tell(stock_lab, "read", "RECONNECT")
    return stock_lab


@pytest.mark.parametrize("name", EXAMPLES)
async def test_each_library_does_everything_that_its_program_shows(whole_lab: Lab, name: str) -> None:
    said = await run(whole_lab, example_of(name), "tour")
    assert said.ok, said.stderr
    steps = dict(line.split(": ", 1) for line in said.stdout.splitlines())
    assert list(steps) == ["transact", "prepare", "copy", "cancel", "read"]
    assert re.fullmatch(r"1000 orders, says a standby", steps["read"]), steps["read"]


@pytest.mark.parametrize("name", EXAMPLES)
async def test_a_cluster_of_another_authority_is_turned_away(whole_lab: Lab, tmp_path: Path, name: str) -> None:
    """Or a program that verifies nothing would look as good."""
    foreign = tmp_path / "foreign.crt"
    foreign.write_text(whole_lab.vault.value("etcd-ca"), encoding="ascii")
    example = example_of(name)
    variables = (*environment(whole_lab), f"PGSSLROOTCERT={foreign}")
    said = await process.run(*in_network(whole_lab, *variables, *example.argv, "listen"), check=False, timeout=60)
    assert not said.ok
    assert re.search(
        r"certificate verify failed|self.signed certificate|unable to verify|signature failure", said.stderr
    ), said.stderr


@dataclass(frozen=True)
class Writer:
    """A program that places orders until it is told to end."""

    process: subprocess.Popen[bytes]
    orders: Path
    complaints: Path

    @classmethod
    def start(cls, lab: Lab, name: str, directory: Path) -> Writer:
        orders, complaints = directory / f"{name}.orders", directory / f"{name}.complaints"
        with orders.open("wb") as out, complaints.open("wb") as err:
            argv = command(lab, EXAMPLES[name], "write")
            return cls(subprocess.Popen(argv, stdout=out, stderr=err, stdin=subprocess.DEVNULL), orders, complaints)

    @property
    def acknowledged(self) -> list[str]:
        """Return the orders that were acknowledged so far."""
        return self.orders.read_text(encoding="ascii").splitlines()

    def end(self) -> int:
        """Have it finish its order; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(END_SECONDS)
        finally:
            self.process.kill()


@dataclass(frozen=True)
class Written:
    """What became of one program's orders."""

    acknowledged: list[str]
    before_the_kill: int
    exit_status: int
    complaints: str
    rows: list[str]


async def grown(writers: Mapping[str, Writer], least: Mapping[str, int]) -> None:
    """Wait until every program had so many orders acknowledged."""

    async def look() -> str | None:
        ended = {name: writer.complaints.read_text() for name, writer in writers.items() if writer.process.poll()}
        assert not ended, ended
        behind = {name: len(writer.acknowledged) for name, writer in writers.items()}
        return str(behind) if any(behind[name] < count for name, count in least.items()) else None

    await until("every program's orders are acknowledged", look, seconds=FAILOVER_SECONDS, interval_seconds=0.2)


async def strike(lab: Lab, writers: Mapping[str, Writer]) -> Mapping[str, int]:
    """Kill the primary's postmaster under all programs; return how many orders each had by then, once all go on."""
    target = target_of(lab)
    await grown(writers, dict.fromkeys(writers, BEFORE))
    primary = await target.primary()
    counts = {name: len(writer.acknowledged) for name, writer in writers.items()}
    await target.hosts[primary].run("pkill", "-KILL", "-o", "-x", "postgres")
    await grown(writers, {name: count + AFTER for name, count in counts.items()})
    return counts


def rows_of(lab: Lab, names: list[str]) -> Mapping[str, list[str]]:
    """Return the ids that are in each program's table."""
    query = " UNION ALL ".join(f"SELECT '{name}', id FROM {EXAMPLES[name].table}" for name in names)  # noqa: S608 - names from the table above
    said = asyncio.run(pgbaton("psql", "--cluster", lab.name, "--", "-XAtq", "-c", query))
    assert said.ok, said.stderr
    rows: dict[str, list[str]] = {name: [] for name in names}
    for line in said.stdout.splitlines():
        name, _, order = line.partition("|")
        rows[name].append(order)
    return rows


@pytest.fixture(scope="module")
def written(whole_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Written]:
    """What every program wrote while the primary was killed, all of them at once."""
    directory = tmp_path_factory.mktemp("orders")
    writers = {name: Writer.start(whole_lab, name, directory) for name in HERE}
    statuses: dict[str, int] = {}
    try:
        counts = asyncio.run(strike(whole_lab, writers))
    finally:
        statuses = {name: writer.end() for name, writer in writers.items()}
    asyncio.run(target_of(whole_lab).until_whole(seconds=120))
    rows = rows_of(whole_lab, list(writers))
    return {
        name: Written(writer.acknowledged, counts[name], statuses[name], writer.complaints.read_text(), rows[name])
        for name, writer in writers.items()
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_library_goes_on_after_the_primary_is_killed_and_loses_no_order(
    written: Mapping[str, Written], name: str
) -> None:
    example_of(name)
    seen = written[name]
    assert seen.exit_status == 0, seen.complaints
    assert len(seen.acknowledged) >= seen.before_the_kill + AFTER
    run_of_these = seen.acknowledged[0].partition("-")[0]
    kept = [order for order in seen.rows if order.startswith(f"{run_of_these}-")]
    # Each order once, however often it was tried; and none that nobody was told of.
    assert sorted(kept) == sorted(seen.acknowledged)


def applied(lab: Lab, text: str, file: Path) -> Lab:
    """Have a cluster follow another topology."""
    file.write_text(text, encoding="utf-8")
    said = asyncio.run(lab.pgbaton("apply", str(file), "--yes"))
    assert said.ok, said.stderr
    return Lab(lab.state, load(file))


@pytest.fixture(scope="module")
def session_lab(whole_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The same cluster, pooled by session to the end of this module, by two processes on each port."""
    file, before = tmp_path_factory.mktemp("session") / "session.toml", whole_lab.state.topology_file.read_text()
    try:
        yield applied(whole_lab, before.replace("[pooling]", '[pooling]\nmode = "session"\nprocesses = 2'), file)
    finally:
        applied(whole_lab, before, file)


async def test_a_cancel_finds_the_process_that_it_is_for(session_lab: Lab) -> None:
    """It comes on a connection of its own, which the kernel gives to either process: half are to be passed on."""
    where = json.dumps(target_of(session_lab).conninfo()) + "\n"
    argv = in_network(session_lab, sys.executable, str(CASES), *["cancel"] * CANCELS)
    said = await process.run(*argv, input=where, check=False, timeout=CANCELS * 15)
    assert [came_to for _, came_to in json.loads(said.stdout)] == ["works"] * CANCELS, said.stderr


@pytest.mark.parametrize("name", EXAMPLES)
async def test_each_library_hears_notifications_where_sessions_are_pooled(session_lab: Lab, name: str) -> None:
    said = await run(session_lab, example_of(name), "listen")
    assert said.stdout == "listen: an order of tea\n", said.stderr
