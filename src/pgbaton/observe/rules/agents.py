"""Rules about the agents: whether they run and hear each other, and what they have put up in the way of clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.components import agent, postgres
from pgbaton.observe.findings import Finding, Level
from pgbaton.observe.words import fenced_on
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgbaton.observe.facts import Facts

#: Where an agent keeps its fences over a reboot.
FENCES_FILE = f"/var/lib/{agent.STATE_DIRECTORY}/fences.nft"
#: So many primaries, seen at once, are another finding.
SEVERAL = 2
#: What an agent that has cut its own host off from clients does with them.
CLIENTS = {
    "served": "is about to stop serving its clients",
    "held": "holds its clients back",
    "refused": "turns its clients away",
}


def agent_not_running(facts: Facts) -> Iterator[Finding]:
    """Every agent must answer: without a majority of them a dead primary's lock runs to its end."""
    for spec, view in facts.voters:
        if reason := facts.silence(view, "agent"):
            meaning = "without it the cluster is a stock one"
            if facts.topology.asks_agents and spec.has(Role.DATABASE):
                meaning = "HAProxy asks it what its server is, and sends nobody there without an answer"
            advice = f"pgbaton logs --host {spec.name} --unit pgbaton-agent; {meaning}"
            seen = f"its agent does not answer: {reason}"
            yield Finding(Level.WARNING, "agent-not-running", spec.name, seen, "an answer", advice)


def agent_stalled(facts: Facts) -> Iterator[Finding]:
    """No agent may oversleep again and again: it votes on nobody until it has been awake for the detection time."""
    for name, view in facts.agents.items():
        if view.stalled:
            advice = f"look for what keeps {name}'s processors busy, or for a machine that is being stopped for moments"
            seen = "its agent oversleeps, and has no say in what becomes of others"
            yield Finding(Level.WARNING, "agent-stalled", name, seen, "awake", advice)


def agents_do_not_hear_each_other(facts: Facts) -> Iterator[Finding]:
    """Every agent must hear all others that run."""
    if facts.deaf:
        seen = "; ".join(f"{name} does not hear {', '.join(others)}" for name, others in facts.deaf.items())
        port = facts.topology.orchestration.heartbeat_port
        advice = f"look at firewall and network between them (UDP {port}); pgbaton logs --unit pgbaton-agent"
        yield Finding(
            Level.WARNING, "agents-do-not-hear-each-other", facts.topology.name, seen, "each hears all", advice
        )


def fence_stands(facts: Facts) -> Iterator[Finding]:
    """A fence must not outlive its purpose, which is to keep a dead primary dead until it follows."""
    for host, on in facts.fences.items():
        level, state, advice = standing(facts, host, on)
        seen = f"{state}, and is fenced on {fenced_on(on)}"
        yield Finding(level, "fence-stands", host, seen, "no fence", advice)


def standing(facts: Facts, host: str, on: Mapping[str, str]) -> tuple[Level, str, str]:
    """Return how much a fence matters, what the fenced host is, and when the fence falls."""
    level, state, advice = purpose(facts, host)
    silent = [name for name in on if name not in facts.agents]
    if silent:
        stuck = f"on {', '.join(silent)} nobody takes it down while the agent there does not answer"
        return min(level, Level.WARNING), state, f"{advice}; {stuck}"
    return level, state, advice


def purpose(facts: Facts, host: str) -> tuple[Level, str, str]:
    """Return the same for fences whose agents are there to take them down."""
    if not facts.topology.has_host(host):
        advice = f"stop the agents there, take it out of {FENCES_FILE} and of nft's table, and start them again"
        return Level.NOTE, "it is no host of this cluster", advice
    row = facts.followers.get(host)
    if facts.lock_holders == (host,):
        advice = "it falls when its host is heard again, or follows another: pgbaton logs --unit pgbaton-agent"
        return Level.CRITICAL, "it holds the leader lock", advice
    # First: a host that has just died is a standby for the primary until it misses its answers.
    if not facts.snapshot.host(host).reachable:
        return Level.WARNING, "it is unreachable", "bring it back: the fence falls when it follows the primary"
    if row is not None and row.state == "streaming":
        return Level.NOTE, "it follows the primary", "the fence falls by itself in a moment"
    state = "it takes writes" if host in facts.primaries else "it does not follow the primary"
    advice = f"it falls when {host} follows: pgbaton logs --host {host}; pgbaton reinit {host} clones it anew"
    return Level.WARNING, state, advice


