"""A failover by hand, act by act: whoever may still acknowledge is ended or left before anybody is promoted."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from pgbaton.components import manual
from pgbaton.errors import CommandError, RefusedError, UnreachableError
from pgbaton.hosts.fake import FakeHost
from pgbaton.operate import servers
from pgbaton.operate.hand import failover, living
from pgbaton.operate.operation import Operation
from pgbaton.topology.model import Topology

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ("db1", "db2", "db3")
ADDRESSES = {name: f"10.77.0.1{name[-1]}" for name in NAMES}
FACTS = {
    "in_recovery": True,
    "position": 900,
    "replayed": 900,
    "replay_paused": False,
    "streaming_to": [],
    "pending_restart": False,
    "started": 1.0,
    "timeline": 1,
    "receiving": False,
    "receiving_from": None,
}


def topology() -> Topology:
    hosts: list[dict[str, Any]] = [{"name": f"lb{n}", "address": f"10.77.0.{n}", "roles": ["balancer"]} for n in (1, 2)]
    hosts += [{"name": name, "address": ADDRESSES[name], "roles": ["database"]} for name in NAMES]
    sections = {"cluster": {"name": "test"}, "network": {"subnet": "10.77.0.0/24", "vip": "10.77.0.100"}}
    kind = {"orchestration": {"kind": "manual"}, "timings": {"wal_sender_timeout": 0.5}}
    return Topology.model_validate({"schema": 1, "hosts": hosts, **sections, **kind})


class Cluster:
    """db1 was primary and its server does not answer in time; db2 and db3 followed it."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.facts = {"db2": dict(FACTS), "db3": dict(FACTS)}
        self.upstream: dict[str, str | None] = {"db1": None, "db2": "db1", "db3": "db1"}
        self.stopped: dict[str, Callable[[], None]] = {}
        self.up, self.primary, self.slow, self.routes = {"db1", "db2", "db3"}, "db1", False, "db1"
        self.deaf: str | None = None
        hosts = {name: FakeHost(name, answers=self.answers(name)) for name in NAMES}
        hosts |= {name: FakeHost(name, answers={("python3",): lambda _: self.stats()}) for name in ("lb1", "lb2")}
        self.operation = Operation(topology(), hosts, self.words.append, timeout_seconds=0.5)

    def answers(self, host: str) -> dict[tuple[str, ...], Any]:
        words = ("lead", "confirm", "claim", "release", *(f"follow {name}" for name in NAMES))
        told: dict[tuple[str, ...], Any] = {(*manual.AS_SERVER, *word.split()): self.told(host, word) for word in words}
        told |= {
            ("runuser",): lambda text: self.sql(host, text),
            (*manual.AS_SERVER, "look"): lambda _: self.look(host),
        }
        told |= {("systemctl", word): self.told(host, word) for word in ("start", "stop", "reload")}
        return {**told, ("true",): ""}

    def told(self, host: str, word: str) -> Callable[[str], str]:
        def note(_: str) -> str:
            self.words.append(f"{host} {word}")
            if word == "stop":
                self.up.discard(host)
                self.stopped.get(host, lambda: None)()
            if word.startswith("follow"):
                self.upstream[host] = word.split()[1]
                if host in self.facts and host != self.deaf:
                    self.facts[host]["receiving_from"] = ADDRESSES[word.split()[1]]
            return ""

        return note

    def look(self, host: str) -> str:
        said = {"data": True, "standby": self.upstream[host] is not None, "upstream": self.upstream[host]}
        told = {"detached": [], "timeline": 1, "control": {}, "confirms": 100}
        return json.dumps({**said, **told, "unit": "active" if host in self.up else "inactive"})

    def stats(self) -> str:
        return f"# pxname,svname,status\nprimary,{self.routes},UP\n" if self.routes else "# pxname,svname,status\n"

    def sql(self, host: str, text: str) -> str | Exception:
        if "pg_promote" in text:
            self.words.append(f"{host} promote")
            self.primary = self.routes = host
            return "t"
        if host == "db1":
            if host not in self.up or not self.slow:
                return CommandError("connection refused")
            return "f" if text == "SELECT pg_is_in_recovery()" else UnreachableError("no end after 6 s: psql")
        if text == servers.FACTS:
            own, other = self.facts[host], "db3" if host == "db2" else "db2"
            now = {"in_recovery": False, "streaming_to": [other]} if self.primary == host else {}
            follows = self.primary in self.facts and self.primary != host
            return json.dumps({**own, **now, "receiving": own["receiving"] or follows})
        return ""

    def fail_over(self, to: str | None = None, *, accepted: str = "") -> failover.Failover:
        self.routes = accepted
        sight = asyncio.run(living.settled(self.operation))
        intent = failover.consider(topology(), sight, to, off=())
        self.words.clear()
        return asyncio.run(failover.failover(self.operation, intent))

    def acts(self) -> list[str]:
        kinds = ("stop", "follow", "lead", "promote")
        return [word for word in self.words if word.split()[0] in NAMES and word.split()[1] in kinds]


def test_the_old_primary_is_ended_and_every_standby_turned_before_one_is_promoted() -> None:
    cluster = Cluster()
    done = cluster.fail_over()
    assert (done.target.host, done.apart) == ("db2", ("db1",))
    assert cluster.acts() == ["db1 stop", "db1 follow db2", "db3 follow db2", "db2 lead", "db2 promote"]


def test_nobody_is_promoted_while_a_standby_stays_with_an_old_primary() -> None:
    cluster = Cluster()
    cluster.deaf = "db3"
    cluster.facts["db3"] |= {"receiving": True, "receiving_from": ADDRESSES["db1"]}
    with pytest.raises(RefusedError, match=r"nobody was promoted: .*it streams from 10.77.0.11"):
        cluster.fail_over("db2")
    assert "db2 promote" not in cluster.words


def test_a_primary_that_is_only_slow_is_not_ended() -> None:
    cluster = Cluster()
    cluster.slow = True
    with pytest.raises(RefusedError, match="db1 answers slowly, and takes writes"):
        cluster.fail_over()
    assert cluster.acts() == []


def test_who_is_the_furthest_once_the_old_primary_has_stopped_is_chosen() -> None:
    cluster = Cluster()
    cluster.stopped["db1"] = lambda: cluster.facts["db3"].update(position=1000, replayed=1000)
    done = cluster.fail_over()
    assert done.target.host == "db3"
    assert "db2 promote" not in cluster.words


def test_a_target_that_was_named_is_not_promoted_when_it_falls_behind_meanwhile() -> None:
    cluster = Cluster()
    cluster.stopped["db1"] = lambda: cluster.facts["db3"].update(position=1000, replayed=1000)
    with pytest.raises(RefusedError, match="nobody was promoted; stopped: db1: since you decided"):
        cluster.fail_over("db2")
    assert cluster.acts() == ["db1 stop"]


def test_what_a_balancer_still_holds_is_looked_at_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    monkeypatch.setattr(living, "INTERVAL_SECONDS", 0)
    routes = ["db1", "db1", "db1", "db1"]
    monkeypatch.setattr(
        cluster, "stats", lambda: f"# pxname,svname,status\nprimary,{routes.pop() if routes else ''},UP\n"
    )
    sight = asyncio.run(living.settled(cluster.operation))
    assert not routes
    assert failover.consider(topology(), sight, None, off=()).require().host == "db2"
    assert sum("looking again" in word for word in cluster.words) == 1
