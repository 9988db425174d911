"""Rules about the servers' directories: of data, of WAL, of tablespaces."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule
from pgbaton.topology.rules.naming import named_apart, owned_by_users

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.topology.lines import Path
    from pgbaton.topology.model import Topology

_DIRECTORY = re.compile(r"^(/[A-Za-z0-9][A-Za-z0-9._-]*){2,}$")
#: Directories that are other programs' or too high up to be emptied and cloned into.
_NOT_BELOW = re.compile(r"^/(bin|boot|dev|etc|home|lib|proc|root|run|sbin|sys|tmp|usr|var/tmp)/")
_TOO_HIGH = ("/var/lib", "/var/lib/postgresql", "/var/log", "/var/cache")
#: /srv/wal/main: the directory above the last one becomes the server's own, and /srv is not its to have.
_FEWEST_WAL_NAMES = 3
DATA: Path = ("postgresql", "data_directory")
WAL: Path = ("postgresql", "wal_directory")


def unfit(directory: str) -> str | None:
    """Return why a directory cannot be a server's, of whatever kind; None when it can."""
    if not _DIRECTORY.match(directory) or ".." in PurePosixPath(directory).parts:
        return "is no absolute path of two or more plain names: no dots that lead up, no blanks, no / at the end"
    if directory in _TOO_HIGH or _NOT_BELOW.match(directory):
        return "belongs to the system or to other clusters: cloning a standby empties it"
    return None


@rule("postgresql")
def data_directory_is_its_own(topology: Topology) -> Iterator[Objection]:
    """The data directory is absolute, plain, and nobody else's."""
    directory = topology.postgresql.data_directory
    if directory is not None and (reason := unfit(directory)):
        fix = "write an absolute path of its own, as /srv/postgresql/17/main, or take it out"
        yield Objection(DATA, reason, fix)


@rule("postgresql")
def wal_directory_is_its_own(topology: Topology) -> Iterator[Objection]:
    """The directory of WAL is absolute, plain, and in another that can become the server's own."""
    directory = topology.postgresql.wal_directory
    if directory is None:
        return
    fix = "write an absolute path of three names or more, as /srv/wal/main, or take it out"
    if reason := unfit(directory):
        yield Objection(WAL, reason, fix)
    elif len(PurePosixPath(directory).parts) <= _FEWEST_WAL_NAMES:
        above = PurePosixPath(directory).parent
        reason = f"would make {above} the server's own: a clone removes the directory of WAL, and makes it anew"
        yield Objection(WAL, reason, fix)


@rule("tablespaces")
def tablespaces_are_directories(topology: Topology) -> Iterator[Objection]:
    """Every tablespace's location is absolute, plain, and nobody else's."""
    for index, tablespace in enumerate(topology.tablespaces):
        if reason := unfit(tablespace.location):
            fix = "write an absolute path of its own, as /srv/fast/orders"
            yield Objection(("tablespaces", index, "location"), reason, fix)


@rule("postgresql", "tablespaces", "cluster")
def directories_are_apart(topology: Topology) -> Iterator[Objection]:
    """No directory of the servers is another one's, or in another one."""
    places: list[tuple[Path, str]] = [(DATA, topology.data_directory)]
    if topology.postgresql.wal_directory:
        places.append((WAL, topology.postgresql.wal_directory))
    places += [
        (("tablespaces", index, "location"), tablespace.location)
        for index, tablespace in enumerate(topology.tablespaces)
    ]
    for number, (place, directory) in enumerate(places):
        for other, earlier in places[:number]:
            if reason := overlap(directory, earlier):
                fix = "give each a directory of its own, beside the others"
                yield Objection(place, f"{reason} {named(other)}, {earlier}", fix)
                break


def overlap(directory: str, other: str) -> str | None:
    """Return how two directories overlap, in words that the other's name follows; None when they do not."""
    if directory == other:
        return "is the same as"
    if PurePosixPath(directory).is_relative_to(other):
        return "is inside"
    return "holds" if PurePosixPath(other).is_relative_to(directory) else None


def named(place: Path) -> str:
    """Return a directory's place in words."""
    table, *rest = place
    return f"that of {table}[{rest[0]}]" if table == "tablespaces" else f"postgresql.{rest[0]}"


@rule("tablespaces")
def tablespaces_differ(topology: Topology) -> Iterator[Objection]:
    """Every tablespace has a name of its own, that PostgreSQL does not keep for itself."""
    names = [tablespace.name for tablespace in topology.tablespaces]
    why = "PostgreSQL's own tablespaces begin with pg_"
    yield from named_apart("tablespaces", names, is_reserved=lambda name: name.startswith("pg_"), why=why)


@rule("users", "tablespaces")
def tablespace_owners_exist(topology: Topology) -> Iterator[Objection]:
    """Every tablespace's owner is one of the users."""
    yield from owned_by_users("tablespaces", (tablespace.owner for tablespace in topology.tablespaces), topology)


RULES: tuple[Rule, ...] = (
    data_directory_is_its_own,
    wal_directory_is_its_own,
    tablespaces_are_directories,
    directories_are_apart,
    tablespaces_differ,
    tablespace_owners_exist,
)
