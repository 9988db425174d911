"""What an agent's settings may be, and together with others: what types do not say."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.agent.settings import Settings

HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
#: A member of a foreign etcd: a name or an address, one of IPv6 in brackets, and a port.
ENDPOINT = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[(?P<address>[0-9a-f:.]+)\]):(?P<port>[0-9]{1,5})")
HIGHEST_PORT = 65_535
#: Below four heartbeats, a detection time takes the loss of a few datagrams for a death.
LEAST_HEARTBEATS = 4


def found(settings: Settings) -> Iterator[tuple[str, str, str]]:
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
        if not _is_endpoint(endpoint):
            yield f"etcd.endpoints[{number}]", repr(endpoint), "host:port"
    if not etcd.prefix.startswith("/") or not etcd.prefix.endswith("/"):
        yield "etcd.prefix", repr(etcd.prefix), "a path that begins and ends with a slash"
    if (etcd.user is None) != (settings.secrets.etcd_password is None):
        yield "etcd.user", "a user or a password alone", "both, or neither"


def _is_endpoint(text: str) -> bool:
    found = ENDPOINT.fullmatch(text)
    if found is None or not 0 < int(found["port"]) <= HIGHEST_PORT:
        return False
    return found["address"] is None or _address(found["address"]) is not None


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
