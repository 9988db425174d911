"""How etcd's leader is slowed down: it is never stopped for as long as an election takes to begin."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from random import Random

import pytest

from pgbaton.cli.demo import STOCK
from pgbaton.hosts.fake import FakeHost
from pgbaton.proof.faults import dcs, named
from pgbaton.proof.faults.base import Strike
from pgbaton.proof.target import Roles, Target
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets

#: Notes what it is asked, and refuses when etcd is stopped for the second time.
NOTE = '#!/bin/sh\necho "${0##*/} $*" >> "$NOTES"\n[ "$(grep -c STOP "$NOTES")" -lt 2 ]\n'


@pytest.mark.parametrize(
    ("more", "times"),
    [
        (STOCK, ("0.700", "0.300")),
        ("", ("0.233", "0.100")),
        (f"{STOCK}[timings]\netcd_election = 2\n", ("1.400", "0.600")),
    ],
)
async def test_a_slow_etcd_goes_on_before_the_others_elect(
    monkeypatch: pytest.MonkeyPatch, more: str, times: tuple[str, str]
) -> None:
    topology = load.loads(presets.text("standard") + more)
    host = FakeHost("db1", answers={("systemd-run",): ""})
    monkeypatch.setattr(Target, "hosts", {"db1": host})
    target = Target(topology, ClusterState("demo", Path("/nowhere")), lambda _: None)
    (fault,) = named(["etcd-leader-slow"])
    before = Roles("db1", "lb1", ("db2", "db3"), dcs=("db1", "db2", "db3"), dcs_leader="db1")
    await fault.inject(Strike(target, ("db1",), before, Random(1)))
    ((argv, _),) = host.calls
    assert argv[-3:] == ("sh", *times)
    assert float(times[0]) < topology.etcd_election_seconds * (1 - 1 / 10), "the last beat was a tenth of it ago"
    assert sum(map(float, times)) == pytest.approx(topology.etcd_election_seconds, abs=0.002)


def test_etcd_is_stopped_and_goes_on_in_turns_for_these_times(tmp_path: Path) -> None:
    for name in ("systemctl", "sleep"):
        (tmp_path / name).write_text(NOTE)
        (tmp_path / name).chmod(0o755)
    notes = tmp_path / "notes"
    paths = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NOTES": str(notes)}
    subprocess.run(["/bin/sh", "-c", dcs.SLOW, "sh", "0.233", "0.100"], env=paths, check=True, timeout=60)
    kill = "systemctl kill --kill-whom=main --signal"
    assert notes.read_text().splitlines() == [
        f"{kill}=SIGSTOP etcd.service",
        "sleep 0.233",
        f"{kill}=SIGCONT etcd.service",
        "sleep 0.100",
        f"{kill}=SIGSTOP etcd.service",
    ]
