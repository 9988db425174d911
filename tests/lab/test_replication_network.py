"""A network for replication alone: a running cluster comes to it, lives on it, and loses nothing when half is cut."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from labs import Lab, done, down, refused, up

from pgbaton.components import manual
from pgbaton.components.base import TLS_DIRECTORY
from pgbaton.hosts import process
from pgbaton.lab import lifecycle, links, record
from pgbaton.lab.record import Cut
from pgbaton.operate import fences
from pgbaton.operate.operation import Operation
from pgbaton.operate.waiting import until
from pgbaton.proof.target import Target
from pgbaton.topology import load, presets
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pgbaton.operate.members import View

pytestmark = pytest.mark.lab

PROVEN, OBJECTIVE_MISSED = 0, 5
#: Half a lock's life: whoever has it by then has it because agents released it.
REPLACED_SECONDS = 10.0
NAME, BY_HAND, OLDER = "test-replication", "test-replication-by-hand", "test-replication-older"
FROM = "SELECT string_agg(host(client_addr), ' ' ORDER BY client_addr) FROM {view} WHERE client_addr IS NOT NULL{more}"
#: A file that is applied later must have it as well.
APPLICATION = '\n[[hosts]]\nname = "app"\naddress = "10.77.0.90"\nroles = ["application"]\n'
FAULTS = (
    "primary-power-off",
    "standby-diverged",
    "replication-cut-from-standby",
    "replication-cut-from-all",
    "primary-cut-from-clients",
)


def text(preset: str, name: str, *, network: bool = True, used: bool = True, first: int = 21) -> str:
    """Return a preset as a topology file: with a network for replication or without, in use or not yet.

    ``first`` is what the first database's address ends with.
    """
    made = presets.text(preset, cluster=name) + APPLICATION
    if not network:
        return made
    more = "" if used else "use_replication_subnet = false\n"
    made = made.replace("[network]\n", f'[network]\nreplication_subnet = "10.78.0.0/24"\n{more}')
    for number in range(first, first + 3):
        address = f'address = "10.77.0.{number}"'
        made = made.replace(address, f'{address}\nreplication_address = "10.78.0.{number}"')
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the files by which a running cluster comes to a network for replication."""
    directory = tmp_path_factory.mktemp("files")
    steps = {"before": {"network": False}, "known": {"used": False}, "used": {}}
    made = {step: directory / f"{step}.toml" for step in steps}
    for step, path in made.items():
        path.write_text(text("standard", NAME, **steps[step]))
    return made


@pytest.fixture(scope="module")
def lab(lab_home: Path, files: dict[str, Path]) -> Iterator[Lab]:
    assert lab_home
    try:
        yield up(NAME, str(files["before"]))
    finally:
        down(NAME)


def now(lab: Lab) -> Lab:
    """Return the lab with the topology that was applied last."""
    return Lab(lab.state, load.load(lab.state.topology_file))


def operation(lab: Lab) -> Operation:
    return Operation(lab.topology, lab.hosts(), lambda _: None, timeout_seconds=60)


async def whole(lab: Lab) -> View:
    """Wait until nothing is wrong; return how it is then."""
    await Target(lab.topology, lab.state, lambda _: None).until_whole(seconds=120)
    return await operation(lab).look()


async def comes_from(lab: Lab, host: str, view: str, more: str = "") -> str:
    """Return the addresses that a server's standbys, or its clients, come from."""
    return await operation(lab).sql(host, FROM.format(view=view, more=more))


async def standbys_come_from(lab: Lab, addresses: set[str]) -> None:
    """Wait until the primary's standbys come from these addresses of the databases' hosts, without its own."""
    primary = str((await operation(lab).look()).primary)

    async def look() -> str | None:
        found = set((await comes_from(lab, primary, "pg_stat_replication")).split())
        return None if found and found <= addresses and len(found) == len(addresses) - 1 else f"{found}"

    await until("replication takes its way", look, seconds=60, interval_seconds=0.3)


def databases(lab: Lab, subnet: str) -> set[str]:
    hosts = lab.topology.with_role(Role.DATABASE)
    return {f"{subnet}.{str(host.address).rpartition('.')[2]}" for host in hosts}


async def pooled(lab: Lab, sql: str) -> str:
    uri = (await lab.pgbaton("dsn", "--with-password")).stdout
    script = f'IFS= read -r URI; psql -XAtq -d "$URI" -c "{sql}"'
    said = await lab.hosts()["app"].run("sh", "-c", script, input=uri, check=False)
    assert said.ok, said.stderr
    return said.stdout.strip()


