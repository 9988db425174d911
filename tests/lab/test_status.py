"""What pgbaton sees of a running cluster, held against what the machines themselves say."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgbaton.hosts import process
from pgbaton.observe.collect import collect
from pgbaton.observe.findings import Health, Level
from pgbaton.observe.report import Report, report
from pgbaton.state import read_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from labs import Lab

    from pgbaton.hosts.process import Result

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

#: How long the cluster may take to show, or to recover from, what a test did to it.
SETTLE_SECONDS = 60.0


async def psql(lab: Lab, *arguments: str, input: str | None = None) -> Result:  # noqa: A002 - as process.run has it
    """Run `pgbaton psql`; whatever follows ``--`` is psql's."""
    argv = (sys.executable, "-m", "pgbaton", "psql", "--cluster", lab.name, *arguments)
    return await process.run(*argv, input=input, check=False, timeout=60)


async def look(lab: Lab, *, timeout: float = 20) -> Report:
    return report(lab.topology, await collect(lab.topology, lab.hosts(), timeout=timeout))


async def until(lab: Lab, seen: Callable[[Report], bool]) -> Report:
    """Look until a report is as it should be; the last one is the failure's story."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        latest = await look(lab)
        if seen(latest):
            return latest
        assert time.monotonic() < deadline, "\n".join(f"{finding}" for finding in latest.findings)
        await asyncio.sleep(0.5)


async def healthy(lab: Lab) -> Report:
    return await until(lab, lambda seen: seen.health is Health.HEALTHY)


@asynccontextmanager
async def broken(lab: Lab, host: str, *, by: tuple[str, ...], mended_by: tuple[str, ...]) -> AsyncIterator[None]:
    """Break something on a host; mend it afterwards, and wait until the cluster is healthy again."""
    await lab.hosts()[host].run(*by)
    try:
        yield
    finally:
        await lab.hosts()[host].run(*mended_by)
        await healthy(lab)


async def test_a_healthy_cluster_is_seen_as_its_machines_are(stock_lab: Lab) -> None:
    seen = await healthy(stock_lab)
    assert not [finding for finding in seen.findings if finding.level < Level.NOTE]
    machines = stock_lab.hosts()
    databases = [row.name for row in seen.hosts if "database" in row.roles]
    roles = {}
    for name in databases:
        query = ("runuser", "-u", "postgres", "--", "psql", "-XAtc", "select pg_is_in_recovery()", "postgres")
        roles[name] = "standby" if (await machines[name].run(*query)).stdout.strip() == "t" else "primary"
    assert {row.name: row.role for row in seen.hosts if row.name in databases} == roles
    for row in seen.hosts:
        if "balancer" in row.roles:
            addresses = (await machines[row.name].run("ip", "-4", "address")).stdout
            assert row.holds_vip is (f"inet {seen.vip}/" in addresses)
            assert row.name in next(other for other in seen.hosts if other.name == seen.primary).writes_from
    standbys = [row for row in seen.hosts if row.role == "standby"]
    assert sorted(row.sync_state or "" for row in standbys) == ["async", "sync"]
    assert all(len(row.reads_from) == 2 for row in standbys)
    assert (seen.etcd.healthy, seen.etcd.members) == (3, 3)
    assert len(seen.pools) == 4


async def test_every_part_of_every_host_is_seen(stock_lab: Lab) -> None:
    seen = await healthy(stock_lab)
    for view in seen.snapshot.hosts:
        assert view.reachable
        assert view.problems == ()
        assert all(unit.active == "active" and unit.enabled == "enabled" for unit in view.units)
        assert abs(view.clock_offset_seconds or 0.0) < 0.5
    database = seen.snapshot.host(seen.primary or "")
    assert database.packages
    assert set(database.packages) >= {"patroni", "etcd-server"}
    assert database.disk
    assert database.disk.free_bytes > 0
    assert database.next_expiry
    assert database.patroni
    assert database.patroni.leader == seen.primary


async def test_status_prints_the_same_facts_as_text_and_as_json(stock_lab: Lab) -> None:
    await healthy(stock_lab)
    told = await stock_lab.pgbaton("status", "-o", "json", "--timeout", "20")
    assert told.ok, told.stderr
    data = json.loads(told.stdout)
    text = (await stock_lab.pgbaton("status", "--timeout", "20")).stdout
    for fact in (data["health"], f"primary {data['primary']}", data["vip"], data["survives"]):
        assert fact in text
    assert all(host["name"] in text for host in data["hosts"])


@pytest.mark.parametrize(("option", "recovering"), [((), "f"), (("--read",), "t")])
async def test_the_uri_works_in_the_labs_network_with_the_certificate_verified(
    stock_lab: Lab, option: tuple[str, ...], recovering: str
) -> None:
    uri = (await stock_lab.pgbaton("dsn", "--with-password", *option)).stdout.strip()
    app = next(host for host in read_json(stock_lab.state.lab_file)["hosts"] if "application" in host["roles"])
    query = ("psql", uri, "-XAtc", "select pg_is_in_recovery()")
    told = await process.run("ip", "netns", "exec", app["netns"], *query, check=False)
    assert told.stdout.strip() == recovering, told.stderr


async def test_the_uri_works_on_the_application_machine_too(stock_lab: Lab) -> None:
    uri = (await stock_lab.pgbaton("dsn", "--with-password")).stdout.strip()
    told = await stock_lab.hosts()["app"].run("psql", uri, "-XAtc", "select current_user")
    assert told.stdout.strip() == "app"


async def test_psql_passes_input_output_and_exit_status_on(stock_lab: Lab) -> None:
    assert (await psql(stock_lab, "--", "-XAt", input="select 6 * 7;")).stdout.strip() == "42"
    read = await psql(stock_lab, "--read", "--", "-XAtc", "select pg_is_in_recovery()")
    assert read.stdout.strip() == "t"
    failed = await psql(stock_lab, "--", "-Xc", "select nothing_there")
    assert failed.exit_status == 1
    assert "nothing_there" in failed.stderr
    own = await psql(stock_lab, "--host", "db2", "--", "-XAtc", "select current_user, inet_server_addr() is null")
    assert own.stdout.strip() == "postgres|t"


async def test_psql_shows_its_password_to_nobody_and_leaves_nothing(stock_lab: Lab) -> None:
    password = stock_lab.vault.value("password/user/app")
    running = asyncio.create_task(psql(stock_lab, "--", "-Xc", "select pg_sleep(5) /* marked */"))
    shown = await asyncio.to_thread(told_to_processes, "/* marked */", "psql")
    assert (await running).ok
    assert "/* marked */" in shown
    assert password not in shown
    left = await stock_lab.hosts()["app"].run("find", "/run", "-maxdepth", "1", "-name", "pgbaton-psql-*")
    assert left.stdout == ""


async def test_an_interrupt_cancels_the_query_and_not_psql(stock_lab: Lab) -> None:
    # script(1) goes through a shell: it must not stay between, for which shell that is depends on the environment.
    command = f"exec {sys.executable} -m pgbaton psql --cluster {stock_lab.name} -- -X -P pager=off"
    # script(1) gives the command a terminal, on which a byte 3 is ^C.
    argv = ("script", "-qec", command, "/dev/null")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as terminal:  # noqa: ASYNC220 - it must be talked with
        assert terminal.stdin
        terminal.stdin.write(b"select pg_sleep(50) /* cancel me */;\n")
        terminal.stdin.flush()
        await sleeping(stock_lab, 1)
        terminal.stdin.write(b"\x03")
        terminal.stdin.flush()
        await sleeping(stock_lab, 0)
        said, _ = await asyncio.to_thread(terminal.communicate, b"select 6 * 7 as answer;\n\\q\n", timeout=60)
    assert b"canceling statement due to user request" in said
    assert b"42" in said
    assert terminal.returncode == 0


async def sleeping(lab: Lab, count: int) -> None:
    """Wait until so many statements sleep on the primary."""
    query = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep%cancel me%'"
    primary = (await look(lab)).primary
    assert primary
    deadline = time.monotonic() + SETTLE_SECONDS
    while (await psql(lab, "--host", primary, "--", "-XAtc", query)).stdout.strip() != str(count):
        assert time.monotonic() < deadline, f"never were {count} statements asleep"
        await asyncio.sleep(0.2)


def told_to_processes(mark: str, program: str) -> str:
    """Return command lines and environments of all processes, once ``program`` runs with ``mark`` in its arguments."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        lines = [read(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
        if any(Path(line.split("\0")[0]).name == program and mark in line for line in lines):
            return "\n".join(lines + [read(path) for path in Path("/proc").glob("[0-9]*/environ")])
        assert time.monotonic() < deadline, f"{program} did not start"
        time.sleep(0.1)


