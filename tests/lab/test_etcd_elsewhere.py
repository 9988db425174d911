"""A cluster whose etcd was there before it, on machines that pgbaton leaves alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

import foreign_etcd
import pytest
from foreign_etcd import MEMBERS, NAMESPACE, NEIGHBOUR, PASSWORD, USER, Theirs
from labs import Lab, done, down, pgbaton, up

from pgbaton.components import foreign
from pgbaton.deploy import foreign as deploying
from pgbaton.errors import RefusedError, UnhealthyError
from pgbaton.hosts import process
from pgbaton.lab import lifecycle
from pgbaton.operate.operation import Operation
from pgbaton.operate.waiting import until
from pgbaton.proof.target import Target
from pgbaton.topology.load import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pgbaton.operate.members import View

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

NAME = "test-elsewhere"
OK, REFUSED = 0, 6
PREFIX = f"{NAMESPACE}/{NAME}/"
PARTS = ("lb1", "db1", "db2")
#: What Patroni does by itself about a host that is silent comes later than this: a lock's life less one loop.
LOCK_SECONDS = 19.0


def hosts() -> str:
    """Return the machines: the clients', their etcd's, and the cluster's own."""
    others = {"app": "10.77.0.200", **MEMBERS}
    made = [(name, address, "application") for name, address in others.items()]
    made += [("lb1", "10.77.0.11", "balancer"), ("db1", "10.77.0.21", "database"), ("db2", "10.77.0.22", "database")]
    return "".join(f'[[hosts]]\nname = "{name}"\naddress = "{at}"\nroles = ["{role}"]\n\n' for name, at, role in made)


def text(
    directory: Path, *, authority: str = "ca.crt", us: str = "us", members: tuple[str, ...] = ("e1", "e2", "e3")
) -> str:
    """Return the topology file; one member is known by its name, the others by their addresses."""
    places = ("e2" if name == "e2" else MEMBERS[name] for name in members)
    listed = ", ".join(f'"https://{place}:2379"' for place in places)
    return f"""schema = 1

[cluster]
name = "{NAME}"

[network]
subnet = "10.77.0.0/24"

{hosts()}
[etcd]
endpoints = [{listed}]
namespace = "{NAMESPACE}"
ca_file = "{directory}/{authority}"
certificate_file = "{directory}/{us}.crt"
key_file = "{directory}/{us}.key"
user = "{USER}"
password_file = "{directory}/password"
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory for what their operators gave."""
    return tmp_path_factory.mktemp("given")


@pytest.fixture(scope="module")
def lab(lab_home: Path, given: Path) -> Iterator[Lab]:
    """Machines with their etcd, and nothing of a cluster yet."""
    assert lab_home
    theirs = Theirs.made()
    theirs.give(given)
    file = given / "topology.toml"
    file.write_text(text(given))
    try:
        made = up(NAME, str(file), "--no-deploy")
        asyncio.run(foreign_etcd.run(made.hosts(), theirs))
        for name in PARTS:
            known = f"{MEMBERS['e2']} e2\n"
            asyncio.run(made.hosts()[name].run("sh", "-c", "cat >> /etc/hosts", input=known))
        yield made
    finally:
        down(NAME)


async def look(lab: Lab) -> View:
    return await Operation(lab.topology, lab.hosts(), lambda _: None).look()


async def status(lab: Lab) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((await lab.pgbaton("status", "-o", "json")).stdout)
    return data


async def whole(lab: Lab) -> None:
    await Target(lab.topology, lab.state, lambda _: None).until_whole(seconds=120)


async def test_a_wrong_authority_is_told_and_changes_nothing(lab: Lab, given: Path) -> None:
    file = given / "wrong.toml"
    file.write_text(text(given, authority="stranger.crt"))
    result = await pgbaton("apply", str(file), "--cluster", NAME, "--yes")
    assert result.exit_status == REFUSED, result.stderr
    assert "nothing was changed" in result.stderr
    assert "CERTIFICATE_VERIFY_FAILED" in result.stderr
    for name in PARTS:
        seen = await lab.hosts()[name].run("ls", "/etc/pgbaton", "/var/lib/pgbaton", check=False)
        assert not seen.stdout
    assert await foreign_etcd.keys(lab.hosts()["e1"], PREFIX) == {}


