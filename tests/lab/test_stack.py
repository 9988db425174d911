"""The whole path, used as applications use it: VIP, HAProxy, PgBouncer, PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

import pytest

from pgbaton.operate.waiting import until

if TYPE_CHECKING:
    from labs import Lab

    from pgbaton.hosts.process import Result

pytestmark = pytest.mark.lab


async def conninfo(lab: Lab, *, read: bool = False) -> str:
    """Return what `pgbaton dsn` gives an application."""
    said = await lab.pgbaton("dsn", "--with-password", *(["--read"] if read else []))
    assert said.ok, said.stderr
    return said.stdout.strip()


async def in_app(lab: Lab, uri: str, script: str, *, timeout: float = 60) -> Result:
    """Run a shell script on the application's machine; `$URI` there is the connection, never in argv."""
    host = lab.hosts()["app"]
    return await host.run("sh", "-c", f"IFS= read -r URI; {script}", input=f"{uri}\n", check=False, timeout=timeout)


async def query(lab: Lab, uri: str, sql: str) -> str:
    said = await in_app(lab, uri, f'psql -XAtq -d "$URI" -c "{sql}"')
    assert said.ok, said.stderr
    return said.stdout.strip()


async def healthy(lab: Lab) -> None:
    """Wait until the whole cluster is healthy."""

    async def look() -> str | None:
        said = await lab.pgbaton("status", "-o", "json")
        return None if said.exit_status == 0 and json.loads(said.stdout)["health"] == "healthy" else said.stdout[-600:]

    await until("the cluster is healthy", look, seconds=120, interval_seconds=1)


async def forget_servers(lab: Lab) -> None:
    """Have the read poolers connect anew: what led to the primary, while no standby was fit, may live for minutes."""
    for name in ("lb1", "lb2"):
        console = ("psql", "-XqAt", "-h", "/run/pgbouncer-read", "-p", "6433", "-U", "pgbouncer", "pgbouncer")
        await lab.hosts()[name].run("runuser", "-u", "pgbouncer", "--", *console, "-c", "RECONNECT")


