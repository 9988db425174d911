"""Pools for readers open their connections anew before the primary stops; what does not work holds nobody up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from operate_poolers import pooler_host

from pgbaton.operate import readers
from pgbaton.operate.operation import Operation
from pgbaton.topology import load, presets
from pgbaton.topology.model import Topology

if TYPE_CHECKING:
    from pathlib import Path

    from pgbaton.hosts.fake import FakeHost

#: A console that says which connections are old: as many as there are letters in a file, one less each time.
PSQL = """#!/bin/sh
echo "${0##*/} $*" >> "$FAKE/called"
case "$*" in
*RECONNECT*) [ "$(cat "$FAKE/refuses")" != RECONNECT ] || exit 1 ;;
*SERVERS*)
  [ "$(cat "$FAKE/refuses")" = 0 ] || exit 1
  echo 'type|state|close_needed|ptr'
  echo 'S|idle|0|0x1'
  old=$(cat "$FAKE/old")
  echo "${old%x}" > "$FAKE/old"
  while [ -n "$old" ]; do echo 'S|active|1|0x2'; old=${old%x}; done ;;
esac
"""


def pooler(root: Path, name: str, *, old: str = "", refuses: str = "0") -> FakeHost:
    return pooler_host(root, name, programs={"psql": PSQL}, files={"old": old, "refuses": refuses})


def led_away(topology: Topology, *hosts: FakeHost) -> list[str]:
    told: list[str] = []
    asyncio.run(readers.lead_away(Operation(topology, {host.name: host for host in hosts}, told.append)))
    return told


def test_every_pool_for_readers_and_no_other_opens_its_connections_anew(tmp_path: Path) -> None:
    hosts = [pooler(tmp_path, name, old="xx") for name in ("lb1", "lb2")]
    assert led_away(load.loads(presets.text("standard")), *hosts) == []
    for host in hosts:
        assert host.root
        called = (host.root / "fake" / "called").read_text().splitlines()
        assert [line.split()[-1] for line in called] == ["RECONNECT", *3 * ["SERVERS"]]
        assert all("/run/pgbouncer-read " in line for line in called)


@pytest.mark.parametrize("refused", ["RECONNECT", "SHOW SERVERS"])
def test_reads_that_last_and_a_pool_that_refuses_are_told_and_hold_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    monkeypatch.setattr(readers, "PATIENCE_SECONDS", 1)
    told = led_away(
        load.loads(presets.text("standard")),
        pooler(tmp_path, "lb1", old="x" * 100),
        pooler(tmp_path, "lb2", refuses=refused),
    )
    assert told[0].startswith("lb1: readers of pgbouncer@read may be cut off: ")
    assert told[0].endswith(" of its connections are still at work after 1 s")
    assert told[1] == "lb2: readers of pgbouncer@read may be cut off: no answer"


def test_a_pool_beside_its_server_has_no_other_to_lead_its_readers_to() -> None:
    stated = load.loads(presets.text("standard")).model_dump(mode="json", by_alias=True, exclude_unset=True)

    def placed(where: str) -> Topology:
        return Topology.model_validate({**stated, "pooling": {"placement": where, "processes": 2}})

    assert readers.processes(placed("database")) == readers.processes(placed("none")) == ()
    assert readers.processes(placed("balancer")) == tuple((h, i) for h in ("lb1", "lb2") for i in ("read", "read-2"))
