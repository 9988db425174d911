"""What one apply works with, from its first wave to its last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pgbaton.blueprint import Blueprint
    from pgbaton.deploy.gate import Gate, Target
    from pgbaton.deploy.journal import Journal
    from pgbaton.deploy.objects import Desired
    from pgbaton.deploy.procedures import Procedures
    from pgbaton.deploy.steps import Plan, Stage
    from pgbaton.hosts.base import Host
    from pgbaton.secrets import Vault
    from pgbaton.topology.model import Topology


@dataclass(frozen=True)
class Work:
    """Everything that one apply works with."""

    plan: Plan
    topology: Topology
    blueprint: Blueprint
    hosts: Mapping[str, Host]
    vault: Vault
    procedures: Procedures
    report: Callable[[str], None]
    journal: Journal
    gate: Gate
    targets: tuple[Target, ...]
    desired: Desired | None

    def of(self, stage: Stage, hosts: Iterable[str] | None = None) -> tuple[Target, ...]:
        """Return what should work after a stage, on some hosts or on all."""
        chosen = None if hosts is None else set(hosts)
        wanted = (target for target in self.targets if target.stage is stage)
        return tuple(target for target in wanted if chosen is None or target.host in chosen)
