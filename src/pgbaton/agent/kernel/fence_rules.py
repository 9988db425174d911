"""The rules of fences, as text for ``nft`` and as values: pure.

A table of its own, ``inet pgbaton_fence``, which no reload of the firewall's table touches. Its rules are written once;
whom they concern is in named sets, so that putting up a fence is one element more:

- ``fenced4`` and ``fenced6``: hosts whose PostgreSQL, poolers and Patroni are cut off from this host, at every address
  that they have. What goes out to them is reset at once, so that nobody here waits for a dead host; what still comes
  from them is dropped. Their etcd, and a fenced host's own connections to *this* host's PostgreSQL, stay: it must be
  able to follow.
- ``resigned``: Patroni's port of this host, whose server has crashed and whose lock was given up: whoever asks is
  reset at once, so that an election does not wait for a server that is not there. The kernel takes it out again.
- ``gone4`` and ``gone6``: hosts that a majority does not hear. Nobody here is to wait for their etcd: what goes out to
  it is reset at once. The kernel takes them out again, unless the agent keeps saying so.
- ``held`` and ``refused``: ports of this host itself, for a primary that has lost the majority; see :class:`Serving`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pgbaton.agent.kernel.nftables import LONGEST_COMMENT, Element

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.agent.kernel.sockets import Address
    from pgbaton.agent.settings import Ports

TABLE = "pgbaton_fence"
#: The agent's other table, :mod:`pgbaton.agent.kernel.stand_in`; both go when the agent leaves a host.
STAND_IN_TABLE = "pgbaton_stand_in"
#: The set of fenced hosts, by the version of their addresses.
FENCED = {4: "fenced4", 6: "fenced6"}
#: The set of hosts whose etcd is not waited for, and for how long when nobody says so again.
GONE = {4: "gone4", 6: "gone6"}
GONE_SECONDS = 2
HELD = "held"
REFUSED = "refused"
RESIGNED = "resigned"
RESIGNED_SECONDS = 1

#: An element in the file: an address, and host and reason as its comment.
LINE = re.compile(r'^\s*([0-9a-f.:]+) comment "([^"]*)",$', re.MULTILINE)
#: What would end a comment or its line, or is not ASCII.
UNFIT = re.compile(r"[^ !#-~]")


class Serving(StrEnum):
    """How far this host serves clients with its own PostgreSQL and poolers.

    ``HELD``: what comes and goes is dropped. Nothing is read here and nothing acknowledged, yet a partition that heals
    soon costs no session: TCP sends again. ``REFUSED``: clients are told, by resets, to go elsewhere.

    Replication *from* this host is cut with the rest, over whatever network it goes: the rules name ports and no
    addresses. In a compact cluster standbys and balancers may have the same addresses, so no rule could spare it; and
    before the majority is back, nobody needs to follow this host. What this
    host needs is not cut: Patroni asks its server through a Unix socket, Patroni's port and etcd's are not in the sets,
    and following and rewinding are connections outwards.
    """

    OPEN = "open"
    HELD = "held"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, order=True)
class Fence:
    """A fence: against whom, at which address, and why."""

    host: str
    address: str
    reason: str

    @property
    def ip(self) -> Address:
        """Return the address as a value."""
        return ipaddress.ip_address(self.address)

    @property
    def set_name(self) -> str:
        """Return the set that it belongs in."""
        return FENCED[self.ip.version]

    @property
    def comment(self) -> str:
        """Return host and reason as an element's comment: one line of plain characters, cut off where nft would."""
        return UNFIT.sub("?", f"{self.host} {self.reason}".strip())[:LONGEST_COMMENT]

    def element(self) -> Element:
        """Return the fence as the kernel keeps it."""
        return Element(self.ip.packed, self.comment)


def primary_ports(ports: Ports) -> frozenset[int]:
    """Return where a host is used as a primary, so what a fence cuts: its PostgreSQL, its poolers, its Patroni."""
    return client_ports(ports) | {ports.rest}


