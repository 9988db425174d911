"""Replication over another network in a cluster that runs: what is refused, and in which order it may be had."""

from __future__ import annotations

import pytest

from pgbaton.deploy import networks, plan
from pgbaton.errors import RefusedError
from pgbaton.hosts.fake import FakeHost
from pgbaton.topology import load, presets

ADDRESSES = {"db1": "10.78.0.21", "db2": "10.78.0.22", "db3": "10.78.0.23"}
PLAIN = presets.text("standard")
SHOW = ("ip", "-o", "-4", "address", "show", "dev", "eth1")


def text(*, used: bool, moved: str = "", without: str = "") -> str:
    """Return the preset with a network for replication; one database's address is another, or is a new database."""
    more = '\nreplication_subnet = "10.78.0.0/24"\n' + ("" if used else "use_replication_subnet = false\n")
    made = PLAIN.replace("[network]", f"[network]{more}")
    for name, address in ADDRESSES.items():
        here = address.replace(".2", ".12") if name == moved else address
        made = made.replace(
            f'address = "{address.replace("78", "77")}"',
            f'address = "{address.replace("78", "77")}"\nreplication_address = "{here}"',
        )
    return made.replace(f'name = "{without}"', 'name = "db9"') if without else made


USED, KNOWN = text(used=True), text(used=False)
IN_ORDER = ((PLAIN, KNOWN), (KNOWN, USED), (USED, KNOWN), (KNOWN, PLAIN), (KNOWN, text(used=False, moved="db2")))
LEAPS = (
    (PLAIN, USED, "db1: servers would replicate over 10.78.0.0/24 at once: db1's does not listen on 10.78.0.21"),
    (KNOWN, text(used=True, moved="db2"), "db2's does not listen on 10.78.0.122 yet, and no agent would fence it"),
    (USED, PLAIN, "servers replicate over 10.78.0.0/24, and db1 would lose its address there, 10.78.0.21"),
    (USED, text(used=True, moved="db3"), "db3 would lose its address there, 10.78.0.23"),
    (USED, text(used=False, moved="db3"), "db3 would lose its address there"),
)


@pytest.mark.parametrize(("before", "after"), IN_ORDER)
def test_one_step_at_a_time_may_be_taken_and_taken_back(before: str, after: str) -> None:
    networks.refuse_leap(load.loads(before), load.loads(after))
    networks.refuse_leap(load.loads(after), load.loads(before))


@pytest.mark.parametrize(("before", "after", "said"), LEAPS)
def test_servers_do_not_replicate_where_nobody_is_ready(before: str, after: str, said: str) -> None:
    with pytest.raises(RefusedError) as refused:
        networks.refuse_leap(load.loads(before), load.loads(after))
    assert said in str(refused.value)
    assert "use_replication_subnet = false" in (refused.value.hint or "")


def test_a_new_cluster_and_a_new_database_use_it_at_once() -> None:
    networks.refuse_leap(None, load.loads(USED))
    networks.refuse_leap(load.loads(text(used=True, without="db3")), load.loads(USED))


def shown(address: str) -> str:
    return f"7: eth1    inet {address}/24 brd 10.78.0.255 scope global eth1\\       valid_lft forever\n"


async def test_an_address_that_a_host_does_not_have_is_told_before_anything_changes() -> None:
    answers = {"db1": shown("10.78.0.21"), "db2": shown("10.78.0.29"), "db3": ""}
    hosts = {name: FakeHost(name, answers={SHOW: said}) for name, said in answers.items()}
    with pytest.raises(RefusedError) as refused:
        await networks.check(load.loads(KNOWN), hosts)
    message = str(refused.value)
    assert "db1" not in message
    assert "db2: 10.78.0.22 is not on interface eth1 (there: 10.78.0.29)" in message
    assert "db3: 10.78.0.23 is not on interface eth1 (there: none)" in message
    hosts |= {name: FakeHost(name, answers={SHOW: shown(ADDRESSES[name])}) for name in ("db2", "db3")}
    await networks.check(load.loads(USED), hosts)


async def test_an_address_of_ipv6_is_looked_for_and_has_to_be_the_source_of_connections() -> None:
    topology = load.loads(KNOWN.replace("10.78.0.0/24", "fd00:78::/64").replace("10.78.0.", "fd00:78::"))
    show = ("ip", "-o", "-6", "address", "show", "dev", "eth1")
    way = ("ip", "-o", "route", "get")

    def answers(number: int, source: str) -> dict[tuple[str, ...], str]:
        said = f"7: eth1    inet6 fd00:78::{number}/64 scope global \\       valid_lft forever\n"
        peer = "fd00:78::22" if number == 21 else "fd00:78::21"
        return {show: said, (*way, peer): f"{peer} from :: dev eth1 proto kernel src {source} metric 256\n"}

    hosts = {f"db{n}": FakeHost(f"db{n}", answers=answers(20 + n, f"fd00:78::{20 + n}")) for n in (1, 2, 3)}
    await networks.check(topology, hosts)
    hosts["db2"] = FakeHost("db2", answers=answers(22, "fd00:78::dead"))
    with pytest.raises(RefusedError, match="db2: its connections to fd00:78::21 come from fd00:78::dead") as refused:
        await networks.check(topology, hosts)
    assert "db1" not in str(refused.value)
    hosts["db1"] = FakeHost("db1", answers={show: "7: eth1    inet6 fe80::1/64 scope link \\\n"})
    with pytest.raises(RefusedError, match=r"db1: fd00:78::21 is not on interface eth1 \(there: fe80::1\)"):
        await networks.check(topology, hosts)


async def test_without_such_a_network_no_host_is_asked() -> None:
    await networks.check(load.loads(PLAIN), {})


def test_where_a_server_listens_is_among_what_a_restart_is_for() -> None:
    one = "postgresql:\n  listen: 10.77.0.21:5432\n  parameters: {work_mem: 8MB}\n"
    two = one.replace("listen: ", "listen: 10.78.0.21,")
    assert plan.parameters(one) == {"work_mem": "8MB", "listen_addresses": "10.77.0.21", "port": "5432"}
    assert plan.parameters(two)["listen_addresses"] == "10.78.0.21,10.77.0.21"
    assert plan.parameters("postgresql: {parameters: {}}") == plan.parameters("{") == {}
