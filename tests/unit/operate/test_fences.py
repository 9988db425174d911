"""What stands against a host that is fenced, and what may be done with it all the same."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from operate_views import POSITION, orphaned, record, standby, topology, view

from pgbaton.errors import CommandError, RefusedError, UnreachableError
from pgbaton.hosts.fake import FakeHost
from pgbaton.operate import failover, fences, reinit, rolling, switchover

if TYPE_CHECKING:
    from pgbaton.operate.members import View

NFT = ("/usr/sbin/nft", "-j", "list", "table", "inet", "pgbaton_fence")
ADDRESSES = {"db1": "10.77.0.11", "db3": "10.77.0.13"}


def fenced(cluster: View, **on: tuple[str, ...]) -> View:
    """Return a cluster with agents, in which these hosts are fenced on others."""
    return replace(cluster, fences=on)


def listed(*hosts: str) -> str:
    """Return what nft prints where these hosts are fenced."""
    elements = [{"elem": {"val": ADDRESSES[host], "comment": f"{host}-of-old silent"}} for host in hosts]
    return json.dumps({"nftables": [{"set": {"name": "fenced4", "elem": elements}}]})


def answers(**said: str | Exception) -> dict[str, FakeHost]:
    """Return hosts of which some say what they have fenced, and the others nothing."""
    return {spec.name: FakeHost(spec.name, answers={NFT: said.get(spec.name, "")}) for spec in topology().hosts}


async def test_fences_are_read_from_the_kernels_of_all_hosts_with_an_agent() -> None:
    agents = topology().model_copy(
        update={"orchestration": topology().orchestration.model_copy(update={"agent": True})}
    )
    late, broken = UnreachableError("no end after 6 s"), CommandError("no nft")
    hosts = answers(db2=listed("db1", "db3"), lb1=listed("db1"), db1=late, lb2="{", db3=broken)
    assert await fences.look(agents, hosts) == {"db1": ("lb1", "db2"), "db3": ("db2",)}


async def test_a_fence_at_both_addresses_of_a_host_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = topology()
    hosts = tuple(
        host.model_copy(update={"replication_address": IPv4Address("10.78.0.11")}) if host.name == "db1" else host
        for host in plain.hosts
    )
    agents = plain.model_copy(
        update={"hosts": hosts, "orchestration": plain.orchestration.model_copy(update={"agent": True})}
    )
    monkeypatch.setitem(ADDRESSES, "db1-apart", "10.78.0.11")
    found = await fences.look(agents, answers(lb1=listed("db1", "db1-apart"), lb2=listed("db1-apart")))
    assert found == {"db1": ("lb1", "lb2")}


async def test_without_agents_nobody_is_asked() -> None:
    hosts = answers()
    assert await fences.look(topology(), hosts) is None
    assert not any(host.calls for host in hosts.values())


def test_without_agents_no_check_is_made_and_nothing_new_is_told() -> None:
    assert not [check for check in switchover.consider(topology(), view(), None).checks if "fence" in check.name]
    assert "fenced_on" not in failover.consider(topology(), orphaned(), None).data["candidates"][0]


def test_with_agents_and_no_fence_everything_is_as_ever() -> None:
    assert switchover.consider(topology(), fenced(view()), None).require() == ("db1", "db2")
    assert failover.consider(topology(), fenced(orphaned()), None).require().fenced_on == ()
    assert reinit.consider(fenced(view()), "db3") == "db1"
    assert rolling.plan(topology(), fenced(view()), ("db3", "db1"), in_place=False) == "db2"


@pytest.mark.parametrize("host", ["db1", "db2"])
def test_no_switchover_from_or_to_a_host_that_is_fenced(host: str) -> None:
    intent = switchover.consider(topology(), fenced(view(), **{host: ("db3", "lb1")}), "db2")
    with pytest.raises(RefusedError, match=f"fences against {host}: on db3, lb1; wanted: none"):
        intent.require()


def test_a_switchover_goes_to_a_standby_that_nobody_has_fenced() -> None:
    cluster = view({"db3": standby(replayed=POSITION - 100)}, dcs=record(sync_standbys=frozenset({"db2", "db3"})))
    assert switchover.consider(topology(), fenced(cluster), None).target == "db2"
    assert switchover.consider(topology(), fenced(cluster, db2=("db1",)), None).target == "db3"


@pytest.mark.parametrize("in_place", [True, False])
def test_nothing_is_restarted_while_the_primary_is_fenced(*, in_place: bool) -> None:
    cluster = fenced(view(), db1=("lb2",))
    with pytest.raises(RefusedError, match="fences against db1: on lb2"):
        rolling.plan(topology(), cluster, ("db3",), in_place=in_place)
    assert rolling.plan(topology(), cluster, (), in_place=in_place) is None


def test_a_fenced_standby_may_be_restarted_or_cloned_since_that_may_be_what_helps() -> None:
    cluster = fenced(view(), db3=("db1", "lb1"))
    assert rolling.plan(topology(), cluster, ("db3",), in_place=False) is None
    assert reinit.consider(cluster, "db3") == "db1"
    assert "db3 is fenced on db1, lb1" in reinit.consequences(cluster, "db3")
    assert "fenced" not in reinit.consequences(fenced(view()), "db3")


def test_nothing_is_cloned_from_a_primary_that_is_fenced() -> None:
    with pytest.raises(RefusedError, match="fences against db1: on db3"):
        reinit.consider(fenced(view(), db1=("db3",)), "db3")


def test_a_failover_prefers_a_standby_that_can_be_reached() -> None:
    neither = orphaned(sync_leader=None, sync_standbys=frozenset())
    assert failover.consider(topology(), fenced(neither, db2=("lb1",)), None).require().host == "db3"
    assert failover.consider(topology(), fenced(neither, db3=("lb1",)), None).require().host == "db2"


def test_a_failover_prefers_every_acknowledged_write_to_being_reached_at_once_and_warns() -> None:
    intent = failover.consider(topology(), fenced(orphaned(), db2=("lb1",)), None)
    target = intent.require()
    assert (target.host, target.complete) == ("db2", True)
    assert "fenced on lb1, and out of reach there until the agents see it lead" in str(target)
    assert [each["fenced_on"] for each in intent.data["candidates"]] == [[], ["lb1"], []]
