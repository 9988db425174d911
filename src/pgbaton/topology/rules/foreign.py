"""Rules about an etcd that exists already: there is one etcd, it is elsewhere, and it lets in nobody unasked."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from pgbaton.topology.model import Role
from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning
from pgbaton.topology.rules.hosts import is_link_local, is_mapped
from pgbaton.topology.tables.foreign import PLAIN, ForeignEtcd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.topology.addresses import Address
    from pgbaton.topology.model import Topology

ENDPOINTS = ("etcd", "endpoints")
#: What is about the members that pgbaton deploys, and says nothing to others.
OWN_MEMBERS: tuple[tuple[str, str], ...] = (
    ("orchestration", "etcd_client_port"),
    ("orchestration", "etcd_peer_port"),
    ("timings", "etcd_election"),
)


@rule("hosts", "orchestration", "etcd")
def there_is_one_etcd(topology: Topology) -> Iterator[Objection]:
    """Hosts have the role dcs, or etcd.endpoints names an etcd that exists already, and not both."""
    if topology.foreign_etcd is None:
        return
    for index, host in enumerate(topology.hosts):
        if host.has(Role.DCS):
            reason = f"{host.name} would run a member of an etcd of its own, and etcd.endpoints names another etcd"
            fix = 'take "dcs" out, or take the endpoints out'
            yield Objection(("hosts", index, "roles"), reason, fix)


@rule("orchestration", "etcd")
def etcd_is_for_patroni(topology: Topology) -> Iterator[Objection]:
    """An etcd is named where Patroni promotes, and all else about it where its endpoints are."""
    if topology.is_manual and topology.etcd.endpoints:
        reason = 'names an etcd, and with orchestration.kind = "manual" nobody asks one'
        yield Objection(ENDPOINTS, reason, 'take the table out, or set orchestration.kind = "patroni"')
    elif not topology.etcd.endpoints:
        usual = ForeignEtcd()
        for key in sorted(
            key for key in ForeignEtcd.model_fields if getattr(topology.etcd, key) != getattr(usual, key)
        ):
            reason = "is about an etcd that exists already, and etcd.endpoints names none"
            yield Objection(("etcd", key), reason, "name its endpoints, or take the table out")


@rule("etcd")
def endpoints_are_alike(topology: Topology) -> Iterator[Objection]:
    """Every endpoint is named once, and all are asked with TLS, or all without."""
    first: dict[str, int] = {}
    for index, endpoint in enumerate(topology.etcd.endpoints):
        if first.setdefault(endpoint, index) != index:
            reason = f"is etcd.endpoints[{first[endpoint]}] too"
            yield Objection((*ENDPOINTS, index), reason, "name each member once")
        if endpoint.startswith(f"{PLAIN}://") is not topology.etcd.is_plain:
            reason = f"is asked otherwise than {topology.etcd.endpoints[0]}: Patroni knows one way for all members"
            yield Objection((*ENDPOINTS, index), reason, "begin all of them with https")


@rule("etcd")
def plain_http_is_accepted_knowingly(topology: Topology) -> Iterator[Objection]:
    """Endpoints without TLS are named by somebody who accepts that, and nothing of TLS with them."""
    etcd = topology.etcd
    if not etcd.is_plain:
        if etcd.plain_http and etcd.endpoints:
            yield warning(("etcd", "plain_http"), "has no effect: all endpoints have TLS", "take it out")
        return
    if not etcd.plain_http:
        reason = "has no TLS: whoever is on the way can read passwords, and name another primary"
        fix = "use https, or accept it with etcd.plain_http = true on a network that only these hosts are on"
        yield Objection((*ENDPOINTS, 0), reason, fix)
    for key in ("ca_file", "certificate_file", "key_file"):
        if getattr(etcd, key) is not None:
            yield Objection(("etcd", key), "has no effect: the endpoints have no TLS", "take it out, or use https")


@rule("etcd")
def etcd_is_verified(topology: Topology) -> Iterator[Objection]:
    """The authority of an etcd with TLS is given, and a certificate comes with its key."""
    etcd = topology.etcd
    if not etcd.endpoints or etcd.is_plain:
        return
    if etcd.ca_file is None:
        reason = "are to be verified, and etcd.ca_file does not say by which authority's certificate"
        yield Objection(ENDPOINTS, reason, 'set etcd.ca_file = "/path/to/ca.crt"')
    pair = {"certificate_file": etcd.certificate_file, "key_file": etcd.key_file}
    given = [key for key, value in pair.items() if value is not None]
    if len(given) == 1:
        other = next(key for key in pair if key not in given)
        reason = f"is of no use without etcd.{other}"
        yield Objection(("etcd", given[0]), reason, f"set etcd.{other} too, or take it out")


@rule("etcd")
def etcd_knows_who_asks(topology: Topology) -> Iterator[Objection]:
    """A password comes with its user, and an etcd asks for one, or for a certificate."""
    etcd = topology.etcd
    if etcd.password_file is not None and etcd.user is None:
        yield Objection(("etcd", "password_file"), "is nobody's: etcd.user is not set", "set etcd.user, or take it out")
    if etcd.endpoints and etcd.user is None and etcd.certificate_file is None:
        reason = "are asked without a certificate and without a user: whoever reaches that etcd commands the databases"
        yield warning(ENDPOINTS, reason, "set etcd.certificate_file and key_file, or etcd.user, or both")


@rule("etcd", "hosts", "network")
def etcd_is_elsewhere(topology: Topology) -> Iterator[Objection]:
    """A foreign etcd is on none of the cluster's hosts: their firewalls, fences and power cuts would be its own."""
    network = topology.network
    taken = {str(address): host.name for host in topology.parts for address in host.server_addresses}
    taken |= {host.name: host.name for host in topology.parts}
    taken |= {str(address): "a VIP" for address in (*network.vips, *(twin.ip for twin in network.twin_vips))}
    for index, name in enumerate(topology.etcd.hosts):
        if name == "localhost" or is_special(name):
            reason = "is another machine for every host that asks"
            yield Objection((*ENDPOINTS, index), reason, "write the address that all hosts reach it at")
        elif (address := address_of(name)) and is_mapped(address):
            yield Objection((*ENDPOINTS, index), "is IPv4 in IPv6's clothes", "write the IPv4 address itself")
        elif name in taken:
            reason = f"is {taken[name]}, which this file deploys: its firewall lets nobody in there"
            fix = "name an etcd on other machines, or give three hosts the role dcs and take the endpoints out"
            yield Objection((*ENDPOINTS, index), reason, fix)


