"""What rules ask of every table whose entries have names and owners."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.hosts import repeated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pgbaton.topology.model import Topology


def named_apart(
    table: str, names: Sequence[str], *, is_reserved: Callable[[str], bool], why: str
) -> Iterator[Objection]:
    """Object to names of a table's entries that stand there twice, and to those that are reserved, and why."""
    for index, first in repeated(list(names)):
        reason = f"is the name of {table}[{first}] too"
        yield Objection((table, index, "name"), reason, f"list each {table.removesuffix('s')} once")
    for index, name in enumerate(names):
        if is_reserved(name):
            yield Objection((table, index, "name"), f"is reserved: {why}", "choose another name")


def owned_by_users(table: str, owners: Iterable[str], topology: Topology) -> Iterator[Objection]:
    """Object to owners of a table's entries who are none of the users."""
    users = [user.name for user in topology.users]
    for index, owner in enumerate(owners):
        if owner not in users:
            reason = f"is none of the users: {', '.join(users)}"
            fix = f'add a [[users]] table with name = "{owner}", or name one that is there'
            yield Objection((table, index, "owner"), reason, fix)
