"""What an acknowledged write survives, in each replication mode."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pgbaton.topology.model import ReplicationMode

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology


@dataclass(frozen=True)
class Durability:
    """A promise: what the server's acknowledgement of a commit means, and where it ends."""

    mode: ReplicationMode
    acknowledged: str
    survives: str
    lost: str
    alone: str

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def durability(topology: Topology) -> Durability:
    """Return what the topology's own mode promises."""
    made = promise(topology.replication.mode, topology.replication.count)
    if topology.is_manual and topology.replication.mode in {ReplicationMode.SYNCHRONOUS, ReplicationMode.QUORUM}:
        return replace(made, alone="writes wait until one is back, or a person detaches it: then they go on alone")
    return made


def promise(mode: ReplicationMode, count: int) -> Durability:
    """Return what a mode promises when ``count`` standbys confirm."""
    if mode == ReplicationMode.ASYNCHRONOUS:
        return Durability(
            mode,
            acknowledged="on the primary's disk",
            survives="a restart of the primary in place, and any loss of standbys",
            lost="whatever no standby had received when the primary failed",
            alone="writes go on",
        )
    confirmers = "the synchronous standby" if count == 1 else f"{count} synchronous standbys"
    among = f"any {count} of the standbys" if mode == ReplicationMode.QUORUM else confirmers
    alone = {
        ReplicationMode.STRICT: "writes wait until one is back",
        ReplicationMode.SYNCHRONOUS: "the primary goes on alone: what it then acknowledges is on one host",
        ReplicationMode.QUORUM: "the primary goes on alone: what it then acknowledges is on one host",
    }
    return Durability(
        mode,
        acknowledged=f"on the disks of the primary and of {among}",
        survives=f"the loss for good of any {'host' if count == 1 else f'{count} hosts'}",
        lost=f"only when the primary and all {count} that confirmed are lost for good"
        if count > 1
        else "only when the primary and the standby that confirmed are lost for good",
        alone=alone[mode],
    )
