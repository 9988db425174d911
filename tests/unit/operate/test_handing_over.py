"""A hand-over by hand whose promotion does not go as it should: there is one primary afterwards, or it is told."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from pgbaton.components import manual
from pgbaton.errors import CommandError, Error, UnhealthyError, UnreachableError
from pgbaton.hosts.fake import FakeHost
from pgbaton.operate import servers
from pgbaton.operate.hand import control, handover, promotion
from pgbaton.operate.operation import Operation
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FACTS = {
    "position": 900,
    "replayed": 900,
    "replay_paused": False,
    "receiving": False,
    "streaming_to": [],
    "pending_restart": False,
    "started": 1.0,
    "timeline": 1,
    "receiving_from": None,
}
LAST = control.Control("inactive", data=True, checkpoint=800, state="shut down", timeline=1)
TIMED_OUT = UnreachableError("no end after 80 s: psql")
NOT_LEVEL = CommandError(f"psql:<stdin>:9: ERROR:  {promotion.NOT_ASKED}: it has replayed 5 bytes of more than 800")


class Pair:
    """db1, which was stopped in order, and db2, which answers a promotion in a way of its own."""

    def __init__(self, promoted: str | Error, *, state: str = "shut down in recovery", stops: bool = True) -> None:
        self.words: list[str] = []
        self.promoted, self.state, self.stops = promoted, state, stops
        self.up = {"db1": False, "db2": True}
        self.in_recovery = True
        hosts = {name: FakeHost(name, answers=self.answers(name)) for name in ("db1", "db2")}
        self.operation = Operation(load.loads(presets.text("manual")), hosts, print, timeout_seconds=1)

    def answers(self, host: str) -> dict[tuple[str, ...], Any]:
        words = ("follow", "confirm", "condition", "permit", "lead")
        told = {(*manual.AS_SERVER, word): self.note(host, word) for word in words}
        units = {("systemctl", word): self.note(host, word) for word in ("start", "reload", "kill")}
        asked = {
            (*manual.AS_SERVER, "look"): lambda _: self.look(host),
            ("runuser",): lambda text: self.sql(host, text),
        }
        return {**told, **units, **asked, ("systemctl", "stop"): lambda _: self.stop(host), ("true",): ""}

    def note(self, host: str, word: str) -> Callable[[str], str]:
        def noted(_: str) -> str:
            self.words.append(f"{host} {word}")
            self.up[host] = self.up[host] or word == "start"
            return ""

        return noted

    def stop(self, host: str) -> str | Error:
        self.words.append(f"{host} stop")
        self.up[host] = self.up[host] and not self.stops
        return ""

    def look(self, host: str) -> str:
        control_file = {"state": self.state}
        said = {"data": True, "standby": self.in_recovery, "upstream": None, "detached": [], "timeline": 1}
        return json.dumps({**said, "unit": "active" if self.up[host] else "inactive", "control": control_file})

    def sql(self, host: str, text: str) -> str | Error:
        if "pg_promote" in text:
            self.words.append(f"{host} promote")
            return self.promoted
        if text == servers.FACTS:
            if not self.up[host]:
                return CommandError("connection refused")
            # Once it was started again with what it had become, it takes writes.
            came_out = not self.in_recovery or f"{host} start" in self.words
            return json.dumps({**FACTS, "in_recovery": not came_out})
        return ""

    def take_over(self) -> None:
        asyncio.run(handover.take_over(self.operation, "db1", "db2", LAST))

    def before(self, first: str, second: str) -> bool:
        return self.words.index(first) < self.words.index(second)


def test_a_standby_that_was_not_asked_goes_on_and_the_old_primary_starts() -> None:
    pair = Pair(NOT_LEVEL)
    with pytest.raises(Error, match="db1 is the primary again"):
        pair.take_over()
    assert "db2 stop" not in pair.words
    assert pair.before("db2 follow", "db1 permit")
    assert pair.before("db1 permit", "db1 start")


@pytest.mark.parametrize("answer", ["f", TIMED_OUT, CommandError("exit status 255 from: ssh")])
def test_a_standby_that_may_have_been_asked_is_stopped_before_the_old_primary_starts(answer: str | Error) -> None:
    pair = Pair(answer)
    with pytest.raises(Error, match="db1 is the primary again"):
        pair.take_over()
    assert pair.before("db2 stop", "db2 follow")
    assert pair.before("db2 follow", "db1 start")
    assert pair.before("db1 start", "db2 start")


@pytest.mark.parametrize("answer", ["f", TIMED_OUT])
def test_one_that_came_out_of_recovery_meanwhile_is_the_primary(answer: str | Error) -> None:
    pair = Pair(answer)
    pair.in_recovery = False
    pair.take_over()
    assert pair.words == ["db2 promote"]


def test_one_that_came_out_as_it_was_stopped_leads_and_the_old_primary_stays_down() -> None:
    pair = Pair("f", state="shut down")
    pair.take_over()
    assert "db2 start" in pair.words
    assert "db1 start" not in pair.words


def test_beside_one_that_cannot_be_stopped_nobody_starts() -> None:
    pair = Pair(TIMED_OUT, stops=False)
    with pytest.raises(UnhealthyError, match="nobody knows whether it was") as caught:
        pair.take_over()
    assert "--old-primary-is-off db2" in str(caught.value.hint)
    assert "db1 start" not in pair.words


def test_a_program_of_an_earlier_version_keeps_no_primary_down() -> None:
    pair = Pair(NOT_LEVEL)
    host = pair.operation.hosts["db1"]
    assert isinstance(host, FakeHost)
    host.answers[*manual.AS_SERVER, "permit"] = CommandError("exit status 1\nKeyError: 'permit'")
    with pytest.raises(Error, match="db1 is the primary again"):
        pair.take_over()
    assert "db1 start" in pair.words


def test_who_promotes_late_is_refused_once_the_standby_follows_again() -> None:
    sql = promotion.promotion_sql(800)
    assert sql.index("pg_file_settings") < sql.index("pg_promote")
    assert sql.index("COMMIT;") < sql.index("pg_sleep")


def test_a_primary_that_is_stopped_for_a_hand_over_starts_again_by_itself_should_nobody_say_otherwise(
    tmp_path: Path,
) -> None:
    there = tmp_path / "fake" / "bin"
    there.mkdir(parents=True)
    notes = '#!/bin/sh\necho "${0##*/} $*" >> "$FAKE/called"\n'
    said = json.dumps({"data": True, "standby": False, "unit": "inactive", "upstream": None, "detached": []})
    left = said[:-1] + ', "timeline": 1, "control": {}}'
    for name, text in {"systemctl": "", "systemd-run": "", "runuser": f"echo '{left}'\n"}.items():
        (there / name).write_text(notes + text)
        (there / name).chmod(0o755)
    operation = Operation(load.loads(presets.text("manual")), {"db1": FakeHost("db1", root=tmp_path)}, print)
    assert not asyncio.run(control.stop_and_look(operation, "db1")).runs
    asyncio.run(control.disarm(operation, "db1"))
    called = (tmp_path / "fake" / "called").read_text().splitlines()
    assert [line.split()[0] for line in called] == ["systemctl", "systemd-run", "systemctl", "runuser", "systemctl"]
    assert "--on-active=180 -- systemctl start pgbaton-postgresql.service" in called[1]
    assert called[2:3] + called[4:] == [
        "systemctl stop pgbaton-postgresql.service",
        "systemctl stop pgbaton-start-again.timer",
    ]
    assert called[3].endswith("manual.py look resign")
