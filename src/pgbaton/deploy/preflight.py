"""Before the first apply: is every host fit to be one of the cluster? All problems at once, each with its fix."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.deploy.gate import together
from pgbaton.deploy.inventory import HOME, parse_manifest
from pgbaton.errors import CommandError, RefusedError, UnreachableError
from pgbaton.topology import placement, ports
from pgbaton.topology.addresses import IPV6
from pgbaton.topology.model import ETCD_METRICS_PORT, Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import HostSpec, Topology

#: Certificates, leases and journals all want clocks that agree.
MAXIMUM_SKEW_SECONDS = 2.0
#: The Debian releases that are supported, and the PostgreSQL each brings.
RELEASES = {"12": 15, "13": 17}

# Arguments: the root of the file system; the interface, nothing for any; PostgreSQL's major version; the servers'
# directories, that of data first.
LOOK = r"""
cd "$1" || exit 1
interface=$2; version=$3; peer=$4; shift 4
printf 'clock %s\n' "$(date +%s.%N)"
printf 'user %s\n' "$(id -u)"
printf 'init %s\n' "$(cat ./proc/1/comm)"
printf 'system %s\n' "$(. ./etc/os-release; printf '%s %s' "$ID" "$VERSION_ID")"
ip -o address show ${interface:+dev "$interface"} 2>/dev/null | awk '{ sub("/.*", "", $4); print "address " $4 }'
[ -z "$peer" ] || ip -o route get "$peer" 2>/dev/null | sed -n 's/.* src \([^ ]*\).*/source \1/p'
[ -f ./var/lib/pgbaton/manifest.json ] && printf 'manifest %s\n' "$(base64 -w0 < ./var/lib/pgbaton/manifest.json)"
for directory in "$@"; do
  [ -z "$(ls -A ".$directory" 2>/dev/null)" ] || printf 'full %s\n' "$directory"