def is_special(name: str) -> bool:
    """Tell whether a host's name is an address that is not one machine's."""
    address = address_of(name)
    if address is None:
        return False
    return address.is_loopback or address.is_unspecified or address.is_multicast or is_link_local(address)


def address_of(name: str) -> Address | None:
    """Return the address that a host is named by; None where it is named by a name."""
    try:
        return ip_address(name)
    except ValueError:
        return None


@rule("etcd")
def another_endpoint_is_left(topology: Topology) -> Iterator[Objection]:
    """There is another endpoint to ask when one is gone."""
    if len(topology.etcd.endpoints) == 1:
        reason = "is the only one: while it is gone, the primary steps down, even if etcd lives on"
        yield warning(ENDPOINTS, reason, "name every member of that etcd")


@rule("orchestration", "timings", "etcd")
def nobody_tells_a_foreign_etcd(topology: Topology) -> Iterator[Objection]:
    """What only etcd's own members read is not set for a foreign one."""
    for section, key in OWN_MEMBERS if topology.foreign_etcd else ():
        if key in getattr(topology, section).model_fields_set:
            reason = "has no effect: etcd.endpoints names an etcd that pgbaton does not configure"
            yield warning((section, key), reason, "take it out; set it where that etcd is run")


RULES: tuple[Rule, ...] = (
    there_is_one_etcd,
    etcd_is_for_patroni,
    endpoints_are_alike,
    plain_http_is_accepted_knowingly,
    etcd_is_verified,
    etcd_knows_who_asks,
    etcd_is_elsewhere,
    another_endpoint_is_left,
    nobody_tells_a_foreign_etcd,
)
