"""Lead to the agent whoever asks for this host's Patroni, for a moment: a table of its own, ``inet pgbaton_stand_in``.

The kernel forgets it after a second unless it is said again, so it ends with the agent. Only new connections from other
hosts are led elsewhere; what this host asks its own Patroni reaches that one, or nobody.

They are led to the very address at which the agent listens. A redirection would go to the first address of the
interface, and with IPv6 that is the one it got last, a VIP for example.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from pgbaton.agent.kernel import fences, nftables
from pgbaton.agent.kernel.fence_rules import STAND_IN_TABLE as TABLE
from pgbaton.agent.kernel.nftables import Change, Element

if TYPE_CHECKING:
    from pgbaton.agent.settings import Ports

IPV6 = 6
ABSENT = "absent"
#: For how long connections are led to the agent, when it does not say so again.
SECONDS = 1


def ruleset(ports: Ports, address: str) -> str:
    """Return the table, with nobody to stand in for; nft puts it in the place of the present one.

    ``address`` is this host's own: Patroni listens there, and the agent.
    """
    header, agent = ("ip6", f"[{address}]") if ipaddress.ip_address(address).version == IPV6 else ("ip", address)
    return f"""# Written by pgbaton's agent: for whom it answers on this host.
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  set {ABSENT} {{
    type inet_service
    flags timeout
    timeout {SECONDS}s
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat - 5; policy accept;
    iif != "lo" {header} daddr {address} tcp dport @{ABSENT} dnat {header} to {agent}:{ports.health}
  }}
}}
"""


async def install(ports: Ports, address: str) -> None:
    """Load the table; raises FenceError, for example on a kernel that translates no addresses."""
    await fences.load(ruleset(ports, address))


def begin(ports: Ports) -> None:
    """Lead to the agent who asks for Patroni, for a moment from now on; raises OSError."""
    port = (Element(ports.rest.to_bytes(2, "big")),)
    nftables.apply(TABLE, *nftables.renewed(ABSENT, port))


def end() -> None:
    """Lead everybody to Patroni again; raises OSError."""
    nftables.apply(TABLE, Change(ABSENT, nftables.elements(TABLE, ABSENT), delete=True))
