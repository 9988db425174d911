"""What every host needs before its services: the system users that no package makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pgbaton.components.base import Component, File, OnChange, Unit, Wave
from pgbaton.components.probing import require_active
from pgbaton.components.units import HEADER
from pgbaton.topology import placement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import HostSpec, Topology

UNIT = "pgbaton-users.service"
USERS = "/etc/pgbaton/users.conf"
SERVICE = f"""{HEADER}[Unit]
Description=System users of the PostgreSQL cluster
After=local-fs.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/systemd-sysusers {USERS}

[Install]
WantedBy=multi-user.target
"""


class System(Component):
    """Run on every host."""

    name: ClassVar[str] = "system"
    wave: ClassVar[Wave] = Wave.SYSTEM

    def __init__(self, users: tuple[str, ...]) -> None:
        self.names = users

    def runs_on(self, topology: Topology, host: HostSpec) -> bool:
        """Run on every host that anything else runs on."""
        return placement.is_managed(topology, host)

    def packages(self, topology: Topology, host: HostSpec) -> tuple[str, ...]:
        """Return Python, which looks at the host for ``status``."""
        del topology, host
        return ("python3",)

    def files(self, topology: Topology, host: HostSpec) -> tuple[File, ...]:
        """Return the users, and the unit that makes them."""
        del topology, host
        lines = "".join(f'u {name} - "{name} of the PostgreSQL cluster" /nonexistent\n' for name in self.names)
        return (
            File(f"/etc/systemd/system/{UNIT}", SERVICE, unit=UNIT, on_change=OnChange.RESTART),
            File(USERS, HEADER + lines, unit=UNIT, on_change=OnChange.RESTART),
        )

    def units(self, topology: Topology, host: HostSpec) -> tuple[Unit, ...]:
        """Return the unit that makes the users."""
        del topology, host
        return (Unit(UNIT),)

    async def probe(self, topology: Topology, host: HostSpec, hosts: Mapping[str, Host]) -> None:
        """Return when the users are made."""
        del topology
        await require_active(hosts[host.name], UNIT)
