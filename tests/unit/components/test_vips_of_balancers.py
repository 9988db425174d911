"""What balancers and certificates are with several VIPs, and when they are taken to be well."""

from __future__ import annotations

import re

import pytest

from pgbaton.components import firewall, keepalived, pgbouncer, postgres
from pgbaton.components.base import OnChange
from pgbaton.errors import UnhealthyError
from pgbaton.hosts.fake import FakeHost
from pgbaton.topology import load, presets
from pgbaton.topology.model import Topology

FIRST, SECOND = "10.77.0.100", "10.77.0.101"


def topology(*more: str, names: tuple[str, ...] = (), **timings: float) -> Topology:
    document = load.loads(presets.text("standard")).model_dump(mode="json", by_alias=True, exclude_unset=True)
    document["network"] |= {"more_vips": list(more), "dns_names": list(names)}
    return Topology.model_validate(document | {"timings": timings})


SEVERAL = topology(SECOND)
SINGLE = topology()


def instances(text: str) -> dict[str, str]:
    """Return the instances of a keepalived.conf, by name."""
    found = re.split(r"^vrrp_instance (\S+) \{", text, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def value(instance: str, key: str) -> str:
    (found,) = re.findall(rf"^ +{key} (\S+)$", instance, re.MULTILINE)
    return str(found)


def test_each_vip_has_an_instance_and_each_balancer_the_highest_priority_for_one() -> None:
    one, other = (instances(keepalived.configuration(SEVERAL, SEVERAL.host(name))) for name in ("lb1", "lb2"))
    assert list(one) == list(other) == ["vip", "vip2"]
    assert [value(one[name], "priority") for name in one] == ["254", "253"]
    assert [value(other[name], "priority") for name in other] == ["253", "254"]
    for text in (one, other):
        assert [value(text[name], "virtual_router_id") for name in text] == ["51", "52"]
        assert f"{FIRST}/24 dev eth0" in text["vip"]
        assert f"{SECOND}/24 dev eth0" in text["vip2"]


def test_what_makes_a_balancer_give_up_its_vip_makes_it_give_up_all() -> None:
    for text in instances(keepalived.configuration(SEVERAL, SEVERAL.host("lb1"))).values():
        assert "haproxy_hung" in text
        assert "haproxy_dead weight 1" in text
        assert "haproxy_useless weight 1" in text


def test_several_vips_go_back_after_a_while_and_a_single_one_never() -> None:
    slow = topology(SECOND, vip_return=45.5)
    for text in instances(keepalived.configuration(slow, slow.host("lb2"))).values():
        assert value(text, "preempt_delay") == "45.5"
        assert "nopreempt" not in text
    (alone,) = instances(keepalived.configuration(SINGLE, SINGLE.host("lb2"))).values()
    assert "nopreempt" in alone
    assert "preempt_delay" not in alone


def test_what_takes_further_stale_vips_away_restarts_nothing_when_it_changes() -> None:
    component = keepalived.Keepalived()
    alone, several = ({file.path: file for file in component.files(it, it.host("lb1"))} for it in (SINGLE, SEVERAL))
    assert set(several) - set(alone) == {keepalived.MORE_VIPS_FILE}
    more = several[keepalived.MORE_VIPS_FILE]
    assert more.on_change is OnChange.RELOAD
    remove = f"-+/sbin/ip address del {SECOND}/24 dev eth0\n"
    assert isinstance(more.content, str)
    assert more.content.endswith(f"[Service]\nExecStartPre={remove}ExecStopPost={remove}")
    unit = "/etc/systemd/system/keepalived.service.d/pgbaton.conf"
    assert several[unit] == alone[unit]


def test_the_identities_of_addresses_are_read_from_what_was_written() -> None:
    assert keepalived.identities(keepalived.configuration(SEVERAL, SEVERAL.host("lb2"))) == {FIRST: 51, SECOND: 52}
    assert keepalived.identities(keepalived.configuration(SINGLE, SINGLE.host("lb2"))) == {FIRST: 51}
    assert keepalived.identities("") == {}


def balancer(name: str, *addresses: str, told: Topology = SEVERAL) -> FakeHost:
    """Return a balancer that runs, has these addresses, and has been told of a topology's VIPs."""
    shown = "".join(f"2: eth0    inet {address}/24 scope global secondary eth0\n" for address in addresses)
    host = FakeHost(name)
    host.answers[("systemctl",)] = "active\n"
    host.answers[("ip",)] = shown
    host.answers[("cat", keepalived.CONFIG)] = keepalived.configuration(told, told.host(name))
    return host


async def probe(first: FakeHost, second: FakeHost) -> None:
    await keepalived.Keepalived().probe(SEVERAL, SEVERAL.host("lb1"), {"lb1": first, "lb2": second})


@pytest.mark.parametrize(("first", "second"), [((FIRST,), (SECOND,)), ((FIRST, SECOND), ()), ((), (SECOND, FIRST))])
async def test_every_vip_on_one_balancer_is_well(first: tuple[str, ...], second: tuple[str, ...]) -> None:
    await probe(balancer("lb1", *first), balancer("lb2", *second))


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ((FIRST,), (), rf"{SECOND} is held by nobody"),
        ((), (SECOND,), rf"{FIRST} is held by nobody"),
        ((FIRST, SECOND), (SECOND,), rf"{SECOND} is held by lb1 and lb2"),
    ],
)
async def test_a_vip_that_none_or_two_hold_is_not_well(
    first: tuple[str, ...], second: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UnhealthyError, match=re.escape(said)):
        await probe(balancer("lb1", *first), balancer("lb2", *second))


async def test_a_vip_may_be_anywhere_until_every_balancer_has_heard_of_it() -> None:
    await probe(balancer("lb1", FIRST), balancer("lb2", told=SINGLE))
    known_otherwise = topology("10.77.0.102")
    await probe(balancer("lb1", FIRST), balancer("lb2", told=known_otherwise))
    with pytest.raises(UnhealthyError, match=rf"{FIRST} is held by nobody"):
        await probe(balancer("lb1"), balancer("lb2", SECOND, told=SINGLE))


def test_a_former_holder_says_no_for_every_vip() -> None:
    assert f"ip daddr {{ {FIRST}, {SECOND} }} tcp dport" in firewall.ruleset(SEVERAL, SEVERAL.host("lb1"))
    assert f"ip daddr {FIRST} tcp dport" in firewall.ruleset(SINGLE, SINGLE.host("lb1"))


def test_certificates_are_good_for_every_vip_and_for_the_names_that_clients_have() -> None:
    named = topology(SECOND, names=("db.example.com",))
    (shown,) = pgbouncer.Pgbouncer().certificates(named, named.host("lb1"))
    server, *_ = postgres.Postgres().certificates(named, named.host("db1"))
    for certificate in (shown, server):
        assert {FIRST, SECOND} <= set(certificate.addresses)
        assert "db.example.com" in certificate.dns_names
