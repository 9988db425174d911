"""Rules about who may come in, and how the operator does."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pgbaton.topology.addresses import NAMES, alone
from pgbaton.topology.model import Role
from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.topology.model import Topology

_DESTINATION = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,254}$")
_PLAIN_PATH = re.compile(r"^(~?/)[A-Za-z0-9_.@+ /-]*[A-Za-z0-9_.@+-]$")
DAYS_WARNED = 30


@rule("security")
def clients_are_known(topology: Topology) -> Iterator[Objection]:
    """Clients come from networks, not from everywhere."""
    for index, network in enumerate(topology.security.client_networks):
        place = ("security", "client_networks", index)
        if network.prefixlen == 0:
            fix = "list the networks of the applications"
            yield Objection(place, "is everywhere: the whole Internet could try to log in", fix)
        elif network.is_loopback or network.is_multicast:
            yield Objection(place, "is no network that clients can come from", "list the networks of the applications")


@rule("security", "network", "hosts")
def clients_have_an_address(topology: Topology) -> Iterator[Objection]:
    """There is an address for clients of every family that their networks have."""
    served = {address.version for address in topology.entry_addresses}
    for index, network in enumerate(topology.security.client_networks):
        if network.version not in served:
            family = NAMES[network.version]
            reason = f"is {family}, and clients have no address of {family} to connect to"
            fix = f"list networks of {' and '.join(NAMES[version] for version in sorted(served))} only"
            yield Objection(("security", "client_networks", index), reason, fix)


@rule("security", "network")
def clients_of_twins_come_in(topology: Topology) -> Iterator[Objection]:
    """Clients of a VIP's twin come from a network that is let in."""
    listed = topology.security.client_networks
    for index, twin in enumerate(topology.network.twin_vips if topology.security.firewall else ()):
        place, family = ("network", "twin_vips", index), NAMES[twin.version]
        if not listed and twin.network.num_addresses == 1:
            reason = f"is in a network of its own, {twin.network}: the firewall would let no client of {family} in"
            fix = "write the prefix length of its clients' network, or list that in security.client_networks"
            yield Objection(place, reason, fix)
        elif listed and all(network.version != twin.version for network in listed):
            reason = f"has no effect: security.client_networks lists no network of {family}, so nobody there is let in"
            yield warning(place, reason, "list its clients' networks too, or take it out")


@rule("security")
def operators_are_known(topology: Topology) -> Iterator[Objection]:
    """Operators come from networks that exist."""
    for index, network in enumerate(topology.security.operator_networks):
        if network.is_loopback or network.is_multicast:
            reason = "is no network that an operator can come from: SSH would be locked out"
            place = ("security", "operator_networks", index)
            yield Objection(place, reason, "list the networks you log in from")


@rule("security", "hosts", "network")
def applications_come_in(topology: Topology) -> Iterator[Objection]:
    """Every application host is in a client network."""
    for index, host in enumerate(topology.hosts):
        if host.has(Role.APPLICATION) and not any(host.address in network for network in topology.client_networks):
            reason = f"is in none of security.client_networks: the firewall would keep {host.name} out"
            fix = f"add {alone(host.address)} to security.client_networks"
            yield Objection(("hosts", index, "address"), reason, fix)


@rule("security", "orchestration")
def firewall_is_on(topology: Topology) -> Iterator[Objection]:
    """The firewall is on."""
    if not topology.security.firewall:
        open_to_all = "PostgreSQL is" if topology.is_manual else "etcd and Patroni are"
        reason = f"{open_to_all} reachable for everybody on the network, with certificates alone between"
        yield warning(("security", "firewall"), reason, "leave it on, unless another firewall does the same")


@rule("security")
def certificates_last(topology: Topology) -> Iterator[Objection]:
    """Certificates last longer than the time of warning."""
    days = topology.security.certificate_days
    if days <= DAYS_WARNED:
        reason = f"is not longer than the {DAYS_WARNED} days of warning before a certificate ends: it is due at once"
        yield warning(("security", "certificate_days"), reason, "set 90 or more")


@rule("hosts")
def destinations_are_no_options(topology: Topology) -> Iterator[Objection]:
    """What is given to ssh as destination cannot be an option or a second word."""
    for index, host in enumerate(topology.hosts):
        if host.ssh is not None and not _DESTINATION.match(host.ssh):
            reason = "is no destination for ssh: one that begins with - would be an option, blanks would split it"
            yield Objection(("hosts", index, "ssh"), reason, "write a name of your ssh_config, or user@address")


@rule("ssh")
def paths_are_absolute(topology: Topology) -> Iterator[Objection]:
    """Paths to the operator's files are absolute and lead nowhere up."""
    for key in ("identity_file", "config_file"):
        path = getattr(topology.ssh, key)
        if path is not None and (not _PLAIN_PATH.match(path) or ".." in PurePosixPath(path).parts):
            reason = "is no absolute path: what it leads to would depend on where the command runs"
            yield Objection(("ssh", key), reason, "write it from / or ~/ on, without .. in it")


RULES: tuple[Rule, ...] = (
    clients_are_known,
    clients_have_an_address,
    clients_of_twins_come_in,
    operators_are_known,
    applications_come_in,
    firewall_is_on,
    certificates_last,
    destinations_are_no_options,
    paths_are_absolute,
)
