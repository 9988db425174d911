"""The servers' directories outside of the data directory: made on every database host before any server needs them."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, ClassVar

from pgbaton.components import postgres
from pgbaton.components.base import Check, Component, File, OnChange, Unit, Wave
from pgbaton.components.probing import require_active
from pgbaton.components.units import HEADER
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import HostSpec, Topology

UNIT = "pgbaton-directories.service"
LIST = "/etc/pgbaton/directories.conf"
#: What Patroni clones a standby with, where pg_basebackup alone would not do.
CLONE = "/usr/lib/pgbaton/clone"

#: Whether the new directories are free: a server's that is there would be emptied, and what is not a server's would be
#: in the way of every clone. Arguments: the list to come, whose check this is; the list that is there; directories.
FREE = """
old=$1
shift
for directory in "$@"; do
  grep -qF "d $directory " "$old" 2>/dev/null && continue
  if mountpoint -q "$directory"; then
    echo "$directory is where a disk is mounted: name a directory on it, as $directory/main" >&2
    exit 1
  fi
  if [ -n "$(ls -A "$directory" 2>/dev/null)" ]; then
    echo "$directory is not empty: move what is in it away, or name another one" >&2
    exit 1
  fi
done
"""


class Directories(Component):
    """On every database host, where the topology has WAL or tablespaces in places of their own."""

    name: ClassVar[str] = "directories"
    wave: ClassVar[Wave] = Wave.SYSTEM

    def runs_on(self, topology: Topology, host: HostSpec) -> bool:
        """Run on database hosts of a topology that has such directories."""
        return host.has(Role.DATABASE) and bool(topology.directories)

    def files(self, topology: Topology, host: HostSpec) -> tuple[File, ...]:
        """Return the list of directories, the unit that makes them, and the program with which Patroni clones."""
        del host
        return (
            File(f"/etc/systemd/system/{UNIT}", service(topology), unit=UNIT, on_change=OnChange.RELOAD),
            File(LIST, HEADER + "".join(lines(topology)), unit=UNIT, on_change=OnChange.RELOAD),
            *(() if topology.is_manual else (File(CLONE, clone(topology), mode=0o755),)),
        )

    def units(self, topology: Topology, host: HostSpec) -> tuple[Unit, ...]:
        """Return the unit that makes the directories."""
        del topology, host
        return (Unit(UNIT),)

    def checks(self, topology: Topology, host: HostSpec) -> tuple[Check, ...]:
        """Return the look whether directories that are new are free."""
        del host
        return (Check(("sh", "-c", FREE, f"{{{LIST}}}", LIST, *topology.directories)),)

    async def probe(self, topology: Topology, host: HostSpec, hosts: Mapping[str, Host]) -> None:
        """Return when the directories are made."""
        del topology
        await require_active(hosts[host.name], UNIT)


def lines(topology: Topology) -> Iterator[str]:
    """Yield the list's lines, in the form of tmpfiles.d(5).

    A clone removes the directory of WAL and makes it anew, for which the one above it has to be the server's too.
    """
    wal = topology.postgresql.wal_directory
    if wal is not None:
        yield f"d {PurePosixPath(wal).parent} 0755 postgres postgres -\n"
    yield from (f"d {directory} 0700 postgres postgres -\n" for directory in topology.directories)


def needed(topology: Topology, *more: str) -> dict[str, str]:
    """Return what the unit that starts the server says in [Unit]: no server starts beside a disk that is missing.

    ``more`` are other units that it waits for.
    """
    data = topology.postgresql.data_directory
    awaited = " ".join((*((UNIT,) if topology.directories else ()), *more))
    made_first = {"Wants": awaited, "After": awaited} if awaited else {}
    return {**({"RequiresMountsFor": data} if data else {}), **made_first}


def made(topology: Topology) -> list[str]:
    """Return what that unit looks at before each start. Not Requires=, which would stop the server with our unit."""
    return [f"+/usr/bin/systemctl --quiet is-active {UNIT}"] if topology.directories else []


def service(topology: Topology) -> str:
    """Return the unit that makes the directories, once the disks that they are on are mounted."""
    return f"""{HEADER}[Unit]
Description=Directories of the PostgreSQL cluster
RequiresMountsFor={" ".join(topology.directories)}
Before={postgres.unit(topology)}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/systemd-tmpfiles --create {LIST}
ExecReload=/usr/bin/systemd-tmpfiles --create {LIST}

[Install]
WantedBy=multi-user.target
"""


def leftovers(topology: Topology) -> list[str]:
    """Return, as patterns of paths, what a copy that was cut short may have left outside of the data directory.

    It leaves tablespaces filled and no link to them, so that nobody knows of them.
    """
    version, wal = topology.postgresql.version, topology.postgresql.wal_directory
    left = [f"{tablespace.location}/PG_{version}_*" for tablespace in topology.tablespaces]
    if wal is not None:
        left += [f"{wal}/[0-9A-F]*", f"{wal}/archive_status", f"{wal}/summaries", f"{wal}/xlogtemp.*"]
    return left


def clone(topology: Topology) -> str:
    """Return the program that Patroni clones a standby with: pg_basebackup, into directories that it finds empty."""
    version, left = topology.postgresql.version, leftovers(topology)
    return f"""#!/bin/sh
{HEADER}# Patroni has thrown the data directory away before. What a copy that was cut short left elsewhere goes here.
set -eu
data=
for word; do
  shift
  case $word in
    --datadir=*) data=${{word#*=}} ;;
    --connstring=*) set -- "$@" "--dbname=${{word#*=}}" ;;
    --scope=* | --role=*) ;;
    *) set -- "$@" "$word" ;;
  esac
done
if [ -n "$(ls -A "$data" 2>/dev/null)" ]; then
  echo "$data is not empty: nothing is cloned into it" >&2
  exit 1
fi
rm -rf -- {" ".join(left)}
exec /usr/lib/postgresql/{version}/bin/pg_basebackup --pgdata="$data" --wal-method=stream --verbose "$@"
"""
