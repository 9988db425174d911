"""nftables: an own table that drops what the architecture does not need."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pgbaton.components.base import Check, Component, File, OnChange, Unit, Wave
from pgbaton.components.probing import require_active
from pgbaton.components.units import HEADER
from pgbaton.topology import placement
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from ipaddress import IPv4Address, IPv4Network

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import HostSpec, Topology

RULES = "/etc/pgbaton/firewall.nft"
UNIT = "pgbaton-firewall.service"

SERVICE = f"""{HEADER}[Unit]
Description=Firewall of the PostgreSQL cluster
Wants=network-pre.target
Before=network-pre.target
After=local-fs.target
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f {RULES}
ExecReload=/usr/sbin/nft -f {RULES}
ExecStop=/usr/sbin/nft delete table inet pgbaton

[Install]
WantedBy=sysinit.target
"""


class Firewall(Component):
    """Let in what the host's roles need, from those who need it."""

    name: ClassVar[str] = "firewall"
    wave: ClassVar[Wave] = Wave.SYSTEM

    def runs_on(self, topology: Topology, host: HostSpec) -> bool:
        """Run on every host that is not only an application's, unless switched off."""
        return topology.security.firewall and set(host.roles) != {Role.APPLICATION}

    def packages(self, topology: Topology, host: HostSpec) -> tuple[str, ...]:
        """Return nftables."""
        del topology, host
        return ("nftables",)

    def files(self, topology: Topology, host: HostSpec) -> tuple[File, ...]:
        """Return the rules and the unit that loads them."""
        return (
            File(f"/etc/systemd/system/{UNIT}", SERVICE, unit=UNIT, on_change=OnChange.RESTART),
            File(RULES, ruleset(topology, host), mode=0o600, unit=UNIT, on_change=OnChange.RELOAD),
        )

    def units(self, topology: Topology, host: HostSpec) -> tuple[Unit, ...]:
        """Return the unit that loads the rules before the network is up."""
        del topology, host
        return (Unit(UNIT),)

    def checks(self, topology: Topology, host: HostSpec) -> tuple[Check, ...]:
        """Return nft's own check of the rules."""
        del topology, host
        return (Check(("/usr/sbin/nft", "-c", "-f", f"{{{RULES}}}")),)

    async def probe(self, topology: Topology, host: HostSpec, hosts: Mapping[str, Host]) -> None:
        """Return when the rules are loaded."""
        del topology
        await require_active(hosts[host.name], UNIT)


def ruleset(topology: Topology, host: HostSpec) -> str:
    """Return the host's rules, replaced as a whole in one transaction when loaded."""
    lines = "".join(f"    {line}\n" for line in accepted(topology, host))
    former = former_holder(topology) if topology.network.vip and host.has(Role.BALANCER) else ""
    return f"""{HEADER}table inet pgbaton
delete table inet pgbaton
table inet pgbaton {{
  chain input {{
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iif lo accept
    ct state invalid drop
    meta l4proto {{ icmp, icmpv6 }} accept
{lines}  }}
{former}}}
"""


def former_holder(topology: Topology) -> str:
    """Return the chain that says no for a VIP while this host does not have it.

    A client that takes this host for the VIP's, because it was, would hear nothing, and ask again only when TCP does,
    a second later. Only who connects is told so: sessions may go on when the VIP comes back.
    """
    connects = f"tcp dport {listed(placement.client_ports(topology))} tcp flags & (syn | ack) == syn"
    vips = topology.network.vips
    where = str(vips[0]) if len(vips) == 1 else sources(vips)
    return f"""  chain former {{
    type filter hook prerouting priority filter; policy accept;
    ip daddr {where} {connects} fib daddr type != local reject with tcp reset
  }}
"""


def accepted(topology: Topology, host: HostSpec) -> Iterable[str]:
    """Yield a rule for each kind of traffic the host's roles let in."""
    ports = topology.orchestration
    databases, balancers, members = (
        sources(spec.address for spec in topology.with_role(role)) for role in (Role.DATABASE, Role.BALANCER, Role.DCS)
    )
    proxies = sources(spec.address for spec in placement.proxied_from(topology))
    operators = (
        f"ip saddr {sources(topology.security.operator_networks)} " if topology.security.operator_networks else ""
    )
    yield f"{operators}tcp dport {topology.ssh.port or 22} accept"
    if host.has(Role.DATABASE):
        rest = "" if topology.is_manual else f", {ports.rest_port}"
        own = f"ip daddr {host.address} " if host.replication_address else ""
        yield f"ip saddr {databases} {own}tcp dport {{ {topology.postgresql.port}{rest} }} accept"
        yield f"ip saddr {proxies} {own}tcp dport {{ {topology.postgresql.port}{rest} }} accept"
        yield from accepted_replication(topology, host)
    if host.has(Role.DCS):
        yield f"ip saddr {databases} tcp dport {ports.etcd_client_port} accept"
        yield f"ip saddr {members} tcp dport {{ {ports.etcd_client_port}, {ports.etcd_peer_port} }} accept"
    if host in topology.voters:
        yield from accepted_by_agents(topology, host)
    if host.has(Role.BALANCER):
        clients = sources(topology.client_networks)
        yield f"ip saddr {clients} tcp dport {listed(placement.client_ports(topology))} accept"
    if placement.may_pool(host):
        yield f"ip saddr {balancers} tcp dport {listed(placement.pool_ports(topology))} accept"
    if host.has(Role.BALANCER):
        yield f"ip saddr {balancers} meta l4proto vrrp accept"


def accepted_replication(topology: Topology, host: HostSpec) -> Iterable[str]:
    """Yield what the network for replication may carry: servers to this one's, and nothing else.

    Servers may come by the hosts' addresses as well, or a running cluster could not be moved there or back: which of
    the two replication may take, pg_hba.conf says.
    """
    if host.replication_address:
        databases = sources(each.replication_address or each.address for each in topology.with_role(Role.DATABASE))
        own = f"ip daddr {host.replication_address} tcp dport {topology.postgresql.port}"
        yield f"ip saddr {databases} {own} accept"


def accepted_by_agents(topology: Topology, host: HostSpec) -> Iterable[str]:
    """Yield the rules for agents: heartbeats and health on every host, etcd where it is."""
    ports = topology.orchestration
    agents = sources(spec.address for spec in topology.voters)
    yield f"ip saddr {agents} udp dport {ports.heartbeat_port} accept"
    yield f"ip saddr {agents} tcp dport {ports.health_port} accept"
    if host.has(Role.DCS):
        yield f"ip saddr {agents} tcp dport {ports.etcd_client_port} accept"


def sources(addresses: Iterable[IPv4Address | IPv4Network]) -> str:
    """Return an nftables set of addresses or networks."""
    return listed(addresses)


def listed(values: Iterable[object]) -> str:
    """Return values as nftables writes a set."""
    return "{ " + ", ".join(map(str, values)) + " }"
