"""Rules about the way from the clients to the primary: VIP, HAProxy, PgBouncer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.components.agent import PAUSE_SECONDS
from pgbaton.observe.facts import HELD_PURPOSE, STANDBY_PROXY
from pgbaton.observe.findings import Finding, Level
from pgbaton.observe.words import span
from pgbaton.topology import vips
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.observe.facts import Facts
    from pgbaton.observe.snapshot import ServerView

#: A client may wait this long for a server connection.
WAIT_SECONDS = 1.0


def vip_missing(facts: Facts) -> Iterator[Finding]:
    """Some balancer must hold each VIP."""
    balancers = facts.topology.with_role(Role.BALANCER)
    asked = ", ".join(spec.name for spec, _ in facts.reached(Role.BALANCER)) or "none"
    for vip, names in facts.holders.items():
        if names:
            continue
        seen = f"no balancer holds {vip} (answered: {asked} of {len(balancers)})"
        advice = "pgbaton logs --unit keepalived; on the balancers: systemctl status keepalived haproxy"
        outage, part = not facts.entries, which(facts, vip)
        yield Finding(Level.CRITICAL, "vip-missing", facts.topology.name, seen, "one holder", advice, outage, part)


def vip_twice(facts: Facts) -> Iterator[Finding]:
    """No two balancers may hold the same VIP."""
    for vip, names in facts.holders.items():
        if len(names) > 1:
            seen = f"{' and '.join(names)} both hold {vip}"
            advice = (
                "the balancers do not hear each other's VRRP (protocol 112): look at firewall and network between them"
            )
            part = which(facts, vip)
            yield Finding(Level.CRITICAL, "vip-twice", facts.topology.name, seen, "one holder", advice, part=part)


def vip_away(facts: Facts) -> Iterator[Finding]:
    """Each of several VIPs should be on its own balancer, or another one carries the clients of both."""
    homes = vips.homes(facts.topology)
    for vip, names in facts.holders.items():
        home = homes.get(vip)
        if home is None or len(names) != 1 or home in names:
            continue
        seen = f"{vip} is on {names[0]}, and {home} is its own balancer"
        seconds = facts.topology.timings.vip_return
        advice = (
            f"it goes back when {home} has been well for {span(seconds)}; what keeps it away says "
            f"pgbaton logs --host {home} --unit keepalived"
        )
        yield Finding(Level.WARNING, "vip-away", facts.topology.name, seen, home, advice, part=vip)


def twin_missing(facts: Facts) -> Iterator[Finding]:
    """The twin of a VIP must be where the VIP is, and nowhere else."""
    there = {spec.name: view.twin_vips or () for spec, view in facts.reached(Role.BALANCER)}
    for vip in vips.floating(facts.topology):
        names = facts.holders.get(str(vip.address), ())
        if vip.twin is None or len(names) != 1:
            continue
        holders = tuple(name for name, held in there.items() if str(vip.twin.ip) in held)
        if holders != names:
            seen = f"{vip.twin.ip} is on {' and '.join(holders) or 'no balancer'}, and {vip.address} on {names[0]}"
            advice = f"on {names[0]}: systemctl reload keepalived; somebody else may have that address: ip neighbour"
            part = str(vip.twin.ip)
            yield Finding(Level.CRITICAL, "vip-twin-missing", facts.topology.name, seen, names[0], advice, part=part)


def which(facts: Facts, vip: str) -> str:
    """Return which part of the cluster a VIP is, where there are several."""
    return vip if len(facts.holders) > 1 else ""


def haproxy_silent(facts: Facts) -> Iterator[Finding]:
    """Every HAProxy must answer."""
    for spec, view in facts.proxied:
        if reason := facts.silence(view, "haproxy"):
            entry = spec.name in facts.entries
            level = Level.CRITICAL if entry else Level.WARNING
            advice = f"pgbaton logs --host {spec.name} --unit haproxy; on it: systemctl restart haproxy"
            seen = f"HAProxy does not answer: {reason}"
            outage = entry and len(facts.entries) == 1
            yield Finding(level, "haproxy-silent", spec.name, seen, "an answer", advice, outage=outage)


def balancers_disagree(facts: Facts) -> Iterator[Finding]:
    """All balancers must take the same server for the primary."""
    if len({names for names in facts.routes.values() if names}) > 1:
        seen = "; ".join(routed(facts, name, up) for name, up in facts.routes.items())
        whom = "the servers" if facts.topology.is_manual else "Patroni"
        advice = f"look again in a second; when it stays, compare their checks of {whom}: pgbaton logs --unit haproxy"
        if facts.topology.has_agents:
            advice = f"{advice}; and what their agents told them: pgbaton logs --unit pgbaton-agent"
        yield Finding(Level.CRITICAL, "balancers-disagree", facts.topology.name, seen, "one primary", advice)


def routed(facts: Facts, balancer: str, up: tuple[str, ...]) -> str:
    """Return where a balancer sends writes; to a host that is fenced on it they get no further."""
    cut = [name for name in up if balancer in facts.fences.get(name, {})]
    fenced = f", and fences {' and '.join(cut)}" if cut else ""
    return f"{balancer} sends writes to {' and '.join(up) or 'nobody'}{fenced}"


def balancer_misroutes(facts: Facts) -> Iterator[Finding]:
    """Each balancer must send writes to the primary and to it alone."""
    if facts.primary is None:
        return
    for name, up in facts.routes.items():
        if up == (facts.primary,):
            continue
        nowhere = {each for each, servers in facts.routes.items() if not servers}
        outage = not up and facts.carriers <= nowhere and (name in facts.carriers or not facts.carriers)
        seen = f"it sends writes to {' and '.join(up) or 'nobody'}"
        port = "port" if facts.topology.is_manual else "Patroni REST port"
        advice = f"look again in a second; then on {name}: is {facts.primary}'s {port} reachable?"
        yield Finding(Level.CRITICAL, "balancer-misroutes", name, seen, facts.primary, advice, outage=outage)


def standby_takes_no_reads(facts: Facts) -> Iterator[Finding]:
    """A streaming standby must take reads on every balancer."""
    for name, row in facts.followers.items():
        out = {
            balancer: down for balancer in facts.routes if (down := server_down(facts, balancer, STANDBY_PROXY, name))
        }
        if row.state == "streaming" and out:
            seen = "; ".join(f"{server.status} on {balancer} ({server.check})" for balancer, server in out.items())
            advice = (
                "it comes back by itself when it is within the lag limit; pgbaton logs --unit haproxy says why it left"
            )
            yield Finding(Level.WARNING, "standby-takes-no-reads", name, seen, "UP", advice)


def server_down(facts: Facts, balancer: str, proxy: str, server: str) -> ServerView | None:
    """Return a server as a balancer sees it, when it sees it and sends nothing there."""
    view = facts.snapshot.host(balancer).haproxy
    found = view.proxy(proxy) if view else None
    down = {entry.name: entry for entry in found.servers if not entry.up} if found else {}
    return down.get(server)


def pooler_silent(facts: Facts) -> Iterator[Finding]:
    """Every PgBouncer must answer."""
    reached = facts.poolers
    for purpose in facts.pooled_proxies:
        asked = [(spec.name, view, instance) for instance in facts.processes(purpose) for spec, view in reached]
        silent = [
            (name, instance, reason)
            for name, view, instance in asked
            if (reason := facts.silence(view, f"pooler {instance}"))
        ]
        # With every pooler gone, nothing is left that a balancer could send clients to.
        every = len(silent) == len(asked)
        for name, instance, reason in silent:
            advice = f"pgbaton logs --host {name} --unit pgbouncer; on it: systemctl restart pgbouncer@{instance}"
            seen = f"PgBouncer ({instance}) does not answer: {reason}"
            level = Level.CRITICAL if every else Level.WARNING
            outage = every and purpose == HELD_PURPOSE
            yield Finding(level, "pooler-silent", name, seen, "an answer", advice, outage, instance)


def pooler_out_of_rotation(facts: Facts) -> Iterator[Finding]:
    """A PgBouncer that answers must be in every balancer's rotation."""
    for purpose, proxy in facts.pooled_proxies.items():
        for spec, view in facts.poolers:
            out = {name: down for name in facts.pool_fronts if (down := server_down(facts, name, proxy, spec.name))}
            if all(map(view.pool, facts.processes(purpose))) and out:
                seen = "; ".join(
                    f"{purpose}: {server.status} on {name} ({server.check})" for name, server in out.items()
                )
                advice = "its own port and the primary behind it are both checked: see the other findings first"
                yield Finding(Level.WARNING, "pooler-out-of-rotation", spec.name, seen, "UP", advice, part=purpose)