async def test_writes_reach_the_primary_and_reads_a_standby(stock_lab: Lab) -> None:
    await healthy(stock_lab)
    await forget_servers(stock_lab)
    write, read = await conninfo(stock_lab), await conninfo(stock_lab, read=True)
    assert "sslmode=verify-full" in write
    assert await query(stock_lab, write, "SELECT pg_is_in_recovery()") == "f"
    assert await query(stock_lab, read, "SELECT pg_is_in_recovery()") == "t"
    assert await query(stock_lab, write, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "t"


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
async def test_pgbench_runs_through_both_ports(stock_lab: Lab, protocol: str) -> None:
    write, read = await conninfo(stock_lab), await conninfo(stock_lab, read=True)
    script = 'pgbench -i -q -s 1 "$URI" 2>&1' if protocol == "simple" else "true"
    made = await in_app(stock_lab, write, script)
    assert made.ok, made.stdout
    for uri, builtin in ((write, "tpcb-like"), (write, "select-only"), (read, "select-only")):
        said = await in_app(stock_lab, uri, f'pgbench -n -b {builtin} -M {protocol} -c 4 -t 50 "$URI" 2>&1')
        assert said.ok, said.stdout
        assert "number of failed transactions: 0 " in said.stdout
        assert "transactions actually processed: 200/200" in said.stdout


async def test_without_the_vip_a_client_finds_the_balancer_that_leads_to_the_primary(stock_lab: Lab) -> None:
    """With HAProxy stopped on the first of its hosts, a URI of both balancers comes to the primary by the second."""
    write = await conninfo(stock_lab)
    vip = f"@{stock_lab.topology.network.vip}:5000/"
    both = ",".join(f"{stock_lab.topology.host(name).address}:5000" for name in ("lb1", "lb2"))
    assert vip in write
    uri = write.replace(vip, f"@{both}/") + "&target_session_attrs=read-write"
    question = "SELECT pg_is_in_recovery()"
    assert await query(stock_lab, uri, question) == "f"
    balancer = stock_lab.hosts()["lb1"]
    await balancer.run("systemctl", "stop", "haproxy.service")
    try:
        assert await query(stock_lab, uri, question) == "f"
    finally:
        await balancer.run("systemctl", "start", "haproxy.service")
    await healthy(stock_lab)


async def test_a_stranger_is_turned_away(stock_lab: Lab) -> None:
    write = await conninfo(stock_lab)
    wrong = re.sub(r"://app:[^@]+@", "://app:wrong@", write)
    said = await in_app(stock_lab, wrong, 'psql -XAtq -d "$URI" -c "SELECT 1"')
    assert not said.ok
    assert "authentication failed" in said.stderr
    plain = write.replace("sslmode=verify-full", "sslmode=disable")
    said = await in_app(stock_lab, plain, 'psql -XAtq -d "$URI" -c "SELECT 1"')
    assert not said.ok


async def test_superusers_and_replication_cannot_come_in_through_the_pooler(stock_lab: Lab) -> None:
    write = await conninfo(stock_lab)
    for user, name in (("replicator", "password/replicator"), ("rewind", "password/rewind")):
        uri = re.sub(r"://app:[^@]+@", f"://{user}:{stock_lab.vault.value(name)}@", write)
        said = await in_app(stock_lab, uri, 'psql -XAtq -d "$URI" -c "SELECT 1"')
        assert not said.ok, user


async def test_applications_reach_nothing_but_the_clients_ports(stock_lab: Lab) -> None:
    """The firewall: everything else times out, as seen from the application's machine."""
    app = stock_lab.hosts()["app"]
    closed = [("db1", 5432), ("db1", 8008), ("db1", 2379), ("lb1", 6432), ("lb1", 8404)]
    script = 'timeout 1 bash -c "exec 3<>/dev/tcp/$1/$2"'
    said = await asyncio.gather(
        *(app.run("bash", "-c", script, "bash", host, str(port), check=False) for host, port in closed)
    )
    assert [place for place, each in zip(closed, said, strict=True) if each.ok] == []
    assert (await app.run("bash", "-c", script, "bash", "lb1", "5000", check=False)).ok


async def test_etcd_and_patroni_refuse_the_balancers_certificate(stock_lab: Lab) -> None:
    """A balancer that was broken into can ask who is primary; it can neither write to etcd nor command Patroni."""
    balancer, database = stock_lab.hosts()["lb1"], stock_lab.hosts()["db1"]
    pem = (await balancer.run("cat", "/etc/pgbaton/tls/haproxy.pem")).stdout
    ask = r"""
import http.client, ssl, sys, os, tempfile
port, method, path, ca = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
with tempfile.NamedTemporaryFile("w") as file:
    file.write(sys.stdin.read()); file.flush()
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    context.load_cert_chain(file.name)
connection = http.client.HTTPSConnection(sys.argv[5], port, context=context, timeout=3)
try:
    connection.request(method, path, "{}")
    print(connection.getresponse().status)
except (ssl.SSLError, ConnectionError, OSError) as error:
    print(type(error).__name__)
"""
    address = str(stock_lab.topology.host("db1").address)

    async def status(port: int, method: str, path: str, authority: str) -> str:
        tls = f"/etc/pgbaton/tls/{authority}.crt"
        argv = ("python3", "-c", ask, str(port), method, path, tls, address)
        return (await database.run(*argv, input=pem)).stdout.strip()

    assert await status(8008, "GET", "/health", "ca") == "200"
    assert await status(8008, "POST", "/restart", "ca") == "401"
    assert not (await status(2379, "POST", "/v3/kv/range", "etcd-ca")).isdigit()


async def test_no_secret_is_seen_anywhere_on_the_machines(stock_lab: Lab) -> None:
    """Processes, environments, journals, plans, journals of applies and rendered files, against every secret."""
    secrets = {name: value for name, value in stock_lab.vault.sensitive_values.items() if value}
    needles = {name: lines(value) for name, value in secrets.items()}
    assert len(needles) > 20
    looked = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; journalctl --no-pager -o cat"
    places = {name: (await host.run("sh", "-c", looked, timeout=60)).stdout for name, host in stock_lab.hosts().items()}
    for arguments in (
        ("render", "-o", "json"),
        ("plan", "-o", "json"),
        ("status", "-o", "json"),
        ("logs", "-o", "json"),
    ):
        said = await stock_lab.pgbaton(*arguments)
        places[" ".join(arguments)] = said.stdout + said.stderr
    for path in stock_lab.state.directory.rglob("*"):
        if path.is_file() and stock_lab.state.vault_directory not in path.parents:
            places[str(path)] = path.read_text(errors="replace")
    assert all(places[name] for name in stock_lab.hosts())
    leaks = [(name, place) for place, text in places.items() for name, parts in needles.items() if parts & set_of(text)]
    assert leaks == []
    # The search itself: what is known to be there is found.
    assert any("patroni" in text for text in places.values())


def lines(secret: str) -> set[str]:
    """Return the telling lines of a secret: a key's without its head and foot."""
    return {line for line in secret.splitlines() if line and "-----" not in line}


def set_of(text: str) -> set[str]:
    """Return the words of a text, as a secret would stand in it."""
    return set(re.split(r"[\s\"'=:,@]+", text.replace("\\n", "\n")))


async def test_who_elects_goes_before_the_server_that_keeps_the_processors_busy(stock_lab: Lab) -> None:
    """The server is started by Patroni, and would have its priority if that were inherited."""
    script = "systemctl show -P MainPID patroni etcd; head -n 1 /var/lib/postgresql/17/test-stock/postmaster.pid"
    host = stock_lab.hosts()["db1"]
    pids = (await host.run("sh", "-c", script)).stdout.split()
    said = await host.run("ps", "-o", "pid=,ni=", "-p", ",".join(pids))
    nice = dict(line.split() for line in said.stdout.splitlines())
    assert [nice[pid] for pid in pids] == ["-10", "-10", "0"]
    # What counts between sessions where the kernel shares processors out among them; "/autogroup-7 nice -10".
    said = await host.run("sh", "-c", 'for pid; do cat "/proc/$pid/autogroup" || true; done', "sh", *pids)
    assert [line.split()[-1] for line in said.stdout.splitlines()] in (["0", "-10", "0"], [])
    # Whoever keeps the VIP goes before all of them.
    script = 'cat "/proc/$(systemctl show -P MainPID keepalived)/autogroup" || true'
    said = await stock_lab.hosts()["lb1"].run("sh", "-c", script)
    assert said.stdout.split()[-1:] in (["-15"], [])


async def test_a_dead_pooler_leaves_rotation_at_once(stock_lab: Lab) -> None:
    """With PgBouncer stopped on the balancer that holds the VIP, clients use the other balancer's."""
    holder = await vip_holder(stock_lab)
    write = await conninfo(stock_lab)
    host = stock_lab.hosts()[holder]
    await host.run("systemctl", "kill", "--signal=STOP", "pgbouncer@write.service")
    try:
        await asyncio.sleep(3)
        said = await in_app(stock_lab, write, 'timeout 5 psql -XAtq -d "$URI" -c "SELECT 1"')
        assert said.stdout.strip() == "1", said.stderr
    finally:
        await host.run("systemctl", "kill", "--signal=CONT", "pgbouncer@write.service")
    await healthy(stock_lab)


async def vip_holder(lab: Lab) -> str:
    vip = f"inet {lab.topology.network.vip}/"
    for name in ("lb1", "lb2"):
        if vip in (await lab.hosts()[name].run("ip", "-4", "address")).stdout:
            return name
    return "nobody"


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
async def test_a_dead_or_hung_balancer_gives_the_vip_up(stock_lab: Lab, signal: str) -> None:
    holder = await vip_holder(stock_lab)
    host = stock_lab.hosts()[holder]
    await host.run("pkill", f"-{signal}", "-x", "haproxy")

    async def moved() -> str | None:
        now = await vip_holder(stock_lab)
        return None if now not in {holder, "nobody"} else f"the VIP is on {now}"

    try:
        await until("the VIP moves", moved, seconds=15, interval_seconds=0.1)
    finally:
        await host.run("pkill", "-CONT", "-x", "haproxy", check=False)
    assert await query(stock_lab, await conninfo(stock_lab), "SELECT 1") == "1"
    await healthy(stock_lab)


async def test_a_killed_keepalived_leaves_no_stale_vip(stock_lab: Lab) -> None:
    holder = await vip_holder(stock_lab)
    await stock_lab.hosts()[holder].run("pkill", "-KILL", "-x", "keepalived")
    await healthy(stock_lab)
    held = [
        name
        for name in ("lb1", "lb2")
        if f"inet {stock_lab.topology.network.vip}/"
        in (await stock_lab.hosts()[name].run("ip", "-4", "address")).stdout
    ]
    assert len(held) == 1


async def test_a_standby_that_lost_its_power_rejoins_by_itself(stock_lab: Lab) -> None:
    found = json.loads((await stock_lab.pgbaton("status", "-o", "json")).stdout)
    primary = found["primary"]
    standby = next(name for name in ("db1", "db2", "db3") if name != primary)
    assert (await stock_lab.pgbaton("lab", "power-off", standby)).ok
    assert (await stock_lab.pgbaton("status")).exit_status in {0, 3}
    assert (await stock_lab.pgbaton("lab", "power-on", standby)).ok
    await healthy(stock_lab)
