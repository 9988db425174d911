"""The lab's network: a bridge in a namespace of its own, and a namespace with one link to it for each machine.

Where the topology has a network for replication, that is a second bridge beside the first, with a link for each
database. Nothing is added to this machine's own network, so no packet for a lab can leave it, not even for one that is
gone.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from pgbaton.hosts import process
from pgbaton.lab import relay
from pgbaton.lab.record import CLIENTS, REPLICATION
from pgbaton.topology.addresses import IPV6

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.lab.record import Lab, Link, Machine
    from pgbaton.topology.addresses import Subnet

#: The bridge of each network.
BRIDGES = {CLIENTS: "fabric", REPLICATION: "backbone"}
NAMESPACES = Path("/run/netns")

#: Loaded as a whole at every change: the first line makes sure that there is something for the second to delete.
RULES = """
table bridge pgbaton
delete table bridge pgbaton
table bridge pgbaton {{
  chain cut {{
    type filter hook forward priority 0; policy accept;
{rules}
  }}
}}
"""


async def ensure(lab: Lab) -> None:
    """Make what is missing of the network, and let everybody reach everybody."""
    for network in networks(lab):
        if not await has_link(lab.fabric, BRIDGES[network]):
            await make_bridge(lab, network)
    for machine in lab.machines:
        if not await has_link(machine.netns, lab.interface):
            await replug(lab, machine, up=True)
        for link in lab.links(machine)[1:]:
            if not await has_link(machine.netns, link.interface):
                await plug(lab, machine, link, up=True)
    await apply_rules(lab)
    await apply_delays(lab)


def networks(lab: Lab) -> tuple[str, ...]:
    """Return the networks that a lab has: that of all machines first."""
    return (CLIENTS, REPLICATION) if lab.replication_subnet else (CLIENTS,)


async def make_bridge(lab: Lab, network: str) -> None:
    """Make a network's bridge, for the first one the namespace too. It learns at once: no spanning tree, no waiting."""
    if network == CLIENTS:
        await remove_namespaces([lab.fabric])
        await batch(None, [f"netns add {lab.fabric}"])
    options, name = "forward_delay 0 stp_state 0 mcast_snooping 0", BRIDGES[network]
    await batch(lab.fabric, [f"link add name {name} type bridge {options}", f"link set dev {name} up"])


async def replug(lab: Lab, machine: Machine, *, up: bool) -> None:
    """Give a machine a new namespace and new links, with nothing of what an earlier boot had configured there."""
    for link in lab.links(machine):
        await unplug(lab, link)
    await remove_namespaces([machine.netns])
    await batch(None, [f"netns add {machine.netns}"])
    await batch(machine.netns, ["link set dev lo up"])
    for link in lab.links(machine):
        await plug(lab, machine, link, up=up)


async def unplug(lab: Lab, link: Link) -> None:
    """Remove a link, if it is there."""
    if await has_link(lab.fabric, link.port):
        await straighten(lab, link)
        await batch(lab.fabric, [f"link del dev {link.port}"])


async def plug(lab: Lab, machine: Machine, link: Link, *, up: bool) -> None:
    """Give a machine a link to a network, in the namespace that it has."""
    await unplug(lab, link)
    peer = f"peer name {link.interface} netns {machine.netns} address {link.mac}"
    await batch(
        lab.fabric,
        [
            f"link add name {link.port} type veth {peer}",
            f"link set dev {link.port} master {BRIDGES[link.network]} {'up' if up else 'down'}",
        ],
    )
    await batch(
        machine.netns,
        [
            f"address add {own(link)} dev {link.interface}",
            f"link set dev {link.interface} up",
            *(routes(lab, machine) if link.network == CLIENTS else ()),
        ],
    )


def subnet_of(lab: Lab, machine: Machine) -> Subnet:
    """Return the network that a machine is in."""
    return next(subnet for subnet in lab.subnets if ip_address(machine.address) in subnet)


def own(link: Link) -> str:
    """Return the address that a machine has at a link as ``ip address add`` takes it.

    One of IPv6 would have to be tried for a second or two before it is used, lest somebody else has it: nobody has.
    """
    options = "nodad" if ip_address(link.address).version == IPV6 else "broadcast +"
    return f"{link.address}/{link.prefix_length} {options}"


def routes(lab: Lab, machine: Machine) -> tuple[str, ...]:
    """Return what leads a machine to the other sites' networks: there is no router, all are on the same wire."""
    others = (subnet for subnet in lab.subnets if subnet != subnet_of(lab, machine))
    return tuple(f"route add {subnet} dev {lab.interface} src {machine.address}" for subnet in others)


