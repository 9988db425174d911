"""Keepalived: floats the VIPs between the balancers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from pgbaton.components.base import Check, Component, File, OnChange, Unit, Wave
from pgbaton.components.generation import is_bookworm
from pgbaton.components.haproxy import STATE_FILE
from pgbaton.components.probing import require_active, require_success
from pgbaton.components.templating import render
from pgbaton.components.units import HARDENING, HEADER, ahead, drop_in, section
from pgbaton.errors import UnhealthyError
from pgbaton.topology import vips
from pgbaton.topology.addresses import floating_prefix
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.addresses import Address
    from pgbaton.topology.model import HostSpec, Topology
    from pgbaton.topology.vips import Vip

UNIT = "keepalived.service"
CONFIG = "/etc/keepalived/keepalived.conf"
SCRIPT = "/etc/keepalived/check-haproxy"
#: What the agent says of HAProxy: zero, or as low a number as gives the VIP up. It outlives the agent.
AGENT_FILE = "/run/pgbaton-agent-haproxy"
USER = "keepalived_script"
#: Takes the further VIPs away before a start and after an end. The first one's is with the rest of the unit, where a
#: change is a restart; the number of VIPs must be able to change without one.
MORE_VIPS_FILE = f"/etc/systemd/system/{UNIT}.d/pgbaton-vips.conf"

#: Keepalived 2.2 ends its own process group when it tests a file with scripts, and misses the script that is about to
#: be put in place: then only what it says counts.
VALIDATE = """
said=$(trap '' TERM; setsid -w keepalived -t -f "$1" 2>&1) && exit 0
said=$(echo "$said" | grep -v 'not found/accessible') || exit 0
printf '%s\\n' "$said" >&2
exit 1
"""


class Keepalived(Component):
    """One on every balancer, where there is a VIP."""

    name: ClassVar[str] = "keepalived"
    wave: ClassVar[Wave] = Wave.VIP

    def runs_on(self, topology: Topology, host: HostSpec) -> bool:
        """Run on the balancers when there is a VIP."""
        return topology.network.vip is not None and host.has(Role.BALANCER)

    def packages(self, topology: Topology, host: HostSpec) -> tuple[str, ...]:
        """Return Keepalived."""
        del topology, host
        return ("iproute2", "keepalived")

    def users(self) -> tuple[str, ...]:
        """Return the user that its check runs as."""
        return (USER,)

    def files(self, topology: Topology, host: HostSpec) -> tuple[File, ...]:
        """Return the check, the configuration and the drop-in that takes a stale VIP away."""
        network = topology.network
        remove = removal(topology, network.vips[0])
        service: dict[str, str | list[str]] = {
            **{key: value for key, value in HARDENING.items() if key not in KEEPALIVED_NEEDS},
            "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET",
            "ExecStartPre": remove,
            "ExecStopPost": remove,
            "Restart": "always",
            "RestartSec": "100ms",
            "OOMScoreAdjust": "-900",
            # An advert that waits for a processor is late: three late ones move the VIP.
            **ahead(-15),
            "UMask": "0022",
        }
        return (
            drop_in(UNIT, service, unit_section={"StartLimitIntervalSec": "0", "Wants": "haproxy.service"}),
            *more_removals(topology),
            File(SCRIPT, check_script(topology), mode=0o755, unit=UNIT),
            File(CONFIG, configuration(topology, host), mode=0o640, unit=UNIT, on_change=OnChange.RELOAD),
        )

    def units(self, topology: Topology, host: HostSpec) -> tuple[Unit, ...]:
        """Return Keepalived's unit."""
        del topology, host
        return (Unit(UNIT),)

    def checks(self, topology: Topology, host: HostSpec) -> tuple[Check, ...]:
        """Return Keepalived's own check of its configuration."""
        del topology, host
        return (Check(("sh", "-c", VALIDATE, "sh", f"{{{CONFIG}}}")),)

    async def probe(self, topology: Topology, host: HostSpec, hosts: Mapping[str, Host]) -> None:
        """Return when it runs and exactly one balancer has each VIP."""
        await require_active(hosts[host.name], UNIT)
        addresses = {}
        for balancer in topology.with_role(Role.BALANCER):
            show = ("ip", "-o", "address", "show")
            addresses[balancer.name] = await require_success(hosts[balancer.name], *show, what="ip failed")
        for vip in vips.floating(topology):
            for address in (vip.address, *((vip.twin.ip,) if vip.twin else ())):
                holders = [name for name, said in addresses.items() if f" {address}/" in said]
                if len(holders) != 1 and not await is_moving(topology, vip, hosts):
                    message = f"the VIP {address} is held by {' and '.join(holders) or 'nobody'}"
                    raise UnhealthyError(message, where=host.name)


