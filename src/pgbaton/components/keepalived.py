"""Keepalived: floats the VIP between the balancers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pgbaton.components.base import Check, Component, File, OnChange, Unit, Wave
from pgbaton.components.generation import is_bookworm
from pgbaton.components.haproxy import STATE_FILE
from pgbaton.components.probing import require_active, require_success
from pgbaton.components.templating import render
from pgbaton.components.units import HARDENING, HEADER, drop_in
from pgbaton.errors import UnhealthyError
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import HostSpec, Topology

UNIT = "keepalived.service"
CONFIG = "/etc/keepalived/keepalived.conf"
SCRIPT = "/etc/keepalived/check-haproxy"
#: What the agent says of HAProxy: zero, or as low a number as gives the VIP up. It outlives the agent.
AGENT_FILE = "/run/pgbaton-agent-haproxy"
USER = "keepalived_script"

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
        vip = f"{network.vip}/{network.subnet.prefixlen}"
        remove = f"-+/sbin/ip address del {vip} dev {network.interface}"
        service: dict[str, str | list[str]] = {
            **{key: value for key, value in HARDENING.items() if key not in KEEPALIVED_NEEDS},
            "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET",
            "ExecStartPre": remove,
            "ExecStopPost": remove,
            "Restart": "always",
            "RestartSec": "100ms",
            "OOMScoreAdjust": "-900",
            # An advert that waits for a processor is late: three late ones move the VIP.
            "Nice": "-15",
            "UMask": "0022",
        }
        return (
            drop_in(UNIT, service, unit_section={"StartLimitIntervalSec": "0", "Wants": "haproxy.service"}),
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
        """Return when it runs and exactly one balancer has the VIP."""
        await require_active(hosts[host.name], UNIT)
        holders = []
        for balancer in topology.with_role(Role.BALANCER):
            said = await require_success(hosts[balancer.name], "ip", "-o", "-4", "address", "show", what="ip failed")
            if f"inet {topology.network.vip}/" in said:
                holders.append(balancer.name)
        if not holders and await is_moving(topology, hosts):
            return
        if len(holders) != 1:
            message = f"the VIP {topology.network.vip} is held by {' and '.join(holders) or 'nobody'}"
            raise UnhealthyError(message, where=host.name)


async def is_moving(topology: Topology, hosts: Mapping[str, Host]) -> bool:
    """Tell whether some balancer has not heard of this VIP yet: the others leave it alone until all have."""
    for balancer in topology.with_role(Role.BALANCER):
        if not (await hosts[balancer.name].run("grep", "-qF", f"{topology.network.vip}/", CONFIG, check=False)).ok:
            return True
    return False


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


def configuration(topology: Topology, host: HostSpec) -> str:
    """Return keepalived.conf."""
    interval = topology.timings.balancer_check_interval
    return render(
        "keepalived.conf.j2",
        header=HEADER.replace("#", "!", 1),
        topology=topology,
        host=host,
        priority=topology.priority(host),
        peers=[balancer for balancer in topology.with_role(Role.BALANCER) if balancer.name != host.name],
        # Keepalived takes fractions of a second for this since 2.3.
        check_interval=max(1, round(interval)) if is_bookworm(topology) else interval,
        script=SCRIPT,
        script_user=USER,
        state_file=STATE_FILE,
        agent_file=AGENT_FILE if topology.has_agents else None,
    )
