"""One trial of one system: the same fault, clients, meter and checkers for all of them."""

from __future__ import annotations

from asyncio import gather
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from peer import Peer, PeerTarget

from lab import SYSTEM
from pgbaton import state as states
from pgbaton.errors import Error, UnhealthyError
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

#: Far beyond what any of the systems promises, so that a long outage is measured and not cut off.
PATIENCE = Patience(recovery_seconds=240.0, whole_seconds=240.0)
SETTING = experiment.Setting(
    workloads=("set",),
    objectives=judgement.Objectives(max_outage_seconds=PATIENCE.recovery_seconds),
    patience=PATIENCE,
)
LOG_SECONDS = 20.0


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


async def one(target: PeerTarget, fault: Fault, *, number: int, folder: Path) -> Entry:
    """Make one trial; one that comes to no end is a result as well: nothing is known."""
    by_hand: list[str] = []
    try:
        result = await observed(target, adapted(target, fault, by_hand), seed=number, folder=folder)
    except Error as error:
        result = judgement.failed(fault, number, f"the trial came to no end: {error}")
    return Entry(target.peer.name, number, replace(result, folder=folder.name), tuple(by_hand))


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
        remains=done.remains,
    )
    checks = checkers.check(gathered)
    result = judgement.judge(done, seen.history, checks, seed=seed, objectives=SETTING.objectives, predictions={})
    since = done.begin + seen.history.wall_offset_seconds
    experiment.keep(folder, target, seen, await logs(target, since))
    return result


def adapted(target: PeerTarget, fault: Fault, by_hand: list[str]) -> Fault:
    """Return a fault as the system needs it: switchovers are its own, and so is what operators mend."""

    async def switch_over(strike: Strike) -> None:
        await target.peer.switch_over(target, strike.before)

    async def heal(strike: Strike) -> None:
        await fault.heal(strike)
        try:
            done = await target.peer.repair(target, strike.hosts)
        except UnhealthyError as error:
            done = f"nothing could be mended: {error.message}"
        if done:
            by_hand.append(done)

    return replace(fault, heal=heal, inject=switch_over if fault.name == "switchover" else fault.inject)


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
