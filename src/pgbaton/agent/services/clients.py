"""The services that an agent asks for itself, made from its settings; certificates come later."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from pgbaton.agent.protocols.trust import nobody
from pgbaton.agent.services.etcd import Etcd
from pgbaton.agent.services.etcd_session import Login
from pgbaton.agent.services.patroni import Patroni

if TYPE_CHECKING:
    from pgbaton.agent.settings import Secrets, Settings


def etcd_members(settings: Settings) -> list[str]:
    """Return etcd's members as this host should try them: its own first, over the loopback address.

    Those of a foreign etcd are as the settings have them.
    """
    if settings.etcd is not None:
        return list(settings.etcd.endpoints)
    port = settings.ports.etcd
    others = [f"{bracketed(host.address)}:{port}" for host in settings.others if "dcs" in host.roles]
    return [f"127.0.0.1:{port}", *others] if "dcs" in settings.me_host.roles else others


def etcd(settings: Settings) -> Etcd:
    """Return the client of etcd's members."""
    foreign = settings.etcd
    is_plain = foreign is not None and foreign.plain
    tls = None if is_plain else nobody(ssl.PROTOCOL_TLS_CLIENT)
    return Etcd(etcd_members(settings), tls=tls, login=etcd_login(settings, settings.secrets))


def etcd_login(settings: Settings, secrets: Secrets) -> Login | None:
    """Return whom to log in to etcd as; None where certificates are all that it asks for."""
    user = settings.etcd.user if settings.etcd else None
    return Login(user, secrets.etcd_password) if user and secrets.etcd_password else None


def bracketed(address: str) -> str:
    """Return an address as it stands before a port."""
    return f"[{address}]" if ":" in address else address


def patroni(settings: Settings) -> Patroni:
    """Return this host's Patroni; settings without a login to it are refused where there is one."""
    return Patroni(
        settings.me_host.address,
        settings.ports.rest,
        user=settings.secrets.rest_user or "",
        password=settings.secrets.rest_password or "",
        tls=nobody(ssl.PROTOCOL_TLS_CLIENT),
    )
