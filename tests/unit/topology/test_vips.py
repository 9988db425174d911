"""Several floating addresses: whose each is, and by which identity."""

from __future__ import annotations

import pytest

from pgbaton.topology import load, placement, presets, vips
from pgbaton.topology.model import Topology

VIP = 'vip = "10.77.0.100"'


def several(*more: str, preset: str = "standard", **network: object) -> Topology:
    """Return a preset with further VIPs, and more of its network's keys."""
    document = load.loads(presets.text(preset)).model_dump(mode="json", by_alias=True, exclude_unset=True)
    document["network"] |= {"more_vips": list(more), **network}
    return Topology.model_validate(document)


def test_a_single_vip_has_no_balancer_of_its_own_and_the_identity_that_is_configured() -> None:
    (only,) = vips.floating(several(virtual_router_id=77))
    assert (str(only.address), only.router_id, only.home) == ("10.77.0.100", 77, None)
    assert only.priorities == (("lb1", 254), ("lb2", 253))
    assert vips.homes(several()) == {}


def test_each_of_several_begins_with_another_balancer_and_goes_round() -> None:
    topology = several("10.77.0.101", "10.77.0.102", preset="compact")
    found = vips.floating(topology)
    assert [vip.home for vip in found] == ["n1", "n2", "n3"]
    assert [[name for name, _ in vip.priorities] for vip in found] == [
        ["n1", "n2", "n3"],
        ["n2", "n3", "n1"],
        ["n3", "n1", "n2"],
    ]
    assert [[value for _, value in vip.priorities] for vip in found] == [[254, 253, 252]] * 3
    assert found[1].priority(topology.host("n1")) == 252


def test_priorities_of_the_file_say_whose_the_first_one_is() -> None:
    document = several("10.77.0.101").model_dump(mode="json", by_alias=True)
    document["hosts"][1]["priority"] = 254
    document["hosts"][0]["priority"] = 100
    assert vips.homes(Topology.model_validate(document)) == {"10.77.0.100": "lb2", "10.77.0.101": "lb1"}


def test_an_identity_stays_the_same_when_another_vip_is_taken_out() -> None:
    before = several("10.77.0.101", "10.77.0.102", preset="compact")
    after = several("10.77.0.102", preset="compact")
    assert [vip.router_id for vip in vips.floating(before)] == [51, 52, 53]
    assert [vip.router_id for vip in vips.floating(after)] == [51, 53]


def test_identities_go_round_and_are_never_zero() -> None:
    found = vips.floating(several("10.77.0.101", "10.77.0.99", preset="compact", virtual_router_id=255))
    assert [vip.router_id for vip in found] == [255, 1, 254]
    assert [vip.router_id for vip in vips.floating(several("10.77.0.99", virtual_router_id=1))] == [1, 255]


def test_without_a_vip_nothing_floats() -> None:
    assert vips.floating(several(vip=None)) == ()


def test_applications_are_told_of_every_vip() -> None:
    assert placement.entrance(several("10.77.0.101")).hosts == "10.77.0.100,10.77.0.101"
    assert placement.has_several_vips(several("10.77.0.101"))
    assert not placement.has_several_vips(several())


@pytest.mark.parametrize("line", ['more_vips = ["10.77.0.101"]\n', "\n"])
def test_a_file_says_it(line: str) -> None:
    topology = load.loads(presets.text("standard").replace(VIP, f"{line}{VIP}"))
    assert len(topology.network.vips) == (2 if "more" in line else 1)
