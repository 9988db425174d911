"""A cluster whose network has IPv6 only: everything that names an address, on machines that have no other."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from labs import Lab, down, up
from poolers import in_network, target_of

from pgbaton.cli.demo import AGENTS
from pgbaton.hosts import process
from pgbaton.operate import fences
from pgbaton.operate.waiting import until
from pgbaton.proof import final
from pgbaton.topology import presets
from pgbaton.topology.load import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.lab

NAME = "test-ipv6"
SUBNET, VIP, REPLICATION = "fd00:77::/64", "fd00:77::100", "fd00:78::"
#: For clients of IPv4, of whose network the cluster's hosts have no addresses of their own; and one such client's.
TWIN, TWIN_CLIENT = "10.77.0.100", "10.77.0.254/24"
#: Whatever Patroni does by itself about a host that is silent comes later than this: a lock's life less one loop.
LOCK_SECONDS = 19.0
#: Far above what a VIP's move takes, and far below what TCP takes to give an address up.
MOVE_SECONDS = 5.0
PROVEN, OBJECTIVE_MISSED = 0, 5
#: Who holds the VIP and announces it, who drops heartbeats by rules of its own, and who is parted from all others.
FAULTS = ("haproxy-killed", "standby-deaf-to-heartbeats", "primary-isolated")
CLIENTS = Path(__file__).with_name("way_clients.py")


def text() -> str:
    """Return the classic picture in networks of IPv6, with agents that are as quick as the demonstration's.

    Replication has a network of its own.
    """
    found = presets.text("classic", cluster=NAME) + AGENTS
    found = found.replace("10.77.0.0/24", SUBNET).replace("10.77.0.", "fd00:77::")
    found = found.replace("[network]\n", f'[network]\nreplication_subnet = "{REPLICATION}/64"\n')
    for number in (21, 22):
        own = f'address = "fd00:77::{number}"\n'
        assert own in found
        found = found.replace(own, f'{own}replication_address = "{REPLICATION}{number}"\n')
    return found


@pytest.fixture(scope="module")
def ipv6_lab(lab_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    assert lab_home
    file = tmp_path_factory.mktemp("ipv6") / "ipv6.toml"
    file.write_text(text())
    try:
        yield up(NAME, str(file))
    finally:
        down(NAME)


@asynccontextmanager
async def writing(lab: Lab, log: Path, *, host: str = VIP) -> AsyncIterator[list[float]]:
    """Let a client write through the VIP or its twin; return when each write was acknowledged, all of which last.

    Its last write is acknowledged after everything that is done meanwhile, so that no outage is cut short.
    """
    target = target_of(lab)
    await final.sql(
        target, await target.primary(), "DROP TABLE IF EXISTS kept; CREATE TABLE kept (way text, number int)"
    )
    await final.sql(target, await target.primary(), "GRANT ALL ON kept TO app")
    asked = json.dumps({"vip": {**target.conninfo(), "host": host}})
    child = await process.start(*in_network(lab, sys.executable, str(CLIENTS)), input=f"{asked}\n", log=log)
    times: list[float] = []

    async def more_than(count: int) -> str | None:
        said = await asyncio.to_thread(log.read_text)
        return None if said.count("vip ") > count else f"nothing more was written: {said[-400:]}"

    try:
        await until("the client has written", lambda: more_than(0), seconds=30)
        yield times
        count = (await asyncio.to_thread(log.read_text)).count("vip ")
        await until("the client writes on", lambda: more_than(count), seconds=30)
    finally:
        await child.end(timeout=20)
    writes = [line.split() for line in (await asyncio.to_thread(log.read_text)).splitlines()]
    times.extend(float(at) for _, _, at in writes)
    there = await final.sql(target, await target.primary(), "SELECT number FROM kept")
    assert {number for _, number, _ in writes} <= set(there.split("\n"))


async def psql(lab: Lab, *options: str, sql: str) -> str:
    """Return what psql on the application's machine says, with the URI that pgbaton gives applications."""
    uri = (await lab.pgbaton("dsn", "--with-password", *options)).stdout.strip()
    assert f"@[{VIP}]:" in uri
    script = 'IFS= read -r URI; exec psql -XAtq -d "$URI" -c "$1"'
    return (await lab.hosts()["app"].run("sh", "-c", script, "sh", sql, input=f"{uri}\n")).stdout.strip()