async def test_a_wrong_password_is_told_without_being_repeated(lab: Lab, given: Path) -> None:
    (given / "password").write_text("something-else\n")
    try:
        result = await lab.pgbaton("plan")
    finally:
        (given / "password").write_text(f"{PASSWORD}\n")
    assert result.exit_status == REFUSED, result.stderr
    assert "invalid user ID or password" in result.stderr, result.stderr
    assert "something-else" not in result.stderr + result.stdout


async def test_a_certificate_that_its_gateway_refuses_is_told_with_what_would_do(lab: Lab, given: Path) -> None:
    file = given / "named.toml"
    file.write_text(text(given, us="named"))
    result = await pgbaton("plan", str(file), "--cluster", lab.name)
    assert result.exit_status == REFUSED, result.stderr
    assert "must have no common name" in result.stderr, result.stderr


async def test_a_cluster_comes_up_on_it_and_a_second_apply_has_nothing_to_do(lab: Lab) -> None:
    await done(lab, "apply", "--yes")
    await whole(lab)
    said = await status(lab)
    row = said["etcd"]
    assert (row["members"], row["healthy"], row["seen_from"]) == (3, 3, ["db1", "db2"])
    assert row["leader"] in MEMBERS
    assert row["untold"] == ["quota"]
    assert [each["state"] for each in said["agents"]] == ["running"] * 3
    assert (await done(lab, "plan"))["changes"] is False
    found = await foreign_etcd.keys(lab.hosts()["e1"], NAMESPACE)
    assert found[NEIGHBOUR] == "somebody"
    assert {f"{PREFIX}leader", f"{PREFIX}initialize"} <= found.keys()
    assert {key for key in found if not key.startswith(PREFIX)} == {NEIGHBOUR}


