"""The services that an agent asks for itself, made from its settings; certificates come later."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from pgbaton.agent.protocols.trust import nobody
from pgbaton.agent.services.patroni import Patroni

if TYPE_CHECKING:
    from pgbaton.agent.settings import Settings


def etcd_members(settings: Settings) -> list[str]:
    """Return etcd's members as this host should try them: its own first, over the loopback address."""
    port = settings.ports.etcd
    others = [f"{bracketed(host.address)}:{port}" for host in settings.others if "dcs" in host.roles]
    return [f"127.0.0.1:{port}", *others] if "dcs" in settings.me_host.roles else others


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
