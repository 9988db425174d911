"""A report as one screen of text: made for 80 columns and 24 lines, wider where there is room."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pgbaton.observe.findings import Health, Level
from pgbaton.observe.words import size, span

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pgbaton.observe.findings import Finding
    from pgbaton.observe.journal import Entry
    from pgbaton.observe.report import AgentRow, EtcdRow, FenceRow, HostRow, PoolRow, Report

HEALTH_STYLE = {Health.HEALTHY: "bold green", Health.DEGRADED: "bold yellow", Health.DOWN: "bold red"}
LEVEL_STYLE = {Level.CRITICAL: "bold red", Level.WARNING: "yellow", Level.NOTE: "dim"}
#: Colours by syslog priority: up to error (3), up to warning (4).
PRIORITY_STYLE = {3: "red", 4: "yellow"}
#: Roles as they fit a column.
SHORT_ROLE = {"balancer": "bal", "pooler": "pool", "database": "db", "dcs": "dcs", "application": "app"}
#: Columns from which roles are written out.
WIDE = 100


def screen(report: Report, *, width: int = 80) -> RenderableType:
    """Return the whole screen."""
    parts: list[RenderableType] = [head(report), hosts(report, wide=width >= WIDE)]
    if report.pools:
        parts.append(pools(report.pools))
    if report.etcd is not None:
        parts.append(etcd(report.etcd))
    if report.agents is not None:
        parts.append(agents(report.agents, report.fences or ()))
    parts += [finding_lines(finding) for finding in report.findings]
    return Group(*parts)


def head(report: Report) -> Text:
    """Return the cluster's name and health, who leads, and what that is worth."""
    text = Text()
    text.append(report.cluster, style="bold")
    text.append("  ")
    text.append(report.health.value, style=HEALTH_STYLE[report.health])
    text.append(f"  primary {report.primary or 'none'}")
    if report.timeline is not None:
        text.append(f" (timeline {report.timeline})")
    if report.vip and not report.vips:
        text.append(f"  VIP {report.vip} on {' and '.join(report.vip_holders) or 'nobody'}")
    taken = datetime.fromisoformat(report.taken_at).astimezone()
    text.append(f"  {taken:%H:%M:%S}\n", style="dim")
    if report.vips:
        text.append(f"VIPs {', '.join(map(str, report.vips))}\n")
    text.append(f"{report.replication}: an acknowledged write survives {report.survives}")
    return text


def hosts(report: Report, *, wide: bool) -> Table:
    """Return the table of hosts."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in ("HOST", "ADDRESS", "ROLES", "STATE", "NOW", "LAG", "HAPROXY"):
        table.add_column(column, no_wrap=True)
    for row in report.hosts:
        roles = ",".join(role if wide else SHORT_ROLE[role] for role in row.roles)
        cells = (row.name, row.address, roles, state(row), now(row), lag(row), routed(row, len(report.routers)))
        table.add_row(*cells)
    return table


def state(row: HostRow) -> Text:
    """Return a host's state in its colour."""
    good = row.state in {"running", "streaming"}
    return Text(row.state, style="green" if good else "red")


def now(row: HostRow) -> Text:
    """Return what a host is at this moment: primary, standby and how it confirms, holder of VIPs."""
    words = []
    if row.role:
        words.append(row.role if row.sync_state is None else f"{row.role} {row.sync_state}")
    if row.vips:
        words.append("VIP" if row.vips == 1 else f"{row.vips} VIPs")
    return Text(" + ".join(words) or "-", style="bold" if row.role == "primary" or row.vips else "")


def lag(row: HostRow) -> str:
    """Return how far a standby is behind, in bytes and seconds."""
    if row.role != "standby":
        return ""
    if row.lag_bytes is None:
        return "unknown"
    return size(row.lag_bytes) + (f" {span(row.lag_seconds)}" if row.lag_seconds and row.lag_bytes else "")


def routed(row: HostRow, routers: int) -> str:
    """Return how many of the routers send writes and reads to a host."""
    if "database" not in row.roles:
        return ""
    writes, reads = len(row.writes_from), len(row.reads_from)
    words = [f"writes {writes}/{routers}"] if writes else []
    words += [f"reads {reads}/{routers}"] if reads else []
    return " ".join(words) or "none"


