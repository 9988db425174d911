"""One trial of one system: the same fault, clients, meter and checkers for all of them."""

from __future__ import annotations

from asyncio import gather
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from peer import Peer, PeerTarget

from lab import SYSTEM
from pgbaton import state as states
from pgbaton.errors import Error
from pgbaton.lab import capabilities, image, lifecycle
from pgbaton.proof import checkers, experiment, judgement
from pgbaton.proof.checkers.base import Evidence
from pgbaton.proof.ground import OwnLab
from pgbaton.proof.outage import Span
from pgbaton.proof.trial import Patience

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pgbaton.hosts.base import Host
    from pgbaton.operate.waiting import Report
    from pgbaton.proof.faults.base import Fault, Strike
    from pgbaton.proof.results import TrialResult

#: Far beyond what any of the systems promises, so that a long outage is measured and not cut off; and for how long a
#: cluster that serves its clients may go on to mend itself.
PATIENCE = Patience(recovery_seconds=150.0, whole_seconds=90.0)
SETTING = experiment.Setting(
    workloads=("set",),
    objectives=judgement.Objectives(max_outage_seconds=PATIENCE.recovery_seconds),
    patience=PATIENCE,
)
LOG_SECONDS = 20.0
#: How many lines of a failed switchover's words are told.
TOLD_LINES = 4


@dataclass(frozen=True)
class PeerLab(OwnLab):
    """A lab with a system that is compared."""

    peer: Peer = field(kw_only=True)

    @classmethod
    def of(cls, peer: Peer, cluster: str, tell: Report) -> PeerLab:
        """Return a system's lab, yet to be made."""
        return cls(states.cluster(cluster), peer.topology(cluster), SYSTEM, tell, "comparison", peer=peer)

    async def prepare(self) -> PeerTarget:
        """Make the lab and deploy the system; what an interrupted run left is cleared away first."""
        await capabilities.require()
        await self.take_over()
        made = await image.ensure(self.system, report=self.tell)
        self.state.create()
        self.marker.touch()
        topology = await lifecycle.create(self.state, self.topology, image=made, report=self.tell)
        target = PeerTarget(topology, self.state, self.tell, self.peer)
        await self.peer.deploy(target)
        await target.until_whole(seconds=PATIENCE.whole_seconds)
        return target

    async def renew(self) -> PeerTarget:
        """Make the lab anew."""
        self.tell("the cluster is not whole: making the lab anew")
        return await self.prepare()


@dataclass(frozen=True)
class Entry:
    """A trial's result, and what an operator had to do by hand to make the cluster whole again."""

    system: str
    round: int
    result: TrialResult
    by_hand: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Tell whether the cluster is fit for another trial."""
        return self.result.whole_again_seconds is not None


@dataclass
class Course:
    """What happens in a trial beyond the fault itself: what an operator does by hand, and what fails in doing so."""

    target: PeerTarget
    by_hand: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def adapted(self, fault: Fault) -> Fault:
        """Return a fault as the system needs it: switchovers are its own, and so is what operators mend."""

        async def heal(strike: Strike) -> None:
            await fault.heal(strike)
            await self._repair(strike)

        return replace(fault, heal=heal, inject=self._switch_over if fault.name == "switchover" else fault.inject)

    async def _switch_over(self, strike: Strike) -> None:
        """Switch over; one that fails is a result, and what clients see of it is measured."""
        try:
            await self.target.peer.switch_over(self.target, strike.before)
        except Error as error:
            said = "; ".join(error.message.splitlines()[-TOLD_LINES:])
            self.failed.append(f"the switchover failed: {said}")

    async def _repair(self, strike: Strike) -> None:
        """Do an operator's part; an attempt that fails is told of, and the cluster then does not become whole."""
        try:
            done = await self.target.peer.repair(self.target, strike.hosts)
        except Error as error:
            self.failed.append(f"could not be mended: {error.message}")
        else:
            self.by_hand.extend([done] if done else [])


async def one(target: PeerTarget, fault: Fault, *, number: int, seed: int, folder: Path) -> Entry:
    """Make one trial; one that comes to no end is a result as well: nothing is known."""
    course, began_at = Course(target), datetime.now(UTC).isoformat(timespec="seconds")
    try:
        result = await observed(target, course.adapted(fault), seed=seed, folder=folder)
    except Error as error:
        result = judgement.failed(fault, seed, f"the trial came to no end: {error}", began_at=began_at)
    remarks = (*course.failed, *result.remarks)
    return Entry(target.peer.name, number, replace(result, folder=folder.name, remarks=remarks), tuple(course.by_hand))


async def observed(target: PeerTarget, fault: Fault, *, seed: int, folder: Path) -> TrialResult:
    """Let clients see a trial, read what is left, and have the checkers judge it."""
    seen = await experiment.observe(target, SETTING, fault, seed=seed, folder=folder)
    done = seen.trial
    gathered = Evidence(
        topology=target.topology,
        history=seen.history,
        window=done.window,
        fault=Span(done.injected, done.healed),
        finals=await experiment.read_finals(target, SETTING),
        holdings=seen.holdings if target.topology.network.vip else None,
        remains=done.remains,
    )
    checks = checkers.check(gathered)
    result = judgement.judge(done, seen.history, checks, seed=seed, objectives=SETTING.objectives, predictions={})
    since = done.begin + seen.history.wall_offset_seconds
    experiment.keep(folder, target, seen, await logs(target, since))
    return result


async def logs(target: PeerTarget, since: float) -> Mapping[str, str]:
    """Return all machines' journals since a wall clock time."""
    hosts = target.hosts
    texts = await gather(*(journal(host, since) for host in hosts.values()))
    return dict(zip(hosts, texts, strict=True))


async def journal(host: Host, since: float) -> str:
    """Return one machine's journal, of all units: every system has its own."""
    options = ("-q", "--no-pager", "-o", "short-iso-precise", f"--since=@{since:.6f}")
    try:
        return (await host.run("journalctl", *options, timeout=LOG_SECONDS)).stdout
    except Error as error:
        return f"no journal: {error}\n"
