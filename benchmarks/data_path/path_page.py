"""From the results of the benchmark to its page. Pure: everything comes out of the JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Data = Mapping[str, Any]
LEGEND = (
    "*of direct*: the median, over all rounds, of transactions a second as a multiple of what PostgreSQL itself did in "
    "the same round. Latencies in milliseconds, over all rounds together; where each transaction has a connection of "
    "its own, from the end of the client's transaction before. *processor*: microseconds that HAProxy, PgBouncer and "
    "PostgreSQL had for one transaction, logins included; left out where many clients' logins are most of it."
)
IDLE = (
    "Proportional sizes (PSS) of HAProxy and both PgBouncers on the VIP's holder; *resident* counts shared pages twice."
)
STORMS = (
    "Milliseconds from the start of all clients to the end of each one's only transaction, its login included. "
    "A balancer lets {client_limit:,} clients in here: HAProxy has two files for each connection on each of its ports, "
    "and programs may open {file_limit:,} files on this machine."
)
TRIED = (
    "Through one balancer; the product's own setting and the other one by turns, in the same rounds. What lies between "
    "0.95 and 1.05 is no more than this machine's weather."
)


def page(data: Data) -> str:
    """Return the whole page as Markdown."""
    origin = (
        f"{data['machine']}, {data['began_at'][:10]}, PostgreSQL {data['versions'].get('postgresql', '?')}, PgBouncer "
        f"{data['versions'].get('pgbouncer', '?')}, HAProxy {data['versions'].get('haproxy', '?')}; "
        f"{data['rounds']} rounds of {data['seconds']} s, scale {data['scale']}, {data['replication']} replication."
    )
    blocks = [
        "# The data path, measured",
        f"Written by `benchmarks/data_path/measure.py`; the method is in [README.md](README.md). {origin}",
        "## Goals",
        goals(data["goals"]),
        "## Throughput and latency",
        LEGEND,
        *(f"![{each['title']}]({each['file']})" for each in data["pictures"]),
        rows(data["rows"]),
        *section("Idle clients", memory(data["memory"])),
        *section("Storms", storms(data)),
        *section("Settings that were tried", variants(data.get("variants", []))),
        *section("Not measured", not_run(data)),
    ]
    return "\n\n".join(blocks) + "\n"


def goals(judged: Iterable[Data]) -> str:
    """Return the goals beside what was measured."""
    met = {True: "yes", False: "**no**", None: "not measured"}
    made = (
        (
            each["goal"],
            f"{'≤' if each['at_most'] else '≥'} {each['bound']:g} {each['unit']}",
            figure(each["measured"]),
            met[each["met"]],
        )
        for each in judged
    )
    return table(("goal", "bound", "measured", "met"), made)


def rows(measured: Iterable[Data]) -> str:
    """Return every case and path."""
    head = (
        "profile", "protocol", "clients", "connections", "path", "transactions/s", "spread", "of direct", "median",
        "p95", "p99", "processor: HAProxy", "PgBouncer", "PostgreSQL", "errors",
    )  # fmt: skip
    return table(head, map(row, measured))


def row(each: Data) -> tuple[str, ...]:
    """Return one row."""
    cost = each["processor_microseconds"] or {}
    latency = each["latency_milliseconds"]
    return (
        each["profile"],
        each["protocol"],
        f"{each['clients']:,}",
        "new" if each["connect"] else "held",
        each["path"],
        f"{each['transactions_per_second']:,.0f}",
        f"{min(each['rounds']):,.0f} to {max(each['rounds']):,.0f}",
        figure(each["ratio_to_direct"]),
        *(figure(latency[name]) for name in ("median", "p95", "p99")),
        *(figure(cost.get(name)) for name in ("haproxy", "pgbouncer", "postgres")),
        f"{each['errors']:,}",
    )


def memory(sizes: Sequence[Data]) -> str:
    """Return what proxies keep for idle clients."""
    if not sizes:
        return ""
    idle = sizes[0]["pss_bytes"]
    made = (
        (
            f"{each['clients']:,}",
            *(megabytes(each[f"{key}_bytes"]) for key in ("pss", "haproxy_pss", "pgbouncer_pss", "rss")),
            f"{(each['pss_bytes'] - idle) / each['clients'] / 1000:.1f}" if each["clients"] else "-",
        )
        for each in sizes
    )
    head = ("idle clients", "all proxies, MB", "HAProxy", "both PgBouncers", "resident", "KB a client")
    return f"{IDLE}\n\n{table(head, made)}"


def megabytes(number: int) -> str:
    """Return bytes in megabytes."""
    return f"{number / 1e6:.1f}"


def storms(data: Data) -> str:
    """Return what became of storms."""
    seen = data["storms"]
    made = (
        (
            f"{each['clients']:,}",
            each["path"],
            f"{each['served']:,}",
            f"{each['errors']:,}",
            *(figure(each["wait_milliseconds"][name]) for name in ("median", "p99", "last")),
            str(each["server_connections_at_most"]),
            "; ".join(each["complaints"]) or "-",
        )
        for each in seen
    )
    head = (
        "clients at once",
        "path",
        "served",
        "errors",
        "median ms",
        "p99",
        "last",
        "PostgreSQL's connections, at most",
        "said",
    )
    words = STORMS.format(client_limit=data["client_limit"], file_limit=data["file_limit"])
    return f"{words}\n\n{table(head, made)}" if seen else ""


def variants(tried: Sequence[Data]) -> str:
    """Return what settings changed, each beside the product's own in turn."""
    made = (
        (
            each["title"],
            each["case"],
            f"{each['usual']:,.0f}",
            f"{each['tried']:,.0f}",
            f"{each['ratio']:.2f}",
            each["spread"],
        )
        if "ratio" in each
        else (each["title"], each.get("case", "-"), "-", "-", "-", each["problem"])
        for each in tried
    )
    head = ("setting", "case", "usual, transactions/s", "with it", "multiple", "of single rounds")
    return f"{TRIED}\n\n{table(head, made)}" if tried else ""


def not_run(data: Data) -> str:
    """Return what was not measured, and why."""
    lines = [
        f"- {each['path']}, {each['profile']}, {each['protocol']}, {each['clients']:,} clients: {each['reason']}"
        for each in data["not_run"]
    ]
    return "\n".join([*lines, *(f"- {each}" for each in data["remarks"])])


def section(title: str, text: str) -> tuple[str, ...]:
    """Return a text under its title, nothing for an empty one."""
    return (f"## {title}\n\n{text}",) if text else ()


def figure(value: float | None) -> str:
    """Return a number with the digits that matter; a dash for none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
