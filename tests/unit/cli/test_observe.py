"""What status, watch and logs make of their arguments, and how the screen looks."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1] / "observe"))
from observed import AGENTS, TOPOLOGY, agent, changed, fenced, gone, healthy, topology, with_agents

from pgbaton.cli import live, observe
from pgbaton.cli.screen import entry_line, screen
from pgbaton.errors import UsageError
from pgbaton.observe.journal import Entry
from pgbaton.observe.report import Report, report
from pgbaton.observe.snapshot import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.observe.snapshot import Snapshot
    from pgbaton.topology.model import Topology


def drawn(snapshot: Snapshot, *, of: Topology = TOPOLOGY, width: int = 80, **options: object) -> list[str]:
    """Return the lines of a screen."""
    console = Console(file=io.StringIO(), width=width, **options)  # type: ignore[arg-type]
    with console.capture() as capture:
        console.print(screen(report(of, snapshot), width=width))
    return capture.get().splitlines()


def test_a_healthy_cluster_fits_a_small_terminal() -> None:
    lines = drawn(healthy())
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for fact in ("standard", "healthy", "primary db1", "timeline 3", "10.77.0.100 on lb1", "writes 2/2", "reads 2/2"):
        assert fact in text
    assert "standby sync" in text
    assert "etcd 3/3 healthy, leader db2" in text


def test_a_dead_primary_is_shown_with_what_to_do() -> None:
    text = " ".join("\n".join(drawn(gone(healthy(), "db1"))).split())
    assert "down" in text
    assert "unreachable" in text
    assert "none of 3 databases takes writes" in text
    assert "→" in text


def test_several_vips_have_a_line_of_their_own() -> None:
    of = topology(network={"more_vips": (IPv4Address("10.77.0.101"),)})
    both = changed(changed(healthy(), "lb1", more_vips=("10.77.0.101",)), "lb2", more_vips=())
    lines = drawn(both, of=of)
    assert "VIPs 10.77.0.100 on lb1, 10.77.0.101 on lb1" in lines
    assert any("lb1" in line and "2 VIPs" in line for line in lines)
    assert any("lb2 is its own balancer" in line for line in lines)
    assert max(map(len, lines)) <= 80
    apart = drawn(changed(changed(both, "lb1", more_vips=()), "lb2", more_vips=("10.77.0.101",)), of=of)
    assert "VIPs 10.77.0.100 on lb1, 10.77.0.101 on lb2" in apart
    assert not any("2 VIPs" in line for line in apart)


def test_agents_have_a_line_of_their_own_and_only_where_there_are_some() -> None:
    lines = drawn(with_agents(), of=AGENTS)
    assert "agents 5/5 running, each heard by 4 of 4" in lines
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert not any("agents" in line for line in drawn(healthy()))


def test_an_agent_that_is_missing_or_heard_by_fewer_is_named() -> None:
    lines = drawn(gone(with_agents(), "db3"), of=AGENTS)
    assert "agents 4/5 running (db3 unreachable), each heard by 3 of 4" in lines
    deaf = changed(with_agents(), "db1", agent=agent("db1", silent=("db2",)))
    assert "agents 5/5 running, each heard by 4 of 4, but db2 by 3" in drawn(deaf, of=AGENTS)


def test_fences_are_told_in_plain_words() -> None:
    text = " ".join("\n".join(drawn(fenced(gone(with_agents(), "db1"), "db1", on=("db2", "db3")), of=AGENTS)).split())
    assert "each heard by 3 of 4; db1 is fenced on db2, db3" in text
    assert "is fenced on db2, db3 (silent, lock of revision 12)" in text


def test_text_from_hosts_is_no_markup() -> None:
    snapshot = changed(healthy(), "lb2", problems=(Problem("disk", "[/red] odd"),))
    assert "[/red] odd" in " ".join("\n".join(drawn(snapshot)).split())


def test_without_colours_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    coloured = drawn(healthy(), force_terminal=True)
    assert any("\x1b[3" in line or "\x1b[1;3" in line for line in coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = drawn(healthy(), force_terminal=True)
    assert not any("\x1b[3" in line or "\x1b[1;3" in line for line in plain)


def test_a_journal_entry_is_one_line_with_its_host_and_unit() -> None:
    entry = Entry(1_769_860_800_123_456, "db1", "patroni.service", "patroni", 3, "ERROR: [bold] it broke")
    assert entry_line(entry).plain.endswith(".123456 db1        patroni          ERROR: [bold] it broke")


def units(*names: str, hosts: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    return observe.chosen_units(TOPOLOGY, hosts, names)


def test_units_are_chosen_by_their_short_names() -> None:
    assert units("pgbouncer", hosts=("lb1",)) == {"lb1": ("pgbouncer@write.service", "pgbouncer@read.service")}
    assert units("patroni.service") == dict.fromkeys(("db1", "db2", "db3"), ("patroni.service",))
    assert set(units()) == {"lb1", "lb2", "db1", "db2", "db3"}


def test_agents_are_chosen_by_the_short_name_of_their_unit_too() -> None:
    everywhere = dict.fromkeys(("lb1", "lb2", "db1", "db2", "db3"), ("pgbaton-agent.service",))
    for name in ("agent", "pgbaton-agent", "pgbaton-agent.service"):
        assert observe.chosen_units(AGENTS, (), (name,)) == everywhere


def test_the_units_there_are_are_told_by_their_short_names_in_one_line() -> None:
    with pytest.raises(UsageError, match="has no unit mysql") as caught:
        observe.chosen_units(AGENTS, (), ("mysql",))
    assert caught.value.hint == "known: agent, etcd, fences, firewall, haproxy, keepalived, patroni, pgbouncer, users"


@pytest.mark.parametrize(("names", "hosts"), [(("mysql",), ()), ((), ("db9",))])
def test_units_and_hosts_that_are_not_there_are_refused(names: tuple[str, ...], hosts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="has no"):
        units(*names, hosts=hosts)


@pytest.mark.parametrize(("since", "ago"), [("30s", 30), ("10m", 600), ("10min", 600), ("1.5h", 5400), ("2d", 172_800)])
def test_a_time_ago(since: str, ago: int) -> None:
    assert observe.microseconds(since, now=1_000_000.0) == (1_000_000 - ago) * 1_000_000


def test_a_point_in_time() -> None:
    assert observe.microseconds("1970-01-02T00:00:00+00:00", now=0) == 86_400_000_000


@pytest.mark.parametrize("since", ["", "soon", "10", "-5m", "10 m ago"])
def test_what_is_no_time_is_refused(since: str) -> None:
    with pytest.raises(UsageError, match="no point in time"):
        observe.microseconds(since, now=0)


def test_a_pattern_is_searched_and_a_broken_one_refused() -> None:
    assert observe.matching("promot|demot")("was promoted")
    assert not observe.matching("promot")("nothing")
    assert observe.matching(None)("anything")
    with pytest.raises(UsageError, match="no regular expression") as caught:
        observe.matching("[")
    assert caught.value.hint == "to find just these characters, give '\\['"


def test_entries_are_printed_redacted_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    entry = Entry(0, "db1", "patroni.service", "patroni", 6, "password is hush")
    tell = partial(observe.print_entries, (entry,), redact=lambda text: text.replace("hush", "<<secret:x>>"))
    tell(matcher=lambda _: True, as_json=True)
    assert json.loads(capsys.readouterr().out)["message"] == "password is <<secret:x>>"
    tell(matcher=lambda message: "hush" in message, as_json=True)
    assert capsys.readouterr().out == ""


@pytest.fixture
def looks() -> Iterator[Report]:
    return iter([report(TOPOLOGY, healthy()), report(TOPOLOGY, healthy()), report(TOPOLOGY, gone(healthy(), "db3"))])


async def test_changes_are_told_line_by_line_without_a_terminal(
    looks: Iterator[Report], capsys: pytest.CaptureFixture[str]
) -> None:
    async def look() -> Report:
        try:
            return next(looks)
        except StopIteration:
            raise asyncio.CancelledError from None

    with pytest.raises(asyncio.CancelledError):
        await live.as_lines(look, interval_seconds=0, as_json=True)
    told = [json.loads(line)["change"] for line in capsys.readouterr().out.splitlines()]
    assert "primary: db1" in told
    assert told[-3:] == [
        "health: healthy → degraded",
        "db3: streaming, standby → unreachable",
        "warning: db3: unreachable: no end after 5 s",
    ]
