"""Rules about any host: reachability, units, certificates, disks, clocks, versions."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from pgbaton.components import foreign
from pgbaton.observe.findings import Finding, Level
from pgbaton.observe.words import size, span
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgbaton.observe.facts import Facts

#: A certificate is renewed by the next apply this long before it ends, or at half its life when that is shorter.
EXPIRY_DAYS = 30
DISK_SHARE = 0.85
DISK_SHARE_CRITICAL = 0.95
CLOCK_SECONDS = 0.5
#: Unit file states in which a unit comes up after a boot.
STARTS_AT_BOOT = frozenset({"enabled", "static", "alias", "generated", "indirect"})

#: The oldest release of a series without a known hole, by package; a series that is not listed counts as new enough.
#: A distribution may have mended an older one: its own security tracker knows.
FLOORS: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "etcd-server": ((3, 5, 33), (3, 6, 14)),
    "pgbouncer": ((1, 25, 2),),
}


def unreachable(facts: Facts) -> Iterator[Finding]:
    """Every host must be reachable."""
    for spec in facts.topology.hosts:
        view = facts.snapshot.host(spec.name)
        if not view.reachable:
            level = Level.NOTE if spec.roles == (Role.APPLICATION,) else Level.WARNING
            seen = f"unreachable: {view.reason}"
            advice = f"is {spec.address} powered on and on the network? It rejoins by itself when it is back"
            yield Finding(level, "unreachable", spec.name, seen, "reachable", advice)


def unit_not_running(facts: Facts) -> Iterator[Finding]:
    """Every unit must run; one whose silence another rule tells of is not told of twice."""
    for view in facts.snapshot.hosts:
        told = {facts.unit_of(problem.part) for problem in view.problems}
        for unit in view.units:
            # A one-shot unit that stays "active (exited)" is as it should be.
            if unit.active != "active" and unit.name not in told:
                advice = f"pgbaton logs --host {view.name}; on it: systemctl restart {unit.name}"
                yield Finding(Level.WARNING, "unit-not-running", view.name, str(unit), "active", advice, part=unit.name)


def unit_not_enabled(facts: Facts) -> Iterator[Finding]:
    """Every unit that runs must come back after a boot."""
    for view in facts.snapshot.hosts:
        names = [unit.name for unit in view.units if unit.active == "active" and unit.enabled not in STARTS_AT_BOOT]
        if names:
            advice = f"on {view.name}: systemctl enable {' '.join(names)}"
            seen = f"{', '.join(names)} would not start after a boot"
            yield Finding(Level.WARNING, "unit-not-enabled", view.name, seen, "enabled", advice)


def certificate_expires(facts: Facts) -> Iterator[Finding]:
    """Certificates must be valid for a while."""
    limit = min(EXPIRY_DAYS, facts.topology.security.certificate_days / 2)
    now = datetime.fromisoformat(facts.snapshot.taken_at)
    for view in facts.snapshot.hosts:
        if view.next_expiry is None:
            continue
        days = (datetime.fromisoformat(view.next_expiry.expires_at) - now).total_seconds() / 86_400
        if days < limit:
            state = f"expires in {span(days * 86_400)}" if days > 0 else "has expired"
            level = Level.WARNING if days > 0 else Level.CRITICAL
            advice = "pgbaton apply renews it without an outage"
            if facts.topology.foreign_etcd and view.next_expiry.path in foreign.GIVEN:
                advice = "it is not pgbaton's own: put a new one where the topology's [etcd] says, and apply"
            yield Finding(
                level, "certificate-expires", view.name, f"{view.next_expiry.path} {state}", f"{limit:g} d", advice
            )


def disk_full(facts: Facts) -> Iterator[Finding]:
    """The file systems of data, of WAL and of tablespaces must have room."""
    for view in facts.snapshot.hosts:
        if view.disk and view.disk.used_share > DISK_SHARE:
            level = Level.CRITICAL if view.disk.used_share > DISK_SHARE_CRITICAL else Level.WARNING
            seen = f"{view.disk.path} is {view.disk.used_share:.0%} full, {size(view.disk.free_bytes)} free"
            advice = "look for WAL kept back by slots first, then for what grew; enlarge the file system"
            yield Finding(level, "disk-full", view.name, seen, f"{DISK_SHARE:.0%}", advice)


def clock_off(facts: Facts) -> Iterator[Finding]:
    """Clocks must agree with this machine's."""
    for view in facts.snapshot.hosts:
        offset = view.clock_offset_seconds or 0.0
        if abs(offset) > CLOCK_SECONDS:
            seen = f"its clock is at least {span(abs(offset))} {'ahead' if offset > 0 else 'behind'}"
            advice = f"on {view.name}: is a time service running and synchronised (timedatectl)?"
            yield Finding(Level.WARNING, "clock-off", view.name, seen, span(CLOCK_SECONDS), advice)


def part_silent(facts: Facts) -> Iterator[Finding]:
    """Every part of a host should be seen."""
    for view in facts.snapshot.hosts:
        for problem in view.problems:
            if facts.unit_of(problem.part) is None:
                advice = "look at the host by hand"
                seen = f"{problem.part} could not be asked: {problem.reason}"
                yield Finding(Level.NOTE, "part-silent", view.name, seen, "an answer", advice, part=problem.part)


def versions_differ(facts: Facts) -> Iterator[Finding]:
    """A package should have the same version everywhere."""
    for package, hosts in installed(facts).items():
        versions: dict[str, list[str]] = {}
        for host, version in hosts.items():
            versions.setdefault(version, []).append(host)
        if len(versions) > 1:
            where = "; ".join(f"{version} on {', '.join(names)}" for version, names in sorted(versions.items()))
            seen = f"{package} {where}"
            advice = f"bring {package} to one version, one host at a time"
            yield Finding(Level.NOTE, "versions-differ", facts.topology.name, seen, "one version", advice, part=package)


def version_below_floor(facts: Facts) -> Iterator[Finding]:
    """No package should be older than the release that closed its last known hole."""
    for package, hosts in installed(facts).items():
        low = {host: floor for host, version in hosts.items() if (floor := floor_missed(package, version))}
        for floor in sorted(set(low.values())):
            names = [host for host, missed in low.items() if missed == floor]
            seen = f"{package} {', '.join(sorted({upstream(hosts[name]) for name in names}))}"
            advice = "update when there is one; until then TLS and the firewall stand before it"
            yield Finding(Level.NOTE, "version-below-floor", ", ".join(names), seen, floor, advice, part=package)


def installed(facts: Facts) -> dict[str, dict[str, str]]:
    """Return versions by package and host."""
    found: dict[str, dict[str, str]] = {}
    for view in facts.snapshot.hosts:
        for package, version in (view.packages or {}).items():
            found.setdefault(package, {})[view.name] = version
    return found


def floor_missed(package: str, version: str) -> str | None:
    """Return the release that an installed version should at least be, or None when it is new enough.

    The floor is that of its own series (major.minor) where there is one, else the next newer one.
    """
    own = numbers(version)
    newer = [floor for floor in FLOORS.get(package, ()) if floor[:2] >= own[:2]]
    floor = min(newer, default=None)
    return ".".join(map(str, floor)) if floor and own < floor else None


def upstream(version: str) -> str:
    """Return the upstream part of a Debian version: ``1:3.5.16-4+b1`` is 3.5.16."""
    return version.rpartition(":")[2].partition("-")[0]


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of an upstream version."""
    found = re.match(r"\d+(\.\d+)*", upstream(version))
    return tuple(map(int, found[0].split("."))) if found else ()
