from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from pgbaton import state as states
from pgbaton.cli import deploy, planview
from pgbaton.components.base import describe
from pgbaton.deploy.steps import Cost, Kind, Plan, PlannedWave, Stage, Step
from pgbaton.errors import UnreachableError, UsageError
from pgbaton.hosts.fake import FakeHost
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pathlib import Path

CHANGE = Step(
    Kind.FILE, Stage.DCS, "db1", "etcd", "/etc/default/etcd", "change", Cost.RESTART,
    before="one\ntwo\n", after="one\nthree\n", before_access="0644 root root", access="0600 root root",
)  # fmt: skip
KEY = Step(Kind.FILE, Stage.DCS, "db2", "etcd", "/key", "create", after="<<secret:key/x>>", secret=True)
RESTART = Step(Kind.UNIT, Stage.DCS, "db1", "etcd", "etcd.service", "restart", Cost.RESTART, "active", "active")


def plan_of(*steps: Step) -> Plan:
    waves = (PlannedWave(Stage.DCS, (("db1",), ("db2",)), steps),) if steps else ()
    return Plan("p1", "shop", "2025", "", None, waves, notes=("roles not managed, left alone: report",))


def lines(plan: Plan, *, diffs: bool = True) -> list[str]:
    return [line.plain for line in planview.lines(plan, diffs=diffs)]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A topology file, and a home that knows no cluster."""
    monkeypatch.setenv("PGBATON_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.toml"
    path.write_text(presets.text("standard", cluster="shop"))
    return path


def test_a_plan_shows_order_steps_differences_and_cost() -> None:
    assert lines(plan_of(CHANGE, RESTART)) == [
        "etcd  db1, then db2",
        "  ~ db1: change /etc/default/etcd  [restart]",
        "      mode, owner, group: 0644 root root -> 0600 root root",
        "      --- /etc/default/etcd",
        "      +++ /etc/default/etcd",
        "      @@ -1,2 +1,2 @@",
        "       one",
        "      -two",
        "      +three",
        "  ~ db1: restart etcd.service  [restart]",
        "      active -> active",
        "note: roles not managed, left alone: report",
        "plan: 1 file, 1 unit on 1 host; cost: 2 restart",
    ]


def test_a_secret_file_shows_that_it_changes_and_not_how() -> None:
    assert "  + db2: create /key  (secret)" in lines(plan_of(KEY))
    assert not [line for line in lines(plan_of(KEY)) if "<<secret" in line]


def test_a_plan_without_changes_says_so() -> None:
    assert lines(plan_of())[-1] == "no changes: the hosts are what the topology says"


def test_render_shows_references_in_the_place_of_secrets(file: Path) -> None:
    result = CliRunner().invoke(deploy.render, [str(file), "--host", "db1", "-o", "json"], catch_exceptions=False)
    files = json.loads(result.stdout)["db1"]
    assert "<<secret:password/rest>>" in files["/etc/patroni/config.yml"]["content"]
    assert files["/etc/pgbaton/tls/patroni.key"]["content"] == "<<secret:key/patroni/db1>>"


def test_render_writes_a_directory_a_host(file: Path, tmp_path: Path) -> None:
    CliRunner().invoke(deploy.render, [str(file), "--output-dir", str(tmp_path / "out")], catch_exceptions=False)
    assert (tmp_path / "out/lb1/etc/haproxy/haproxy.cfg").is_file()
    assert (tmp_path / "out/db3/etc/patroni/config.yml").is_file()


def test_render_shows_what_a_binary_file_is_and_writes_it_as_it_is(file: Path, tmp_path: Path) -> None:
    file.write_text(f"{file.read_text()}\n[orchestration]\nagent = true\n")
    arguments = [str(file), "--host", "db1", "--output-dir", str(tmp_path / "out"), "-o", "json"]
    result = CliRunner().invoke(deploy.render, arguments, catch_exceptions=False)
    written = (tmp_path / "out/db1/usr/lib/pgbaton/agent.pyz").read_bytes()
    assert json.loads(result.stdout)["db1"]["/usr/lib/pgbaton/agent.pyz"]["content"] == describe(written)
    assert written.startswith(b"#!/usr/bin/python3\nPK")


def test_render_leaves_no_trace_of_a_cluster(file: Path, tmp_path: Path) -> None:
    CliRunner().invoke(deploy.render, [str(file)], catch_exceptions=False)
    assert not (tmp_path / "home").exists()


def test_a_plan_leaves_no_trace_of_a_cluster(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = UnreachableError("no route to host")
    names = [host.name for host in load.load(file).hosts]
    hosts = {name: FakeHost(name, answers={("sh",): gone}) for name in names}
    monkeypatch.setattr(deploy, "connect", lambda *_: hosts)
    with pytest.raises(UnreachableError, match="db1: no route to host"):
        CliRunner().invoke(deploy.plan, [str(file)], catch_exceptions=False)
    assert not (tmp_path / "home").exists()


def test_render_names_the_hosts_there_are(file: Path) -> None:
    with pytest.raises(UsageError, match="no host named db9") as caught:
        CliRunner().invoke(deploy.render, [str(file), "--host", "db9"], catch_exceptions=False)
    assert "db1" in str(caught.value.hint)


def test_without_a_file_the_remembered_topology_is_meant(file: Path) -> None:
    state = states.cluster("shop")
    state.create()
    state.topology_file.write_text(file.read_text())
    assert deploy.subject(None, None).state == state


def test_without_a_file_or_a_cluster_the_directorys_own_is_meant(file: Path, tmp_path: Path) -> None:
    file.rename(tmp_path / "topology.toml")
    assert deploy.subject(None, None).topology.name == "shop"


def test_without_anything_the_user_is_told_what_to_give(file: Path) -> None:
    del file
    with pytest.raises(UsageError, match="no cluster is known"):
        deploy.subject(None, None)


def test_a_saved_plan_is_told_from_a_topology(file: Path, tmp_path: Path) -> None:
    saved = tmp_path / "plan.json"
    saved.write_text(json.dumps(plan_of(CHANGE).to_json()))
    assert deploy.is_plan(saved)
    assert not deploy.is_plan(file)


def test_a_plan_is_the_same_after_a_journey_through_json() -> None:
    plan = plan_of(CHANGE, KEY, RESTART)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
