"""Settings that may help, each tried beside the product's own: by turns, on one balancer, which is put back at the end.

The files are changed on the lab's machines; no topology says any of this.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import storm

from pgbaton.components import haproxy, pgbouncer
from pgbaton.errors import Error
from pgbaton.hosts import files
from pgbaton.measure import bench, client, database, plan
from pgbaton.measure.plan import Case
from pgbaton.proof.finishing import to_the_end
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pgbaton.hosts.base import Host
    from pgbaton.measure.client import Client
    from pgbaton.measure.pgbench import Outcome
    from pgbaton.measure.ways import Layout
    from pgbaton.proof.target import Target

Change = Callable[[str], str]
POOLER = pgbouncer.path("write")
CASES = (
    Case("select-only", "simple", 16),
    Case("select-only", "simple", 150),
    Case("select-only", "simple", 16, connect=True),
)
SETTLE_SECONDS = 1.5
ATTEMPTS = 5
STORM = 1_000


def in_section(name: str, line: str) -> Change:
    """Return what puts a line into a section of haproxy.cfg."""
    return lambda text: text.replace(f"\n{name}\n", f"\n{name}\n    {line}\n", 1)


def setting(name: str, value: str) -> Change:
    """Return what sets a setting of PgBouncer's."""
    return lambda text: re.sub(rf"^{name} = .*\n", "", text, flags=re.MULTILINE) + f"{name} = {value}\n"


def both(*changes: Change) -> Change:
    """Return several changes as one."""

    def change(text: str) -> str:
        for each in changes:
            text = each(text)
        return text

    return change


@dataclass(frozen=True)
class Variant:
    """A setting to try: what changes in which file of the balancer's.

    ``plain`` lets clients, poolers and servers do without TLS; then the direct way is measured too. ``storm`` tries a
    storm of logins.
    """

    name: str
    title: str
    changes: Mapping[str, Change] = field(default_factory=dict)
    plain: bool = False
    storm: bool = False


def over_a_socket(text: str) -> str:
    """Return haproxy.cfg with its own pooler's Unix socket in the place of its port."""
    return re.sub(r"127\.0\.0\.1:6432", "unix@/run/pgbouncer-write/.s.PGSQL.6432", text).replace(
        "    chroot /var/lib/haproxy\n", ""
    )


VARIANTS = (
    Variant("one-thread", "HAProxy: nbthread 1", {haproxy.CONFIG: in_section("global", "nbthread 1")}),
    Variant("small-buffers", "HAProxy: tune.bufsize 8192", {haproxy.CONFIG: in_section("global", "tune.bufsize 8192")}),
    Variant(
        "large-buffers", "HAProxy: tune.bufsize 65536", {haproxy.CONFIG: in_section("global", "tune.bufsize 65536")}
    ),
    Variant("splicing", "HAProxy: option splice-auto", {haproxy.CONFIG: in_section("defaults", "option splice-auto")}),
    Variant("packets", "PgBouncer: pkt_buf 16384", {POOLER: setting("pkt_buf", "16384")}),
    Variant(
        "pool-of-8",
        "PgBouncer: a pool of 8 connections, not 20",
        {POOLER: lambda text: text.replace("pool_size=20", "pool_size=8")},
    ),
    Variant("backlog", "PgBouncer: listen_backlog 4096", {POOLER: setting("listen_backlog", "4096")}, storm=True),
    Variant(
        "socket",
        "a Unix socket between HAProxy and PgBouncer",
        {haproxy.CONFIG: over_a_socket, POOLER: setting("unix_socket_mode", "0777")},
    ),
    Variant(
        "plain",
        "no TLS, on either side",
        {POOLER: both(setting("client_tls_sslmode", "allow"), setting("server_tls_sslmode", "disable"))},
        plain=True,
    ),
)


