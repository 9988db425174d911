"""A cluster of fake hosts: the real scripts run on directories, programs that change a system are stand-ins."""

from __future__ import annotations

import getpass
import grp
import json
import os
import re
import shutil
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from pgbaton.blueprint import Blueprint, HostBlueprint, Part
from pgbaton.cli.demo import STOCK
from pgbaton.components import postgres
from pgbaton.components.base import Check, Component, File, OnChange, Unit, Wave
from pgbaton.deploy import apply, objects, plan
from pgbaton.errors import UnhealthyError
from pgbaton.hosts.fake import FakeHost
from pgbaton.references import secret
from pgbaton.secrets import Vault
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pgbaton.deploy.apply import Outcome
    from pgbaton.deploy.steps import Plan
    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import HostSpec, Topology

OWNER = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}

SYSTEMCTL = r"""#!/bin/sh
# Units are directories; what was asked is written down for the whole cluster, in order. Built-ins alone: it runs often.
host=${FAKE%/fake}; host=${host##*/}
property() {
  unit=$FAKE/units/$2
  case $1 in
    LoadState)
      if [ -e "$unit/masked" ]; then echo masked; elif [ -d "$unit" ]; then echo loaded; else echo not-found; fi ;;
    ActiveState) state=inactive; [ -e "$unit/state" ] && read -r state < "$unit/state"; echo "$state" ;;
    UnitFileState)
      state=disabled; [ -e "$unit/enabled" ] && state=enabled; [ -e "$unit/masked" ] && state=masked; echo $state ;;
    NeedDaemonReload) if [ -e "$unit/stale" ]; then echo yes; else echo no; fi ;;
  esac
}
verb= names= value=
while [ $# -gt 0 ]; do
  case $1 in
    -p) wanted=$2; shift ;;
    --value) value=1 ;;
    -*) ;;
    *) if [ -z "$verb" ]; then verb=$1; else names="$names $1"; fi ;;
  esac
  shift
done
case $verb in
  show)
    for name in $names; do
      IFS=,; for each in $wanted; do [ -n "$value" ] || printf '%s=' "$each"; property "$each" "$name"; done; unset IFS
      echo
    done
    exit 0 ;;
  is-failed) for name in $names; do property ActiveState "$name"; done; exit 0 ;;
esac
echo "$host $verb$names" >> "$FAKE/../../calls"
for name in $names; do
  unit=$FAKE/units/$name
  [ -d "$unit" ] || mkdir -p "$unit"
  case $verb in
    start|restart|reload-or-restart)
      if [ -e "$unit/broken" ]; then echo failed > "$unit/state"; echo "Job for $name failed." >&2; exit 1; fi
      echo active > "$unit/state" ;;
    disable) echo inactive > "$unit/state"; rm -f "$unit/enabled" ;;
    enable) : > "$unit/enabled" ;;
    mask) : > "$unit/masked"; echo inactive > "$unit/state" ;;
    unmask) rm -f "$unit/masked" ;;
  esac
done
"""
DPKG_QUERY = r"""#!/bin/sh
[ -f "$FAKE/packages" ] || exit 0
while read -r name; do printf 'P\t%s\tinstalled\n' "$name"; done < "$FAKE/packages"
"""
APT_GET = r"""#!/bin/sh
[ -x "$FAKE/../usr/sbin/policy-rc.d" ] && guarded=guarded || guarded=open
printf '%s apt-get %s %s\n' "$(basename "$(dirname "$FAKE")")" "$guarded" "$*" >> "$FAKE/../../calls"
if [ -e "$FAKE/no-lists" ] && [ "${*#*install}" != "$*" ]; then echo 'E: Unable to locate package' >&2; exit 100; fi
case $* in *update*) rm -f "$FAKE/no-lists" ;; esac
case $* in *" install "*)
  mkdir -p "$FAKE/../etc/postgresql-common"
  [ -f "$FAKE/../etc/postgresql-common/createcluster.conf" ] ||
    echo '#create_main_cluster = true' > "$FAKE/../etc/postgresql-common/createcluster.conf"
  for word; do case $word in -*|install|Dpkg*|DPkg*) ;; *) echo "$word" >> "$FAKE/packages" ;; esac; done ;;
esac
"""
RUNUSER = r"""#!/bin/sh
while [ "$1" != -- ]; do shift; done
shift
case $1 in
  psql) [ -e "$FAKE/server" ] && read -r answer < "$FAKE/server"; echo "$answer" ;;
  *) "$@" ;;
esac
"""
PROGRAMS = {
    "systemctl": SYSTEMCTL,
    "dpkg-query": DPKG_QUERY,
    "apt-get": APT_GET,
    "runuser": RUNUSER,
    "dpkg": "#!/bin/sh\n",
    "ip": '#!/bin/sh\ncat "$FAKE/addresses" 2>/dev/null\n',
    "journalctl": '#!/bin/sh\ncat "$FAKE/journal" 2>/dev/null\n',
}