def client_ports(ports: Ports) -> frozenset[int]:
    """Return where clients come in: PostgreSQL and the poolers."""
    return frozenset({ports.postgresql, ports.pool_write, ports.pool_read, ports.pool_synchronous})


def etcd_ports(ports: Ports) -> frozenset[int]:
    """Return where a host's etcd listens, for clients and for its peers."""
    return frozenset({ports.etcd, ports.etcd_peer})


def ruleset(ports: Ports, fences: Iterable[Fence] = (), serving: Serving = Serving.OPEN) -> str:
    """Return the table and what stands in it; nft puts it in the place of the present one in one transaction."""
    kept = sorted(fences)
    lines = {version: [line(fence) for fence in kept if fence.ip.version == version] for version in FENCED}
    own = [str(port) for port in sorted(client_ports(ports))]
    return f"""# Written by pgbaton's agent: the hosts that this one has promised to have nothing to do with.
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  set {FENCED[4]} {{
    type ipv4_addr
{members(lines[4])}  }}
  set {FENCED[6]} {{
    type ipv6_addr
{members(lines[6])}  }}
  set {HELD} {{
    type inet_service
{members(own if serving != Serving.OPEN else [])}  }}
  set {REFUSED} {{
    type inet_service
{members(own if serving == Serving.REFUSED else [])}  }}
  set {RESIGNED} {{
    type inet_service
    flags timeout
    timeout {RESIGNED_SECONDS}s
  }}
  set {GONE[4]} {{
    type ipv4_addr
    flags timeout
    timeout {GONE_SECONDS}s
  }}
  set {GONE[6]} {{
    type ipv6_addr
    flags timeout
    timeout {GONE_SECONDS}s
  }}
{chains(ports)}}}
"""


def chains(ports: Ports) -> str:
    """Return what is done to packets of what stands in the sets."""
    theirs, etcd = listed(primary_ports(ports)), listed(etcd_ports(ports))
    return f"""\
  chain input {{
    type filter hook input priority filter - 5; policy accept;
    iif != "lo" tcp dport @{RESIGNED} reject with tcp reset
    tcp dport @{REFUSED} reject with tcp reset
    tcp dport @{HELD} drop
    # Over lo come the resets of the chain below, in the name of the fenced host.
    iif != "lo" ip saddr @{FENCED[4]} tcp sport {theirs} drop
    iif != "lo" ip6 saddr @{FENCED[6]} tcp sport {theirs} drop
  }}
  chain output {{
    type filter hook output priority filter - 5; policy accept;
    # A reset acknowledges nothing.
    tcp sport @{HELD} tcp flags & rst == 0 drop
    ip daddr @{FENCED[4]} tcp dport {theirs} reject with tcp reset
    ip6 daddr @{FENCED[6]} tcp dport {theirs} reject with tcp reset
    ip daddr @{GONE[4]} tcp dport {etcd} reject with tcp reset
    ip6 daddr @{GONE[6]} tcp dport {etcd} reject with tcp reset
  }}
"""


def listed(ports: Iterable[int]) -> str:
    """Return ports as nft reads a set of them."""
    return "{ " + ", ".join(str(port) for port in sorted(ports)) + " }"


def members(elements: list[str]) -> str:
    """Return the lines of a set's elements; none for an empty set, which nft would refuse to read."""
    text = "".join(f"      {element},\n" for element in elements)
    return f"    elements = {{\n{text}    }}\n" if text else ""


def line(fence: Fence) -> str:
    """Return a fence as nft reads an element."""
    return f'{fence.address} comment "{fence.comment}"'


def parse(text: str) -> tuple[Fence, ...]:
    """Return the fences in a text of :func:`ruleset`."""
    return tuple(fence(address, comment) for address, comment in LINE.findall(text))


def fence(address: str, comment: str) -> Fence:
    """Return the fence that an element is; one that somebody put in by hand is named by its address."""
    host, _, reason = comment.partition(" ")
    return Fence(host or address, address, reason)
