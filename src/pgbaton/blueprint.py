"""From a topology to everything that each host should have. Pure: the same topology gives the same blueprint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pgbaton.components.base import Wave
from pgbaton.components.catalogue import COMPONENTS
from pgbaton.components.certificates import files as certificate_files

if TYPE_CHECKING:
    from pgbaton.components.base import Certificate, Check, Component, File, Unit
    from pgbaton.topology.model import HostSpec, Topology


@dataclass(frozen=True)
class Part:
    """One component on one host."""

    component: str
    wave: Wave
    packages: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    units: tuple[Unit, ...] = ()
    checks: tuple[Check, ...] = ()
    certificates: tuple[Certificate, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there is anything to do."""
        return bool(self.packages or self.files or self.units)


@dataclass(frozen=True)
class HostBlueprint:
    """Everything that one host should have, in the order of the waves; ``was_managed``: it had something before."""

    host: str
    parts: tuple[Part, ...]
    was_managed: bool = False

    @property
    def packages(self) -> tuple[str, ...]:
        """Return all packages of the host, each once, sorted."""
        return tuple(sorted({package for part in self.parts for package in part.packages}))

    @property
    def files(self) -> tuple[File, ...]:
        """Return all files of the host."""
        return tuple(file for part in self.parts for file in part.files)

    @property
    def units(self) -> tuple[Unit, ...]:
        """Return all units of the host."""
        return tuple(unit for part in self.parts for unit in part.units)


@dataclass(frozen=True)
class Blueprint:
    """Everything that every host should have, and the passwords and shared keys that are to be generated."""

    cluster: str
    hosts: tuple[HostBlueprint, ...]
    passwords: tuple[str, ...]
    shared_keys: tuple[str, ...] = ()

    def host(self, name: str) -> HostBlueprint:
        """Return one host's blueprint; raises KeyError when the host has none."""
        return {host.host: host for host in self.hosts}[name]

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """Return every certificate of the cluster, each once."""
        found = (certificate for host in self.hosts for part in host.parts for certificate in part.certificates)
        return tuple({certificate.name: certificate for certificate in found}.values())


def draw(topology: Topology) -> Blueprint:
    """Return the blueprint of a topology."""
    passwords = {name for component in COMPONENTS for name in component.passwords(topology)}
    shared_keys = {name for component in COMPONENTS for name in component.shared_keys(topology)}
    hosts = tuple(HostBlueprint(host.name, parts(topology, host)) for host in topology.hosts)
    return Blueprint(topology.name, hosts, tuple(sorted(passwords)), tuple(sorted(shared_keys)))


def parts(topology: Topology, host: HostSpec) -> tuple[Part, ...]:
    """Return what each component puts on one host, in the order of the waves.

    Packages all come first, in one go, because certificates belong to users that packages make.
    """
    own = [part(component, topology, host) for component in COMPONENTS if component.runs_on(topology, host)]
    packages = sorted({package for part in own for package in part.packages})
    certificates = [certificate for part in own for certificate in part.certificates]
    ground = [
        Part("packages", Wave.SYSTEM, tuple(packages)),
        Part("certificates", Wave.TLS, files=certificate_files(certificates)),
    ]
    all_parts = [*ground, *(replace(part, packages=()) for part in own)]
    return tuple(sorted(filter(Part.__bool__, all_parts), key=lambda part: part.wave))


def part(component: Component, topology: Topology, host: HostSpec) -> Part:
    """Return what one component puts on one host."""
    return Part(
        component.name,
        component.comes_up_in(topology),
        component.packages(topology, host),
        component.files(topology, host),
        component.units(topology, host),
        component.checks(topology, host),
        component.certificates(topology, host),
    )