class Fake(Component):
    """A component with one unit, one file with a secret, and a drop-in."""

    def __init__(self, name: str, wave: Wave, role: Role, unit: str) -> None:
        self.name = name  # type: ignore[misc]
        self.wave = wave  # type: ignore[misc]
        self.role = role
        self.unit = unit
        self.line = "first"
        self.on_change = OnChange.RELOAD
        self.dropin = "a"
        self.extra = True
        self.program: bytes | None = None
        self.well: dict[str, bool] = {}
        self.probed: list[str] = []
        self.on_probe: Callable[[], object] = lambda: None

    def runs_on(self, topology: Topology, host: HostSpec) -> bool:
        del topology
        return host.has(self.role)

    @property
    def path(self) -> str:
        return f"/etc/{self.name}/main.conf"

    def files(self, topology: Topology, host: HostSpec) -> tuple[File, ...]:
        del topology, host
        text = f"line = {self.line}\npassword = {secret('password/app')}\n"
        drop_in = f"/etc/systemd/system/{self.unit}.d/fake.conf"
        found = (
            File(drop_in, f"[Service]\n# {self.dropin}\n", unit=self.unit, on_change=OnChange.RESTART, **OWNER),
            File(self.path, text, mode=0o600, unit=self.unit, on_change=self.on_change, **OWNER),
        )
        if self.program is not None:
            found += (File(f"/etc/{self.name}/program", self.program, mode=0o755, unit=self.unit, **OWNER),)
        return (*found, File(f"/etc/{self.name}/extra", "extra\n", **OWNER)) if self.extra else found

    def units(self, topology: Topology, host: HostSpec) -> tuple[Unit, ...]:
        del topology, host
        return (Unit(self.unit),)

    def checks(self, topology: Topology, host: HostSpec) -> tuple[Check, ...]:
        del topology, host
        script = 'if grep -q invalid "$1"; then cat "$1" >&2; exit 1; fi'
        return (Check(("sh", "-c", script, "sh", f"{{{self.path}}}")),)

    async def probe(self, topology: Topology, host: HostSpec, hosts: Mapping[str, Host]) -> None:
        del topology
        self.probed.append(host.name)
        self.on_probe()
        unit = fake_root(hosts[host.name]) / "fake/units" / self.unit / "state"
        if not unit.exists() or "active" not in unit.read_text() or not self.well.get(host.name, True):
            message = f"{self.unit} does not answer"
            raise UnhealthyError(message, where=host.name)


def fake_root(host: Host) -> Path:
    assert isinstance(host, FakeHost)
    assert host.root is not None
    return host.root


