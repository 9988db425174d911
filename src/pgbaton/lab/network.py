"""The lab's network: a bridge in a namespace of its own, and a namespace with one link to it for each machine.

Nothing is added to this machine's own network, so no packet for a lab can leave it, not even for one that is gone.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from pgbaton.hosts import process
from pgbaton.lab import relay
from pgbaton.topology.addresses import IPV6

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.lab.record import Lab, Machine
    from pgbaton.topology.addresses import Subnet

BRIDGE = "fabric"
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
    if not await has_link(lab.fabric, BRIDGE):
        await make_fabric(lab)
    for machine in lab.machines:
        if not await has_link(machine.netns, lab.interface):
            await replug(lab, machine, up=True)
    await apply_rules(lab)
    await apply_delays(lab)


async def make_fabric(lab: Lab) -> None:
    """Make the bridge's namespace and the bridge. It learns at once: no spanning tree, no waiting."""
    await remove_namespaces([lab.fabric])
    await batch(None, [f"netns add {lab.fabric}"])
    options = "forward_delay 0 stp_state 0 mcast_snooping 0"
    await batch(lab.fabric, [f"link add name {BRIDGE} type bridge {options}", f"link set dev {BRIDGE} up"])


async def replug(lab: Lab, machine: Machine, *, up: bool) -> None:
    """Give a machine a new namespace and a new link, with nothing of what an earlier boot had configured there."""
    if await has_link(lab.fabric, machine.port):
        await straighten(lab, machine)
        await batch(lab.fabric, [f"link del dev {machine.port}"])
    await remove_namespaces([machine.netns])
    link = f"netns {machine.netns} address {machine.mac}"
    await batch(None, [f"netns add {machine.netns}"])
    await batch(
        lab.fabric,
        [
            f"link add name {machine.port} type veth peer name {lab.interface} {link}",
            f"link set dev {machine.port} master {BRIDGE} {'up' if up else 'down'}",
        ],
    )
    await batch(
        machine.netns,
        [
            "link set dev lo up",
            f"address add {own(lab, machine)} dev {lab.interface}",
            f"link set dev {lab.interface} up",
            *routes(lab, machine),
        ],
    )


def subnet_of(lab: Lab, machine: Machine) -> Subnet:
    """Return the network that a machine is in."""
    return next(subnet for subnet in lab.subnets if ip_address(machine.address) in subnet)


def own(lab: Lab, machine: Machine) -> str:
    """Return a machine's address as ``ip address add`` takes it.

    One of IPv6 would have to be tried for a second or two before it is used, lest somebody else has it: nobody has.
    """
    subnet = subnet_of(lab, machine)
    return f"{machine.address}/{subnet.prefixlen} {'nodad' if subnet.version == IPV6 else 'broadcast +'}"


def routes(lab: Lab, machine: Machine) -> tuple[str, ...]:
    """Return what leads a machine to the other sites' networks: there is no router, all are on the same wire."""
    others = (subnet for subnet in lab.subnets if subnet != subnet_of(lab, machine))
    return tuple(f"route add {subnet} dev {lab.interface} src {machine.address}" for subnet in others)


async def set_link(lab: Lab, machine: Machine, *, up: bool) -> None:
    """Switch the bridge's side of a machine's link on or off."""
    await batch(lab.fabric, [f"link set dev {machine.port} {'up' if up else 'down'}"])


async def apply_rules(lab: Lab) -> None:
    """Have the fabric drop what the lab's cuts and losses say, and nothing else."""
    text = RULES.format(rules="\n".join(f"    {rule}" for rule in rules(lab)))
    await process.run(*inside(lab.fabric), "nft", "-f", "-", input=text, where=f"lab {lab.name}")


def rules(lab: Lab) -> tuple[str, ...]:
    """Return the fabric's rules for a lab's cuts and losses. Pure."""
    ends = {machine.name: f'{{ "{machine.port}", "{relay.bridge_end(machine)}" }}' for machine in lab.machines}
    made: list[str] = []
    for cut in lab.cuts:
        way = f"iifname {ends[cut.source]} oifname {ends[cut.target]}"
        ports = ", ".join(map(str, cut.ports))
        matches = (f"tcp sport {{ {ports} }} ", f"tcp dport {{ {ports} }} ") if ports else ("",)
        made += (f"{way} {match}drop" for match in matches)
    for loss in lab.losses:
        share = f"numgen random mod 100 < {loss.percent} drop"
        made += (f"{side} {ends[loss.machine]} {share}" for side in ("iifname", "oifname"))
    return tuple(made)


async def apply_delays(lab: Lab) -> None:
    """Have a relay stand in the links that are to be slow, as slow as the slowest says, and in no others."""
    for machine in lab.machines:
        wanted = max((delay.milliseconds for delay in lab.delays if delay.machine == machine.name), default=None)
        if wanted == relay.running(lab, machine):
            continue
        await straighten(lab, machine)
        if wanted is not None:
            await divert(lab, machine, wanted)


async def divert(lab: Lab, machine: Machine, milliseconds: float) -> None:
    """Lead a machine's link to the bridge through a relay, at one stroke once that is ready."""
    ours, theirs = relay.relay_end(machine), relay.bridge_end(machine)
    silent = (f"link set dev {end} addrgenmode none" for end in (machine.port, ours, theirs))
    up = (f"link set dev {end} up" for end in (ours, theirs))
    await batch(lab.fabric, [f"link add name {theirs} type veth peer name {ours}", *silent, *up])
    await relay.start(lab, machine, milliseconds, inside(lab.fabric))
    await batch(lab.fabric, [f"link set dev {machine.port} nomaster", f"link set dev {theirs} master {BRIDGE}"])


async def straighten(lab: Lab, machine: Machine) -> None:
    """Plug a machine's link into the bridge again, if it was diverted: first, so that it is never interrupted."""
    theirs = relay.bridge_end(machine)
    diverted = await has_link(lab.fabric, theirs)
    if diverted:
        await batch(lab.fabric, [f"link set dev {theirs} nomaster", f"link set dev {machine.port} master {BRIDGE}"])
    await relay.end(lab, machine)
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