async def set_link(lab: Lab, machine: Machine, *, up: bool) -> None:
    """Switch the bridges' side of a machine's links on or off."""
    await batch(lab.fabric, [f"link set dev {link.port} {'up' if up else 'down'}" for link in lab.links(machine)])


async def apply_rules(lab: Lab) -> None:
    """Have the fabric drop what the lab's cuts and losses say, and nothing else."""
    text = RULES.format(rules="\n".join(f"    {rule}" for rule in rules(lab)))
    await process.run(*inside(lab.fabric), "nft", "-f", "-", input=text, where=f"lab {lab.name}")


def rules(lab: Lab) -> tuple[str, ...]:
    """Return the fabric's rules for a lab's cuts and losses. Pure."""
    made: list[str] = []
    for cut in lab.cuts:
        way = f"iifname {ends(lab, cut.source, cut.network)} oifname {ends(lab, cut.target, cut.network)}"
        ports = ", ".join(map(str, cut.ports))
        matches = (f"tcp sport {{ {ports} }} ", f"tcp dport {{ {ports} }} ") if ports else ("",)
        made += (f"{way} {match}drop" for match in matches)
    for loss in lab.losses:
        share = f"numgen random mod 100 < {loss.percent} drop"
        made += (f"{side} {ends(lab, loss.machine)} {share}" for side in ("iifname", "oifname"))
    return tuple(made)


def ends(lab: Lab, name: str, network: str = "") -> str:
    """Return the ends that a machine has at the bridge of a network, or at all of them, slow or not. Pure."""
    links = (link for link in lab.links(lab.machine(name)) if network in {"", link.network})
    return "{ " + ", ".join(f'"{link.port}", "{relay.bridge_end(link)}"' for link in links) + " }"


async def apply_delays(lab: Lab) -> None:
    """Have a relay stand in the links that are to be slow, as slow as the slowest says, and in no others."""
    for machine in lab.machines:
        wanted = max((delay.milliseconds for delay in lab.delays if delay.machine == machine.name), default=None)
        for link in lab.links(machine):
            if wanted == relay.running(lab, link):
                continue
            await straighten(lab, link)
            if wanted is not None:
                await divert(lab, link, wanted)


async def divert(lab: Lab, link: Link, milliseconds: float) -> None:
    """Lead a machine's link to the bridge through a relay, at one stroke once that is ready."""
    ours, theirs = relay.relay_end(link), relay.bridge_end(link)
    silent = (f"link set dev {end} addrgenmode none" for end in (link.port, ours, theirs))
    up = (f"link set dev {end} up" for end in (ours, theirs))
    bridge = BRIDGES[link.network]
    await batch(lab.fabric, [f"link add name {theirs} type veth peer name {ours}", *silent, *up])
    await relay.start(lab, link, milliseconds, inside(lab.fabric))
    await batch(lab.fabric, [f"link set dev {link.port} nomaster", f"link set dev {theirs} master {bridge}"])


async def straighten(lab: Lab, link: Link) -> None:
    """Plug a machine's link into the bridge again, if it was diverted: first, so that it is never interrupted."""
    theirs = relay.bridge_end(link)
    diverted = await has_link(lab.fabric, theirs)
    if diverted:
        bridge = BRIDGES[link.network]
        await batch(lab.fabric, [f"link set dev {theirs} nomaster", f"link set dev {link.port} master {bridge}"])
    await relay.end(lab, link)
    if diverted:
        await batch(lab.fabric, [f"link del dev {theirs}"])


async def has_link(namespace: str, link: str) -> bool:
    """Tell whether a namespace exists and has a link of that name."""
    if not (NAMESPACES / namespace).exists():
        return False
    return (await process.run("ip", "-n", namespace, "link", "show", "dev", link, check=False)).ok


def namespaces(cluster: str) -> tuple[str, ...]:
    """Return the network namespaces that belong to a lab by its name."""
    if not NAMESPACES.is_dir():
        return ()
    names = (path.name for path in NAMESPACES.iterdir())
    return tuple(name for name in names if name == f"pgb-{cluster}" or name.startswith(f"pgb-{cluster}."))


async def remove_namespaces(names: Iterable[str]) -> None:
    """Remove those of the namespaces that exist."""
    await batch(None, [f"netns del {name}" for name in names if (NAMESPACES / name).exists()])


def inside(namespace: str) -> tuple[str, ...]:
    """Return the argv prefix that runs a program of this machine in a network namespace."""
    return ("nsenter", f"--net={NAMESPACES / namespace}", "--")


async def batch(namespace: str | None, commands: list[str]) -> None:
    """Give ip several commands at once, in a namespace or in this machine's own."""
    if commands:
        place = () if namespace is None else ("-n", namespace)
        await process.run("ip", *place, "-batch", "-", input="".join(f"{command}\n" for command in commands))
