#!/usr/bin/env python3
"""Compare pgbaton with its peers: the same faults, clients, meter and checkers, in the same lab, in one run.

Run as root from a checkout: ``sudo .venv/bin/python benchmarks/peers/compare.py [--trials 3] [--write]``. Each round
takes every system in turn, so that all of them see the same machine's weather; with ``--repeat`` it strikes each fault
several times, which saves making labs. The page goes to standard output, and
with ``--write NAME`` to NAME.md and NAME.json beside this program. What takes too long for one sitting is done in
several: ``--continue NAME.json`` adds rounds to those that are there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patroni import PatroniAgents, PatroniDefaults, PatroniFloor, PatroniSynchronous
from pg_auto_failover import PgAutoFailover
from repmgr import Repmgr
from tables import page
from trials import Entry, PeerLab, one

from pgbaton.errors import Error
from pgbaton.proof import faults, store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from peer import Peer, PeerTarget

    from pgbaton.proof.faults.base import Fault
    from pgbaton.proof.store import StoredRun

HERE = Path(__file__).parent
PEERS: tuple[Peer, ...] = (
    PatroniAgents(),
    PatroniFloor(),
    PatroniDefaults(),
    PatroniSynchronous(),
    PgAutoFailover(),
    Repmgr(),
)
FAULTS = ("postmaster-killed", "primary-power-off", "switchover", "standby-power-off")
CLUSTER = "peers"
#: From one fault's seed to the next in a round; rounds are fewer.
SEEDS = 1000
#: Whose versions are told, beside PostgreSQL's.
PROGRAMS = ("patroni", "pg-auto-failover-cli", "repmgr-common")


#: What the processors' speed is told by: so many additions in Python.
ADDITIONS = 1_000_000


def loop_milliseconds() -> float:
    """Return how long a loop of ADDITIONS takes now, the best of three: processors are not always as fast."""
    taken = []
    for _ in range(3):
        begin, total = time.perf_counter(), 0
        for number in range(ADDITIONS):
            total += number
        taken.append(time.perf_counter() - begin)
    return round(min(taken) * 1000, 1)


def tell(text: str) -> None:
    """Report progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


@dataclass
class Comparison:
    """A comparison under way."""

    peers: Sequence[Peer]
    faults: Sequence[Fault]
    cluster: str
    stored: StoredRun
    repeat: int = 1
    began: float = field(default_factory=time.monotonic)
    began_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    entries: list[Entry] = field(default_factory=list)
    not_run: list[dict[str, Any]] = field(default_factory=list)
    earlier: Mapping[str, Any] = field(default_factory=lambda: {"trials": [], "not_run": [], "total_seconds": 0})
    versions: dict[str, str] = field(default_factory=dict)
    loops: list[float] = field(default_factory=list)

    async def run(self, trials: int) -> None:
        """Make all rounds; each begins with another system, so that none always follows the same one."""
        done = max((trial["round"] for trial in self.earlier["trials"]), default=0)
        for number in range(done + 1, done + trials + 1):
            shift = (number - 1) % len(self.peers)
            for peer in (*self.peers[shift:], *self.peers[:shift]):
                tell(f"round {number} of {done + trials}: {peer.title}")
                try:
                    await self._round(peer, number)
                except Error as error:
                    tell(f"{peer.name}: {error}")
                    self.not_run.append({"system": peer.name, "round": number, "reason": error.message})

    async def _round(self, peer: Peer, number: int) -> None:
        lab = PeerLab.of(peer, self.cluster, tell)
        self.loops.append(loop_milliseconds())
        try:
            target = await lab.prepare()
            self.versions.update(await versions(target))
            struck = [fault for _ in range(self.repeat) for fault in self.faults]
            for left, fault in zip(range(len(struck))[::-1], struck, strict=True):
                tell(f"{peer.name}: {fault.title.lower()}")
                folder = self.stored.begin_trial(f"{peer.name}-{fault.name}")
                seed = number + left * SEEDS
                entry = await one(target, fault, number=number, seed=seed, folder=folder)
                self._note(entry)
                if not entry.whole and left:
                    target = await lab.renew()
        finally:
            await lab.leave()

    def _note(self, entry: Entry) -> None:
        result = entry.result
        tell(
            f"{entry.system}: no writes for {result.write_outage_seconds:.2f} s, {result.lost} lost, "
            f"{result.errors} errors"
        )
        self.entries.append(entry)
        store.write(self.stored.path, "comparison.json", self.data())

    def data(self) -> dict[str, Any]:
        """Return everything that is known as JSON can carry it."""
        trials = [
            {"system": each.system, "round": each.round, "by_hand": list(each.by_hand), **each.result.to_dict()}
            for each in self.entries
        ]
        return {
            "began_at": self.earlier.get("began_at", self.began_at),
            "machine": f"{os.cpu_count()} cores, Linux {platform.release()}",
            "loop_milliseconds": [*self.earlier.get("loop_milliseconds", ()), *self.loops],
            "postgresql": self.versions.get("postgresql-17", "unknown"),
            "total_seconds": self.earlier["total_seconds"] + round(time.monotonic() - self.began),
            "systems": {**self.earlier.get("systems", {}), **{peer.name: self._described(peer) for peer in self.peers}},
            "trials": [*self.earlier["trials"], *trials],
            "not_run": [*self.earlier["not_run"], *self.not_run],
        }

    def _described(self, peer: Peer) -> dict[str, Any]:
        return {
            "title": peer.title,
            "version": self.versions.get(peer.package, "unknown"),
            "durability": peer.durability,
            "path": peer.path,
            "documentation": peer.documentation,
        }


