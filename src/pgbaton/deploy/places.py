"""What of a running server no other topology can change: where its WAL and tablespaces are, its files' size. Pure.

Servers may write to the directories that the topology names, and to no others: one that uses a place which the topology
has no longer would stop at its next write there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.components import postgres
from pgbaton.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pgbaton.deploy.inventory import Inventory
    from pgbaton.deploy.objects import Current, Desired
    from pgbaton.topology.model import Topology

WAL_LINK = "/pg_wal"


def refuse_moves(topology: Topology, inventories: Iterable[Inventory]) -> None:
    """Raise RefusedError when a server uses a place that it could not write to any more."""
    allowed = postgres.writable(topology)
    for found in inventories:
        for link, target in found.links.items():
            if not postgres.is_below(target, allowed):
                raise stranded(found.host, link, target)


def stranded(host: str, link: str, target: str) -> RefusedError:
    """Return the refusal of a place that a server uses and the topology has no longer."""
    if link.endswith(WAL_LINK):
        place = f"its WAL is in {target}, which is not below the topology's directory of WAL"
        hint = f'keep wal_directory = "{target}"; for another disk, mount that one there, a standby at a time'
    else:
        place = f"a tablespace is in {target}, and the topology has none there"
        hint = "put it back into the topology; or move its tables, DROP TABLESPACE, and apply then"
    message = f"{place}: its server could not write there any more"
    return RefusedError(message, where=host, hint=hint)


def refuse_other_locations(wanted: Desired, current: Current) -> None:
    """Raise RefusedError when a tablespace is elsewhere than the topology says: PostgreSQL cannot move one."""
    for tablespace in wanted.tablespaces:
        _, location = current.tablespaces.get(tablespace.name, ("", tablespace.location))
        if location != tablespace.location:
            message = f"tablespace {tablespace.name} is in {location}, and the topology says {tablespace.location}"
            hint = (
                f'keep location = "{location}"; to move its tables, add a tablespace of another name, ALTER TABLE … '
                "SET TABLESPACE, DROP TABLESPACE, and take it out then"
            )
            raise RefusedError(message, hint=hint)


def refuse_other_segments(wanted: Desired, current: Current) -> None:
    """Raise RefusedError when files of WAL have another size than the topology says: it is for ever."""
    there, asked = current.wal_segment_size_mb, wanted.wal_segment_size_mb
    if None not in {there, asked} and there != asked:
        message = f"files of WAL are of {there} MiB here, and the topology says {asked}"
        hint = f"keep postgresql.wal_segment_size_mb = {there}; only a new cluster, with a dump restored, has others"
        raise RefusedError(message, hint=hint)


def refuse_other_data(before: Topology | None, wanted: Topology) -> None:
    """Raise RefusedError when the data directory changes and others do not: a clone would find those in use."""
    if before is None or before.data_directory == wanted.data_directory:
        return
    kept = sorted(set(before.directories) & set(wanted.directories))
    if kept:
        message = (
            f"postgresql.data_directory changes from {before.data_directory} to {wanted.data_directory}, where servers "
            f"are cloned anew, and {', '.join(kept)} would still be full of what there was before"
        )
        raise RefusedError(
            message, hint=f'keep data_directory = "{before.data_directory}", or mount another disk there'
        )


def notes(topology: Topology, inventories: Mapping[str, Inventory]) -> Iterator[str]:
    """Yield whose WAL is not where the topology wants it: only a clone can bring it there."""
    wal = topology.postgresql.wal_directory
    link = f"{topology.data_directory}{WAL_LINK}"
    if wal is None:
        return
    for name, found in inventories.items():
        if found.server and found.links.get(link) != wal:
            yield f"WAL of {name} stays in {found.links.get(link, link)} until it is cloned anew: pgbaton reinit {name}"
