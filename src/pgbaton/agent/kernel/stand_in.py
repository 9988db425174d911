"""Lead to the agent whoever asks for this host's Patroni, for a moment: a table of its own, ``inet pgbaton_stand_in``.

The kernel forgets it after a second unless it is said again, so it ends with the agent. Only new connections from other
hosts are led elsewhere; what this host asks its own Patroni reaches that one, or nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.agent.kernel import fences, nftables
from pgbaton.agent.kernel.fence_rules import STAND_IN_TABLE as TABLE
from pgbaton.agent.kernel.nftables import Change, Element

if TYPE_CHECKING:
    from pgbaton.agent.settings import Ports

ABSENT = "absent"
#: For how long connections are led to the agent, when it does not say so again.
SECONDS = 1


def ruleset(ports: Ports) -> str:
    """Return the table, with nobody to stand in for; nft puts it in the place of the present one."""
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
    iif != "lo" tcp dport @{ABSENT} redirect to :{ports.health}
  }}
}}
"""


async def install(ports: Ports) -> None:
    """Load the table; raises FenceError, for example on a kernel that translates no addresses."""
    await fences.load(ruleset(ports))


def begin(ports: Ports) -> None:
    """Lead to the agent who asks for Patroni, for a moment from now on; raises OSError."""
    port = (Element(ports.rest.to_bytes(2, "big")),)
    nftables.apply(TABLE, *nftables.renewed(ABSENT, port))


def end() -> None:
    """Lead everybody to Patroni again; raises OSError."""
    nftables.apply(TABLE, Change(ABSENT, nftables.elements(TABLE, ABSENT), delete=True))
