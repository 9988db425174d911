"""What database hosts have to offer, before anything is promised: extensions and locales that a topology wants.

A standby replays what the primary did, and may be primary itself one day: every database host needs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.deploy.databases import plain_locale
from pgbaton.deploy.gate import together
from pgbaton.errors import RefusedError
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import Topology

# Argument: PostgreSQL's major version. Without its directory nothing is printed of extensions.
LOOK = r"""
cd "/usr/share/postgresql/$1/extension" 2>/dev/null && for file in *.control; do echo "extension ${file%.control}"; done
locale -a 2>/dev/null | sed 's/^/locale /'
exit 0
"""

#: What comes with Debian's package of the server, in both supported versions.
BUNDLED = frozenset(
    [
        "amcheck",
        "autoinc",
        "bloom",
        "btree_gin",
        "btree_gist",
        "citext",
        "cube",
        "dblink",
        "dict_int",
        "dict_xsyn",
        "earthdistance",
        "file_fdw",
        "fuzzystrmatch",
        "hstore",
        "insert_username",
        "intagg",
        "intarray",
        "isn",
        "lo",
        "ltree",
        "moddatetime",
        "pageinspect",
        "pg_buffercache",
        "pg_freespacemap",
        "pg_prewarm",
        "pg_stat_statements",
        "pg_surgery",
        "pg_trgm",
        "pg_visibility",
        "pg_walinspect",
        "pgcrypto",
        "pgrowlocks",
        "pgstattuple",
        "plpgsql",
        "postgres_fdw",
        "refint",
        "seg",
        "sslinfo",
        "tablefunc",
        "tcn",
        "tsm_system_rows",
        "tsm_system_time",
        "unaccent",
        "uuid-ossp",
        "xml2",
    ]
)
#: Locales that the C library has without being told.
BUILT_IN = frozenset({"C", "POSIX", "C.UTF-8"})


@dataclass(frozen=True)
class Offer:
    """What a host has; ``extensions`` are those of the package where there is no server yet."""

    host: str
    extensions: frozenset[str]
    locales: frozenset[str]


async def check(topology: Topology, hosts: Mapping[str, Host]) -> None:
    """Raise RefusedError when a database host lacks an extension or a locale; ask nobody where none is wanted."""
    if not any(True for _ in wishes(topology)):
        return
    names = [host.name for host in topology.with_role(Role.DATABASE)]
    version = str(topology.postgresql.version)
    said = await together(*(hosts[name].run("sh", "-c", LOOK, "sh", version) for name in names))
    offers = [parse(name, result.stdout) for name, result in zip(names, said, strict=True)]
    if missing := tuple(objections(topology, offers)):
        message = "\n  ".join(["not every database host has what the topology wants; nothing was changed:", *missing])
        hint = "install what is missing on every database host, or take it out of the topology, then run this again"
        raise RefusedError(message, hint=hint)


def wishes(topology: Topology) -> Iterator[tuple[str, str, str]]:
    """Yield what every database host must have: kind, name, and for which database."""
    for database in topology.databases:
        yield from (("extension", name, database.name) for name in database.extensions)
        if database.locale and database.locale not in BUILT_IN:
            yield "locale", database.locale, database.name


def parse(host: str, output: str) -> Offer:
    """Read what the LOOK script printed."""
    found: dict[str, set[str]] = {"extension": set(), "locale": set()}
    for line in output.splitlines():
        kind, _, name = line.partition(" ")
        found[kind].add(name)
    locales = frozenset(map(plain_locale, found["locale"] | BUILT_IN))
    return Offer(host, frozenset(found["extension"]) or BUNDLED, locales)


def objections(topology: Topology, offers: list[Offer]) -> Iterator[str]:
    """Yield what is wanted and not there, and where. Pure."""
    for kind, name, database in wishes(topology):
        without = [offer.host for offer in offers if not has(offer, kind, name)]
        if without:
            yield f"{kind} {name}, wanted in database {database}, is not on {', '.join(without)}"


def has(offer: Offer, kind: str, name: str) -> bool:
    """Tell whether a host offers something."""
    return name in offer.extensions if kind == "extension" else plain_locale(name) in offer.locales
