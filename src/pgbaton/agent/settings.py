"""What an agent is told: ``agent.json`` and ``agent-secrets.json``, read into strict, frozen values."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import json
import math
import os
import re
import stat
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Role: TypeAlias = Literal["balancer", "pooler", "database", "dcs", "application"]
Mode: TypeAlias = Literal["asynchronous", "synchronous", "strict", "quorum"]
#: Who promotes a standby: Patroni, by its lock in etcd, or a person.
Kind: TypeAlias = Literal["patroni", "manual"]
#: Where PgBouncer runs: on the hosts of that role, or nowhere.
Placement: TypeAlias = Literal["balancer", "pooler", "database", "application", "none"]

HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
#: A member of a foreign etcd: a name or an IPv4 address, and a port.
ENDPOINT = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?:[0-9]{1,5}")
HIGHEST_PORT = 65_535
#: Below four heartbeats, a detection time takes the loss of a few datagrams for a death.
LEAST_HEARTBEATS = 4
KEY_BYTES = 32


class SettingsError(Exception):
    """A setting is refused: ``key`` leads to it, ``seen`` says what is there (no secret), ``wanted`` what should be."""

    def __init__(self, *, key: str, seen: str, wanted: str, where: str = "") -> None:
        place = f"{where}: " if where else ""
        super().__init__(f"{place}{key}: seen {seen}, wanted {wanted}; fix: pgbaton apply writes this file anew")
        self.key = key
        self.seen = seen
        self.wanted = wanted

    def within(self, path: Path) -> SettingsError:
        """Return the same error with the file that it is about."""
        return SettingsError(key=self.key, seen=self.seen, wanted=self.wanted, where=str(path))


@dataclass(frozen=True, slots=True)
class Host:
    """A host that has an agent, and so a vote; a database may have a second address, for replication."""

    name: str
    address: str
    roles: tuple[Role, ...]
    replication_address: str | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return every address that the host's server may be met at."""
        return (self.address, *((self.replication_address,) if self.replication_address else ()))


@dataclass(frozen=True, slots=True)
class Ports:
    """Where things listen, the same on every host: UDP for ``heartbeat``, TCP for the others."""

    heartbeat: int
    health: int
    postgresql: int
    rest: int
    etcd: int
    etcd_peer: int
    pool_write: int
    pool_read: int
    pool_synchronous: int


