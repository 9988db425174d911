"""From a topology to a running cluster in one call: look, plan, carry out, remember."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pgbaton import blueprint as blueprints
from pgbaton.deploy import addresses, foreign, journal, moving, networks, places, plan, preflight, rollback
from pgbaton.deploy import apply as applying
from pgbaton.errors import RefusedError
from pgbaton.secrets import Vault
from pgbaton.state import write_private
from pgbaton.topology import load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgbaton.blueprint import Blueprint
    from pgbaton.deploy.apply import Outcome
    from pgbaton.deploy.procedures import Procedures
    from pgbaton.deploy.steps import Plan
    from pgbaton.hosts.base import Host
    from pgbaton.state import ClusterState
    from pgbaton.topology.model import Topology


@dataclass(frozen=True)
class Draft:
    """A plan and what it was made of; ``vault`` holds provisional secrets where new ones are due.

    ``given`` are secrets that came from files of this machine, by name, and have to be kept with the others.
    """

    plan: Plan
    topology: Topology
    blueprint: Blueprint
    vault: Vault
    given: Mapping[str, str] = field(default_factory=dict, repr=False)


async def draft(
    state: ClusterState, text: str, topology: Topology, hosts: Mapping[str, Host], *, report: Callable[[str], None]
) -> Draft:
    """Return the plan for a topology; nothing is written here or on a host.

    Hosts of a cluster that nothing was applied to yet are examined first. ``text`` is the topology file's.
    """
    fresh = journal.last_plan(state) is None
    if fresh:
        report("preflight: looking at all hosts")
        await preflight.check(topology, hosts)
    await networks.check(topology, hosts)
    before = previous(state)
    was = None if before is None else load.loads(before, source="the topology of before")
    places.refuse_other_data(was, topology)
    refuse_another_etcd(state, was, topology)
    drawn = blueprints.draw(topology)
    vault = Vault(state.vault_directory)
    given = foreign.given(topology, vault)
    issued = (*vault.adopt(given, save=False), *ensure(vault, topology, drawn, save=False))
    notes = await try_foreign_etcd(topology, hosts, vault, before=was, fresh=fresh, report=report)
    report("plan: comparing all hosts with the topology")
    source = plan.Source(text, before, issued, addresses.leaving(earlier(state), topology))
    there = formers(state)
    for each in there:
        moving.check(each, topology)
        networks.refuse_leap(each, topology)
    drawn = moving.with_former(drawn, *there)
    made = await plan.make(topology, drawn, hosts, vault, source=source)
    return Draft(replace(made, notes=(*made.notes, *notes)), topology, drawn, vault, given)


def refuse_another_etcd(state: ClusterState, was: Topology | None, topology: Topology) -> None:
    """Raise RefusedError when the leader lock would be kept elsewhere than it is, as far as any apply has come."""
    foreign.refuse_another(was, topology)
    for begun in formers(state):
        if (begun.foreign_etcd is None) != (topology.foreign_etcd is None):
            foreign.refuse_another(begun, topology)


async def try_foreign_etcd(
    topology: Topology,
    hosts: Mapping[str, Host],
    vault: Vault,
    *,
    before: Topology | None,
    fresh: bool,
    report: Callable[[str], None],
) -> tuple[str, ...]:
    """Try an etcd that is elsewhere from every host that leans on it; return what is worth knowing of it."""
    if topology.foreign_etcd:
        report("preflight: asking the foreign etcd from all hosts that will")
    return await foreign.check(topology, hosts, vault, before=before, fresh=fresh)


def ensure(vault: Vault, topology: Topology, drawn: Blueprint, *, save: bool = True) -> tuple[str, ...]:
    """See that every secret of a blueprint is there; return those that are new."""
    days = topology.security.certificate_days
    return vault.ensure(drawn.passwords, drawn.certificates, shared_keys=drawn.shared_keys, days=days, save=save)


def previous(state: ClusterState) -> str | None:
    """Return the text of the topology that was applied to the end last; None before the first apply."""
    last = journal.last_plan(state)
    if last is None:
        return None
    return last.topology if journal.is_finished(state, last) else last.previous_topology


def earlier(state: ClusterState) -> tuple[str, ...]:
    """Return the texts of all topologies that hosts may have something of: the last one that was applied to its end.

    Where later ones were begun, those as well.
    """
    last = journal.last_plan(state)
    if last is None:
        return ()
    if journal.is_finished(state, last):
        return (last.topology,)
    begun = (each.topology for each in journal.since_last_finished(state))
    return tuple(dict.fromkeys(filter(None, (last.previous_topology, *begun))))


def formers(state: ClusterState) -> tuple[Topology, ...]:
    """Return the topologies that hosts may have something of, those that can still be read."""
    return tuple(filter(None, map(moving.former, earlier(state))))


async def carry_out(
    state: ClusterState,
    drafted: Draft,
    hosts: Mapping[str, Host],
    *,
    procedures: Procedures,
    report: Callable[[str], None],
    ready_seconds: float = applying.READY_SECONDS,
) -> Outcome:
    """Issue the secrets that are due, remember the topology, and apply the plan. The caller holds the lock."""
    state.create()
    vault = Vault(state.vault_directory)
    vault.adopt(drafted.given)
    ensure(vault, drafted.topology, drafted.blueprint)
    if drafted.plan.topology:
        write_private(state.topology_file, drafted.plan.topology)
    return await applying.apply(
        drafted.plan,
        drafted.topology,
        drafted.blueprint,
        hosts,
        vault,
        state=state,
        procedures=procedures,
        report=report,
        ready_seconds=ready_seconds,
    )


async def deploy(
    state: ClusterState,
    text: str,
    topology: Topology,
    hosts: Mapping[str, Host],
    *,
    procedures: Procedures,
    report: Callable[[str], None],
    ready_seconds: float = applying.READY_SECONDS,
) -> Outcome:
    """Make a cluster what its topology says, without asking; ``text`` is its file's. The caller holds the lock."""
    drafted = await draft(state, text, topology, hosts, report=report)
    return await carry_out(state, drafted, hosts, procedures=procedures, report=report, ready_seconds=ready_seconds)