def read(path: Path) -> str:
    """Return a file of /proc; a process that is gone has nothing to tell."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


async def test_the_journals_are_one_timeline_of_all_services_without_any_secret(stock_lab: Lab) -> None:
    told = await stock_lab.pgbaton("logs", "--since", "2h", "-o", "json")
    assert told.ok, told.stderr
    entries = [json.loads(line) for line in told.stdout.splitlines()]
    times = [entry["at"] for entry in entries]
    assert times == sorted(times)
    units = {entry["unit"].partition(".")[0].partition("@")[0] for entry in entries}
    assert units >= {"patroni", "etcd", "haproxy", "pgbouncer", "keepalived"}
    assert {entry["host"] for entry in entries} >= {"lb1", "lb2", "db1", "db2", "db3"}
    secrets = stock_lab.vault.sensitive_values
    assert not [name for name, value in secrets.items() if value in told.stdout]


async def test_the_journals_can_be_narrowed(stock_lab: Lab) -> None:
    told = await stock_lab.pgbaton("logs", "--since", "2h", "--host", "db1", "--unit", "etcd", "-o", "json")
    entries = [json.loads(line) for line in told.stdout.splitlines()]
    assert entries
    assert {(entry["host"], entry["unit"]) for entry in entries} == {("db1", "etcd.service")}


async def test_a_hung_server_is_told_of_in_time_and_hides_nothing_else(stock_lab: Lab) -> None:
    seen = await healthy(stock_lab)
    name = next(row.name for row in seen.hosts if row.role == "standby")
    stop, go_on = (
        ("sh", "-c", f'kill -{signal} "$(head -n 1 "$1"/postmaster.pid)"', "sh", stock_lab.topology.data_directory)
        for signal in ("STOP", "CONT")
    )
    async with broken(stock_lab, name, by=stop, mended_by=go_on):
        before = time.monotonic()
        seen = await look(stock_lab, timeout=10)
        assert time.monotonic() - before < 10
        view = seen.snapshot.host(name)
        assert view.postgres is None
        assert "no answer within" in (view.problem("postgres") or "")
        assert view.etcd
        assert view.units
        assert [finding.subject for finding in seen.findings if finding.rule == "server-silent"] == [name]


async def test_a_hung_balancer_is_told_of(stock_lab: Lab) -> None:
    seen = await healthy(stock_lab)
    name = next(row.name for row in seen.hosts if "balancer" in row.roles and not row.holds_vip)
    stop, go_on = (("systemctl", "kill", "-s", signal, "haproxy") for signal in ("STOP", "CONT"))
    async with broken(stock_lab, name, by=stop, mended_by=go_on):
        seen = await look(stock_lab, timeout=10)
        (finding,) = (finding for finding in seen.findings if finding.rule == "haproxy-silent")
        assert (finding.subject, finding.level) == (name, Level.WARNING)
        assert name not in {writer for row in seen.hosts for writer in row.writes_from}


async def test_a_paused_pool_is_told_of(stock_lab: Lab) -> None:
    port = str(stock_lab.topology.pooling.read_port)
    console = ("runuser", "-u", "pgbouncer", "--", "psql", "-h", "/run/pgbouncer-read", "-p", port, "-U", "pgbouncer")
    pause, resume = ((*console, "-c", word, "pgbouncer") for word in ("PAUSE", "RESUME"))
    async with broken(stock_lab, "lb2", by=pause, mended_by=resume):
        seen = await look(stock_lab)
        (finding,) = (finding for finding in seen.findings if finding.rule == "pooler-paused")
        assert (finding.subject, finding.part) == ("lb2", "read")


async def test_a_stopped_keepalived_and_a_disabled_unit_are_told_of(stock_lab: Lab) -> None:
    seen = await healthy(stock_lab)
    name = next(row.name for row in seen.hosts if "balancer" in row.roles and not row.holds_vip)
    stop, start = (("systemctl", verb, "keepalived") for verb in ("stop", "start"))
    async with broken(stock_lab, name, by=stop, mended_by=start):
        seen = await look(stock_lab)
        assert ("unit-not-running", name, "keepalived.service") in {finding.identity for finding in seen.findings}
    disable, enable = (("systemctl", verb, "haproxy") for verb in ("disable", "enable"))
    async with broken(stock_lab, name, by=disable, mended_by=enable):
        seen = await look(stock_lab)
        assert ("unit-not-enabled", name, "") in {finding.identity for finding in seen.findings}


async def test_a_paused_patroni_is_told_of(stock_lab: Lab) -> None:
    control = ("patronictl", "-c", "/etc/patroni/config.yml")
    async with broken(stock_lab, "db1", by=(*control, "pause", "--wait"), mended_by=(*control, "resume", "--wait")):
        seen = await until(stock_lab, lambda seen: any(it.rule == "patroni-paused" for it in seen.findings))
        assert seen.health is Health.DEGRADED
        assert seen.exit_status == 0