done
[ $# -eq 0 ] || shift
for directory in "$@"; do
  mountpoint -q ".$directory" && printf 'mounted %s\n' "$directory"
done
[ -d "./usr/lib/postgresql/$version" ] || [ -n "$(apt-cache show "postgresql-$version" 2>/dev/null)" ] &&
  echo 'server available'
awk 'FNR > 1 && $4 == "0A" { print "port " $2 }' ./proc/net/tcp ./proc/net/tcp6 2>/dev/null
exit 0
"""


@dataclass(frozen=True)
class Problem:
    """One thing that stands in the way, and what to do about it."""

    host: str
    message: str
    fix: str
    unreachable: bool = False

    def __str__(self) -> str:
        """Return the problem and below it what to do about it."""
        return f"{self.host}: {self.message}\n    to fix: {self.fix}"


@dataclass(frozen=True)
class Look:
    """What a host said: its answers by name, and how far its clock is from ours, in seconds."""

    answers: dict[str, tuple[str, ...]]
    skew_seconds: float

    def one(self, name: str) -> str:
        """Return a single answer; empty when there was none."""
        return self.answers.get(name, ("",))[0]


async def check(topology: Topology, hosts: Mapping[str, Host]) -> None:
    """Raise RefusedError, or UnreachableError when that is all there is, with everything that stands in the way."""
    members = [host for host in topology.hosts if placement.is_managed(topology, host)]
    found = await together(*(problems(topology, host, hosts[host.name]) for host in members))
    wrong = [problem for each in found for problem in each]
    if not wrong:
        return
    message = "\n  ".join(["not every host is fit for the cluster; nothing was changed:", *map(str, wrong)])
    kind = UnreachableError if all(problem.unreachable for problem in wrong) else RefusedError
    names = ", ".join(dict.fromkeys(problem.host for problem in wrong))
    raise kind(message, hint=f"see to {names}, then run the same command again")


async def problems(topology: Topology, spec: HostSpec, host: Host) -> tuple[Problem, ...]:
    """Return what is wrong with one host."""
    try:
        seen = await look(topology, spec, host)
    except (UnreachableError, CommandError) as error:
        fix = error.hint or "see that it is on, and that the operator may log in and become root"
        return (Problem(spec.name, error.message, fix, unreachable=isinstance(error, UnreachableError)),)
    return tuple(Problem(spec.name, message, fix) for message, fix in complaints(topology, spec, seen))


async def look(topology: Topology, spec: HostSpec, host: Host) -> Look:
    """Ask a host about itself, in one round trip."""
    before = time.time()
    result = await host.run("sh", "-c", LOOK, "sh", "/", *arguments(topology, spec))
    after = time.time()
    answers: dict[str, tuple[str, ...]] = {}
    for line in result.stdout.splitlines():
        name, _, value = line.partition(" ")
        answers[name] = (*answers.get(name, ()), value)
    theirs = float(answers["clock"][0])
    # The host looked at its clock at some time between our two looks at ours.
    return Look(answers, max(0.0, before - theirs, theirs - after))


def arguments(topology: Topology, spec: HostSpec) -> tuple[str, ...]:
    """Return what a host is asked about. No VIP moves to another site, so any interface will do there."""
    interface = topology.network.interface if topology.is_near(spec) else ""
    directories = (topology.data_directory, *topology.directories) if spec.has(Role.DATABASE) else ()
    return (interface, str(topology.postgresql.version), peer_of(topology, spec), *directories)


def peer_of(topology: Topology, spec: HostSpec) -> str:
    """Return the address of another host to ask the way to; none where that need not be asked.

    With IPv6 an interface has several addresses as a rule, and which is a connection's source depends on where it goes.
    """
    if topology.network.subnet.version != IPV6 or not topology.is_near(spec):
        return ""
    others = (host for host in topology.hosts if host.name != spec.name and topology.is_near(host))
    return next((str(host.address) for host in others), "")


def complaints(topology: Topology, spec: HostSpec, seen: Look) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a host, and the fix. Pure."""
    if seen.one("user") != "0":
        yield "commands do not run as root", "log in as root, or as a user with sudo without a password"
    if seen.one("init") != "systemd":
        yield f"process 1 is {seen.one('init')}, not systemd", "use a machine that runs systemd"
    if seen.skew_seconds > MAXIMUM_SKEW_SECONDS:
        limit = f"limit {MAXIMUM_SKEW_SECONDS:g} s"
        yield f"its clock is {seen.skew_seconds:.1f} s from ours ({limit})", "run a time service, as chrony"
    yield from about_system(topology, spec, seen)
    if str(spec.address) not in seen.answers.get("address", ()):
        found = ", ".join(seen.answers.get("address", ())) or "none"
        near, interface = topology.is_near(spec), topology.network.interface
        message = f"{spec.address} is not on {f'interface {interface}' if near else 'any interface'} (there: {found})"
        place = "address or network.interface" if near else "its address"
        yield message, f"give {interface if near else 'it'} that address, or correct {place} in the topology"
    elif seen.one("source") not in {"", str(spec.address)}:
        message = f"its connections to other hosts come from {seen.one('source')}, which the cluster lets in nowhere"
        fix = "take that address away, or have the kernel avoid it: ip address change … preferred_lft 0; no autoconf"
        yield message, fix
    yield from about_earlier(topology, spec, seen)


def about_system(topology: Topology, spec: HostSpec, seen: Look) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the release, or with the PostgreSQL it brings."""
    system, _, release = seen.one("system").partition(" ")
    if system != "debian" or release not in RELEASES:
        supported = " or ".join(RELEASES)
        yield f"it runs {seen.one('system')}", f"use Debian {supported}"
        return
    version = topology.postgresql.version
    if spec.has(Role.DATABASE) and RELEASES[release] != version and "server" not in seen.answers:
        brings = RELEASES[release]
        fix = f"set postgresql.version = {brings}, or add a package source that has postgresql-{version}"
        yield f"PostgreSQL {version} is not to be had; Debian {release} brings {brings}", fix


def about_earlier(topology: Topology, spec: HostSpec, seen: Look) -> Iterator[tuple[str, str]]:
    """Yield what others left on the host: another cluster, data, programs on our ports."""
    encoded = seen.one("manifest")
    owner = parse_manifest(spec.name, encoded).cluster if encoded else ""
    if owner == topology.name:
        return
    if owner:
        fix = f"correct the address; a host that is free to be used again has no {HOME}/manifest.json"
        yield f"it belongs to cluster {owner}", fix
        return
    for directory in seen.answers.get("full", ()):
        yield f"{directory} is not empty", f"move what is in it away, or choose another {key_of(directory, topology)}"
    for directory in seen.answers.get("mounted", ()):
        yield f"a disk is mounted at {directory}", f"name a directory on it, as {directory}/main: clones remove it"
    taken = {int(value.rpartition(":")[2], 16) for value in seen.answers.get("port", ())}
    for port, purpose in wanted_ports(topology, spec).items():
        if port in taken:
            fix = f"stop what listens there (ss -ltnp sport = :{port} names it), or choose another port"
            yield f"port {port}, wanted for {purpose}, is taken", fix


def key_of(directory: str, topology: Topology) -> str:
    """Return the key of the topology that names a directory of the servers."""
    if directory == topology.data_directory:
        return "postgresql.data_directory"
    return "postgresql.wal_directory" if directory == topology.postgresql.wal_directory else "location"


def wanted_ports(topology: Topology, spec: HostSpec) -> dict[int, str]:
    """Return the TCP ports that a host needs, with what for."""
    wanted = {number: port.purpose for port, number in ports.bound(topology, spec) if port.key != "heartbeat_port"}
    return wanted | ({ETCD_METRICS_PORT: "etcd's own metrics"} if spec.has(Role.DCS) else {})
