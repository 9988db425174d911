"""Three agents, each in a network namespace of its own on one switch: who is heard, who is silent, who is believed.

No database, no etcd: what is tried here is the agents' own network, with real processes, cables and keys.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pgbaton import pki
from pgbaton.components.base import Certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.lab

NAMES = ("h1", "h2", "h3")
HEARTBEAT, HEALTH = 7790, 7791
BEAT_SECONDS, DETECTION_SECONDS = 0.05, 0.25
#: What a host that asks, a switch and a busy machine may add to the detection time.
MARGIN_SECONDS = 0.3
SOON_SECONDS = 15.0
LOOK_SECONDS = 0.01
CLONE_NEWNET = 0x40000000
NAMESPACES = Path("/run/netns")
EVERY_PROTOCOL = 3
#: Kinds of datagrams (pgbaton.agent.peers.bodies).
CHALLENGE, RESPONSE, HEARTBEATS = 1, 2, 3


@dataclass(frozen=True)
class Datagram:
    """A datagram of the agents' that was seen on the cable."""

    sender: str
    receiver: str
    payload: bytes

    @property
    def kind(self) -> int:
        return self.payload[1]

    @property
    def boot(self) -> bytes:
        return self.payload[2:10]

    @property
    def nonce(self) -> bytes:
        """Return the number of a challenge or a response: the last before the seal."""
        return self.payload[-24:-16]


@dataclass
class Host:
    """A namespace with an agent in it."""

    name: str
    namespace: str
    address: str
    directory: Path
    process: subprocess.Popen[bytes] | None = None
    seen: list[Datagram] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    def start(self) -> None:
        """Start the agent, as systemd does."""
        files = ("--settings", self.directory / f"{self.name}.json", "--secrets", self.directory / "secrets.json")
        agent = (sys.executable, "-m", "pgbaton.agent", "run", *files)
        with self.log.open("ab") as log:
            command = ("/usr/sbin/ip", "netns", "exec", self.namespace, *map(str, agent))
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def signal(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)

    def end(self) -> int | None:
        """End the agent, and return how it ended."""
        if self.process is None:
            return None
        for number in (signal.SIGCONT, signal.SIGTERM):
            self.process.send_signal(number)
        try:
            return self.process.wait(SOON_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(SOON_SECONDS)

    def health(self) -> dict[str, Any]:
        """Ask the agent on its own host, whatever the cable is like."""
        trust = ssl.create_default_context(cafile=self.directory / "ca.crt")
        with inside(self.namespace):
            asked = http.client.HTTPSConnection(self.address, HEALTH, timeout=2, context=trust)
            asked.connect()
        try:
            asked.request("GET", "/health")
            answer: dict[str, Any] = json.load(asked.getresponse())
            return answer
        finally:
            asked.close()

    def silent(self) -> set[str]:
        return set(self.health()["silent"])

    def sniffer(self) -> socket.socket:
        """Return what sees every packet on this host's cable."""
        with inside(self.namespace):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(EVERY_PROTOCOL))
        made.settimeout(0)
        return made


@dataclass
class Network:
    """The hosts, by name, and the switch that their cables are in."""

    switch: str
    hosts: dict[str, Host]

    def cable(self, name: str, state: str) -> None:
        """Pull a host's cable out of the switch (``down``), or put it back (``up``)."""
        ip("-n", self.switch, "link", "set", name, state)

    @property
    def namespaces(self) -> list[str]:
        return [self.switch, *(host.namespace for host in self.hosts.values())]


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Let this thread be in a network namespace."""
    library = ctypes.CDLL(None, use_errno=True)
    before, there = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.open(NAMESPACES / namespace, os.O_RDONLY)
    try:
        assert library.setns(there, CLONE_NEWNET) == 0
        yield
    finally:
        assert library.setns(before, CLONE_NEWNET) == 0
        os.close(before)
        os.close(there)


def ip(*arguments: str) -> None:
    """Run ip to its end."""
    subprocess.run(["/usr/sbin/ip", *arguments], check=True, timeout=30)


def eventually(condition: Callable[[], bool], what: str, *, seconds: float = SOON_SECONDS) -> float:
    """Wait until something is so, and return how long it took."""
    begun = time.monotonic()
    while True:
        try:
            if condition():
                return time.monotonic() - begun
        except OSError:
            pass  # nobody answers yet
        assert time.monotonic() - begun < seconds, f"not within {seconds} s: {what}"
        time.sleep(LOOK_SECONDS)


def never(condition: Callable[[], bool], what: str, *, seconds: float) -> None:
    """Look for so long that something is not so."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        assert not condition(), what
        time.sleep(LOOK_SECONDS)


