"""The firewall of a balancer in a network namespace: what clients hear of one that has lost the VIP."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from pgbaton.components import firewall
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

#: What the preset has, and what it has in a network of IPv6: a balancer, the VIP, a client's address.
FAMILIES = {"IPv4": "10.77.0.", "IPv6": "fd00:77::"}
BALANCER, VIP, CLIENT = "11", "100", "254"
NAMESPACES = tuple(f"pgb-firewall-{os.getpid()}-{name}" for name in ("lb1", "app"))
#: Far below the second after which TCP asks again.
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.3)
except OSError as error:
    print(type(error).__name__)
else:
    print("connected")
"""
LISTEN = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
server = socket.create_server(("", int(sys.argv[1])), family=family)
print("listens", flush=True)
sys.stdin.read()
"""


def run(*argv: str, **further: str) -> str:
    """Run a program to its end, and return what it prints."""
    return subprocess.run(argv, check=True, timeout=30, stdout=subprocess.PIPE, text=True, **further).stdout  # type: ignore[call-overload,no-any-return]


def within(namespace: str, *argv: str, **further: str) -> str:
    return run("/usr/sbin/ip", "netns", "exec", namespace, *argv, **further)


def connect(vip: str, port: int) -> str:
    """Return how an attempt of the client's to connect to the VIP ends."""
    return within(NAMESPACES[1], sys.executable, "-c", CONNECT, vip, str(port)).strip()


def until_heard(address: str) -> None:
    """Return when the two know each other: a link that was just made carries no IPv6 for up to a second."""
    deadline = time.monotonic() + 10
    while (answer := connect(address, 5000)) != "ConnectionRefusedError":
        assert time.monotonic() < deadline, answer


@pytest.fixture(params=FAMILIES)
def vip(request: pytest.FixtureRequest) -> str:
    """Give the VIP of a family."""
    return f"{FAMILIES[request.param]}{VIP}"


@pytest.fixture
def balancer(vip: str) -> Iterator[str]:
    """Make a balancer that does not have the VIP, and a client that takes it for who has; give the balancer."""
    there, client = NAMESPACES
    prefix, bits = vip.removesuffix(VIP), "64 nodad" if ":" in vip else "24"
    text = presets.text("standard", cluster="demo")
    if ":" in vip:
        text = text.replace("10.77.0.0/24", f"{prefix}/64").replace("10.77.0.", prefix)
    topology = load.loads(text)
    try:
        for name in NAMESPACES:
            run("/usr/sbin/ip", "netns", "add", name)
        run("/usr/sbin/ip", "-n", there, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", client)
        for name, address in ((there, BALANCER), (client, CLIENT)):
            run("/usr/sbin/ip", "-n", name, "address", "add", *f"{prefix}{address}/{bits}".split(), "dev", "eth0")
            run("/usr/sbin/ip", "-n", name, "link", "set", "lo", "up")
            run("/usr/sbin/ip", "-n", name, "link", "set", "eth0", "up")
        link = re.search(r"link/ether (\S+)", run("/usr/sbin/ip", "-n", there, "link", "show", "eth0"))
        assert link
        run("/usr/sbin/ip", "-n", client, "neighbour", "replace", vip, "lladdr", link[1], "dev", "eth0")
        within(there, "/usr/sbin/nft", "-f", "-", input=firewall.ruleset(topology, topology.host("lb1")))
        until_heard(f"{prefix}{BALANCER}")
        yield there
    finally:
        for name in NAMESPACES:
            subprocess.run(["/usr/sbin/ip", "netns", "delete", name], check=False, timeout=30)


@pytest.mark.parametrize("port", [5000, 5001])
def test_who_connects_to_a_balancer_that_has_lost_the_vip_is_told_no_at_once(
    balancer: str, vip: str, port: int
) -> None:
    assert connect(vip, port) == "ConnectionRefusedError"
    assert connect(vip, 5432) == "TimeoutError", "nobody is told of what was never there"
    within(balancer, "/usr/sbin/nft", "delete", "chain", "inet", "pgbaton", "former")
    assert connect(vip, port) == "TimeoutError"


def test_the_holder_of_the_vip_serves_it(balancer: str, vip: str) -> None:
    bits = ("128", "nodad") if ":" in vip else ("24",)
    run("/usr/sbin/ip", "-n", balancer, "address", "add", f"{vip}/{bits[0]}", *bits[1:], "dev", "eth0")
    argv = ("/usr/sbin/ip", "netns", "exec", balancer, sys.executable, "-c", LISTEN, "5000", vip)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        assert server.stdin
        assert server.stdout.readline() == "listens\n"
        assert connect(vip, 5000) == "connected"
        server.stdin.close()