def pooler_paused(facts: Facts) -> Iterator[Finding]:
    """No pool may be paused for longer than a switchover takes."""
    for spec, view in facts.poolers:
        for pool in view.pools:
            if pool.paused and not facts.is_held(pool):
                seen = f"PgBouncer ({pool.instance}) is paused for {', '.join(pool.paused)}: clients wait"
                advice = f"when no switchover is at work: RESUME on its console in /run/pgbouncer-{pool.instance}"
                yield Finding(Level.WARNING, "pooler-paused", spec.name, seen, "not paused", advice, part=pool.instance)


def pooler_held(facts: Facts) -> Iterator[Finding]:
    """No agent may hold clients for longer than it says: it lets them go after a while, whoever is primary by then."""
    held = [(spec.name, pool) for spec, view in facts.poolers for pool in view.pools if facts.is_held(pool)]
    holding = {(name, pool.instance) for name, pool in held}
    every = all(
        view.pool(instance) is None or (spec.name, instance) in holding
        for spec, view in facts.poolers
        for instance in facts.processes(HELD_PURPOSE)
    )
    for name, pool in held:
        seen = f"PgBouncer ({pool.instance}) is paused, and a client has waited for {span(pool.wait_seconds)}"
        advice = f"RESUME on its console in /run/pgbouncer-{pool.instance}; then pgbaton logs --unit pgbaton-agent"
        limit = f"paused for {span(PAUSE_SECONDS)} at most"
        yield Finding(Level.CRITICAL, "pooler-held", name, seen, limit, advice, outage=every, part=pool.instance)


def clients_waiting(facts: Facts) -> Iterator[Finding]:
    """Clients must not queue for a server connection."""
    for spec, view in facts.poolers:
        for pool in view.pools:
            if pool.clients_waiting and pool.wait_seconds > WAIT_SECONDS:
                waiting = f"{pool.clients_waiting} clients wait, {span(pool.wait_seconds)} at most"
                seen = f"PgBouncer ({pool.instance}): {waiting}"
                advice = "shorten transactions, or raise pooling.size within max_connections"
                yield Finding(
                    Level.WARNING, "clients-waiting", spec.name, seen, span(WAIT_SECONDS), advice, part=pool.instance
                )