async def test_what_was_given_is_where_it_has_to_be_and_nowhere_else(lab: Lab, given: Path) -> None:
    key = (given / "us.key").read_text().splitlines()[1]
    for file in (path for path in lab.state.directory.rglob("*") if path.is_file() and path.name != "vault.json"):
        content = file.read_bytes()
        assert key.encode() not in content, file
        assert PASSWORD.encode() not in content, file
    asked = "stat -c '%n %a %U' /etc/pgbaton/tls/*etcd* /etc/pgbaton/etcd.json"
    seen = (await lab.hosts()["db1"].run("sh", "-c", asked)).stdout.split("\n")
    assert "/etc/pgbaton/tls/etcd-client.key 600 postgres" in seen
    assert "/etc/pgbaton/tls/agent-etcd.key 600 root" in seen
    assert "/etc/pgbaton/etcd.json 600 root" in seen
    for name in PARTS:
        journal = await lab.hosts()[name].run("journalctl", "-b", "--no-pager")
        assert PASSWORD not in journal.stdout
        running = await lab.hosts()[name].run("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        assert PASSWORD not in running.stdout


async def test_another_cluster_of_the_same_scope_is_refused(lab: Lab) -> None:
    elsewhere = lab.topology.postgresql.model_copy(update={"data_directory": "/srv/none/main"})
    other = lab.topology.model_copy(update={"postgresql": elsewhere})
    with pytest.raises(RefusedError, match=f"{PREFIX} is the record of another cluster"):
        await deploying.check(other, lab.hosts(), lab.vault, before=None)
    assert await deploying.check(lab.topology, lab.hosts(), lab.vault, before=lab.topology)


async def test_other_endpoints_of_the_same_etcd_restart_patroni(lab: Lab, given: Path) -> None:
    file = given / "two.toml"
    file.write_text(text(given, members=("e1", "e2")))
    plan = await pgbaton("plan", str(file), "--cluster", lab.name, "-o", "json")
    steps = [step for wave in json.loads(plan.stdout)["waves"] for step in wave["steps"]]
    restarted = {step["host"] for step in steps if step["subject"] == "patroni.service" and "restart" in step["action"]}
    assert restarted == {"db1", "db2"}


async def test_one_endpoint_of_three_that_is_none_is_told_and_two_are_refused(lab: Lab, given: Path) -> None:
    file = given / "odd.toml"
    odd = text(given).replace(f"{MEMBERS['e3']}:2379", f"{MEMBERS['e3']}:2380")
    file.write_text(odd)
    told = await pgbaton("plan", str(file), "--cluster", lab.name, "-o", "json")
    assert told.exit_status == OK, told.stderr
    assert any("not every endpoint answers db1" in note for note in json.loads(told.stdout)["notes"])
    file.write_text(odd.replace("e2:2379", "e2:2380"))
    refused = await pgbaton("plan", str(file), "--cluster", lab.name)
    assert refused.exit_status == REFUSED
    assert "db1: 1 of 3 endpoints serve it, wanted: 2" in refused.stderr


async def test_a_switchover_is_carried_out(lab: Lab) -> None:
    await whole(lab)
    before = (await look(lab)).primary
    moved = await done(lab, "switchover", "--yes")
    assert (moved["from"], moved["held"]) == (before, True)
    await whole(lab)


async def prove(lab: Lab, *faults: str) -> dict[str, Any]:
    """Put the cluster to the proof; return what came of it."""
    named = [word for fault in faults for word in ("--fault", fault)]
    argv = (sys.executable, "-m", "pgbaton", "prove", "--target", lab.name, *named, "--seed", "7", "-o", "json")
    said = await process.run(*argv, check=False, timeout=500)
    data: dict[str, Any] = json.loads(said.stdout)
    return data


async def test_a_dead_primary_is_replaced_at_once_and_faults_of_its_members_are_not_run(lab: Lab) -> None:
    await whole(lab)
    result = await prove(lab, "primary-power-off", "etcd-leader-killed")
    (trial,) = result["trials"]
    assert (trial["fault"], trial["lost"], trial["duplicated"]) == ("primary-power-off", 0, 0)
    assert {check["validity"] for check in trial["checks"].values()} == {"valid"}, trial["checks"]
    assert trial["write_outage_seconds"] < LOCK_SECONDS / 2
    (skipped,) = result["not_run"]
    assert skipped["fault"] == "etcd-leader-killed"
    assert "its etcd is elsewhere" in skipped["reason"]
    await whole(lab)


@pytest.mark.parametrize("member", ["e1", "e2"])
async def test_a_member_that_is_gone_is_told_and_costs_nothing(lab: Lab, member: str) -> None:
    await whole(lab)
    before = await look(lab)
    await lifecycle.power_off(lab.state, member)
    try:
        place = "e2" if member == "e2" else MEMBERS[member]

        async def told() -> str | None:
            found = {each["rule"]: each for each in (await status(lab))["findings"]}
            return None if found.get("endpoint-unhealthy", {}).get("subject") == f"{place}:2379" else str(found)

        await until("status tells of it", told, seconds=30, interval_seconds=0.5)
        said = await status(lab)
        assert (said["etcd"]["healthy"], said["primary"]) == (2, before.primary)
        now = await look(lab)
        assert now.dcs is not None
        assert before.dcs is not None
        assert now.dcs.leader_revision == before.dcs.leader_revision
        moved = await done(lab, "switchover", "--yes")
        assert moved["from"] == before.primary
    finally:
        await lifecycle.power_on(lab.state, member, report=lambda _: None)
    await whole(lab)


async def test_of_a_primary_that_only_etcd_still_hears_and_the_one_in_its_place_one_serves(lab: Lab) -> None:
    """Both sides of the partition reach etcd; the one without the others must not answer from the past.

    Its Patroni reaches etcd as well, and may be the first to take the lock that the others had released.
    """
    await whole(lab)
    old = str((await look(lab)).primary)
    new = next(name for name in ("db1", "db2") if name != old)
    for other in (new, "lb1"):
        await lifecycle.cut(lab.state, old, other)
    try:

        async def replaced() -> str | None:
            view = await look(lab)
            return None if new in view.primaries and view.dcs and view.dcs.leader == new else str(view.primaries)

        with contextlib.suppress(UnhealthyError):
            await until(f"{new} leads", replaced, seconds=20, interval_seconds=0.2)
        is_replaced = new in (await look(lab)).primaries
        seen = {each["name"]: each for each in (await status(lab))["snapshot"]["hosts"]}
        if is_replaced:
            assert seen[old]["fences"]["clients"] in {"held", "refused"}
            assert seen[new]["fences"]["clients"] == "served"
        assert seen[old]["foreign_etcd"][0]["healthy"]
    finally:
        await lifecycle.heal(lab.state)
    await whole(lab)


async def test_nothing_of_theirs_was_touched_and_the_record_stays_when_the_cluster_goes(lab: Lab) -> None:
    found = await foreign_etcd.keys(lab.hosts()["e1"], "/")
    assert {key for key in found if not key.startswith(PREFIX)} == {NEIGHBOUR}
    assert found[NEIGHBOUR] == "somebody"
    assert load(lab.state.topology_file).foreign_etcd
    assert foreign.PASSWORD in lab.vault.names