def pools(rows: tuple[PoolRow, ...]) -> Text:
    """Return the poolers, a line for each host."""
    hosts = dict.fromkeys(row.host for row in rows)
    lines = (f"pools {host}: " + "; ".join(pool(row) for row in rows if row.host == host) for host in hosts)
    return Text("\n".join(lines))


def pool(row: PoolRow) -> str:
    """Return one PgBouncer process in a few words."""
    it = row.pool
    clients = (
        f"{it.clients_active}+{it.clients_waiting} clients" if it.clients_waiting else f"{it.clients_active} clients"
    )
    waits = f" wait {span(it.wait_seconds)}" if it.clients_waiting else ""
    paused = " PAUSED" if it.paused else ""
    servers = f"{it.servers_active}/{it.servers_active + it.servers_idle} servers busy"
    return f"{it.instance} {clients}{waits}, {servers}{paused}"


def etcd(it: EtcdRow) -> Text:
    """Return etcd's line."""
    alarms = f", alarms {', '.join(it.alarms)}" if it.alarms else ""
    if it.seen_from is not None:
        return foreign_etcd(it, alarms)
    text = (
        f"etcd {it.healthy}/{it.members} healthy, leader {it.leader or 'none'}, {size(it.db_size_bytes or 0)}{alarms}"
    )
    return Text(text, style="" if it.healthy == it.members and not it.alarms else "yellow")


def foreign_etcd(it: EtcdRow, alarms: str) -> Text:
    """Return the line of an etcd that is elsewhere: what is seen of it, from where, and what is not."""
    words = [f"leader {it.leader}"] if it.leader else []
    words += [size(it.db_size_bytes)] if it.db_size_bytes is not None else []
    seen = "".join(f", {word}" for word in words)
    untold = f"; not told: {', '.join(it.untold)}" if it.untold else ""
    where = ", ".join(it.seen_from or ()) or "no database"
    text = f"etcd elsewhere: {it.healthy}/{it.members} endpoints answer {where}{seen}{alarms}{untold}"
    return Text(text, style="" if it.healthy == it.members and it.seen_from and not it.alarms else "yellow")


def agents(rows: tuple[AgentRow, ...], fences: tuple[FenceRow, ...]) -> Text:
    """Return the agents' line: who runs, how many hear each, and who is fenced; why is for the findings."""
    running = [row for row in rows if row.state == "running"]
    usual = max((row.heard_by for row in running), default=0)
    odd = ", ".join(f"{row.host} {row.state}" for row in rows if row not in running)
    fewer = "".join(f", but {row.host} by {row.heard_by}" for row in running if row.heard_by < usual)
    fenced = "".join(f"; {fence.host} is fenced on {', '.join(fence.on)}" for fence in fences)
    count = f"{len(running)}/{len(rows)} running{f' ({odd})' if odd else ''}"
    text = f"agents {count}, each heard by {usual} of {len(rows) - 1}{fewer}{fenced}"
    well = usual == len(rows) - 1 and not (odd or fewer or fenced)
    return Text(text, style="" if well else "yellow")


def finding_lines(finding: Finding) -> Text:
    """Return a finding: what was seen and should have been, and, unless it is a note, what to do."""
    text = Text()
    text.append(f"{finding.level.name.lower()} ", style=LEVEL_STYLE[finding.level])
    text.append(f"{finding.subject}: ", style="bold")
    text.append(f"{finding.seen} (wanted: {finding.limit})")
    text.append(f"\n  → {finding.advice}", style="dim")
    return text


def entry_line(entry: Entry) -> Text:
    """Return a journal entry as a line; what syslog counts as a warning or worse is coloured."""
    text = Text(f"{entry.at.astimezone():%Y-%m-%d %H:%M:%S.%f} ", style="dim")
    style = next((style for limit, style in PRIORITY_STYLE.items() if entry.priority <= limit), "")
    text.append(f"{entry.host:<10} ", style="not dim bold")
    text.append(f"{entry.unit.removesuffix('.service'):<16} ", style="not dim cyan")
    text.append(entry.message, style=f"not dim {style}")
    return text
