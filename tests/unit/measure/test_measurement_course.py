"""The course of a measurement: what is put on hosts, in which order, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from made_measurement import STANDARD, measurement

from pgbaton.errors import CommandError, Error, MissingCapabilityError, RefusedError, UnhealthyError
from pgbaton.hosts.fake import FakeHost
from pgbaton.measure import bench, client, pgbench, profiles
from pgbaton.measure.bench import Bench
from pgbaton.proof.target import Roles, Target
from pgbaton.state import ClusterState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pgbaton.measure.pgbench import Outcome

    Answer = str | Exception

WORKED = "number of transactions actually processed: 100\ntps = 20.0 (x)\n-- latencies\n500 100\n"
PSQL = ("runuser", "-u", "postgres")
RUN = ("systemd-run",)


class Played:
    """A cluster whose hosts do as they are told, and a measurement of it that has only begun."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        self.said, self.sql, self.primaries = list[str](), list[str](), ["db1"]
        self.foreign, self.remark, self.used = "", "", 10
        self.client = FakeHost("lb2", answers=self.answers())
        self.primary = FakeHost("db1", answers={PSQL: self.answer, ("sh", "-c", pgbench.FIND): "/usr/bin/pgbench\n"})
        monkeypatch.setattr(Target, "hosts", {"lb2": self.client, "db1": self.primary, "db2": self.primary})
        monkeypatch.setattr(Target, "roles", self.roles)
        monkeypatch.setattr(Target, "primary", self.leading)
        state = ClusterState("orders", home / "orders")
        state.create()
        secrets = {"password/user/app": "se:cret", "ca": "authority"}
        (state.vault_directory / "vault.json").write_text(json.dumps(secrets))
        begun = measurement(rounds=2)
        self.bench = Bench(
            Target(STANDARD, state, self.said.append), replace(begun, runs=(), not_run=(), complete=False)
        )

    @staticmethod
    def answers() -> dict[tuple[str, ...], Answer | Callable[[str], Answer]]:
        return {
            ("systemctl", "is-active"): "inactive\n",
            ("systemctl", "stop"): "",
            ("rm",): "",
            ("install",): "",
            ("nproc",): "4\n",
            ("sh", "-c", pgbench.FIND): "/usr/lib/postgresql/17/bin/pgbench\n",
            ("sh",): "",
            RUN: WORKED,
        }

    def answer(self, text: str) -> str:
        self.sql.append(text.removesuffix(";\n"))
        known = {profiles.FOREIGN: self.foreign, profiles.REMARK: self.remark}
        return known.get(self.sql[-1], f"197|{self.used}\n" if "max_connections" in text else "")

    async def roles(self, _: Target | None = None) -> Roles:
        return Roles(await self.leading(), "lb1", ("db2", "db3"))

    async def leading(self, _: Target | None = None) -> str:
        return self.primaries.pop(0) if len(self.primaries) > 1 else self.primaries[0]

    def is_clear(self) -> bool:
        """Tell whether the last that was done was to end pgbench, and to take everything away."""
        ended = [argv[:2] for argv, _ in self.client.calls[-2:]]
        return ended == [("systemctl", "stop"), ("rm", "-rf")] and self.sql[-1] == profiles.DROP


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Played:
    return Played(monkeypatch, tmp_path)


async def test_every_step_is_made_and_told_and_nothing_is_left(played: Played) -> None:
    await played.bench.run()
    result = played.bench.result
    assert result.complete
    assert len(result.runs) == len(played.client.called("systemd-run")) == 2 * 4 * 3
    assert "1/24  round 1: select-only, simple, 1 client, direct: 20/s, median 0.5 ms" in played.said
    assert played.is_clear()


async def test_the_password_is_in_a_file_that_only_root_reads_and_in_no_command_line(played: Played) -> None:
    await played.bench.run()
    written = {argv[4]: (text, argv[5]) for argv, text in played.client.calls if argv[:1] == ("sh",) and len(argv) > 5}
    assert written[f"{client.DIRECTORY}/passfile"] == ("*:*:*:*:se\\:cret\n", "0600")
    assert ("install", "-d", "-m", "0700", client.DIRECTORY) in [argv for argv, _ in played.client.calls]
    assert not any("cret" in word for argv, _ in played.client.calls for word in argv)


async def test_small_tables_are_made_small_again_before_every_step_that_writes(played: Played) -> None:
    await played.bench.run()
    assert played.sql.count(profiles.TIDY) == 2 * 2 * 3


async def test_a_run_ends_by_itself_when_nobody_waits_for_it_any_more(played: Played) -> None:
    await played.bench.run()
    (words, *_) = played.client.called("systemd-run")
    assert {"--property=RuntimeMaxSec=75", "--property=LimitNOFILE=257", "--wait", "--pipe"} <= set(words)
    assert not any("$" in word for word in words)