async def versions(target: PeerTarget) -> dict[str, str]:
    """Return the versions of the programs on the first database machine, by package."""
    asked = ("dpkg-query", "-W", "-f", "${Package} ${Version}\n", "postgresql-17", *PROGRAMS)
    listing = (await target.hosts[next(iter(target.addresses))].run(*asked)).stdout
    return dict(line.split() for line in listing.splitlines())


def chosen(names: str | None, known: Sequence[str]) -> list[str]:
    """Return the names in a list parted by commas, all for None; ends the program for an unknown one."""
    wanted = names.split(",") if names else list(known)
    if unknown := [name for name in wanted if name not in known]:
        sys.exit(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
    return wanted


def options() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=1, help="strike each fault so often in every round's lab")
    parser.add_argument("--systems", metavar="A,B", help=f"of {', '.join(peer.name for peer in PEERS)}")
    parser.add_argument("--faults", metavar="A,B", help=f"by default {', '.join(FAULTS)}")
    parser.add_argument("--cluster", default=CLUSTER, help="name of the labs")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("--write", metavar="NAME", nargs="?", const="results", help="write NAME.md and NAME.json here")
    parser.add_argument("--continue", dest="earlier", type=Path, metavar="JSON", help="add rounds to an earlier run's")
    parser.add_argument("--render", type=Path, metavar="JSON", help="make the page of an earlier run's JSON anew")
    asked = parser.parse_args()
    for path in filter(None, (asked.earlier, asked.render)):
        if not path.is_file():
            parser.error(f"{path}: there is no such file; wanted is what an earlier run wrote")
    return asked


def main() -> None:
    """Compare, and show what came of it."""
    asked = options()
    data = json.loads(asked.render.read_text(encoding="utf-8")) if asked.render else compare(asked)
    print(json.dumps(data, indent=1) if asked.output == "json" else page(data))
    if asked.write:
        (HERE / f"{asked.write}.md").write_text(page(data), encoding="utf-8")
        (HERE / f"{asked.write}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def compare(asked: argparse.Namespace) -> dict[str, Any]:
    """Run the comparison that was asked for, as far as it gets."""
    names = chosen(asked.systems, [peer.name for peer in PEERS])
    wanted = faults.named(chosen(asked.faults, [fault.name for fault in faults.FAULTS]) if asked.faults else FAULTS)
    earlier = json.loads(asked.earlier.read_text(encoding="utf-8")) if asked.earlier else None
    stored = store.create("peers")
    tell(f"histories and journals are kept in {stored.path}")
    peers = [peer for peer in PEERS if peer.name in names]
    comparison = Comparison(peers, wanted, asked.cluster, stored, repeat=asked.repeat)
    if earlier:
        comparison.earlier = earlier
    asyncio.run(comparison.run(asked.trials))
    return comparison.data()


if __name__ == "__main__":
    main()
