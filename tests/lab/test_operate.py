"""Operations on a real cluster; every test leaves it whole."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from test_stack import conninfo, in_app

from pgbaton.operate import readers, rolling, switchover
from pgbaton.operate.checks import failed
from pgbaton.operate.operation import Operation
from pgbaton.operate.servers import Absence, Server
from pgbaton.operate.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from labs import Lab

    from pgbaton.operate.members import View

pytestmark = pytest.mark.lab

OK, USAGE, REFUSED = 0, 2, 6
NO_RESTART = "/run/systemd/system/patroni.service.d/no-restart.conf"


class Cluster:
    """The lab's cluster: pgbaton's commands on it, and the hosts behind it."""

    def __init__(self, lab: Lab) -> None:
        self.pgbaton = lab.pgbaton
        self.hosts = lab.hosts()
        self.operation = Operation(lab.topology, self.hosts, lambda _: None, timeout_seconds=120)

    async def done(self, *arguments: str) -> dict[str, Any]:
        """Run a command that must succeed; return its JSON."""
        result = await self.pgbaton(*arguments, "-o", "json")
        assert result.exit_status == OK, result.stderr
        data: dict[str, Any] = json.loads(result.stdout)
        return data

    async def refused(self, *arguments: str) -> str:
        """Run a command that must be refused; return what it said."""
        result = await self.pgbaton(*arguments)
        assert result.exit_status == REFUSED, result.stdout + result.stderr
        return result.stderr

    async def look(self) -> View:
        return await self.operation.look()

    async def roles(self) -> tuple[str, str, str]:
        """Return primary, synchronous standby and the other standby of a whole cluster."""
        view = await self.look()
        assert view.primary
        synchronous = min(view.synchronous)
        (other,) = set(view.servers) - {view.primary, synchronous}
        return view.primary, synchronous, other

    async def whole(self) -> None:
        """Wait until every server runs, both standbys stream and a switchover would be accepted."""

        async def look() -> str | None:
            view = await self.look()
            wrong = failed(switchover.consider(self.operation.topology, view, None).checks)
            missing = set(view.servers) - view.streaming - set(view.primaries)
            return "; ".join([*map(str, wrong), *(f"{host}: {view.said(host)}" for host in missing)]) or None

        await until("the cluster is whole", look, seconds=120, interval_seconds=0.5)


@pytest.fixture
async def cluster(stock_lab: Lab) -> AsyncIterator[Cluster]:
    cluster = Cluster(stock_lab)
    await cluster.whole()
    yield cluster
    await cluster.whole()


async def test_a_dry_run_checks_everything_and_changes_nothing(cluster: Cluster) -> None:
    primary, synchronous, _ = await cluster.roles()
    before = await cluster.look()
    data = await cluster.done("switchover", "--dry-run")
    assert (data["from"], data["to"]) == (primary, synchronous)
    assert all(check["passed"] for check in data["checks"])
    after = await cluster.look()
    assert {name: server.started for name, server in after.running.items()} == {
        name: server.started for name, server in before.running.items()
    }
    assert after.primary == primary


async def test_a_switchover_moves_the_primary_and_brings_the_old_one_back(cluster: Cluster) -> None:
    primary, synchronous, _ = await cluster.roles()
    await cluster.operation.sql(primary, "CREATE TABLE IF NOT EXISTS moved (id int); INSERT INTO moved VALUES (1)")
    count = await cluster.operation.sql(primary, "SELECT count(*) FROM moved")
    data = await cluster.done("switchover", "--to", synchronous, "--yes")
    view = await cluster.look()
    assert (data["from"], data["to"]) == (primary, synchronous)
    assert set(data["seconds"]) == {"checkpoint", "hand_over", "routing", "rejoin"}
    assert view.primary == synchronous
    assert set(view.routes.values()) == {frozenset({synchronous})}
    assert primary in view.streaming
    assert await cluster.operation.sql(synchronous, "SELECT count(*) FROM moved") == count


#: One session that reads twice, the second time when it is told to: where, and whether that is a standby.
READ = "SELECT inet_server_addr(), pg_is_in_recovery();"
TWICE = """
rm -f /run/read-{number} /run/go
(echo "{begin}{read}"; until [ -e /run/go ]; do sleep 0.1; done; echo "{read}{end}") |
  psql -XAtq -d "$URI" > /run/read-{number}