async def test_somebody_elses_tables_are_left_alone(played: Played) -> None:
    played.foreign = "public.pgbench_accounts\npublic.pgbench_tellers\n"
    with pytest.raises(RefusedError, match=r"not ours: public\.pgbench_accounts, public\.pgbench_tellers"):
        await played.bench.run()
    assert played.sql == [profiles.FOREIGN]
    assert not played.client.called("rm")


async def test_a_schema_of_our_name_that_we_did_not_make_is_left_alone(played: Played) -> None:
    played.remark = "-\n"
    with pytest.raises(RefusedError, match="a schema pgbaton_bench that pgbaton bench did not make"):
        await played.bench.run()
    assert profiles.DROP not in played.sql


async def test_what_an_interrupted_measurement_left_is_cleared_away_first(played: Played) -> None:
    played.remark = f"{profiles.MARK}\n"
    await played.bench.run()
    made = next(text for text in played.sql if "CREATE SCHEMA" in text)
    assert played.sql.index(profiles.DROP) < played.sql.index(made)


async def test_beside_another_measurement_none_is_begun(played: Played) -> None:
    played.client.answers["systemctl", "is-active"] = "active\n"
    with pytest.raises(RefusedError, match="another measurement is at work"):
        await played.bench.run()
    assert not played.sql
    assert not played.client.called("systemctl", "stop")


async def test_one_that_is_interrupted_leaves_nothing_and_keeps_what_it_has(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, steps = client.Client.run, 0

    async def interrupted(*arguments: Any, **options: Any) -> Outcome:  # noqa: ANN401 - passed on as they are
        nonlocal steps
        steps += 1
        if steps == 3:
            work.cancel()
            await asyncio.sleep(60)
        return await run(*arguments, **options)

    monkeypatch.setattr(client.Client, "run", interrupted)
    work = asyncio.ensure_future(played.bench.run())
    with pytest.raises(asyncio.CancelledError):
        await work
    assert len(played.bench.result.runs) == 2
    assert not played.bench.result.complete
    assert played.is_clear()


async def test_a_pgbench_that_cannot_be_started_is_an_error_with_what_was_said(played: Played) -> None:
    played.client.answers[RUN] = CommandError("Failed to set resource limits", where="lb2")
    with pytest.raises(CommandError, match="resource limits"):
        await played.bench.run()
    assert played.is_clear()
    played.client.answers[RUN] = "nothing that pgbench prints\n"
    with pytest.raises(CommandError, match="exit status 0 from: systemd-run"):
        await played.bench.run()


async def test_a_primary_that_moves_ends_it_since_paths_cannot_be_compared_then(played: Played) -> None:
    played.primaries = ["db2"]
    with pytest.raises(UnhealthyError, match="the primary moved from db1 to db2 meanwhile"):
        await played.bench.run()
    assert len(played.bench.result.runs) == 12
    assert played.is_clear()


async def test_a_case_that_the_server_has_no_room_for_is_told_of_once(played: Played) -> None:
    played.used = 190
    await played.bench.run()
    result = played.bench.result
    assert {(each.case.clients, each.way) for each in result.not_run} == {(16, "direct")}
    assert len(result.not_run) == 2
    assert len(result.runs) == 2 * (4 * 3 - 2)
    assert sum("not measured: the server lets" in line for line in played.said) == 2


async def test_what_cannot_be_cleared_away_is_told_of_and_hides_no_error(played: Played) -> None:
    played.client.answers["systemctl", "stop"] = Error("no answer")
    played.primaries = ["db2"]
    with pytest.raises(UnhealthyError, match="moved"):
        await played.bench.run()
    assert "lb2 could not be cleared; the next measurement does: no answer" in played.said


async def test_a_host_without_pgbench_is_given_the_primarys(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    played.client.answers["sh", "-c", pgbench.FIND] = ""
    played.client.answers[f"{client.BROUGHT}/pgbench",] = "pgbench (PostgreSQL) 17"
    played.primary.answers["sh", "-c", client.files.READ] = "/usr/bin/pgbench\t755\troot\troot\tZWxm\n"
    await played.bench.run()
    written = {argv[4]: (text, argv[5]) for argv, text in played.client.calls if argv[:1] == ("sh",) and len(argv) > 5}
    assert written[f"{client.BROUGHT}/pgbench"] == ("elf", "0755")
    assert f"{client.BROUGHT}/pgbench" in played.client.called("systemd-run")[0]
    assert ("rm", "-rf", client.DIRECTORY, client.BROUGHT) in played.client.called("rm")
    played.primary.answers["sh", "-c", pgbench.FIND] = ""
    with pytest.raises(MissingCapabilityError, match="neither here nor on db1"):
        await played.bench.run()
    assert monkeypatch


def test_what_would_be_done_is_said_beforehand() -> None:
    said = "\n".join(bench.intended(STANDARD, measurement()))
    assert "pgbench works on lb2, as fast as it can, for about 180 s" in said
    assert "up to 16 clients, by these paths: direct (10.77.0.21:5432)" in said
    assert "schema pgbaton_bench of the database app" in said
    assert "about 150 MB on every database host" in said