def isolated_primary(facts: Facts) -> Iterator[Finding]:
    """No host may be cut off from its own clients: its agent does that when it has lost the majority."""
    for spec, view in facts.reached(Role.DATABASE):
        clients = view.fences.clients if view.fences else "served"
        if clients == "served" and not (view.agent and view.agent.isolated):
            continue
        elsewhere = facts.primary not in {None, spec.name}
        seen = f"it has lost the majority of the agents, and {CLIENTS[clients]}"
        advice = f"look at {spec.name}'s network: it serves again when it hears the majority, and leads or follows"
        if view.agent is None:
            advice = f"start its agent, which alone lets clients in again: systemctl start pgbaton-agent on {spec.name}"
        level = Level.WARNING if elsewhere else Level.CRITICAL
        outage = facts.primary == spec.name and clients != "served"
        yield Finding(level, "isolated-primary", spec.name, seen, "in the majority, or a standby", advice, outage)


def superseded_primary(facts: Facts) -> Iterator[Finding]:
    """No server may take writes of which other servers say that another one was promoted, where a person promotes."""
    for name, view in facts.agents.items():
        if view.rival and len(facts.primaries) < SEVERAL:
            advice = f"if it is not to be kept: systemctl stop pgbaton-postgresql there, then pgbaton reinit {name}"
            seen = f"it takes writes, and its agent hears that it should not: {view.rival}"
            yield Finding(Level.CRITICAL, "superseded-primary", name, seen, "no other primary", advice)


def path_broken(facts: Facts) -> Iterator[Finding]:
    """Clients must reach the primary through every balancer, by the way that its agent takes as they do."""
    broken = {name: view.path for name, view in facts.agents.items() if view.path}
    for name, reason in broken.items():
        seen = f"clients cannot reach the primary through it: {reason}"
        advice = (
            f"pgbaton logs --host {name} --unit pgbouncer says why; on it: systemctl restart pgbouncer@write; "
            f"pgbaton apply puts certificates and the role {postgres.PROBE_ROLE} right"
        )
        # No outage: it may be the agent's own login alone that does not work.
        level = Level.CRITICAL if name in facts.entries else Level.WARNING
        yield Finding(level, "path-broken", name, seen, "a login that reaches the primary", advice)


def vip_given_up(facts: Facts) -> Iterator[Finding]:
    """No agent should have to take its balancer out of the election of a VIP's holder; why, another rule may say."""
    for spec, view in facts.voters:
        is_explained = view.agent is not None and bool(view.agent.path)
        if view.tracked is not None and view.tracked < 0 and not is_explained:
            seen = "its agent has it give up the VIP: HAProxy hangs, or leads nowhere while another one's leads"
            advice = f"pgbaton logs --host {spec.name} --unit pgbaton-agent; on it: systemctl restart haproxy"
            yield Finding(Level.WARNING, "vip-given-up", spec.name, seen, "a HAProxy that is of use", advice)


def agents_differ(facts: Facts) -> Iterator[Finding]:
    """All agents should be of one version, and of one build."""
    programs: dict[str, list[str]] = {}
    for name, view in facts.agents.items():
        programs.setdefault(f"{view.version or 'unknown'} (build {view.build or 'unknown'})", []).append(name)
    if len(programs) > 1:
        where = "; ".join(f"{program} on {', '.join(names)}" for program, names in sorted(programs.items()))
        advice = "pgbaton apply brings them to one, host by host; until then they may not understand each other"
        yield Finding(Level.NOTE, "agents-differ", facts.topology.name, f"agents {where}", "one version", advice)
