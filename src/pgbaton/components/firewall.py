"""nftables: an own table that drops what the architecture does not need."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pgbaton.components.base import Check, Component, File, OnChange, Unit, Wave
from pgbaton.components.probing import require_active
from pgbaton.components.units import HEADER
from pgbaton.topology import placement
from pgbaton.topology.addresses import IPV4, IPV6
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.addresses import Address, Subnet
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
    answer = f"{connects} fib daddr type != local reject with tcp reset"
    lines = "".join(f"    {vips} {answer}\n" for vips in matches("daddr", topology.entry_addresses, bare=True))
    return f"""  chain former {{
    type filter hook prerouting priority filter; policy accept;
{lines}  }}
"""


def accepted(topology: Topology, host: HostSpec) -> Iterable[str]:
    """Yield a rule for each kind of traffic the host's roles let in."""
    ports = topology.orchestration
    databases, balancers, members = (
        [spec.address for spec in topology.with_role(role)] for role in (Role.DATABASE, Role.BALANCER, Role.DCS)
    )
    proxies = [spec.address for spec in placement.proxied_from(topology)]
    operators = topology.security.operator_networks
    ssh = f"tcp dport {topology.ssh.port or 22}"
    yield from accepting(operators, ssh) if operators else (f"{ssh} accept",)
    if host.has(Role.DATABASE):
        rest = "" if topology.is_manual else f", {ports.rest_port}"
        own = f"{HEADERS[host.address.version]} daddr {host.address} " if host.replication_address else ""
        for clients in (databases, proxies):
            yield from accepting(clients, f"{own}tcp dport {{ {topology.postgresql.port}{rest} }}")
        yield from accepted_replication(topology, host)
    if host.has(Role.DCS):
        yield from accepting(databases, f"tcp dport {ports.etcd_client_port}")
        yield from accepting(members, f"tcp dport {{ {ports.etcd_client_port}, {ports.etcd_peer_port} }}")
    if host in topology.voters:
        yield from accepted_by_agents(topology, host)
    if host.has(Role.BALANCER):
        yield from accepting(topology.client_networks, f"tcp dport {listed(placement.client_ports(topology))}")
    if placement.may_pool(host):
        yield from accepting(balancers, f"tcp dport {listed(placement.pool_ports(topology))}")
    if host.has(Role.BALANCER):
        yield from accepting(balancers, "meta l4proto vrrp")


def accepted_replication(topology: Topology, host: HostSpec) -> Iterable[str]:
    """Yield what the network for replication may carry: servers to this one's, and nothing else.

    Servers may come by the hosts' addresses as well, or a running cluster could not be moved there or back: which of
    the two replication may take, pg_hba.conf says.
    """
    if host.replication_address:
        databases = [each.replication_address or each.address for each in topology.with_role(Role.DATABASE)]
        own = f"{HEADERS[host.replication_address.version]} daddr {host.replication_address}"
        yield from accepting(databases, f"{own} tcp dport {topology.postgresql.port}")


def accepted_by_agents(topology: Topology, host: HostSpec) -> Iterable[str]:
    """Yield the rules for agents: heartbeats and health on every host, etcd where it is."""
    ports = topology.orchestration
    agents = [spec.address for spec in topology.voters]
    yield from accepting(agents, f"udp dport {ports.heartbeat_port}")
    yield from accepting(agents, f"tcp dport {ports.health_port}")
    if host.has(Role.DCS):
        yield from accepting(agents, f"tcp dport {ports.etcd_client_port}")


def accepting(sources: Iterable[Address | Subnet], what: str) -> Iterable[str]:
    """Yield the rules that let in what comes from addresses or networks, one for each family there is."""
    return (f"{source} {what} accept" for source in matches("saddr", sources))


#: What nftables calls the header of each family.
HEADERS = {IPV4: "ip", IPV6: "ip6"}


def matches(field: str, addresses: Iterable[Address | Subnet], *, bare: bool = False) -> Iterable[str]:
    """Yield what a header's field has to be, one of these addresses or networks, for each family there is.

    ``bare``: one alone needs no braces.
    """
    found = list(addresses)
    for version, header in HEADERS.items():
        if of_family := [each for each in found if each.version == version]:
            yield f"{header} {field} {of_family[0] if bare and len(of_family) == 1 else listed(of_family)}"


def listed(values: Iterable[object]) -> str:
    """Return values as nftables writes a set."""
    return "{ " + ", ".join(map(str, values)) + " }"