@dataclass(frozen=True, slots=True)
class Timings:
    """How often, how long and how many times; ``failures`` is a count of probes."""

    heartbeat_seconds: float
    detection_seconds: float
    probe_seconds: float
    deadline_seconds: float
    failures: int
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class Postgresql:
    """The server of a database host, and who the agent is there."""

    version: int
    data_directory: Path
    socket_directory: Path
    role: str
    database: str


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates and keys: for Patroni, the poolers and other agents, and those of etcd's own authority.

    Where a person promotes there is no etcd. A foreign one may want no certificate, or have no TLS at all.
    """

    authority: Path
    certificate: Path
    key: Path
    etcd_authority: Path | None = None
    etcd_certificate: Path | None = None
    etcd_key: Path | None = None


@dataclass(frozen=True, slots=True)
class ForeignEtcd:
    """An etcd that is on none of the hosts: its members as ``host:port``, and below which keys this cluster's are.

    ``plain``: they are asked without TLS.
    """

    endpoints: tuple[str, ...]
    plain: bool
    prefix: str
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Pooler:
    """A PgBouncer process: the instance of its unit, and the directory of its Unix socket."""

    instance: str
    directory: Path


@dataclass(frozen=True, slots=True)
class PgbouncerSockets:
    """The poolers of a host that has some: those that lead to the primary, and those for reads, of the synchronous too.

    Several of a kind share its port.
    """

    write: tuple[Pooler, ...]
    read: tuple[Pooler, ...]
    synchronous: tuple[Pooler, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """The way that a balancer's clients take, and who tries it: HAProxy's port for writes, a role and its database."""

    port: int
    role: str
    database: str
    every_seconds: float


@dataclass(frozen=True, slots=True)
class Secrets:
    """What must not be printed.

    ``heartbeat_key`` may be two keys with a comma between them, while one takes the other's place on one host after
    the other: old,new everywhere, then new,old, then new. Balancers alone have ``probe_password``; ``etcd_password`` is
    that of a foreign etcd's user. Where there is no Patroni, nobody has a login to it.
    """

    heartbeat_key: str = field(repr=False)
    rest_user: str | None = None
    rest_password: str | None = field(default=None, repr=False)
    etcd_password: str | None = field(default=None, repr=False)
    probe_password: str | None = field(default=None, repr=False)

    @property
    def heartbeat_keys(self) -> tuple[bytes, ...]:
        """Return the keys that datagrams are accepted with; the first one signs."""
        return tuple(bytes.fromhex(key) for key in self.heartbeat_key.split(","))


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an agent is told; ``hosts`` are all who vote, whether they can be reached or not.

    Balancers alone have a ``path``. Where a person promotes (``kind``) nobody votes, and nobody is fenced. Without
    ``etcd``, its members are the hosts with the role dcs.
    """

    cluster: str
    scope: str
    kind: Kind
    me: str
    hosts: tuple[Host, ...]
    mode: Mode
    placement: Placement
    accept_loss: bool
    ports: Ports
    timings: Timings
    postgresql: Postgresql
    tls: Tls
    haproxy_socket: Path
    pgbouncer_sockets: PgbouncerSockets
    state_directory: Path
    runtime_directory: Path
    secrets: Secrets
    path: Way | None = None
    etcd: ForeignEtcd | None = None

    @property
    def dcs_prefix(self) -> str:
        """Return below which keys of etcd Patroni's record of this cluster is."""
        return self.etcd.prefix if self.etcd else f"/service/{self.scope}/"

    @property
    def is_manual(self) -> bool:
        """Tell whether a person promotes."""
        return self.kind == "manual"

    @property
    def me_host(self) -> Host:
        """Return this agent's own host."""
        return self.host(self.me)

    @property
    def others(self) -> tuple[Host, ...]:
        """Return all hosts but this one."""
        return tuple(host for host in self.hosts if host.name != self.me)

    @property
    def voters(self) -> frozenset[str]:
        """Return the names of all who vote: the configured set, never those who can be reached."""
        return frozenset(host.name for host in self.hosts)

    @property
    def majority(self) -> int:
        """Return how many votes are more than half of all."""
        return len(self.hosts) // 2 + 1

    @property
    def databases(self) -> tuple[Host, ...]:
        """Return the hosts that have a PostgreSQL server."""
        return tuple(host for host in self.hosts if "database" in host.roles)

    @property
    def is_pooler(self) -> bool:
        """Tell whether PgBouncer runs on this host."""
        return self.placement in self.me_host.roles

    @property
    def routers(self) -> tuple[Host, ...]:
        """Return the hosts whose HAProxy leads to the servers."""
        role: Role = "pooler" if self.placement == "pooler" else "balancer"
        return tuple(host for host in self.hosts if role in host.roles)

    @property
    def holders(self) -> tuple[Host, ...]:
        """Return the hosts whose pooler can hold all of its clients: a router of its own leads them on."""
        return self.routers if self.placement in {"balancer", "pooler"} else ()

    def host(self, name: str) -> Host:
        """Return a host by name; raises KeyError when there is none."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)


def load(path: Path, secrets_path: Path) -> Settings:
    """Read both files; raises SettingsError, which names the file and the key."""
    document, secrets = _read(path, private=False), load_secrets(secrets_path)
    try:
        return _settings(document, secrets)
    except SettingsError as refused:
        raise refused.within(path) from None


def load_secrets(path: Path) -> Secrets:
    """Read the file of secrets alone, which may change while the agent runs; raises SettingsError, which names it."""
    document = _read(path, private=True)
    try:
        return _secrets(document)
    except SettingsError as refused:
        raise refused.within(path) from None


def parse(document: object, secrets: object) -> Settings:
    """Return the settings that two JSON documents say; raises SettingsError."""
    return _settings(document, _secrets(secrets))


def _settings(document: object, secrets: Secrets) -> Settings:
    named = _fields(Settings, document, "", _shown, without="secrets")
    settings = typing.cast("Callable[..., Settings]", Settings)(**named, secrets=secrets)
    for key, seen, wanted in _contradictions(settings):
        raise SettingsError(key=key, seen=seen, wanted=wanted)
    return settings


def _secrets(document: object) -> Secrets:
    secrets = typing.cast("Callable[..., Secrets]", Secrets)(**_fields(Secrets, document, "", _hidden))
    try:
        keys = secrets.heartbeat_keys
    except ValueError:
        keys = ()
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        wanted = f"{2 * KEY_BYTES} hexadecimal digits, or two such keys with a comma between them"
        raise SettingsError(key="heartbeat_key", seen=_hidden(secrets.heartbeat_key), wanted=wanted)
    return secrets


def _read(path: Path, *, private: bool) -> object:
    """Return a JSON document; a private one must not be readable by everybody."""
    wanted = "a readable file of JSON"
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if private and mode & stat.S_IRWXO:
                seen, wanted = f"mode {mode:04o}", "a file that only its owner and group may read (chmod 0600)"
                raise SettingsError(key="whole file", seen=seen, wanted=wanted, where=str(path))
            document: object = json.load(file)
            return document
    except OSError as error:
        seen = error.strerror or type(error).__name__
    except json.JSONDecodeError as error:
        seen = f"{error.msg} in line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError) as error:
        seen = type(error).__name__
    # Not as the cause of this one: it would carry the file's content into a log.
    raise SettingsError(key="whole file", seen=seen, wanted=wanted, where=str(path))


# From JSON to types: every key of a dataclass must be there unless it may be None, no other may, and each has exactly
# its type.


def _fields(
    kind: type, value: object, key: str, show: Callable[[object], str], *, without: str = ""
) -> dict[str, object]:
    if not isinstance(value, dict):
        raise SettingsError(key=key or "whole file", seen=show(value), wanted="an object")
    known = _types(kind)
    names = [name for name in known if name != without]
    for name in value:
        if name not in names:
            raise SettingsError(key=_below(key, str(name)), seen="an unknown key", wanted=f"one of {', '.join(names)}")
    for name in names:
        if name not in value and not isinstance(known[name], types.UnionType):
            raise SettingsError(key=_below(key, name), seen="nothing", wanted=_wanted(known[name]))
    there = [name for name in names if name in value]
    return {name: _value(_present(known[name]), value[name], _below(key, name), show) for name in there}


def _present(kind: object) -> object:
    """Return the type of what is there, of a field that may be None, or the field's own."""
    return typing.get_args(kind)[0] if isinstance(kind, types.UnionType) else kind


