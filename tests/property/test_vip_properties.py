"""Whatever balancers there are, each of several VIPs is another one's own, and can go to all of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgbaton.topology import vips
from pgbaton.topology.model import Topology


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Draw a topology with some balancers of different priorities, and no more VIPs than those."""
    priorities = draw(st.lists(st.integers(1, 254), min_size=2, max_size=6, unique=True))
    last = draw(st.lists(st.integers(100, 250), min_size=1, max_size=len(priorities), unique=True))
    hosts = [
        {"name": f"lb{n}", "address": f"10.0.0.{n}", "roles": ["balancer"], "priority": priority}
        for n, priority in enumerate(priorities, 1)
    ]
    first, *more = (f"10.0.0.{number}" for number in last)
    network = {
        "subnet": "10.0.0.0/24",
        "vip": first,
        "more_vips": more,
        "virtual_router_id": draw(st.integers(1, 255)),
    }
    return Topology.model_validate({"schema": 1, "cluster": {"name": "drawn"}, "hosts": hosts, "network": network})


@given(topologies())
def test_every_vip_may_go_to_every_balancer_and_begins_with_one_of_its_own(topology: Topology) -> None:
    found = vips.floating(topology)
    names = {host.name for host in topology.hosts}
    for vip in found:
        values = [value for _, value in vip.priorities]
        assert {name for name, _ in vip.priorities} == names
        assert values == sorted({topology.priority(host) for host in topology.hosts}, reverse=True)
    first = [vip.priorities[0][0] for vip in found]
    assert len(set(first)) == len(first)
    assert [vip.home for vip in found] == (first if len(found) > 1 else [None])


@given(topologies())
def test_every_vip_has_an_identity_that_no_other_has_and_vrrp_knows(topology: Topology) -> None:
    identities = [vip.router_id for vip in vips.floating(topology)]
    assert len(set(identities)) == len(identities)
    assert all(1 <= identity <= 255 for identity in identities)
    assert identities[0] == topology.network.virtual_router_id