def drained(sniffer: socket.socket, network: Network) -> list[Datagram]:
    """Return the agents' datagrams that were seen since the last time."""
    names = {host.address: host.name for host in network.hosts.values()}
    found = []
    while True:
        try:
            packet = sniffer.recv(2048)
        except BlockingIOError:
            return found
        header = 4 * (packet[0] & 0x0F)
        is_udp = packet[0] >> 4 == 4 and packet[9] == socket.IPPROTO_UDP
        if not is_udp or struct.unpack_from("!HH", packet, header)[1] != HEARTBEAT:
            continue
        sender, receiver = (socket.inet_ntoa(packet[at : at + 4]) for at in (12, 16))
        length = struct.unpack_from("!H", packet, header + 4)[0]
        found.append(Datagram(names[sender], names[receiver], packet[header + 8 : header + length]))


def write_files(directory: Path, hosts: dict[str, Host]) -> None:
    """Write what pgbaton deploys for an agent."""
    authority = pki.make_authority("agents")
    (directory / "ca.crt").write_text(authority.certificate)
    secrets = {"heartbeat_key": "5a" * 32, "rest_user": "patroni", "rest_password": "one"}
    (directory / "secrets.json").write_text(json.dumps(secrets))
    (directory / "secrets.json").chmod(0o600)
    for host in hosts.values():
        wanted = Certificate(
            host.name,
            file=host.name,
            owner="root",
            common_name=host.name,
            addresses=(host.address,),
            server=True,
            client=True,
        )
        issued = pki.issue(authority, wanted, days=1)
        certificate, key = directory / f"{host.name}.crt", directory / f"{host.name}.key"
        certificate.write_text(issued.certificate)
        key.write_text(issued.key)
        key.chmod(0o600)
        document = document_of(host, hosts, directory)
        (directory / f"{host.name}.json").write_text(json.dumps(document))


def document_of(host: Host, hosts: dict[str, Host], directory: Path) -> dict[str, Any]:
    """Return a host's settings."""
    own = {
        "authority": str(directory / "ca.crt"),
        "certificate": str(directory / f"{host.name}.crt"),
        "key": str(directory / f"{host.name}.key"),
    }
    nowhere = str(directory / "nowhere")
    return {
        "cluster": "agents",
        "scope": "agents",
        "kind": "patroni",
        "me": host.name,
        "hosts": [{"name": each.name, "address": each.address, "roles": ["dcs"]} for each in hosts.values()],
        "mode": "synchronous",
        "placement": "balancer",
        "accept_loss": False,
        "ports": {
            "heartbeat": HEARTBEAT,
            "health": HEALTH,
            "postgresql": 5432,
            "rest": 8008,
            "etcd": 2379,
            "etcd_peer": 2380,
            "pool_write": 6432,
            "pool_read": 6433,
            "pool_synchronous": 6434,
        },
        "timings": {
            "heartbeat_seconds": BEAT_SECONDS,
            "detection_seconds": DETECTION_SECONDS,
            "probe_seconds": 0.1,
            "deadline_seconds": 0.5,
            "failures": 3,
            "pause_seconds": 5.0,
        },
        "postgresql": {
            "version": 17,
            "data_directory": nowhere,
            "socket_directory": nowhere,
            "role": "pgbaton_agent",
            "database": "postgres",
        },
        "tls": {**own, **{f"etcd_{name}": value for name, value in own.items()}},
        "haproxy_socket": f"{nowhere}/haproxy.sock",
        "pgbouncer_sockets": {
            **{purpose: [{"instance": purpose, "directory": f"{nowhere}/{purpose}"}] for purpose in ("write", "read")},
            "synchronous": [],
        },
        "state_directory": str(directory / f"state-{host.name}"),
        "runtime_directory": str(directory / f"run-{host.name}"),
    }


