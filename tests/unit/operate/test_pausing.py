"""Clients are held all together or not at all, and let go whatever happens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from operate_poolers import pooler_host

from pgbaton.operate.hand import pausing
from pgbaton.operate.operation import Operation
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pathlib import Path

    from pgbaton.hosts.fake import FakeHost
    from pgbaton.topology.model import Topology

#: Programs that write down how they were called; the pooler pauses, refuses, or takes too long.
NOTES = '#!/bin/sh\necho "${0##*/} $*" >> "$FAKE/called"\n'
PSQL = NOTES + 'case "$*" in *PAUSE*) sh "$FAKE/pause" ;; *RESUME*) sh "$FAKE/resume" ;; esac\n'


def balancer(root: Path, name: str, *, pause: str = "exit 0", resume: str = "exit 0") -> FakeHost:
    programs = {"psql": PSQL, "systemctl": NOTES, "systemd-run": NOTES}
    return pooler_host(root, name, programs=programs, files={"pause": pause, "resume": resume})


def called(host: FakeHost) -> list[str]:
    """Return the words that matter of each call, in order."""
    assert host.root
    lines = (host.root / "fake" / "called").read_text().splitlines()
    words = {"systemd-run": "timer", "PAUSE": "PAUSE", "RESUME": "RESUME", "stop": "timer off"}
    return [next(short for word, short in words.items() if word in line) for line in lines]


def operation(*hosts: FakeHost, topology: Topology | None = None) -> tuple[Operation, list[str]]:
    told: list[str] = []
    of = topology or load.loads(presets.text("manual"))
    return Operation(of, {host.name: host for host in hosts}, told.append), told


async def hold(of: Operation, *, fail: bool = False) -> bool:
    async with pausing.held(of) as held:
        if fail:
            message = "no switchover"
            raise RuntimeError(message)
        return held


def test_a_host_lets_clients_go_by_itself_before_it_holds_them(tmp_path: Path) -> None:
    hosts = [balancer(tmp_path, name) for name in ("lb1", "lb2")]
    of, told = operation(*hosts)
    assert asyncio.run(hold(of))
    assert told == ["clients are held on lb1, lb2"]
    for host in hosts:
        assert called(host) == ["timer off", "timer", "PAUSE", "RESUME", "timer off"]


def test_clients_go_on_when_the_work_fails(tmp_path: Path) -> None:
    hosts = [balancer(tmp_path, name) for name in ("lb1", "lb2")]
    of, _ = operation(*hosts)
    with pytest.raises(RuntimeError, match="no switchover"):
        asyncio.run(hold(of, fail=True))
    assert called(hosts[0])[-2:] == ["RESUME", "timer off"]


@pytest.mark.parametrize("pause", ["echo refused >&2; exit 1", "exec sleep 30"], ids=["refuses", "takes too long"])
def test_where_one_pooler_cannot_be_paused_nobody_is_held(
    tmp_path: Path, pause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pausing, "PAUSE_SECONDS", 1)
    hosts = [balancer(tmp_path, "lb1"), balancer(tmp_path, "lb2", pause=pause)]
    of, told = operation(*hosts)
    assert not asyncio.run(hold(of))
    assert told == ["clients are not held meanwhile: lb2: its transactions did not end within 1 s"]
    assert called(hosts[0])[-2:] == ["RESUME", "timer off"]
    assert "RESUME" in called(hosts[1])[3:]


def test_a_pooler_that_did_not_let_go_keeps_the_timer_that_will(tmp_path: Path) -> None:
    hosts = [balancer(tmp_path, "lb1"), balancer(tmp_path, "lb2", pause="exit 1", resume="exit 2")]
    of, _ = operation(*hosts)
    assert not asyncio.run(hold(of))
    assert "timer off" not in called(hosts[1])[1:]


def test_a_pooler_that_is_not_paused_any_more_is_as_it_should_be(tmp_path: Path) -> None:
    gone = "echo 'ERROR:  pooler is not paused/suspended' >&2; exit 1"
    hosts = [balancer(tmp_path, "lb1"), balancer(tmp_path, "lb2", resume=gone)]
    of, told = operation(*hosts)
    assert asyncio.run(hold(of))
    assert told == ["clients are held on lb1, lb2"]


def test_a_pooler_that_cannot_be_told_lets_go_by_itself_and_that_is_told(tmp_path: Path) -> None:
    hosts = [balancer(tmp_path, "lb1"), balancer(tmp_path, "lb2", resume="echo 'no such socket' >&2; exit 2")]
    of, told = operation(*hosts)
    assert asyncio.run(hold(of))
    assert told[-1] == "lb2: its clients go on within 30 s by themselves: no such socket"
    assert "timer off" not in called(hosts[1])[3:]


def test_whole_sessions_cannot_be_held(tmp_path: Path) -> None:
    text = presets.text("manual").replace("# mode = ", "mode = ").replace('"transaction"', '"session"')
    host = balancer(tmp_path, "lb1")
    of, told = operation(host, topology=load.loads(text))
    assert not asyncio.run(hold(of))
    assert told == ["clients are not held meanwhile: whole sessions are pooled"]
    assert host.calls == []


def pooled(pooling: str, more: str = "") -> tuple[str | None, tuple[tuple[str, str], ...]]:
    topology = load.loads(presets.text("manual").replace("[pooling]\n", f"[pooling]\n{pooling}\n") + more)
    return pausing.unheld(topology), pausing.processes(topology)


def test_every_process_for_writes_holds_its_own_clients() -> None:
    why, processes = pooled("processes = 2")
    assert why is None
    assert processes == (("lb1", "write"), ("lb1", "write-2"), ("lb2", "write"), ("lb2", "write-2"))


@pytest.mark.parametrize("where", ["database", "none"])
def test_pools_that_do_not_lead_to_the_next_primary_hold_nobody(where: str) -> None:
    assert pooled(f'placement = "{where}"') == ("no pool on the way to the primary could", ())


def test_nobody_is_held_where_some_keep_their_servers() -> None:
    why, _ = pooled("", '\n[[users]]\nname = "other"\npool_mode = "session"\npool_size = 5\n')
    assert why == "whole sessions are pooled"
