"""What a lab consists of, as its file lab.json remembers it.

The file says what was asked for; whether a machine runs is asked of the kernel (:mod:`pgbaton.lab.machine`).
It is written before anything is made, so that a lab whose creator was killed can be completed or removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgbaton.errors import UsageError
from pgbaton.state import read_json, write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgbaton.state import ClusterState
    from pgbaton.topology.addresses import Subnet
    from pgbaton.topology.model import HostSpec, Topology

#: Run-time files of all labs; nothing in it is meant to survive a reboot of this machine.
RUN = Path("/run/pgbaton")


@dataclass(frozen=True)
class Machine:
    """One machine: ``leader_pid`` is its first process as this machine numbers it, and None when it is off.

    ``volume`` tells whether its databases have a file system of their own. With ``replication_address``, it has a
    second link, to the network for replication.
    """

    name: str
    roles: tuple[str, ...]
    address: str
    netns: str
    port: str
    mac: str
    image: str
    packages: str | None = None
    volume: bool = False
    replication_address: str | None = None
    leader_pid: int | None = None
    leader_started: str | None = None

    @property
    def state(self) -> str:
        """Return ``running`` or ``off``."""
        return "off" if self.leader_pid is None else "running"


#: The two networks that a lab may have, as cuts name them.
CLIENTS, REPLICATION = "clients", "replication"


@dataclass(frozen=True)
class Cut:
    """A direction in which the fabric drops everything, or only TCP that has one of ``ports`` at either end.

    ``by`` says who made it, so that it can be taken back alone; what people cut by hand has no name. ``network`` is the
    one of two networks that is cut, empty for all there are.
    """

    source: str
    target: str
    ports: tuple[int, ...] = ()
    by: str = ""
    network: str = ""

    def __str__(self) -> str:
        """Return the cut as people read it."""
        ports = f"TCP {', '.join(map(str, self.ports))}" if self.ports else ""
        only = ", ".join(filter(None, (f"network of {self.network}" if self.network else "", ports)))
        return f"{self.source} -> {self.target}{f' ({only})' if only else ''}"


@dataclass(frozen=True)
class Link:
    """A machine's link to a network of the lab: ``port`` is its end at the bridge, ``interface`` that in the machine.

    ``name`` is the machine's.
    """

    name: str
    network: str
    port: str
    interface: str
    address: str
    prefix_length: int
    mac: str


@dataclass(frozen=True)
class Loss:
    """A share of frames that the fabric drops, of those to a machine and of those from it."""

    machine: str
    percent: int
    by: str = ""


@dataclass(frozen=True)
class Delay:
    """A time that each frame to a machine and each from it takes longer; a round trip takes it twice."""

    machine: str
    milliseconds: float
    by: str = ""


@dataclass(frozen=True)
class Lab:
    """A whole lab; ``durable`` is the directory of disks that outlive a reboot, if they are to.

    ``vip`` is the VIP, and ``more_vips`` are further ones.

    ``other_subnets`` are networks of other sites; in a lab they are on the same wire.
    """

    name: str
    topology: str
    vip: str | None
    write_port: int
    read_port: int
    fabric: str
    interface: str
    prefix_length: int
    machines: tuple[Machine, ...]
    system: str
    durable: str | None = None
    cuts: tuple[Cut, ...] = ()
    losses: tuple[Loss, ...] = ()
    delays: tuple[Delay, ...] = ()
    other_subnets: tuple[str, ...] = ()
    more_vips: tuple[str, ...] = ()
    replication_interface: str = "eth1"
    replication_subnet: str | None = None

    @property
    def vips(self) -> tuple[str, ...]:
        """Return the addresses that clients use; none where there is no VIP."""
        return (self.vip, *self.more_vips) if self.vip else ()

    @property
    def run_directory(self) -> Path:
        """Return where the lab's run-time files are."""
        return RUN / self.name

    @property
    def subnets(self) -> tuple[Subnet, ...]:
        """Return the networks that machines are in: the cluster's own, and those of other sites."""
        others = tuple(map(ip_network, self.other_subnets))
        addresses = (ip_address(machine.address) for machine in self.machines)
        near = next(address for address in addresses if not any(address in subnet for subnet in others))
        return (ip_network(f"{near}/{self.prefix_length}", strict=False), *others)

    def links(self, machine: Machine) -> tuple[Link, ...]:
        """Return a machine's links, that by which everybody reaches it first."""
        near = next(subnet for subnet in self.subnets if ip_address(machine.address) in subnet)
        place = (machine.address, near.prefixlen, machine.mac)
        first = Link(machine.name, CLIENTS, machine.port, self.interface, *place)
        if machine.replication_address is None or self.replication_subnet is None:
            return (first,)
        prefix_length = ip_network(self.replication_subnet).prefixlen
        place = (machine.replication_address, prefix_length, hardware_address(f"{machine.netns}.replication"))
        return (first, Link(machine.name, REPLICATION, f"r{machine.port}", self.replication_interface, *place))

    @property
    def bare(self) -> bool:
        """Tell whether the machines were made without the packages."""
        return any(machine.packages is not None for machine in self.machines)

    def machine(self, name: str) -> Machine:
        """Return a machine by name; raises UsageError when there is none."""
        for machine in self.machines:
            if machine.name == name:
                return machine
        message = f"lab {self.name} has no machine {name}"
        raise UsageError(message, hint=f"its machines: {', '.join(machine.name for machine in self.machines)}")

    def with_machine(self, changed: Machine) -> Lab:
        """Return the lab with one machine's record replaced."""
        machines = (changed if machine.name == changed.name else machine for machine in self.machines)
        return replace(self, machines=tuple(machines))

    def to_json(self) -> dict[str, Any]:
        """Return the form that lab.json and ``lab status -o json`` have."""
        data = asdict(self)
        ports = {"write": data.pop("write_port"), "read": data.pop("read_port")}
        hosts = [asdict(machine) | {"state": machine.state} for machine in self.machines]
        del data["machines"]
        head = {key: data.pop(key) for key in ("name", "topology", "vip")}
        return head | {"ports": ports, "hosts": hosts} | data

    @staticmethod
    def from_json(data: dict[str, Any]) -> Lab:
        """Return the lab that a JSON form describes."""
        apart = {"ports", "hosts", "cuts", "losses", "delays", "other_subnets", "more_vips"}
        fields = {key: value for key, value in data.items() if key not in apart}
        hosts = ({key: value for key, value in host.items() if key != "state"} for host in data["hosts"])
        return Lab(
            **fields,
            write_port=data["ports"]["write"],
            read_port=data["ports"]["read"],
            machines=tuple(Machine(**host | {"roles": tuple(host["roles"])}) for host in hosts),
            cuts=tuple(Cut(**cut | {"ports": tuple(cut.get("ports", ()))}) for cut in data["cuts"]),
            losses=tuple(Loss(**loss) for loss in data.get("losses", ())),
            delays=tuple(Delay(**delay) for delay in data.get("delays", ())),
            other_subnets=tuple(data.get("other_subnets", ())),
            more_vips=tuple(data.get("more_vips", ())),
        )