@functools.cache
def _types(kind: type) -> dict[str, object]:
    return typing.get_type_hints(kind)


def _value(kind: object, value: object, key: str, show: Callable[[object], str]) -> object:
    """Return a value as the type that a field has; raises SettingsError."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return typing.cast("Callable[..., object]", kind)(**_fields(kind, value, key, show))
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], each, f"{key}[{number}]", show) for number, each in enumerate(value))
    if origin is Literal and value in arguments:
        return value
    if kind is Path and isinstance(value, str) and value.startswith("/") and "\0" not in value:
        return Path(value)
    if kind is float and type(value) in {int, float} and _is_finite(value):
        return float(typing.cast("float", value))
    if kind in {str, int, bool} and type(value) is kind and value != "":
        return value
    raise SettingsError(key=key, seen=show(value), wanted=_wanted(kind))


def _is_finite(value: object) -> bool:
    try:
        return math.isfinite(typing.cast("float", value))
    except OverflowError:
        return False


WANTED: types.MappingProxyType[object, str] = types.MappingProxyType(
    {
        str: "text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        Path: "an absolute path",
        tuple: "a list",
    }
)


def _wanted(kind: object) -> str:
    origin = typing.get_origin(kind)
    if origin is Literal:
        return f"one of {', '.join(typing.get_args(kind))}"
    return WANTED.get(origin or kind, "an object")  # a dataclass


def _below(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return repr(value)[:80]


def _hidden(value: object) -> str:
    return f"{len(value)} characters of text" if isinstance(value, str) else f"a value of type {type(value).__name__}"


# What each value may be, and together with others.


def _contradictions(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with values that have the right types: key, what was seen, what is wanted."""
    yield from _wrong_hosts(settings)
    if not settings.is_manual:
        yield from _wrong_logins(settings)
        yield from _wrong_etcd(settings)
    ports: dict[str, int] = dataclasses.asdict(settings.ports)
    for name, port in ports.items():
        if not 0 < port <= HIGHEST_PORT:
            yield f"ports.{name}", str(port), f"a port from 1 to {HIGHEST_PORT}"
    if settings.path is not None and not 0 < settings.path.port <= HIGHEST_PORT:
        yield "path.port", str(settings.path.port), f"a port from 1 to {HIGHEST_PORT}"
    if settings.path is not None and settings.path.every_seconds <= 0:
        yield "path.every_seconds", str(settings.path.every_seconds), "more than 0"
    timings: dict[str, float] = dataclasses.asdict(settings.timings)
    for name, number in timings.items():
        if number <= 0:
            yield f"timings.{name}", str(number), "more than 0"
    least = LEAST_HEARTBEATS * settings.timings.heartbeat_seconds
    if settings.timings.detection_seconds < least:
        seen = str(settings.timings.detection_seconds)
        yield "timings.detection_seconds", seen, f"at least {LEAST_HEARTBEATS} heartbeats, {least:g}"