cat /run/read-{number}
"""
#: Says something to HAProxy; what it answers ends with an empty line.
SAY = """
import socket, sys
for line in sys.argv[1:]:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect("/run/haproxy/admin.sock")
        channel.sendall(line.encode() + b"\\n")
        print(channel.recv(4096).decode().strip(), end="")
"""


def reads_twice(number: int, *, begin: str = "", end: str = "") -> str:
    """Return the script of a reader."""
    return TWICE.format(number=number, read=READ, begin=begin, end=end)


async def test_who_reads_at_the_primary_is_led_to_a_standby_before_it_stops(cluster: Cluster, stock_lab: Lab) -> None:
    app, standbys = cluster.hosts["app"], sorted((await cluster.roles())[1:])

    async def set_standbys(state: str) -> None:
        for balancer in ("lb1", "lb2"):
            words = [f"set server standbys/{name} state {state}" for name in standbys]
            assert (await cluster.hosts[balancer].run("python3", "-c", SAY, *words)).stdout == ""

    async def has_read() -> str | None:
        return None if (await app.run("cat", "/run/read-0", check=False)).stdout else "nothing was read"

    uri = await conninfo(stock_lab, read=True)
    await set_standbys("maint")
    try:
        reading = asyncio.create_task(in_app(stock_lab, uri, reads_twice(0)))
        await until("the reader has read", has_read, seconds=30, interval_seconds=0.2)
    finally:
        await set_standbys("ready")

    await cluster.whole()
    await readers.lead_away(cluster.operation)
    await app.run("touch", "/run/go")
    assert [line[-1] for line in (await reading).stdout.splitlines()] == ["f", "t"]


#: More than one comes to each standby, wherever the pool's connections were before.
READERS = 6


async def test_who_reads_at_a_standby_stays_there_while_it_or_another_one_becomes_the_primary(
    cluster: Cluster, stock_lab: Lab
) -> None:
    app = cluster.hosts["app"]
    _, synchronous, other = await cluster.roles()

    async def reads() -> str | None:
        seen = [(await app.run("cat", f"/run/read-{number}", check=False)).stdout for number in range(READERS)]
        return None if all(seen) and len(set(seen)) > 1 else f"read at {seen}"

    uri = await conninfo(stock_lab, read=True)
    reading = [
        asyncio.create_task(in_app(stock_lab, uri, reads_twice(number, begin="BEGIN; ", end=" COMMIT"), timeout=120))
        for number in range(READERS)
    ]
    await until("both standbys are read", reads, seconds=30, interval_seconds=0.2)
    await cluster.done("switchover", "--to", synchronous, "--yes")
    await app.run("touch", "/run/go")
    address = {name: str(stock_lab.topology.host(name).address) for name in (synchronous, other)}
    said = {(await each).stdout for each in reading}
    assert said == {
        f"{address[synchronous]}|t\n{address[synchronous]}|f\n",
        f"{address[other]}|t\n{address[other]}|t\n",
    }


async def test_without_a_terminal_nothing_is_changed_unless_told_so(cluster: Cluster) -> None:
    primary, _, other = await cluster.roles()
    for command in (("switchover",), ("restart",), ("reinit", other)):
        assert "--yes" in await cluster.refused(*command)
    assert (await cluster.look()).primary == primary


@pytest.mark.parametrize("command", ["switchover --yes --to", "failover --yes --to", "reinit --yes", "restart --yes"])
async def test_a_host_that_is_no_database_is_wrong_usage(cluster: Cluster, command: str) -> None:
    result = await cluster.pgbaton(*command.split(), "nowhere")
    assert result.exit_status == USAGE
    assert "its database hosts:" in result.stderr


async def test_candidates_that_cannot_take_over_are_refused_with_the_reason(cluster: Cluster) -> None:
    primary, synchronous, other = await cluster.roles()
    assert f"synchronous: {synchronous}" in await cluster.refused("switchover", "--yes", "--to", other)
    assert "already the primary" in await cluster.refused("switchover", "--yes", "--to", primary)
    assert (await cluster.look()).primary == primary


async def test_a_standby_with_much_to_replay_is_refused_and_not_chosen(cluster: Cluster) -> None:
    """Patroni resumes a replay that was paused, so the process itself is stopped."""
    primary, synchronous, _ = await cluster.roles()
    whose = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'"
    replayer = await cluster.operation.sql(synchronous, whose)
    await cluster.hosts[synchronous].run("kill", "-STOP", replayer)
    try:
        much = "SELECT count(pg_logical_emit_message(false, 'x', repeat('x', 1048576))) FROM generate_series(1, 20)"
        await cluster.operation.sql(primary, much, seconds=60)
        reason = f"{synchronous} replay lag: 2"
        assert reason in await cluster.refused("switchover", "--yes", "--to", synchronous)
        assert reason in await cluster.refused("switchover", "--yes")
        assert "--in-place" in await cluster.refused("restart", primary, "--yes")
    finally:
        await cluster.hosts[synchronous].run("kill", "-CONT", replayer)
    assert (await cluster.look()).primary == primary


async def test_a_standby_that_is_down_is_refused(cluster: Cluster) -> None:
    _, _, other = await cluster.roles()
    await cluster.hosts[other].run("systemctl", "stop", "patroni", timeout=60)
    try:
        assert f"{other} runs: " in await cluster.refused("switchover", "--yes", "--to", other)
    finally:
        await cluster.hosts[other].run("systemctl", "start", "patroni")


async def test_a_paused_cluster_is_not_switched_over(cluster: Cluster) -> None:
    primary, _, _ = await cluster.roles()
    patronictl = ("patronictl", "-c", "/etc/patroni/config.yml")
    await cluster.hosts[primary].run(*patronictl, "pause", "--wait")
    try:
        assert "Patroni: paused; wanted: active" in await cluster.refused("switchover", "--yes")
    finally:
        await cluster.hosts[primary].run(*patronictl, "resume", "--wait")


async def test_a_living_primary_is_not_failed_over_whatever_is_accepted(cluster: Cluster) -> None:
    primary, synchronous, _ = await cluster.roles()
    said = await cluster.refused("failover", "--to", synchronous, "--yes", "--accept-loss", "1000000000")
    assert f"servers out of recovery: {primary}" in said
    assert "pgbaton switchover" in said
    assert (await cluster.look()).primary == primary


async def test_a_restart_of_all_touches_every_server_and_ends_with_the_primary(cluster: Cluster) -> None:
    primary, _, _ = await cluster.roles()
    before = (await cluster.look()).running
    data = await cluster.done("restart", "--yes")
    after = (await cluster.look()).running
    assert [each["host"] for each in data["restarted"]][-1] == primary
    assert [each["how"] for each in data["restarted"]] == ["restart", "restart", "switchover"]
    assert all(after[host].started > before[host].started for host in before)


async def set_wal_buffers(cluster: Cluster, value: str) -> None:
    """Change a setting of the whole cluster that waits for a restart; return when every server knows."""
    primary, _, _ = await cluster.roles()
    edit = ("patronictl", "-c", "/etc/patroni/config.yml", "edit-config", "--force", "--quiet")
    await cluster.hosts[primary].run(*edit, "-s", f"postgresql.parameters.wal_buffers={value}")

    async def look() -> str | None:
        view = await cluster.look()
        waiting = rolling.order(cluster.operation.topology, view, (), pending=True)
        return None if len(waiting) == len(view.servers) else f"waiting: {waiting}"

    await until("every server waits for a restart", look, seconds=60, interval_seconds=0.5)


async def test_only_pending_restarts_are_done_when_asked(cluster: Cluster) -> None:
    primary, _, _ = await cluster.roles()
    assert (await cluster.done("restart", "--pending", "--yes"))["restarted"] == []
    await set_wal_buffers(cluster, "1MB")
    try:
        data = await cluster.done("restart", "--pending", "--yes")
        assert [each["host"] for each in data["restarted"]][-1] == primary
        assert len(data["restarted"]) == len((await cluster.look()).servers)
        for host in (await cluster.look()).running:
            assert await cluster.operation.sql(host, "SHOW wal_buffers") == "1MB"
    finally:
        await cluster.whole()
        await set_wal_buffers(cluster, "null")
        await cluster.done("restart", "--pending", "--yes")


async def test_the_primary_can_be_restarted_where_it_is(cluster: Cluster) -> None:
    primary, _, _ = await cluster.roles()
    before = (await cluster.look()).running[primary].started
    data = await cluster.done("restart", primary, "--in-place", "--yes")
    after = await cluster.look()
    assert (data["restarted"][0]["how"], after.primary) == ("restart", primary)
    assert after.running[primary].started > before


async def test_a_reinit_replaces_the_standbys_data(cluster: Cluster) -> None:
    _, _, other = await cluster.roles()
    marker = f"{cluster.operation.topology.data_directory}/marker"
    await cluster.hosts[other].run("touch", marker)
    data = await cluster.done("reinit", other, "--yes")
    assert data["size_bytes"] > 2**20
    assert not (await cluster.hosts[other].run("test", "-e", marker, check=False)).ok
    assert other in (await cluster.look()).streaming


async def test_the_primary_is_never_cloned_anew(cluster: Cluster) -> None:
    primary, _, _ = await cluster.roles()
    assert f"{primary} as standby: the primary" in await cluster.refused("reinit", primary, "--yes")


async def kill_for_good(cluster: Cluster, host: str) -> None:
    """Kill Patroni and PostgreSQL on a host at once, and let nothing bring them back."""
    script = (
        f"mkdir -p $(dirname {NO_RESTART}); printf '[Service]\\nRestart=no\\n' > {NO_RESTART}; "
        "systemctl daemon-reload; systemctl kill --kill-whom=all -s KILL patroni; systemctl stop patroni"
    )
    await cluster.hosts[host].run("sh", "-c", script, timeout=60)


async def revive(cluster: Cluster, host: str) -> None:
    """Let a killed host's Patroni run again."""
    script = f"rm -f {NO_RESTART}; systemctl daemon-reload; systemctl start patroni"
    await cluster.hosts[host].run("sh", "-c", script, timeout=60)


async def test_losing_writes_takes_more_than_yes(cluster: Cluster) -> None:
    """Primary and synchronous standby die together: Patroni promotes nobody, a person may."""
    primary, synchronous, other = await cluster.roles()
    try:
        # With its Patroni stopped, the primary cannot choose another synchronous standby before it dies too.
        await cluster.hosts[primary].run("systemctl", "kill", "--kill-whom=main", "-s", "STOP", "patroni")
        await kill_for_good(cluster, synchronous)
        await kill_for_good(cluster, primary)
        said = await cluster.refused("failover", "--to", other, "--yes")
        assert "acknowledged writes may be missing" in said
        assert "--accept-loss" in said
        view = await cluster.look()
        assert isinstance(view.servers[primary], Absence)
        assert isinstance(view.servers[other], Server)
        assert view.primaries == ()
        data = await cluster.done("failover", "--to", other, "--yes", "--accept-loss", str(2**30))
        assert (data["to"], data["complete"]) == (other, False)
        assert (await cluster.look()).primary == other
    finally:
        await revive(cluster, primary)
        await revive(cluster, synchronous)
