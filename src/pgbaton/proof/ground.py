"""Where a proof takes place: a lab of its own that comes and goes, or a cluster that is there already."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pgbaton.errors import RefusedError, UnhealthyError
from pgbaton.lab import capabilities, definition, image, lifecycle
from pgbaton.operate.bringup import bring_up
from pgbaton.proof import evidence, underway
from pgbaton.proof.target import Target
from pgbaton.proof.trial import WHOLE_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from pgbaton.lab.recipe import System
    from pgbaton.operate.waiting import Report
    from pgbaton.state import ClusterState
    from pgbaton.topology.model import Topology


#: How long a cluster that exists may take to be whole: a host that is just rejoining does, nothing else mends itself.
STANDING_SECONDS = 30.0


class Ground(Protocol):
    """A cluster to prove things on."""

    @property
    def topology(self) -> Topology:
        """Return the cluster's description."""

    @property
    def machines(self) -> str:
        """Return what the cluster's hosts are, in a few words."""

    @property
    def stays(self) -> bool:
        """Tell whether the cluster is there afterwards."""

    async def prepare(self) -> Target:
        """Return the cluster, whole; raises Error when there is none to be had."""

    async def renew(self) -> Target:
        """Return a cluster that is whole although the one before is not; raises Error when that cannot be."""

    async def leave(self) -> None:
        """Clear away what was made."""


@dataclass(frozen=True)
class OwnLab:
    """A lab that is made for the purpose, and is gone afterwards unless it is to be kept.

    ``purpose`` names the command that makes it, and the file that tells the lab is its own.
    """

    state: ClusterState
    topology: Topology
    system: System
    tell: Report
    purpose: str
    keep: bool = False

    @property
    def machines(self) -> str:
        """Return the operating system of the lab's machines."""
        return f"lab machines, {self.system.name}"

    @property
    def stays(self) -> bool:
        """Tell whether the lab is to be kept."""
        return self.keep

    @property
    def marker(self) -> Path:
        """Return the file that tells that the lab may be taken down by whoever made it."""
        return self.state.directory / self.purpose

    async def prepare(self) -> Target:
        """Make the lab and deploy the cluster; what an interrupted run left is cleared away first."""
        await capabilities.require()
        made = await image.ensure(self.system, report=self.tell)
        await self.take_over()
        return await self._make(made)

    async def take_over(self) -> None:
        """Clear away what a run that was killed left; raises RefusedError for anybody else's cluster."""
        if self.marker.exists():
            self.tell(f"taking down what an interrupted {self.purpose} left")
            await lifecycle.destroy(self.state, report=self.tell)
        elif self.state.exists or self.state.lab_file.exists():
            message = f"a cluster named {self.state.name} exists already, and the {self.purpose} would break it"
            hint = f"pgbaton lab down --cluster {self.state.name}, if it is a lab to be done with; or another name"
            raise RefusedError(message, hint=hint)

    async def renew(self) -> Target:
        """Make the lab anew."""
        self.tell("the cluster is not whole: making the lab anew")
        await lifecycle.destroy(self.state, report=self.tell)
        return await self._make(await image.ensure(self.system, report=self.tell))

    async def leave(self) -> None:
        """Take the lab down, or leave it to its user."""
        if self.keep:
            self.marker.unlink(missing_ok=True)
        elif self.marker.exists():
            await lifecycle.destroy(self.state, report=self.tell)

    async def _make(self, made: image.Image) -> Target:
        self.state.create()
        self.marker.touch()
        topology = definition.on_system(self.topology, self.system)
        topology = await lifecycle.create(self.state, topology, image=made, report=self.tell)
        await bring_up(self.state, topology, report=self.tell)
        target = Target(topology, self.state, self.tell)
        await target.until_whole(seconds=WHOLE_SECONDS)
        return target


@dataclass(frozen=True)
class Standing:
    """A cluster that exists: nothing of it is made or removed."""

    target: Target

    @property
    def topology(self) -> Topology:
        """Return the cluster's description."""
        return self.target.topology

    @property
    def machines(self) -> str:
        """Return whether the hosts are a lab's."""
        return "lab machines" if self.target.state.lab_file.exists() else "the cluster's own machines"

    @property
    def stays(self) -> bool:
        """Tell that the cluster outlives the proof."""
        return True

    async def prepare(self) -> Target:
        """Return the cluster when it is whole, without what a killed run left; raises UnhealthyError otherwise."""
        undone = await underway.undo_left(self.target)
        seconds = WHOLE_SECONDS if undone else STANDING_SECONDS
        try:
            await self.target.until_whole(seconds=seconds, tell=self.target.report)
        except UnhealthyError as error:
            message = f"nothing was done to {self.topology.name}: {error.message}"
            hint = "mend it first: pgbaton status shows what is wrong and what to do"
            raise UnhealthyError(message, hint=hint) from None
        return self.target

    async def renew(self) -> Target:
        """Return the cluster once it is whole after all; raises UnhealthyError: a cluster in use is not made anew."""
        await underway.undo_left(self.target)
        with suppress(UnhealthyError):
            await self.target.until_whole(seconds=WHOLE_SECONDS, tell=self.target.report)
        if (remains := await evidence.remains(self.target)) == ():
            return self.target
        wrong = "; ".join(remains or ("no host answers",))
        message = f"{self.target.topology.name} did not become whole again, so no further trial is made on it: {wrong}"
        raise UnhealthyError(message, hint="pgbaton status shows what is wrong with it")

    async def leave(self) -> None:
        """Leave it as it is."""