def _wrong_logins(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield what an agent lacks beside Patroni."""
    for name in ("rest_user", "rest_password"):
        if getattr(settings.secrets, name) is None:
            yield name, "nothing", "text, in the file of secrets"


def _wrong_etcd(settings: Settings) -> Iterator[tuple[str, str, str]]:
    tls, etcd = settings.tls, settings.etcd
    if (tls.etcd_certificate is None) != (tls.etcd_key is None):
        yield "tls.etcd_key", "a certificate or a key alone", "both, or neither"
    if etcd is None:
        if tls.etcd_authority is None or tls.etcd_certificate is None:
            yield "tls.etcd_authority", "nothing", "an authority, a certificate and a key for the cluster's own etcd"
        return
    if etcd.plain == (tls.etcd_authority is not None):
        seen = "TLS and none" if etcd.plain else "no authority"
        yield "tls.etcd_authority", seen, "an authority, or etcd.plain, and not both"
    if not etcd.endpoints:
        yield "etcd.endpoints", "an empty list", "at least one host:port"
    for number, endpoint in enumerate(etcd.endpoints):
        _, _, port = endpoint.rpartition(":")
        if not ENDPOINT.fullmatch(endpoint) or not 0 < int(port) <= HIGHEST_PORT:
            yield f"etcd.endpoints[{number}]", repr(endpoint), "host:port"
    if not etcd.prefix.startswith("/") or not etcd.prefix.endswith("/"):
        yield "etcd.prefix", repr(etcd.prefix), "a path that begins and ends with a slash"
    if (etcd.user is None) != (settings.secrets.etcd_password is None):
        yield "etcd.user", "a user or a password alone", "both, or neither"


def _wrong_hosts(settings: Settings) -> Iterator[tuple[str, str, str]]:
    names = [host.name for host in settings.hosts]
    addresses: set[object] = set()
    for number, host in enumerate(settings.hosts):
        key = f"hosts[{number}]"
        if not HOST_NAME.fullmatch(host.name) or names.index(host.name) != number:
            yield (
                f"{key}.name",
                repr(host.name),
                "its own name: a-z, 0-9 and hyphens, at most 63",
            )
        for name, text in zip(("address", "replication_address"), host.addresses, strict=False):
            address = _address(text)
            if address is None or address in addresses:
                yield f"{key}.{name}", repr(text), "an IP address of its own"
            addresses.add(address)
        if not host.roles:
            yield f"{key}.roles", "no role", "at least one"
    if settings.me not in names:
        yield "me", repr(settings.me), f"one of the hosts ({', '.join(names)})"


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