@pytest.mark.timeout(600)
async def test_hosts_have_no_other_family_and_the_cluster_is_whole(ipv6_lab: Lab) -> None:
    await target_of(ipv6_lab).until_whole(seconds=120)
    hosts = ipv6_lab.hosts()
    for name, host in hosts.items():
        shown = (await host.run("ip", "-4", "-o", "address", "show")).stdout.splitlines()
        assert [line.split()[1] for line in shown] == ["lo"], name
    status: dict[str, Any] = json.loads((await ipv6_lab.pgbaton("status", "-o", "json")).stdout)
    assert status["vip"] == VIP
    (holder,) = status["vip_holders"]
    # The address of a VIP is nobody's source: servers would refuse who comes with it.
    for name in ("db1", "db2"):
        way = await hosts[holder].run("ip", "route", "get", str(ipv6_lab.topology.host(name).address))
        assert f" src {ipv6_lab.topology.host(holder).address} " in way.stdout


@pytest.mark.timeout(600)
async def test_servers_replicate_over_a_network_of_ipv6_and_serve_clients_over_the_other(ipv6_lab: Lab) -> None:
    target = target_of(ipv6_lab)
    await target.until_whole(seconds=120)
    primary = await target.primary()
    (standby,) = {"db1", "db2"} - {primary}
    own, there = ipv6_lab.topology.host(standby).address, ipv6_lab.topology.host(standby).replication_address
    assert await final.sql(target, primary, "SELECT host(client_addr) FROM pg_stat_replication") == str(there)
    # A rule of each: the one lets servers in, and the other those who lead clients.
    rules = (await ipv6_lab.hosts()[standby].run("nft", "list", "chain", "inet", "pgbaton", "input")).stdout
    assert f"ip6 daddr {there} tcp dport 5432 accept" in rules
    assert f"ip6 daddr {own} tcp dport {{ 5432, 8008 }} accept" in rules
    said = await final.sql(target, standby, "SHOW listen_addresses")
    assert said == f"{there},{own}"


@pytest.mark.timeout(600)
async def test_applications_come_in_by_the_vip_for_writes_and_for_reads(ipv6_lab: Lab) -> None:
    await target_of(ipv6_lab).until_whole(seconds=120)
    assert await psql(ipv6_lab, sql="SELECT pg_is_in_recovery()") == "f"
    assert await psql(ipv6_lab, "--read", sql="SELECT pg_is_in_recovery()") == "t"
    peer = await psql(ipv6_lab, sql="SELECT host(inet_client_addr())")
    assert ip_address(peer) in {host.address for host in ipv6_lab.topology.hosts}


@pytest.mark.timeout(600)
async def test_clients_are_told_by_their_own_addresses(ipv6_lab: Lab, tmp_path: Path) -> None:
    await target_of(ipv6_lab).until_whole(seconds=120)
    async with writing(ipv6_lab, tmp_path / "writes"):
        told: dict[str, Any] = json.loads((await ipv6_lab.pgbaton("clients", "-o", "json")).stdout)
    found = [each for each in told["clients"] if each["user"] == "app"]
    assert {each["address"] for each in found} == {str(ipv6_lab.topology.host("app").address)}
    assert all(each["state"] for each in found), "both ends of a connection are known as one"


@pytest.mark.timeout(600)
async def test_clients_are_held_through_a_switchover(ipv6_lab: Lab, tmp_path: Path) -> None:
    target = target_of(ipv6_lab)
    await target.until_whole(seconds=120)
    before = await target.primary()
    async with writing(ipv6_lab, tmp_path / "writes"):
        said = await ipv6_lab.pgbaton("switchover", "--yes", "-o", "json")
        assert said.ok, said.stderr
        done = json.loads(said.stdout)
        assert (done["from"], done["held"]) == (before, True), said.stderr
    await target.until_whole(seconds=120)


@pytest.mark.timeout(600)
async def test_a_primary_without_power_is_fenced_and_replaced_long_before_its_lock_ends(
    ipv6_lab: Lab, tmp_path: Path
) -> None:
    target = target_of(ipv6_lab)
    await target.until_whole(seconds=120)
    before = await target.primary()
    others = {host.name for host in ipv6_lab.topology.voters} - {before}
    async with writing(ipv6_lab, tmp_path / "writes") as times:
        assert (await ipv6_lab.pgbaton("lab", "power-off", before)).ok

        async def led() -> str | None:
            now = await psql(ipv6_lab, sql="SELECT pg_is_in_recovery()")
            return None if now == "f" else "nobody takes writes"

        await until("another primary", led, seconds=60, interval_seconds=0.3)
        standing = await fences.look(ipv6_lab.topology, {name: ipv6_lab.hosts()[name] for name in others | {before}})
        assert standing is not None
        assert set(standing.get(before, ())) == others
    assert await target.primary() != before
    assert max(later - earlier for earlier, later in pairwise(times)) < LOCK_SECONDS / 2
    assert (await ipv6_lab.pgbaton("lab", "power-on", before)).ok
    await target.until_whole(seconds=180)
    assert await fences.look(ipv6_lab.topology, ipv6_lab.hosts()) == {}


