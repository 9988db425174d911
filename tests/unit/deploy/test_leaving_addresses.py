"""A VIP that a cluster has no more leaves its machines, whatever became of the Keepalived that floated it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pgbaton.cli import planview
from pgbaton.deploy import addresses, engine, inventory, journal
from pgbaton.deploy.addresses import Leaving
from pgbaton.deploy.inventory import Inventory
from pgbaton.deploy.steps import Cost, Kind, Plan, PlannedWave, Stage, Step
from pgbaton.errors import Error
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pathlib import Path

    from benches import Bench

VIP = 'vip = "10.77.0.100"'
GONE = Leaving("10.77.0.101", 24, "eth0", frozenset({"lb1", "lb2"}))
IP = r"""#!/bin/sh
# Addresses are lines of a file, and those of another one cannot be taken away.
case $* in
  *" del "*)
    [ -e "$FAKE/stuck" ] && { echo 'RTNETLINK answers: Operation not permitted' >&2; exit 2; }
    grep -vF " $3 " "$FAKE/addresses" > "$FAKE/rest"; mv "$FAKE/rest" "$FAKE/addresses" ;;
  *show*) cat "$FAKE/addresses" ;;
esac
"""


def text(*more: str, vip: str = VIP) -> str:
    listed = ", ".join(f'"{each}"' for each in more)
    return presets.text("standard").replace(VIP, f"more_vips = [{listed}]\n{vip}")


def leaving(*earlier: str, now: str) -> tuple[Leaving, ...]:
    return addresses.leaving(earlier, load.loads(now))


def test_an_address_that_was_a_vip_and_is_none_any_more_leaves_every_balancer() -> None:
    assert leaving(text("10.77.0.101"), now=text()) == (GONE,)
    changed = leaving(text(), now=text(vip='vip = "10.77.0.150"'))
    assert [each.subject for each in changed] == ["10.77.0.100/24 dev eth0"]


def test_nothing_leaves_while_every_vip_stays_in_whatever_place() -> None:
    assert leaving(text("10.77.0.101"), now=text("10.77.0.101")) == ()
    swapped = text("10.77.0.100", vip='vip = "10.77.0.101"')
    assert leaving(text("10.77.0.101"), now=swapped) == ()
    assert leaving(now=text()) == ()


def test_an_address_that_a_host_has_by_now_is_left_alone() -> None:
    now = text() + '\n[[hosts]]\nname = "lb3"\naddress = "10.77.0.101"\nroles = ["balancer"]\n'
    assert leaving(text("10.77.0.101"), now=now) == ()


def test_a_text_that_is_refused_by_now_says_nothing_and_one_address_leaves_once() -> None:
    assert leaving("schema = 99", text("10.77.0.101"), text("10.77.0.101"), now=text()) == (GONE,)


def test_who_holds_it_is_what_its_removal_costs() -> None:
    held = Inventory("lb2", addresses=frozenset({"10.77.0.101"}))
    first, second = addresses.steps([GONE], {"lb1": Inventory("lb1"), "lb2": held, "db1": Inventory("db1")})
    assert [(step.host, step.cost, step.before) for step in (first, second)] == [
        ("lb1", Cost.NOTHING, "not held"),
        ("lb2", Cost.RESTART, "held"),
    ]
    assert {step.stage for step in (first, second)} == {Stage.LEFTOVERS}


def test_a_look_tells_vips_from_addresses_that_are_to_leave() -> None:
    found = inventory.parse("lb2", "A\t10.77.0.101\n", vips=("10.77.0.100",))
    assert (found.holds_vip, found.addresses) == (False, frozenset({"10.77.0.101"}))
    assert inventory.parse("lb1", "A\t10.77.0.100\n", vips=("10.77.0.100",)).holds_vip


def plan(number: int, topology: str, previous: str | None) -> Plan:
    return Plan(f"2025010{number}T000000-ab", "standard", "2025", topology, previous, ())


def test_what_hosts_may_have_is_of_the_last_topology_applied_and_of_all_begun_since(tmp_path: Path) -> None:
    state = ClusterState("standard", tmp_path)
    assert engine.earlier(state) == ()
    journal.begin(state, plan(1, "one", None)).record("end")
    journal.begin(state, plan(2, "two", "one")).record("end")
    assert engine.earlier(state) == ("two",)
    journal.begin(state, plan(3, "three", "two"))
    journal.begin(state, plan(4, "four", "two"))
    assert engine.earlier(state) == ("two", "three", "four")


def test_a_plan_shows_it() -> None:
    step = next(addresses.steps([GONE], {"lb2": Inventory("lb2", addresses=frozenset({"10.77.0.101"}))}))
    shown = Plan("1", "standard", "2025", "", None, (PlannedWave(Stage.LEFTOVERS, (("lb2",),), (step, step)),))
    lines = [str(line) for line in planview.lines(shown)]
    assert "  - lb2: remove 10.77.0.101/24 dev eth0  [restart]" in lines
    assert "      held -> gone" in lines
    assert "2 addresses to remove" in lines[-1]


@pytest.fixture
def floated(deployed: Bench) -> Bench:
    """A fake cluster, one of whose hosts still has an address that no topology has."""
    fake = deployed.root("db2") / "fake"
    program = fake / "bin/ip"
    program.write_text(IP)
    program.chmod(0o755)
    (fake / "addresses").write_text(
        "2: eth0    inet 10.77.0.22/24 brd 10.77.0.255 scope global eth0\n"
        "2: eth0    inet 10.77.0.101/24 scope global secondary eth0\n"
    )
    return deployed


def removal(bench: Bench) -> Plan:
    step = Step(Kind.ADDRESS, Stage.LEFTOVERS, "db2", "keepalived", GONE.subject, "remove", Cost.RESTART)
    made = plan(5, "topology text", None)
    assert bench.topology.has_host("db2")
    return replace(made, waves=(PlannedWave(Stage.LEFTOVERS, (("db2",),), (step,)),))


async def test_an_apply_takes_the_address_away_and_no_other(floated: Bench) -> None:
    await floated.apply(removal(floated))
    left = (floated.root("db2") / "fake/addresses").read_text()
    assert "10.77.0.22/24" in left
    assert "10.77.0.101" not in left


async def test_an_address_that_stays_stops_the_apply(floated: Bench) -> None:
    (floated.root("db2") / "fake/stuck").touch()
    with pytest.raises(Error, match=r"10\.77\.0\.101/24 dev eth0: .*Operation not permitted"):
        await floated.apply(removal(floated))


def test_a_twin_that_is_none_any_more_leaves_every_balancer_with_its_own_prefix_length() -> None:
    twin = text().replace(VIP, f'{VIP}\ntwin_vips = ["fd00:77::100/64"]')
    assert [each.subject for each in leaving(twin, now=text())] == ["fd00:77::100/64 dev eth0"]
    assert leaving(twin, now=twin) == ()


def test_a_vip_of_ipv6_leaves_as_it_was_put_there() -> None:
    ipv6 = text().replace("10.77.0.0/24", "fd00:77::/64").replace("10.77.0.", "fd00:77::")
    changed = leaving(ipv6, now=ipv6.replace("fd00:77::100", "fd00:77::150"))
    assert [each.subject for each in changed] == ["fd00:77::100/128 dev eth0"]