@dataclass
class Server:
    """What the fake primary has."""

    dynamic: dict[str, Any] = field(default_factory=dict)
    roles: dict[str, list[Any]] = field(default_factory=dict)
    databases: dict[str, str] = field(default_factory=lambda: {"postgres": "postgres", "template1": "postgres"})
    tablespaces: dict[str, list[str]] = field(default_factory=dict)
    lookups: dict[str, str] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    max_connections: int = 300

    def look(self, sent: str) -> str:
        del sent
        first = {
            "roles": {"postgres": [True, -1, None], **self.roles},
            "memberships": {"pg_monitor": ["pg_read_all_stats"]},
            "databases": {name: [owner, -1, "UTF8", "C.UTF-8"] for name, owner in self.databases.items()},
            "tablespaces": self.tablespaces,
            "restart_settings": ["max_connections", "shared_buffers"],
            "pending": self.pending,
            "wal_segment_size_mb": 16,
            "limits": {"max_connections": self.max_connections},
        }
        lines = [first, *(self.inside(name) for name in self.databases)]
        return "".join(json.dumps(line) + "\n" for line in lines) + "---\n" + yaml.safe_dump(self.dynamic)

    def inside(self, database: str) -> dict[str, Any]:
        return {"lookup": database, "mark": self.lookups.get(database), "extensions": ["plpgsql"]}

    def psql(self, sql: str) -> str:
        self.statements.append(sql)
        place = "postgres"
        for line in sql.splitlines():
            if found := re.match(r'\\connect "?(\w+)', line):
                place = found[1]
            if found := re.match(
                r'(?:CREATE|ALTER) ROLE "(\w+)" LOGIN CONNECTION LIMIT ([^ ;]+)(?: PASSWORD \'(.+)\')?;', line
            ):
                kept = self.roles.get(found[1], [True, -1, None])[2]
                self.roles[found[1]] = [True, int(found[2]), found[3] or kept]
            if found := re.match(r'(?:CREATE|ALTER) DATABASE "(\w+)" OWNER (?:TO )?"(\w+)"', line):
                self.databases[found[1]] = found[2]
            if found := re.match(r'CREATE TABLESPACE "(\w+)" OWNER "(\w+)" LOCATION \'(\S+)\'', line):
                self.tablespaces[found[1]] = [found[2], found[3]]
            if found := re.match(r"COMMENT ON SCHEMA pgbaton IS '(.+)'", line):
                self.lookups[place] = found[1]
        return ""

    def patch(self, sent: str) -> str:
        merge(self.dynamic, yaml.safe_load(sent))
        return ""