@pytest.mark.timeout(600)
async def test_a_running_cluster_comes_to_it_by_one_rolling_apply_and_a_reload(
    lab: Lab, files: dict[str, Path]
) -> None:
    before = await whole(lab)
    assert "10.78.0.21 is not on interface eth1" in await refused(lab, "plan", str(files["known"]))
    wired = await lab.pgbaton("lab", "up", str(files["known"]), "--no-deploy")
    assert wired.ok, wired.stderr
    assert "does not listen on 10.78.0.21 yet" in await refused(lab, "plan", str(files["used"]))

    await done(lab, "apply", str(files["known"]), "--yes")
    known = now(lab)
    restarted = await whole(known)
    assert {name: server.started for name, server in restarted.running.items()}.keys() == before.running.keys()
    for name, server in restarted.running.items():
        assert server.started != before.running[name].started, f"{name} was not restarted"
        assert await operation(known).sql(name, "SHOW listen_addresses") == ",".join(
            map(str, known.topology.host(name).server_addresses)
        )
    await standbys_come_from(known, databases(known, "10.77.0"))
    assert (await done(known, "plan"))["changes"] is False

    await done(lab, "apply", str(files["used"]), "--yes")
    used = now(lab)
    await standbys_come_from(used, databases(used, "10.78.0"))
    moved = await whole(used)
    assert {name: each.started for name, each in moved.running.items()} == {
        name: each.started for name, each in restarted.running.items()
    }, "the last step restarts no server"
    assert moved.primary == restarted.primary
    assert (await done(used, "plan"))["changes"] is False
    assert "servers replicate over 10.78.0.0/24" in await refused(lab, "plan", str(files["before"]))


async def test_clients_do_not_take_it_and_replication_takes_nothing_else(lab: Lab) -> None:
    lab = now(lab)
    primary, standby = await primary_and_standby(lab)
    await pooled(lab, "CREATE TABLE IF NOT EXISTS seen (id int)")
    clients = (await comes_from(lab, primary, "pg_stat_activity", " AND backend_type = 'client backend'")).split()
    assert clients
    assert all(address.startswith("10.77.0.1") for address in clients), clients
    conninfo = await operation(lab).sql(standby, "SHOW primary_conninfo")
    assert f"host={lab.topology.host(primary).replication_address}" in conninfo
    asked = {
        lab.topology.host(primary).address: "pg_hba.conf rejects replication connection",
        lab.topology.host(primary).replication_address: "no password supplied",
    }
    for address, wanted in asked.items():
        words = f"host={address} port=5432 user=replicator replication=1 sslmode=verify-full"
        files = f"sslrootcert={TLS_DIRECTORY}/ca.crt sslcert={TLS_DIRECTORY}/replicator.crt"
        dsn = f"{words} {files} sslkey={TLS_DIRECTORY}/replicator.key passfile=/dev/null"
        argv = ("runuser", "-u", "postgres", "--", "psql", "-XAtwc", "IDENTIFY_SYSTEM", "-d", dsn)
        said = await lab.hosts()[standby].run(*argv, check=False)
        assert wanted in said.stderr, said.stderr


async def primary_and_standby(lab: Lab) -> tuple[str, str]:
    """Return the primary, and its synchronous standby."""
    view = await whole(lab)
    return str(view.primary), min(view.synchronous)


@pytest.mark.timeout(300)
async def test_a_primary_cut_off_from_clients_is_fenced_in_both_networks(lab: Lab) -> None:
    """Its standbys could go on confirming what it writes: nothing but the fence keeps them from it."""
    lab = now(lab)
    old, standby = await primary_and_standby(lab)
    others = [machine.name for machine in lifecycle.status(lab.state).machines if machine.name != old]
    cuts = [Cut(*way, network=record.CLIENTS) for other in others for way in ((old, other), (other, old))]
    both = {str(address) for address in lab.topology.host(old).server_addresses}
    await links.impair(lab.state, *cuts)
    try:

        async def replaced() -> str | None:
            recovers = await operation(lab).sql(standby, "SELECT pg_is_in_recovery()")
            return None if recovers == "f" else f"{standby} follows"

        await until(f"{standby} is primary", replaced, seconds=REPLACED_SECONDS, interval_seconds=0.1)
        found = await fences.ask(lab.hosts()[standby])
        assert {fence.address for fence in found} == both
        reached = f"exec 3<>/dev/tcp/{lab.topology.host(old).replication_address}/5432"
        said = await lab.hosts()[standby].run("timeout", "3", "bash", "-c", reached, check=False)
        assert "refused" in said.stderr, said.stderr
    finally:
        await links.heal(lab.state)
    view = await whole(lab)
    assert view.primary == standby
    await standbys_come_from(lab, databases(lab, "10.78.0"))


