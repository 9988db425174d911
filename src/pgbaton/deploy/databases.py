"""Databases inside the cluster: what is wanted, what is there, what would have to be said to the server. Pure.

Owner and connection limit follow the topology. Encoding and locale are settled when a database is made: another one
later is refused, since only a dump and a restore could give it. Extensions are made, and never dropped: with one goes
all that was made of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.components.postgres import DatabaseSpec

NO_LIMIT = -1


@dataclass(frozen=True)
class DatabaseNow:
    """A database as it is; ``extensions`` is None where nobody could look inside."""

    owner: str
    connection_limit: int = NO_LIMIT
    encoding: str = "UTF8"
    locale: str = "C.UTF-8"
    extensions: tuple[str, ...] | None = None


def created(wanted: DatabaseSpec) -> str:
    """Return a database that will be made as it is shown."""
    settled = f" ENCODING {wanted.encoding}" if wanted.encoding else ""
    settled += f" LOCALE {wanted.locale}" if wanted.locale else ""
    return described(wanted.owner, wanted.connection_limit) + settled


def described(owner: str, connection_limit: int) -> str:
    """Return what may change of a database as it is shown."""
    return f"OWNER {owner}" + (f" CONNECTION LIMIT {connection_limit}" if connection_limit != NO_LIMIT else "")


def difference(wanted: DatabaseSpec, now: DatabaseNow) -> tuple[str, str] | None:
    """Return a database before and after a change; None where nothing is to change."""
    before = described(now.owner, now.connection_limit)
    after = described(wanted.owner, wanted.connection_limit)
    return None if before == after else (before, after)


def lacking(wanted: DatabaseSpec, now: DatabaseNow | None) -> tuple[str, ...]:
    """Return the extensions that a database does not have yet."""
    there = now.extensions or () if now else ()
    return tuple(name for name in wanted.extensions if name not in there)


def objections(wanted: DatabaseSpec, now: DatabaseNow) -> Iterator[str]:
    """Yield what is wanted of a database that is there and can no longer be had."""
    if wanted.encoding and wanted.encoding != now.encoding:
        yield f"database {wanted.name} has the encoding {now.encoding}, and the topology says {wanted.encoding}"
    if wanted.locale and plain_locale(wanted.locale) != plain_locale(now.locale):
        yield f"database {wanted.name} has the locale {now.locale}, and the topology says {wanted.locale}"


def plain_locale(name: str) -> str:
    """Return a locale's name in the one form in which it is compared: de_DE.UTF-8 and de_DE.utf8 are the same."""
    language, dot, codeset = name.partition(".")
    return language + dot + re.sub(r"[^a-z0-9@]", "", codeset.lower())


def create_sql(wanted: DatabaseSpec) -> str:
    """Return the statement that makes a database."""
    words = f"CREATE DATABASE {quoted(wanted.name)} OWNER {quoted(wanted.owner)}"
    if wanted.encoding or wanted.locale:
        # Only the empty template can be copied into another encoding or locale than its own.
        words += " TEMPLATE template0"
        words += f" ENCODING '{wanted.encoding}'" if wanted.encoding else ""
        words += f" LOCALE '{wanted.locale}'" if wanted.locale else ""
    if wanted.connection_limit != NO_LIMIT:
        words += f" CONNECTION LIMIT {wanted.connection_limit}"
    return f"{words};\n"


def change_sql(wanted: DatabaseSpec) -> str:
    """Return the statements that make a database what it should be."""
    name = quoted(wanted.name)
    limit = f"ALTER DATABASE {name} CONNECTION LIMIT {wanted.connection_limit};\n"
    return f"ALTER DATABASE {name} OWNER TO {quoted(wanted.owner)};\n{limit}"


def extension_sql(name: str) -> str:
    """Return the statement that makes an extension, with those that it needs, in the database of the session."""
    return f"CREATE EXTENSION IF NOT EXISTS {quoted(name)} CASCADE;\n"


def quoted(name: str) -> str:
    """Return an identifier in quotes."""
    return '"' + name.replace('"', '""') + '"'