def describe(topology: Topology, state: ClusterState, *, system: str, durable: bool) -> Lab:
    """Return the lab for a topology, its machines yet without images."""
    hosts = enumerate(topology.hosts)
    return Lab(
        name=state.name,
        topology=str(state.topology_file),
        vip=str(topology.network.vip) if topology.network.vip else None,
        write_port=topology.balancing.write_port,
        read_port=topology.balancing.read_port,
        fabric=f"pgb-{state.name}",
        interface=topology.network.interface,
        prefix_length=topology.network.subnet.prefixlen,
        machines=tuple(machine_for(state.name, host, index) for index, host in hosts),
        system=system,
        durable=str(state.directory / "disks") if durable else None,
        other_subnets=tuple(map(str, topology.network.other_subnets)),
        more_vips=tuple(map(str, topology.network.vips[1:])),
        replication_interface=topology.network.replication_interface,
        replication_subnet=str(topology.network.replication_subnet) if topology.network.replication_subnet else None,
    )


def machine_for(cluster: str, host: HostSpec, index: int) -> Machine:
    """Return the record of one host's machine. A dot parts the names: neither of them can have one."""
    name = f"{cluster}.{host.name}"
    return Machine(
        name=host.name,
        roles=tuple(role.value for role in host.roles),
        address=str(host.address),
        netns=f"pgb-{name}",
        port=f"port{index}",
        mac=hardware_address(name),
        image="",
        replication_address=str(host.replication_address) if host.replication_address else None,
    )


def hardware_address(name: str) -> str:
    """Return a locally administered address that a machine keeps over power-offs, as a real one does."""
    digits = hashlib.sha256(name.encode()).hexdigest()
    return ":".join(("02", *(digits[at : at + 2] for at in range(0, 10, 2))))


def load(state: ClusterState) -> Lab:
    """Read a lab's record; raises UsageError when the cluster is no lab."""
    if not state.lab_file.exists():
        message = f"cluster {state.name} is no lab"
        hint = "pgbaton lab commands are for labs; pgbaton lab up --cluster NAME makes one, of another name"
        raise UsageError(message, hint=hint)
    return Lab.from_json(read_json(state.lab_file))


def update(state: ClusterState, change: Callable[[Lab], Lab]) -> Lab:
    """Change a lab's record, one command at a time, and return it as it then is."""
    with exclusive(state):
        lab = change(load(state))
        save(state, lab)
    return lab


def save(state: ClusterState, lab: Lab) -> None:
    """Write a lab's record."""
    write_private(state.lab_file, json.dumps(lab.to_json(), indent=1) + "\n")


@contextmanager
def exclusive(state: ClusterState) -> Iterator[None]:
    """Hold a lab's record; others wait for the moment that a change takes."""
    with (state.directory / "lab.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