async def is_moving(topology: Topology, vip: Vip, hosts: Mapping[str, Host]) -> bool:
    """Tell whether some balancer has not heard of this VIP yet, or knows it under another identity.

    Until all have, nobody takes an address that one identity had exchanged, and two do whose identity was.
    """
    for balancer in topology.with_role(Role.BALANCER):
        found = await hosts[balancer.name].run("cat", CONFIG, check=False)
        if not found.ok or identities(found.stdout).get(str(vip.address)) != vip.router_id:
            return True
        if vip.twin and f" {vip.twin.with_prefixlen} dev " not in found.stdout:
            return True
    return False


def identities(text: str) -> dict[str, int]:
    """Return the addresses that a keepalived.conf floats, each with its VRRP identity."""
    instances = (INSTANCE.search(block) for block in text.split("vrrp_instance ")[1:])
    return {found["address"]: int(found["identity"]) for found in instances if found}


#: An instance's identity and, after it, its address.
INSTANCE = re.compile(
    r"virtual_router_id (?P<identity>\d+)\b.*?virtual_ipaddress \{\s*(?P<address>[0-9a-f.:]+)/", re.DOTALL
)


def removal(topology: Topology, address: Address) -> str:
    """Return what systemd is to do, as root and whatever comes of it, to take an address away."""
    network = topology.network
    return away(topology, f"{address}/{floating_prefix(address, network.subnet)}")


def away(topology: Topology, place: str) -> str:
    """Return the same for an address that has its prefix length with it."""
    return f"-+/sbin/ip address del {place} dev {topology.network.interface}"


def more_removals(topology: Topology) -> tuple[File, ...]:
    """Return the drop-in that takes stale ones of the further VIPs and of twins away; none where there is one VIP."""
    lines = [removal(topology, address) for address in topology.network.vips[1:]]
    lines += [away(topology, twin.with_prefixlen) for twin in topology.network.twin_vips]
    if not lines:
        return ()
    service: dict[str, str | list[str]] = {"ExecStartPre": lines, "ExecStopPost": lines}
    text = f"{HEADER}[Service]\n{section(service)}"
    return (File(MORE_VIPS_FILE, text, unit=UNIT, on_change=OnChange.RELOAD),)


#: Hardening that would take away what Keepalived lives on: process control, netlink, its script's user.
KEEPALIVED_NEEDS = {
    "RestrictAddressFamilies",
    "RestrictRealtime",
    "SystemCallFilter",
    "NoNewPrivileges",
    "ProtectClock",
}


def check_script(topology: Topology) -> str:
    """Return the round trip through HAProxy: a stopped process accepts a connection, but never answers."""
    return f"""#!/bin/bash
{HEADER}exec 3<>/dev/tcp/127.0.0.1/{topology.balancing.statistics_port} || exit 1
printf 'GET /alive HTTP/1.0\\r\\n\\r\\n' >&3
IFS= read -r -t {topology.timings.balancer_check_interval * 0.8:g} line <&3 || exit 1
case $line in *' 200 '*) exit 0 ;; esac
exit 1
"""


def named(topology: Topology) -> dict[str, Vip]:
    """Return the VIPs by the names of their instances; that of a single one has always been this."""
    return {f"vip{number}" if number > 1 else "vip": vip for number, vip in enumerate(vips.floating(topology), 1)}


def configuration(topology: Topology, host: HostSpec) -> str:
    """Return keepalived.conf."""
    interval = topology.timings.balancer_check_interval
    return render(
        "keepalived.conf.j2",
        header=HEADER.replace("#", "!", 1),
        topology=topology,
        host=host,
        instances=named(topology),
        vip_return=None if len(topology.network.vips) == 1 else f"{topology.timings.vip_return:g}",
        peers=[balancer for balancer in topology.with_role(Role.BALANCER) if balancer.name != host.name],
        # Keepalived takes fractions of a second for this since 2.3.
        check_interval=max(1, round(interval)) if is_bookworm(topology) else interval,
        floating_prefix=floating_prefix,
        script=SCRIPT,
        script_user=USER,
        state_file=STATE_FILE,
        agent_file=AGENT_FILE if topology.has_agents else None,
    )