def lay(network: Network) -> None:
    """Make the namespaces, and put a cable of each into the switch."""
    ip("netns", "add", network.switch)
    ip("-n", network.switch, "link", "add", "switch", "type", "bridge")
    ip("-n", network.switch, "link", "set", "switch", "up")
    for host in network.hosts.values():
        ip("netns", "add", host.namespace)
        cable = ("type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        ip("-n", network.switch, "link", "add", host.name, *cable)
        ip("-n", network.switch, "link", "set", host.name, "master", "switch", "up")
        ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            ip("-n", host.namespace, "link", "set", link, "up")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Three agents that hear each other; at the end, nothing of them is left."""
    directory, mine = tmp_path_factory.mktemp("agents"), f"pgb-agents-{os.getpid()}"
    hosts = {name: Host(name, f"{mine}-{name}", f"10.98.7.{number}", directory) for number, name in enumerate(NAMES, 1)}
    made = Network(f"{mine}-switch", hosts)
    write_files(directory, hosts)
    try:
        lay(made)
        for host in hosts.values():
            host.start()
        wait_for_peace(made)
        yield made
    finally:
        ended = [host.end() for host in hosts.values()]
        for namespace in made.namespaces:
            if (NAMESPACES / namespace).exists():
                ip("netns", "delete", namespace)
    assert ended == [0, 0, 0]
    assert not [namespace for namespace in made.namespaces if (NAMESPACES / namespace).exists()]
    left = {path.name for host in hosts.values() for path in (directory / f"state-{host.name}").iterdir()}
    assert left == {"fences.nft"}
    assert not any("Traceback" in host.log.read_text() for host in hosts.values())


@pytest.fixture(autouse=True)
def peace(network: Network) -> Iterator[None]:
    """Begin and end each test with everybody heard by everybody."""
    wait_for_peace(network)
    yield
    for name in NAMES:
        network.cable(name, "up")
        network.hosts[name].signal(signal.SIGCONT)
    wait_for_peace(network)


def wait_for_peace(network: Network) -> None:
    """Wait until every agent answers, has heard the others lately, and misses nobody."""

    def is_quiet(host: Host) -> bool:
        told, others = host.health(), len(NAMES) - 1
        log = sum(f'host="{name}"' in metrics(host) for name in NAMES)
        return log == others and not told["silent"] and not told["stalled"]

    for host in network.hosts.values():
        eventually(lambda host=host: is_quiet(host), f"{host.name} hears everybody")  # type: ignore[misc]


def metrics(host: Host) -> str:
    """Return an agent's figures."""
    trust = ssl.create_default_context(cafile=host.directory / "ca.crt")
    with inside(host.namespace):
        asked = http.client.HTTPSConnection(host.address, HEALTH, timeout=2, context=trust)
        asked.connect()
    try:
        asked.request("GET", "/metrics")
        return asked.getresponse().read().decode()
    finally:
        asked.close()


def test_a_stopped_agent_on_a_living_host_makes_nobody_silent(network: Network) -> None:
    one, _, three = network.hosts.values()
    three.signal(signal.SIGSTOP)
    never(lambda: bool(one.silent()), "h3's host answers echoes, so it is not silent", seconds=1.0)
    three.signal(signal.SIGCONT)
    eventually(lambda: bool(three.health()["stalled"]), "h3 knows that it slept")
    never(lambda: bool(three.silent()), "h3 slept, and says nothing of others", seconds=0.5)
    eventually(lambda: not three.health()["stalled"], "h3 is awake again")
    assert three.silent() == one.silent() == set()


def test_a_cut_cable_makes_a_host_silent_for_the_others_and_the_others_for_it(network: Network) -> None:
    one, two, three = network.hosts.values()
    taken = []
    for _ in range(3):  # a machine that is busy may be late, but not each time
        network.cable("h3", "down")
        taken.append(eventually(lambda: one.silent() == two.silent() == {"h3"}, "h3 is silent"))
        eventually(lambda: three.silent() == {"h1", "h2"}, "everybody is silent for h3")
        assert one.silent() == {"h3"}
        network.cable("h3", "up")
        eventually(lambda: not (one.silent() | two.silent() | three.silent()), "all are heard again")
        if taken[-1] <= DETECTION_SECONDS + MARGIN_SECONDS:
            break
    assert min(taken) <= DETECTION_SECONDS + MARGIN_SECONDS


def test_an_old_recording_brings_no_dead_host_back(network: Network) -> None:
    one, _, three = network.hosts.values()
    with one.sniffer() as sniffer:
        recorded: list[Datagram] = []

        def has_recorded() -> bool:
            recorded.extend(each for each in drained(sniffer, network) if (each.sender, each.receiver) == ("h2", "h1"))
            return len(recorded) >= 5

        eventually(has_recorded, "h2's heartbeats are on the cable")
    network.cable("h2", "down")
    eventually(lambda: one.silent() == {"h2"}, "h2 is silent")
    with inside(three.namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for each in recorded:
            stranger.sendto(each.payload, (one.address, HEARTBEAT))
    never(lambda: one.silent() != {"h2"}, "h1 takes a recording for h2", seconds=0.5)


def test_an_agent_that_was_killed_and_is_back_is_believed_after_it_was_challenged(network: Network) -> None:
    one, two, _ = network.hosts.values()
    with one.sniffer() as sniffer:
        two.signal(signal.SIGKILL)
        assert two.process
        assert two.process.wait(SOON_SECONDS) == -signal.SIGKILL
        eventually(lambda: not one.silent(), "h2's host lives, whatever became of its agent")
        before = {each.boot for each in drained(sniffer, network) if each.sender == "h2"}
        two.start()
        seen: list[Datagram] = []

        def is_proved() -> bool:
            seen.extend(drained(sniffer, network))
            return any(each.kind == RESPONSE and each.sender == "h2" for each in seen)

        eventually(is_proved, "h2 proves that it lives")
    first = next(each for each in seen if each.sender == "h2" and each.boot not in before)
    challenge = next(each for each in seen if each.kind == CHALLENGE and each.receiver == "h2" and each.sender == "h1")
    response = next(each for each in seen if each.kind == RESPONSE and each.sender == "h2")
    assert first.kind in {HEARTBEATS, CHALLENGE}
    assert seen.index(challenge) < seen.index(response)
    assert (response.nonce, response.boot) == (challenge.nonce, first.boot)
    eventually(lambda: 'host="h1"' in metrics(two), "h2 believes h1 too")