def merge(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """Merge as Patroni does: null removes a key."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            merge(target[key], value)
        else:
            target[key] = value


@dataclass
class Bench:
    """A fake cluster and everything to deploy it with."""

    directory: Path
    topology: Topology
    state: ClusterState
    vault: Vault
    hosts: dict[str, FakeHost]
    components: tuple[Fake, ...]
    server: Server = field(default_factory=Server)
    dynamic: dict[str, Any] = field(default_factory=lambda: {"ttl": 20})
    reports: list[str] = field(default_factory=list)
    leader: str | None = None
    waiting: list[str] = field(default_factory=list)

    @property
    def blueprint(self) -> Blueprint:
        hosts = tuple(HostBlueprint(host.name, self.parts(host)) for host in self.topology.hosts)
        return Blueprint(self.topology.name, hosts, ("app", "pgbouncer"))

    def parts(self, host: HostSpec) -> tuple[Part, ...]:
        mine = [component for component in self.components if component.runs_on(self.topology, host)]
        unit = mine[0].unit
        key = File("/etc/pgbaton/tls/key", secret("password/pgbouncer"), 0o600, unit=unit, **OWNER)
        ground = Part("packages", Wave.SYSTEM, packages=("base-tool",))
        return (
            ground,
            Part("certificates", Wave.TLS, files=(key,)),
            *(self.part(component, host) for component in mine),
        )

    def part(self, component: Fake, host: HostSpec) -> Part:
        return Part(
            component.name,
            component.wave,
            files=component.files(self.topology, host),
            units=component.units(self.topology, host),
            checks=component.checks(self.topology, host),
        )

    @property
    def desired(self) -> objects.Desired:
        roles = postgres.roles(self.topology)
        return objects.Desired(
            5432, self.dynamic, roles, postgres.databases(self.topology), postgres.lookup_sql(self.topology)
        )

    async def plan(self, *, previous: str | None = None) -> Plan:
        source = plan.Source("topology text", previous)
        return await plan.make(
            self.topology, self.blueprint, self.hosts, self.vault, source=source, desired=self.desired
        )

    async def apply(self, made: Plan | None = None, *, ready_seconds: float = 2.0) -> Outcome:
        return await apply.apply(
            made or await self.plan(),
            self.topology,
            self.blueprint,
            self.hosts,
            self.vault,
            state=self.state,
            procedures=self,
            report=self.reports.append,
            desired=self.desired,
            components=self.components,
            ready_seconds=ready_seconds,
        )

    # What deploying asks of those who operate the cluster.

    async def primary(self) -> str | None:
        return self.leader

    async def switchover_away(self, host: str) -> None:
        self.log(f"switchover away from {host}")
        others = [each.name for each in self.topology.with_role(Role.DATABASE) if each.name != host]
        self.lead(others[0])

    async def restart_database(self, host: str, *, in_place: bool = False) -> None:
        self.log(f"restart of the server on {host}{' in place' * in_place}")
        self.waiting.remove(host)

    async def pending_restarts(self) -> tuple[str, ...]:
        return tuple(self.waiting)

    def lead(self, name: str) -> None:
        """Make a host the primary, all other databases standbys."""
        self.leader = name
        for host in self.topology.with_role(Role.DATABASE):
            (self.root(host.name) / "fake/server").write_text("f\n" if host.name == name else "t\n")

    def lead_when_started(self) -> None:
        """Let the first database be primary as soon as anybody asks it."""
        self.lead(self.topology.with_role(Role.DATABASE)[0].name)
        for host in self.topology.with_role(Role.DATABASE):
            program = self.root(host.name) / "fake/bin/runuser"
            program.write_text(RUNUSER.replace("psql)", 'psql) [ -e "$FAKE/units/patroni.service/state" ] || exit 2;'))

    def root(self, host: str) -> Path:
        return fake_root(self.hosts[host])

    def log(self, line: str) -> None:
        with (self.directory / "calls").open("a") as calls:
            calls.write(f"{line}\n")

    @property
    def calls(self) -> list[str]:
        """What the hosts were told, in order, the whole cluster over."""
        path = self.directory / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def forget_calls(self) -> None:
        (self.directory / "calls").unlink(missing_ok=True)
        for host in self.hosts.values():
            host.calls.clear()


def build(directory: Path) -> Bench:
    """Return a fake cluster in a directory, nothing deployed on it yet."""
    topology = load.loads(presets.text("standard", cluster="shop") + STOCK)
    state = ClusterState("shop", directory / "state")
    vault = Vault(state.vault_directory)
    vault.ensure(["app", "user/app", "pgbouncer"], (), days=30)
    components = (
        Fake("dcs", Wave.DCS, Role.DCS, "dcs.service"),
        Fake("database", Wave.DATABASE, Role.DATABASE, "patroni.service"),
        Fake("balancer", Wave.BALANCER, Role.BALANCER, "balancer.service"),
    )
    hosts = {host.name: FakeHost(host.name, machine(directory / host.name)) for host in topology.hosts}
    bench = Bench(directory, topology, state, vault, hosts, components)
    for host in hosts.values():
        host.answers["sh", "-c", objects.LOOK] = bench.server.look
        host.answers["runuser",] = bench.server.psql
        host.answers["patronictl",] = bench.server.patch
    return bench


def machine(root: Path) -> Path:
    """Return the root of a fake host, with the stand-ins for programs."""
    if not root.exists():
        (root / "fake/bin").mkdir(parents=True)
        for name, text in PROGRAMS.items():
            program = root / "fake/bin" / name
            program.write_text(text)
            program.chmod(0o755)
    return root


def copy(bench: Bench, directory: Path) -> Bench:
    """Return a cluster in the same state, with a life of its own."""
    shutil.copytree(bench.directory, directory, dirs_exist_ok=True)
    copied = build(directory)
    for name in ("dynamic", "roles", "databases", "lookups"):
        getattr(copied.server, name).update(deepcopy(getattr(bench.server, name)))
    copied.leader = bench.leader
    return copied