async def measure(
    target: Target, chosen: Sequence[Variant], *, rounds: int, seconds: int, scale: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what each setting changed, and what became of storms, as JSON has them."""
    layout = await bench.look(target, ("direct", "balancer"), client=None)
    request = plan.Request(CASES, ("balancer",), seconds=seconds, rounds=rounds, scale=scale)
    await database.make_tables(target, layout.primary, scale)
    found, storms = list[dict[str, Any]](), list[dict[str, Any]]()
    try:
        ready = await client.prepare(target, layout, request)
        for variant in chosen:
            trial = Trial(target, layout, ready, variant, rounds, seconds)
            try:
                found += await trial.run()
            except Error as error:
                found.append(
                    {"variant": variant.name, "title": variant.title, "problem": error.message.splitlines()[0]}
                )
            storms += trial.storms
    finally:
        await to_the_end(clear(target, layout))
    return found, storms


async def clear(target: Target, layout: Layout) -> None:
    """Take away what was put on hosts."""
    await client.clear(target.hosts[layout.client])
    await database.drop(target)


@dataclass
class Trial:
    """A setting under trial."""

    target: Target
    layout: Layout
    ready: Client
    variant: Variant
    rounds: int
    seconds: int
    storms: list[dict[str, Any]] = field(default_factory=list)

    async def run(self) -> list[dict[str, Any]]:
        """Measure the usual setting and the other one by turns."""
        seen: dict[tuple[Case, str], dict[bool, list[Outcome]]] = {}
        for number in range(self.rounds):
            for tried in (False, True) if number % 2 else (True, False):
                async with self.setting(tried=tried) as ready:
                    await self.storm(ready, tried=tried)
                    for case, way in self.steps:
                        outcome = await ready.run(case, self.layout.way(way), seconds=self.seconds)
                        seen.setdefault((case, way), {False: [], True: []})[tried].append(outcome)
                        which = self.variant.title if tried else "usual"
                        self.target.report(f"{which}: {case.words}, {way}: {bench.described(outcome)}")
        return [self.compared(case, way, outcomes) for (case, way), outcomes in seen.items()]

    @property
    def steps(self) -> list[tuple[Case, str]]:
        """Return what is measured."""
        ways = ("direct", "balancer") if self.variant.plain else ("balancer",)
        return [(case, way) for case in CASES for way in ways]

    async def storm(self, ready: Client, *, tried: bool) -> None:
        """Let a storm of logins loose, where the setting is about that."""
        if self.variant.storm:
            seen = await storm.measure(self.target, self.layout, ready, "balancer", STORM)
            self.storms.append({**seen, "path": f"balancer, {self.variant.title if tried else 'usual'}"})
            self.target.report(f"{self.storms[-1]}")

    def compared(self, case: Case, way: str, outcomes: Mapping[bool, Sequence[Outcome]]) -> dict[str, Any]:
        """Return a case's figures, or what went wrong with the setting."""
        usual, tried = ([each.per_second for each in outcomes[which]] for which in (False, True))
        head = {"variant": self.variant.name, "title": self.variant.title, "case": f"{case.words}, {way}"}
        problems = [line for each in outcomes[True] for line in each.errors]
        if problems or not all(usual):
            return {**head, "problem": (problems or ["the usual setting was not measured"])[0]}
        ratios = [with_it / without for with_it, without in zip(tried, usual, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        return {**head, "usual": median(usual), "tried": median(tried), "ratio": median(ratios), "spread": spread}

    @asynccontextmanager
    async def setting(self, *, tried: bool) -> AsyncIterator[Client]:
        """Have the balancer work with the setting, or without it; either begins anew: they are alike in that."""
        balancer, primary = (self.target.hosts[name] for name in (self.layout.balancer, self.layout.primary))
        kept = await files.read_files(balancer, self.variant.changes) if tried else {}
        plain = tried and self.variant.plain
        ready = replace(self.ready, login=replace(self.ready.login, sslmode="disable")) if plain else self.ready
        try:
            for path, state in kept.items():
                await rewrite(balancer, state, self.variant.changes[path])
            if plain:
                await let_in(self.target, primary, plainly=True)
            await self.begin_anew(balancer, ready)
            yield ready
        finally:
            for state in kept.values():
                await rewrite(balancer, state, lambda text: text)
            if plain:
                await let_in(self.target, primary, plainly=False)
            if tried:
                await self.restart(balancer)

    async def begin_anew(self, balancer: Host, ready: Client) -> None:
        """Start the proxies anew, and wait until clients are served."""
        await self.restart(balancer)
        for _ in range(ATTEMPTS):
            await asyncio.sleep(SETTLE_SECONDS)
            if not (await ready.run(CASES[0], self.layout.way("balancer"), seconds=1)).errors:
                return

    @staticmethod
    async def restart(balancer: Host) -> None:
        """Have HAProxy read its file, and PgBouncer begin without connections to a HAProxy that is going."""
        await balancer.run("systemctl", "reload", haproxy.UNIT)
        await balancer.run("systemctl", "restart", pgbouncer.unit("write"))


async def rewrite(host: Host, state: files.FileState, change: Change) -> None:
    """Write a file that is changed, as the one it was."""
    text = change(state.content.decode())
    await files.write_file(host, state.path, text, mode=state.mode, owner=state.owner, group=state.group)


async def let_in(target: Target, primary: Host, *, plainly: bool) -> None:
    """Let balancers log in without TLS, or have them need it again."""
    path = await database.sql(target, primary.name, "SHOW hba_file")
    (state,) = (await files.read_files(primary, [path])).values()
    sources = [f"host all all {host.address}/32 scram-sha-256\n" for host in target.topology.with_role(Role.BALANCER)]
    rules = "".join(sources)
    await rewrite(primary, state, lambda text: (rules if plainly else "") + text.replace(rules, ""))
    await database.sql(target, primary.name, "SELECT pg_reload_conf()")
