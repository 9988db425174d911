"""Rules about what lives inside the servers: memberships of roles, encodings, extensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning
from pgbaton.topology.rules.hosts import repeated
from pgbaton.topology.rules.managed import PREDEFINED_ROLES, PRELOADED_EXTENSIONS, RESERVED_USERS, STRONG_ROLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgbaton.topology.model import Topology

#: Locales that go with every encoding.
PLAIN_LOCALES = frozenset({"C", "POSIX"})


@rule("users")
def memberships_are_sound(topology: Topology) -> Iterator[Objection]:
    """A user is a member of roles that may be given, once each, and not of itself."""
    members = {user.name: user.roles or () for user in topology.users}
    for index, user in enumerate(topology.users):
        roles = user.roles or ()
        for number, first in repeated(list(roles)):
            yield Objection(("users", index, "roles", number), f"is roles[{first}] too", "list each role once")
        for number, role in enumerate(roles):
            place = ("users", index, "roles", number)
            if role in RESERVED_USERS:
                reason = "is a role of the cluster's own services or of the server: its members could do what they do"
                yield Objection(place, reason, "name another role")
            elif role.startswith("pg_") and role not in PREDEFINED_ROLES:
                fix = f"choose from {', '.join(sorted(PREDEFINED_ROLES))}"
                yield Objection(place, "is none of PostgreSQL's predefined roles", fix)
            elif role in STRONG_ROLES:
                reason = "lets its members read or write files of the hosts, or run programs there: as much as root's"
                yield warning(place, reason, "give it to nobody who logs in over the network")
            elif user.name in _above(role, members):
                yield Objection(place, f"is itself a member of {user.name}: a circle", "take out one of the two")


def _above(role: str, members: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """Return a role and all roles that it is a member of, by way of others too."""
    found: set[str] = set()
    waiting = [role]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += members.get(name, ())
    return frozenset(found)


@rule("databases")
def locales_fit_encodings(topology: Topology) -> Iterator[Objection]:
    """An encoding other than UTF8 comes with a locale that it can have."""
    for index, database in enumerate(topology.databases):
        encoding, locale = database.encoding, database.locale
        if encoding not in {None, "UTF8"} and locale not in PLAIN_LOCALES:
            reason = f"cannot be had with the locale {locale or 'C.UTF-8'}, which is UTF8's"
            yield Objection(("databases", index, "encoding"), reason, 'set locale = "C" as well, or take it out')


@rule("databases", "postgresql")
def extensions_are_loaded(topology: Topology) -> Iterator[Objection]:
    """Extensions are listed once, and those that the server has to load at its start are loaded."""
    loaded = str(topology.postgresql.settings.get("shared_preload_libraries", ""))
    names = {name.strip() for name in loaded.split(",")}
    for index, database in enumerate(topology.databases):
        for number, first in repeated(list(database.extensions)):
            place = ("databases", index, "extensions", number)
            yield Objection(place, f"is extensions[{first}] too", "list each extension once")
        for number, extension in enumerate(database.extensions):
            if extension in PRELOADED_EXTENSIONS and extension not in names:
                reason = "does nothing unless the server loads it at its start"
                libraries = ", ".join(filter(None, (loaded, extension)))
                fix = f'set shared_preload_libraries = "{libraries}" in [postgresql.settings]'
                yield warning(("databases", index, "extensions", number), reason, fix)


RULES: tuple[Rule, ...] = (
    memberships_are_sound,
    locales_fit_encodings,
    extensions_are_loaded,
)
