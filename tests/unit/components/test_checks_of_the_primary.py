"""How HAProxy asks Patroni for the primary where agents tell of it, and etcd's route to itself."""

from __future__ import annotations

import re

import pytest

from pgbaton import blueprint
from pgbaton.cli.demo import STOCK
from pgbaton.components import etcd, haproxy
from pgbaton.topology import load, presets
from pgbaton.topology.model import Role, Topology

AGENTS = "[orchestration]\nagent = true\n"


def topology(more: str = "", *, name: str = "standard") -> Topology:
    return load.loads(f"{presets.text(name)}\n{more}")


def backends(chosen: Topology) -> dict[str, list[str]]:
    """Return the lines of each section of haproxy.cfg, by the section's name."""
    text = haproxy.configuration(chosen, chosen.host("lb1"))
    sections = re.split(r"^(?=\w)", text, flags=re.MULTILINE)
    return {
        " ".join(section.split("\n")[0].split()): [line.strip() for line in section.split("\n")[1:]]
        for section in sections
    }


def pace(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("default-server")]


def test_with_agents_the_primary_is_asked_for_at_a_pace_of_its_own() -> None:
    found = backends(topology(AGENTS))
    assert pace(found["backend primary"]) == ["default-server inter 1000ms downinter 1000ms"]


def test_with_agents_everything_else_is_asked_as_often_as_before() -> None:
    with_agents, without = backends(topology(AGENTS)), backends(topology(STOCK))
    assert pace(with_agents["defaults"])[0].startswith("default-server inter 200ms fastinter 100ms downinter 200ms ")
    assert with_agents.keys() == without.keys()
    assert {name for name in without if with_agents[name] != without[name]} == {"backend primary"}


def test_without_agents_the_primary_is_asked_for_as_often_as_anything() -> None:
    assert pace(backends(topology(STOCK))["backend primary"]) == []


def test_a_pace_that_is_set_counts_with_agents_too() -> None:
    found = backends(topology(f"{AGENTS}[timings]\ncheck_interval = 0.2\n"))
    assert pace(found["backend primary"]) == []


@pytest.mark.parametrize("name", presets.WITH_PATRONI)
def test_etcd_has_loopback_acknowledge_at_once_before_it_starts(name: str) -> None:
    chosen = topology(name=name)
    drawn = blueprint.draw(chosen)
    assert chosen.with_role(Role.DCS)
    for host in chosen.with_role(Role.DCS):
        found = drawn.host(host.name)
        (text,) = [file.content for file in found.files if "/etcd.service.d/" in file.path]
        assert isinstance(text, str)
        (command,) = re.findall(r"^ExecStartPre=(.*)$", text, flags=re.MULTILINE)
        assert command == etcd.QUICK_LOOPBACK
        assert command.startswith("-+/sbin/ip route replace local 127.0.0.1 "), "as root, and etcd starts without it"
        assert command.endswith(" quickack 1")
        assert "iproute2" in found.packages