async def draft_rollback(state: ClusterState, hosts: Mapping[str, Host], *, report: Callable[[str], None]) -> Draft:
    """Return the plan that takes the last apply's configuration back; raises RefusedError when there is none."""
    undone = journal.since_last_finished(state)
    if not undone:
        message = "nothing has been applied to this cluster from here"
        raise RefusedError(message, hint="pgbaton apply TOPOLOGY makes a cluster what a file says")
    last = undone[-1]
    report(f"rollback: looking for what plan {last.id} replaced")
    topology = load.loads(last.previous_topology or last.topology, source="the topology of before")
    places.refuse_other_data(load.loads(last.topology, source=f"plan {last.id}"), topology)
    moving.refuse_back(filter(None, (moving.former(each.topology) for each in undone)), topology)
    drawn = blueprints.draw(topology)
    vault = Vault(state.vault_directory)
    ensure(vault, topology, drawn, save=False)
    return Draft(await rollback.make(undone, topology, drawn, hosts, vault), topology, drawn, vault)


def saved_draft(state: ClusterState, saved: Plan) -> Draft:
    """Return a saved plan with what it was made of, ready to be carried out."""
    if saved.previous_topology != previous(state):
        message = f"plan {saved.id} was made before another apply changed the cluster"
        raise RefusedError(message, hint="make a new plan, and look at it")
    topology = load.loads(saved.topology, source=f"plan {saved.id}")
    drawn = moving.with_former(blueprints.draw(topology), *formers(state))
    vault = Vault(state.vault_directory)
    return Draft(saved, topology, drawn, vault, foreign.given(topology, vault))