@pytest.mark.timeout(900)
async def test_failovers_rejoin_by_it_and_a_cut_of_either_network_loses_nothing(lab: Lab) -> None:
    lab = now(lab)
    await whole(lab)
    faults = [word for fault in FAULTS for word in ("--fault", fault)]
    argv = (sys.executable, "-m", "pgbaton", "prove", "--target", lab.name, *faults, "--seed", "7", "-o", "json")
    said = await process.run(*argv, check=False, timeout=850)
    assert said.exit_status in {PROVEN, OBJECTIVE_MISSED}, said.stderr + said.stdout
    data: dict[str, Any] = json.loads(said.stdout)
    trials = {trial["fault"]: trial for trial in data["trials"]}
    assert (list(trials), data["not_run"]) == (list(FAULTS), [])
    for fault, trial in trials.items():
        assert (trial["lost"], trial["duplicated"]) == (0, 0), fault
        assert {check["validity"] for check in trial["checks"].values()} == {"valid"}, (fault, trial["checks"])
        stayed = fault in {"standby-diverged", "replication-cut-from-standby", "replication-cut-from-all"}
        assert (trial["primary"][0] == trial["primary"][1]) is stayed, (fault, trial["primary"])
    await standbys_come_from(lab, databases(lab, "10.78.0"))
    journals = await asyncio.gather(*(rewound(lab, name) for name in ("db1", "db2", "db3")))
    assert any(journals), "nobody was rewound, which only the network for replication allows"


async def rewound(lab: Lab, host: str) -> bool:
    """Tell whether Patroni on a host says that it has rewound its server."""
    argv = ("journalctl", "-u", "patroni.service", "--no-pager", "-o", "cat", "-g", "running pg_rewind from")
    return (await lab.hosts()[host].run(*argv, check=False)).ok


@pytest.mark.timeout(600)
async def test_an_older_patroni_does_the_same(lab_home: Path, tmp_path: Path) -> None:
    assert lab_home
    file = tmp_path / "older.toml"
    file.write_text(text("compact", OLDER, first=11))
    try:
        made = await asyncio.to_thread(up, OLDER, str(file), "--os", "debian-12")
        before = (await whole(made)).primary
        await standbys_come_from(made, databases(made, "10.78.0"))
        await done(made, "switchover", "--yes")
        assert (await whole(made)).primary != before
        await standbys_come_from(made, databases(made, "10.78.0"))
    finally:
        await asyncio.to_thread(down, OLDER)


@pytest.mark.timeout(600)
async def test_without_patroni_it_is_followed_failed_over_and_rewound_as_well(lab_home: Path, tmp_path: Path) -> None:
    assert lab_home
    file = tmp_path / "by-hand.toml"
    # A network of IPv6 beside one of IPv4: whoever asks over both takes each as it is.
    file.write_text(text("manual", BY_HAND).replace("10.78.0.0/24", "fd00:78::/64").replace("10.78.0.", "fd00:78::"))
    try:
        made = await asyncio.to_thread(up, BY_HAND, str(file))
        await by_hand(made)
    finally:
        await asyncio.to_thread(down, BY_HAND)


async def by_hand(lab: Lab) -> None:
    """Lose the primary, promote the other, and bring the first back; then ask over one network what it must know."""
    await whole(lab)
    assert await comes_from(lab, "db1", "pg_stat_replication") == "fd00:78::22"
    await lifecycle.power_off(lab.state, "db1")
    await done(lab, "failover", "--old-primary-is-off", "db1", "--yes")
    both = (Cut("db1", "db2", network=record.REPLICATION), Cut("db2", "db1", network=record.REPLICATION))
    await links.impair(lab.state, *both)
    await lifecycle.power_on(lab.state, "db1", report=lambda _: None)

    async def stays_down() -> str | None:
        said = await lab.hosts()["db1"].run("journalctl", "-b", "-u", manual.UNIT, "--no-pager", check=False)
        return None if "db2 is primary" in said.stdout else said.stdout[-200:]

    await until("db1 hears by the other network that db2 is primary", stays_down, seconds=60, interval_seconds=0.5)
    await links.heal(lab.state)
    back = await done(lab, "reinit", "db1", "--yes")
    assert (back["primary"], back["how"]) == ("db2", "rewind")
    await whole(lab)
    assert await comes_from(lab, "db2", "pg_stat_replication") == "fd00:78::21"
    assert "host=fd00:78::22" in await operation(lab).sql("db1", "SHOW primary_conninfo")
