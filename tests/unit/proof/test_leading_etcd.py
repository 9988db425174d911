"""Moving etcd's leadership for a fault: over as soon as it has moved, since agents move it away again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pgbaton.components.etcd import etcdctl
from pgbaton.errors import UnhealthyError
from pgbaton.hosts.base import Host
from pgbaton.hosts.process import Result
from pgbaton.proof.faults import power
from pgbaton.proof.target import Roles
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology

TOPOLOGY = load.loads(presets.text("standard"))
LISTING = "".join(
    f"{n}e9e05c52164694d, started, db{n}, https://10.77.0.2{n}:2380, https://10.77.0.2{n}:2379, false\n"
    for n in (1, 2, 3)
)


@dataclass
class Etcd:
    """A target whose etcd is made up; ``refusals`` are what its leader says to orders, before it obeys."""

    leaders: list[str | None]
    refusals: list[str] = field(default_factory=list)
    topology: Topology = TOPOLOGY
    asked: list[str] = field(default_factory=list)
    looks: int = 0

    @property
    def hosts(self) -> dict[str, Machine]:
        return {name: Machine(name, self) for name in ("db1", "db2", "db3")}

    async def roles(self) -> Roles:
        """Return who leads, one after the other, the last for ever."""
        self.looks += 1
        leader = self.leaders.pop(0) if len(self.leaders) > 1 else self.leaders[0]
        return Roles("db1", "lb1", ("db2", "db3"), dcs=("db1", "db2", "db3"), dcs_leader=leader)


@dataclass(frozen=True)
class Machine(Host):
    """A host of it with etcdctl."""

    etcd: Etcd

    def local_argv(self, argv: tuple[str, ...], *, terminal: bool = False) -> tuple[str, ...]:
        raise NotImplementedError

    async def run(
        self,
        *argv: str,
        input: str | bytes | None = None,  # noqa: A002 - the name subprocess uses
        check: bool = True,
        timeout: float | None = 30.0,
    ) -> Result:
        del input, timeout
        control = etcdctl(TOPOLOGY)
        assert argv[: len(control)] == control
        command = argv[len(control) :]
        self.etcd.asked.append(f"{self.name}: {' '.join(command)}")
        if command == ("member", "list"):
            return Result(argv, 0, LISTING, "")
        assert not check, "a leader that refuses is asked again"
        refusal = self.etcd.refusals.pop(0) if self.etcd.refusals else ""
        return Result(argv, 1 if refusal else 0, "", refusal)


async def lead(etcd: Etcd) -> None:
    await power.lead_etcd(etcd, "db1")  # type: ignore[arg-type]


async def test_the_leader_is_told_once_to_pass_it_on_and_nobody_looks_whether_it_did() -> None:
    etcd = Etcd(["db3"])
    await lead(etcd)
    assert etcd.asked == ["db1: member list", "db3: move-leader 1e9e05c52164694d"]
    assert etcd.looks == 1


async def test_who_leads_already_is_left_alone() -> None:
    etcd = Etcd(["db1"])
    await lead(etcd)
    assert etcd.asked == ["db1: member list"]


async def test_a_leader_that_refuses_is_told_again_or_the_next_one_is() -> None:
    etcd = Etcd(["db3", "db2"], refusals=["etcdserver: not leader"])
    await lead(etcd)
    assert etcd.asked[1:] == ["db3: move-leader 1e9e05c52164694d", "db2: move-leader 1e9e05c52164694d"]


async def test_without_a_leader_nobody_is_told_until_there_is_one() -> None:
    etcd = Etcd([None, None, "db2"])
    await lead(etcd)
    assert etcd.asked[1:] == ["db2: move-leader 1e9e05c52164694d"]


async def test_a_leadership_that_does_not_move_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "LEADERSHIP_SECONDS", 0.0)
    etcd = Etcd(["db3"], refusals=["etcdserver: unhealthy cluster\n"] * 9)
    with pytest.raises(UnhealthyError, match=r"etcd is led by db1; .*etcd's leader is db3: etcdserver: unhealthy"):
        await lead(etcd)


async def test_etcd_without_a_leader_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "LEADERSHIP_SECONDS", 0.0)
    with pytest.raises(UnhealthyError, match="etcd has no leader"):
        await lead(Etcd([None]))
