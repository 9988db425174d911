"""The shape of a component: what it puts on a host, and how to tell that it works."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import HostSpec, Role, Topology

#: Where certificates and keys are kept on every host.
TLS_DIRECTORY = "/etc/pgbaton/tls"
AUTHORITY_FILE = f"{TLS_DIRECTORY}/ca.crt"
#: Who may write to etcd commands the databases, so etcd trusts an authority of its own and nobody else's certificates.
ETCD_AUTHORITY = "etcd-ca"
ETCD_AUTHORITY_FILE = f"{TLS_DIRECTORY}/{ETCD_AUTHORITY}.crt"


class OnChange(StrEnum):
    """What a changed file asks of the unit it belongs to."""

    NOTHING = "nothing"
    RELOAD = "reload"
    RESTART = "restart"


class Wave(IntEnum):
    """The order in which components come up; each wave is probed before the next begins."""

    SYSTEM = 0
    TLS = 1
    DCS = 2
    DATABASE = 3
    POOLER = 4
    BALANCER = 5
    VIP = 6
    AGENT = 7


@dataclass(frozen=True)
class File:
    """A file as it should be on a host; a text may hold references to secrets, bytes are written as they are.

    ``unit`` is who has to hear of a change, and ``on_change`` what; ``name@.service`` stands for every instance.
    """

    path: str
    content: str | bytes
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    unit: str | None = None
    on_change: OnChange = OnChange.NOTHING

    @property
    def shown(self) -> str:
        """Return the content as it is shown: the text, or what the bytes are."""
        return self.content if isinstance(self.content, str) else describe(self.content)


def describe(content: bytes) -> str:
    """Return what stands for bytes wherever a text would be shown; the same for the same bytes only."""
    return f"binary, {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class Unit:
    """A systemd unit as it should be: enabled and running, or (``masked``) unable to start at all."""

    name: str
    masked: bool = False


@dataclass(frozen=True)
class Check:
    """A component's own validator, run on the host over staged files before anything is replaced.

    ``{/etc/haproxy/haproxy.cfg}`` in an argument stands for the staged copy of that file.
    It runs only when one of the files it names is about to change.
    """

    argv: tuple[str, ...]
    user: str = "root"


@dataclass(frozen=True)
class Certificate:
    """A certificate that a host needs; ``name`` gives its secrets ``certificate/NAME`` and ``key/NAME``.

    ``addresses`` and ``dns_names`` become subject alternative names. On the host it is ``file``.crt and ``file``.key in
    :data:`TLS_DIRECTORY`, the key readable by ``owner`` alone; ``bundle`` puts both into one ``file``.pem instead.
    ``unit`` and ``on_change`` say who has to hear of a new one; ``authority`` is the name of the one that signs it.
    """

    name: str
    file: str
    owner: str
    common_name: str
    addresses: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    server: bool = False
    client: bool = False
    bundle: bool = False
    authority: str = "ca"
    unit: str | None = None
    on_change: OnChange = OnChange.NOTHING


class Component(ABC):
    """One part of the architecture. Everything but ``probe`` is pure."""

    name: ClassVar[str]
    wave: ClassVar[Wave]
    role: ClassVar[Role | None] = None

    def runs_on(self, topology: Topology, host: HostSpec) -> bool:
        """Tell whether the component belongs on a host: by default, whether the host has its role."""
        del topology
        return self.role is not None and host.has(self.role)

    def comes_up_in(self, topology: Topology) -> Wave:
        """Return the wave in which it comes up."""
        del topology
        return self.wave

    def packages(self, topology: Topology, host: HostSpec) -> tuple[str, ...]:
        """Return the Debian packages it needs there."""
        del topology, host
        return ()

    def users(self) -> tuple[str, ...]:
        """Return the system users it needs that no package of its own makes."""
        return ()

    @abstractmethod
    def files(self, topology: Topology, host: HostSpec) -> tuple[File, ...]:
        """Return its files there, in the order they are to be written."""

    @abstractmethod
    def units(self, topology: Topology, host: HostSpec) -> tuple[Unit, ...]:
        """Return its units there, in the order they are to be started."""

    def checks(self, topology: Topology, host: HostSpec) -> tuple[Check, ...]:
        """Return the validators to run before its files are replaced."""
        del topology, host
        return ()

    def certificates(self, topology: Topology, host: HostSpec) -> tuple[Certificate, ...]:
        """Return the certificates it needs there."""
        del topology, host
        return ()

    def passwords(self, topology: Topology) -> tuple[str, ...]:
        """Return the names of the generated passwords it refers to, for the whole cluster."""
        del topology
        return ()

    def shared_keys(self, topology: Topology) -> tuple[str, ...]:
        """Return the names of the generated keys it refers to, 32 random bytes in hexadecimal, as ``key/NAME``."""
        del topology
        return ()

    @abstractmethod
    async def probe(self, topology: Topology, host: HostSpec, hosts: Mapping[str, Host]) -> None:
        """Return when the component works on ``host``; raises UnhealthyError saying what does not.

        One look, no waiting: the caller repeats it until its deadline. ``hosts`` are all of the cluster by name.
        """
