"""What is on a host now, in one round trip that changes nothing and needs no more than a Debian base system."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgbaton.errors import Error

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pgbaton.blueprint import HostBlueprint
    from pgbaton.hosts.base import Host

#: Where pgbaton keeps what it knows of a host: the manifest, staged files, and previous ones for rollback.
HOME = "/var/lib/pgbaton"
UNIT_PROPERTIES = "LoadState,ActiveState,UnitFileState,NeedDaemonReload"
ENABLED = frozenset({"enabled", "enabled-runtime", "static", "alias", "generated", "indirect"})

# Argument: the root of the file system. Input: one "KIND VALUE" a line. Output: lines that begin with a letter.
# Contents of files stay on the host: their SHA-256 says whether they are as they should be.
LOOK = r"""
cd "$1" || exit 1
packages= units= files=
while IFS=' ' read -r kind value; do
  case $kind in
    package) packages="$packages $value" ;;
    unit) units="$units $value" ;;
    file) files="$files.$value
" ;;
    server)
      answer=$(runuser -u postgres -- psql -XqAt -h /var/run/postgresql -p "$value" \
        -c 'SELECT pg_is_in_recovery()' postgres 2>/dev/null)
      printf 'S\t%s\n' "$answer" ;;
    links)
      for link in ".$value"/pg_wal ".$value"/pg_tblspc/*; do
        [ ! -L "$link" ] || printf 'L\t%s\t%s\n' "$link" "$(readlink "$link")"
      done ;;
    data)
      [ -f ".$value/PG_VERSION" ] && printf 'D\tkept\n' ;;
    address)
      held=$(ip -o address show 2>/dev/null | grep -cF " $value/")
      [ "${held:-0}" = 0 ] || printf 'A\t%s\n' "$value" ;;
  esac
done
home=./var/lib/pgbaton
if [ -f $home/manifest.json ]; then
  printf 'M\t%s\n' "$(base64 -w0 < $home/manifest.json)"
  files="$files$(sed -n 's|^  "\(/[^"]*\)": .*|.\1|p' $home/manifest.json)
"
  units="$units $(sed -n 's|^  "\([^/":]*\)",\{0,1\}$|\1|p' $home/manifest.json | tr '\n' ' ')"
fi
[ -f $home/pending.json ] && printf 'W\t%s\n' "$(base64 -w0 < $home/pending.json)"
printf '%s' "$files" | sort -u | xargs -r -d '\n' stat -L --printf='F\t%n\t%a\t%U\t%G\n' 2>/dev/null
printf '%s' "$files" | sort -u | xargs -r -d '\n' sha256sum 2>/dev/null | sed 's/^\([0-9a-f]*\)  /H\t\1\t/'
[ -z "$packages" ] || dpkg-query -W -f 'P\t${Package}\t${db:Status-Status}\n' $packages 2>/dev/null
set -- $units
if [ $# -gt 0 ]; then
  printf 'N\t%s\n' "$@"
  systemctl show -p %(properties)s "$@" | awk 'BEGIN { RS = "" } { gsub("\n", " "); print "U\t" $0 }'
fi
exit 0
""".replace("%(properties)s", UNIT_PROPERTIES)


@dataclass(frozen=True)
class FileFacts:
    """A file on a host, without its content; ``access`` is "mode owner group"."""

    digest: str
    access: str


@dataclass(frozen=True)
class UnitFacts:
    """A unit as systemd has it."""

    load: str = "not-found"
    active: str = "inactive"
    enablement: str = ""
    needs_reload: bool = False

    @property
    def running(self) -> bool:
        """Tell whether it is up, or on its way there."""
        return self.active in {"active", "reloading"}

    @property
    def enabled(self) -> bool:
        """Tell whether it comes up with the machine."""
        return self.enablement in ENABLED

    @property
    def masked(self) -> bool:
        """Tell whether it cannot be started."""
        return self.enablement.startswith("masked") or self.load == "masked"


@dataclass(frozen=True)
class Manifest:
    """What pgbaton wrote on a host earlier: files by path with their SHA-256, and units."""

    cluster: str
    files: dict[str, str] = field(default_factory=dict)
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """What is on a host. ``server`` is "primary", "standby", or empty where no server answers.

    ``links`` has the symbolic links in its data directory, and where they lead: WAL and tablespaces elsewhere.
    ``addresses`` are those of the ones asked for that it has, and ``holds_vip`` tells whether a VIP is among them.
    ``waiting`` has by unit what changed files ask for and an interrupted apply has not done. ``has_data``: a server's
    data are there, where that was asked.
    """

    host: str
    packages: frozenset[str] = frozenset()
    files: dict[str, FileFacts] = field(default_factory=dict)
    units: dict[str, UnitFacts] = field(default_factory=dict)
    manifest: Manifest | None = None
    waiting: dict[str, str] = field(default_factory=dict)
    server: str = ""
    holds_vip: bool = False
    addresses: frozenset[str] = frozenset()
    links: dict[str, str] = field(default_factory=dict)
    has_data: bool = False

    def unit(self, name: str) -> UnitFacts:
        """Return a unit's facts; one that systemd does not know is not found."""
        return self.units.get(name, UnitFacts())


def questions(
    blueprint: HostBlueprint,
    *,
    server_port: int | None = None,
    data: str | None = None,
    kept: str | None = None,
    vips: Iterable[str] = (),
    addresses: Iterable[str] = (),
) -> str:
    """Return what to ask a host about; what its own manifest names is looked at as well.

    ``server_port`` and ``data``, its data directory, are of a database host's server; ``kept`` is that directory where
    it is asked whether there are data. ``vips`` and ``addresses`` are looked for on its interfaces.
    """
    lines = [f"package {package}" for package in blueprint.packages]
    lines += [f"file {file.path}" for file in blueprint.files]
    lines += [f"unit {unit.name}" for unit in blueprint.units]
    lines += [f"server {server_port}"] if server_port else []
    lines += [f"links {data}"] if data else []
    lines += [f"data {kept}"] if kept else []
    lines += [f"data {data}"] if data else []
    lines += [f"address {address}" for address in (*vips, *addresses)]
    return "".join(f"{line}\n" for line in lines)


async def take(host: Host, asked: str, *, vips: Collection[str] = ()) -> Inventory:
    """Look at a host; raises UnreachableError or CommandError when that is not possible."""
    result = await host.run("sh", "-c", LOOK, "sh", "/", input=asked, timeout=60)
    return parse(host.name, result.stdout, vips=vips)


def parse(host: str, output: str, *, vips: Collection[str] = ()) -> Inventory:
    """Read what the LOOK script printed; ``vips`` tells which of the addresses asked for are VIPs."""
    rows: dict[str, list[list[str]]] = {letter: [] for letter in "ADFHLMNPSUW"}
    for line in output.splitlines():
        letter, *values = line.split("\t")
        rows.setdefault(letter, []).append(values)
    addresses = frozenset(address for (address,) in rows["A"])
    digests = {path.removeprefix("."): digest for digest, path in rows["H"]}
    return Inventory(
        host,
        packages=frozenset(name for name, status in rows["P"] if status == "installed"),
        files={
            path.removeprefix("."): FileFacts(digests.get(path.removeprefix("."), "unreadable"), access(*rest))
            for path, *rest in rows["F"]
        },
        units={name: parse_unit(text) for (name,), (text,) in zip(rows["N"], rows["U"], strict=True)},
        manifest=parse_manifest(host, rows["M"][0][0]) if rows["M"] else None,
        waiting=dict(decode(host, rows["W"][0][0])) if rows["W"] else {},
        server={"f": "primary", "t": "standby"}.get(rows["S"][0][0], "") if rows["S"] else "",
        links={path.removeprefix("."): target for path, target in rows["L"]},
        holds_vip=not addresses.isdisjoint(vips),
        addresses=addresses,
        has_data=bool(rows["D"]),
    )


def access(mode: str | int, owner: str, group: str) -> str:
    """Return mode, owner and group as one text; the mode is octal."""
    octal = int(mode, 8) if isinstance(mode, str) else mode
    return f"{octal:04o} {owner} {group}"


def parse_unit(text: str) -> UnitFacts:
    """Read the properties of one unit."""
    found = dict(word.split("=", 1) for word in text.split() if "=" in word)
    return UnitFacts(
        found.get("LoadState", "not-found"),
        found.get("ActiveState", "inactive"),
        found.get("UnitFileState", ""),
        found.get("NeedDaemonReload") == "yes",
    )


def parse_manifest(host: str, encoded: str) -> Manifest:
    """Read a manifest."""
    data = decode(host, encoded)
    return Manifest(str(data.get("cluster", "")), dict(data.get("files", {})), tuple(data.get("units", ())))


def decode(host: str, encoded: str) -> dict[str, Any]:
    """Read a JSON object in base64; raises Error when a file of ours was damaged."""
    try:
        data = json.loads(base64.b64decode(encoded))
    except ValueError:
        data = None
    if not isinstance(data, dict):
        message = f"a file in {HOME} is not what pgbaton wrote there"
        raise Error(message, where=host, hint=f"move {HOME}/manifest.json and pending.json away, then plan again")
    return data