@pytest.mark.timeout(900)
async def test_faults_of_addresses_are_struck_watched_and_proven(ipv6_lab: Lab) -> None:
    await target_of(ipv6_lab).until_whole(seconds=120)
    faults = [word for fault in FAULTS for word in ("--fault", fault)]
    argv = (sys.executable, "-m", "pgbaton", "prove", "--target", NAME, *faults, "--trials", "1", "--workload", "set")
    said = await process.run(*argv, "-o", "json", check=False, timeout=850)
    assert said.exit_status in {PROVEN, OBJECTIVE_MISSED}, said.stderr + said.stdout
    data: dict[str, Any] = json.loads(said.stdout)
    assert [trial["fault"] for trial in data["trials"]] == list(FAULTS)
    for trial in data["trials"]:
        assert (trial["lost"], trial["duplicated"]) == (0, 0)
        assert {check["validity"] for check in trial["checks"].values()} == {"valid"}, trial["checks"]
        assert trial["write_outage_seconds"] < LOCK_SECONDS / 2, trial["fault"]
    moved = {host for host, *_ in data["trials"][0]["checks"]["vip"]["figures"]["holders"]}
    assert moved == {"lb1", "lb2"}


@pytest.mark.timeout(900)
async def test_clients_of_ipv4_have_a_twin_of_the_vip_that_moves_with_it(ipv6_lab: Lab, tmp_path: Path) -> None:
    await target_of(ipv6_lab).until_whole(seconds=120)
    plain = ipv6_lab.state.topology_file.read_text()
    file = tmp_path / "both.toml"
    file.write_text(plain.replace("[network]\n", f'[network]\ntwin_vips = ["{TWIN}/24"]\n'))
    made = await ipv6_lab.pgbaton("apply", str(file), "--yes")
    assert made.ok, made.stderr
    lab = Lab(ipv6_lab.state, load(ipv6_lab.state.topology_file))
    target, hosts = target_of(lab), lab.hosts()
    await target.until_whole(seconds=120)
    await hosts["app"].run("ip", "address", "add", TWIN_CLIENT, "dev", "eth0")
    uri = (await lab.pgbaton("dsn", "--with-password")).stdout.strip()
    assert f"@[{VIP}]:5000,{TWIN}:5000/" in uri
    first = (await target.roles()).vip
    assert first is not None
    assert await by_twin(lab, uri) == "f"
    async with writing(lab, tmp_path / "writes", host=TWIN) as times:
        await hosts[first].run("pkill", "-KILL", "-x", "haproxy")

        async def moved() -> str | None:
            other = ({"lb1", "lb2"} - {first}).pop()
            shown = (await hosts[other].run("ip", "-o", "address", "show")).stdout
            return None if f" {TWIN}/" in shown and f" {VIP}/" in shown else f"{other} has not both"

        await until("both addresses have moved", moved, seconds=20)
    assert max(later - earlier for earlier, later in pairwise(times)) < MOVE_SECONDS
    await target.until_whole(seconds=120)
    assert await by_twin(lab, uri) == "f"
    back = tmp_path / "plain.toml"
    back.write_text(plain)
    made = await lab.pgbaton("apply", str(back), "--yes")
    assert made.ok, made.stderr
    for name in ("lb1", "lb2"):
        assert TWIN not in (await hosts[name].run("ip", "-o", "address", "show")).stdout
    await target_of(ipv6_lab).until_whole(seconds=120)


async def by_twin(lab: Lab, uri: str) -> str:
    """Return whether a client that has IPv4 only, as far as the cluster is concerned, reaches a standby."""
    only = uri.replace(f"[{VIP}]:5000,", "")
    script = 'IFS= read -r URI; exec psql -XAtq -d "$URI" -c "SELECT pg_is_in_recovery()"'
    return (await lab.hosts()["app"].run("sh", "-c", script, input=f"{only}\n")).stdout.strip()
