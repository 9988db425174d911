from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from pgbaton.components.base import OnChange
from pgbaton.deploy import journal
from pgbaton.deploy.steps import Cost, Kind, Stage
from pgbaton.errors import Error, RefusedError, UnhealthyError

if TYPE_CHECKING:
    from benches import Bench


def told(bench: Bench, *words: str) -> list[str]:
    """The calls that have one of these words, as "host what"."""
    return [call for call in bench.calls if any(word in call for word in words)]


async def test_a_first_apply_brings_the_stages_up_in_order(bench: Bench) -> None:
    await bench.apply()
    started = told(bench, "apt-get", " start ")
    order = ["apt-get", "dcs.service", "patroni.service", "balancer.service"]
    ranks = [next(rank for rank, word in enumerate(order) if word in call) for call in started]
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1, 2, 3}


async def test_the_first_database_works_before_the_others_start(bench: Bench) -> None:
    database = bench.components[1]
    database.well["db1"] = False
    with pytest.raises(UnhealthyError, match="database is not ready"):
        await bench.apply(ready_seconds=0.3)
    assert told(bench, "start patroni") == ["db1 start patroni.service"]


async def test_a_second_apply_changes_nothing_and_probes_everything(deployed: Bench) -> None:
    for component in deployed.components:
        component.probed.clear()
    outcome = await deployed.apply()
    assert outcome.steps == 0
    assert deployed.calls == []
    assert all(component.probed for component in deployed.components)


async def test_an_apply_without_changes_still_says_what_does_not_work(deployed: Bench) -> None:
    deployed.components[2].well["lb2"] = False
    with pytest.raises(UnhealthyError, match="balancer"):
        await deployed.apply(ready_seconds=0.2)


async def test_files_carry_secrets_and_modes(deployed: Bench) -> None:
    path = deployed.root("db1") / "etc/dcs/main.conf"
    assert deployed.vault.value("password/app") in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


async def test_no_secret_is_in_a_plan_a_journal_a_report_or_a_command_line(bench: Bench) -> None:
    made = await bench.plan()
    await bench.apply(made)
    bench.components[0].line = "second"
    again = await bench.plan()
    texts = [json.dumps(plan.to_json()) for plan in (made, again)]
    texts += [path.read_text() for path in bench.state.journal_directory.iterdir()]
    texts += [*bench.reports, *bench.calls, *bench.server.statements]
    texts += [word for host in bench.hosts.values() for argv, _ in host.calls for word in argv]
    for name, value in bench.vault.sensitive_values.items():
        assert not [text for text in texts if value in text], name


async def test_a_changed_file_reloads_its_unit_on_one_host_after_another(deployed: Bench) -> None:
    deployed.components[0].line = "second"
    made = await deployed.plan()
    assert made.cost is Cost.RELOAD
    assert made.waves[0].batches == (("db2",), ("db3",), ("db1",))
    await deployed.apply(made)
    reloads = told(deployed, "reload-or-restart")
    assert reloads == [f"{host} reload-or-restart dcs.service" for host in ("db2", "db3", "db1")]


async def test_a_plan_shows_references_and_the_difference(deployed: Bench) -> None:
    deployed.components[0].line = "second"
    made = await deployed.plan()
    step = next(step for step in made.steps if step.kind is Kind.FILE)
    assert step.before == "line = first\npassword = <<secret:password/app>>\n"
    assert step.after == "line = second\npassword = <<secret:password/app>>\n"


async def test_a_file_that_changed_since_the_plan_is_refused_by_name(deployed: Bench) -> None:
    deployed.components[0].line = "second"
    made = await deployed.plan()
    (deployed.root("db2") / "etc/dcs/main.conf").write_text("somebody was here\n")
    with pytest.raises(RefusedError, match=r"db2: /etc/dcs/main\.conf"):
        await deployed.apply(made)
    assert deployed.calls == []


async def test_what_a_validator_refuses_replaces_nothing(deployed: Bench) -> None:
    deployed.components[0].line = "invalid"
    with pytest.raises(Error, match=r"its own validator refuses /etc/dcs/main.conf") as caught:
        await deployed.apply()
    assert deployed.vault.value("password/app") not in str(caught.value)
    assert "first" in (deployed.root("db2") / "etc/dcs/main.conf").read_text()
    assert deployed.calls == []
    deployed.components[0].line = "first"
    assert not (await deployed.plan()).changes


async def test_a_stop_of_the_primarys_server_is_preceded_by_a_switchover(deployed: Bench) -> None:
    deployed.components[1].dropin = "b"
    made = await deployed.plan()
    assert made.cost is Cost.SWITCHOVER
    assert made.waves[0].batches == (("db2",), ("db3",), ("db1",))
    await deployed.apply(made)
    assert told(deployed, "restart", "switchover") == [
        "db2 restart patroni.service",
        "db3 restart patroni.service",
        "switchover away from db1",
        "db1 restart patroni.service",
    ]


async def test_a_member_is_not_restarted_while_another_is_unwell(deployed: Bench) -> None:
    dcs = deployed.components[0]
    dcs.dropin = "b"
    dcs.well["db3"] = False
    made = await deployed.plan()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pgbaton.deploy.apply.GUARD_SECONDS", 0.2)
        with pytest.raises(RefusedError, match="would interrupt the cluster"):
            await deployed.apply(made)
    assert told(deployed, "restart") == []


async def test_members_none_of_which_works_are_brought_up_together(deployed: Bench) -> None:
    dcs = deployed.components[0]
    dcs.dropin = "b"
    for host in ("db1", "db2", "db3"):
        (deployed.root(host) / "fake/units/dcs.service/state").write_text("activating")
    (deployed.root("db1") / "fake/units/dcs.service/state").write_text("active")
    dcs.well |= dict.fromkeys(("db1", "db2", "db3"), False)
    made = await deployed.plan()
    dcs.on_probe = lambda: dcs.well.clear() if len(told(deployed, "dcs.service")) == 3 else None
    await deployed.apply(made, ready_seconds=20)


async def test_an_interrupted_replacement_is_taken_up_by_the_next_apply(deployed: Bench) -> None:
    deployed.components[0].dropin = "b"
    broken = deployed.root("db2") / "fake/units/dcs.service/broken"
    broken.touch()
    with pytest.raises(UnhealthyError, match="restart failed"):
        await deployed.apply(ready_seconds=0.2)
    (deployed.root("db2") / "fake/units/dcs.service/state").write_text("active")
    broken.unlink()
    deployed.forget_calls()
    made = await deployed.plan()
    assert [str(step) for step in made.steps if step.host == "db2"] == ["db2: restart dcs.service"]
    await deployed.apply(made)
    assert [call for call in told(deployed, "restart") if call.startswith("db2")] == ["db2 restart dcs.service"]
    assert not (await deployed.plan()).changes


async def test_a_unit_that_fails_is_reported_with_its_journal_and_without_secrets(bench: Bench) -> None:
    (bench.root("db2") / "fake/units/dcs.service").mkdir(parents=True)
    (bench.root("db2") / "fake/units/dcs.service/broken").touch()
    (bench.root("db2") / "fake/journal").write_text(f"bad password {bench.vault.value('password/app')}\n")
    with pytest.raises(UnhealthyError, match="systemctl start failed") as caught:
        await bench.apply(ready_seconds=0.2)
    assert caught.value.where == "db2"
    assert "bad password <<secret:password/app>>" in str(caught.value.hint)


async def test_a_cancelled_apply_finishes_the_hosts_share_and_says_where_it_stopped(bench: Bench) -> None:
    database = bench.components[1]
    database.well["db1"] = False
    work = asyncio.create_task(bench.apply(ready_seconds=30))
    database.on_probe = work.cancel
    with pytest.raises(asyncio.CancelledError):
        await work
    assert bench.reports[-1].startswith("stopped in the wave of databases")
    assert journal.unfinished(bench.state)
    database.well.clear()
    database.on_probe = lambda: None
    outcome = await bench.apply()
    assert outcome.steps
    assert journal.unfinished(bench.state) == ()
    assert not (await bench.plan()).changes


async def test_the_journal_tells_each_share_with_its_steps(deployed: Bench) -> None:
    last = journal.last_plan(deployed.state)
    assert last is not None
    lines = journal.of(deployed.state, last).read()
    done = {(line["what"], line.get("host")) for line in lines if line["event"] == "done"}
    assert {("etcd", "db1"), ("databases", "db3"), ("balancers", "lb2")} <= done
    assert lines[0]["event"] == "plan"
    assert lines[-1]["event"] == "end"


async def test_what_left_the_blueprint_leaves_the_hosts(deployed: Bench) -> None:
    deployed.components[2].extra = False
    made = await deployed.plan()
    assert [step.subject for step in made.steps] == ["/etc/balancer/extra"] * 2
    assert made.waves[0].stage is Stage.LEFTOVERS
    await deployed.apply(made)
    assert not (deployed.root("lb1") / "etc/balancer/extra").exists()
    assert not (await deployed.plan()).changes


async def test_a_component_that_left_a_host_is_stopped_there(deployed: Bench) -> None:
    deployed.components[2].runs_on = lambda _, host: host.name == "lb1"  # type: ignore[method-assign]
    deployed.parts = parts_or_none(deployed)  # type: ignore[method-assign]
    made = await deployed.plan()
    await deployed.apply(made)
    assert "lb2 disable balancer.service" in deployed.calls
    assert not (deployed.root("lb2") / "etc/balancer/main.conf").exists()


def parts_or_none(bench: Bench):  # noqa: ANN201 - a stand-in for a method
    """Give hosts without components their ground alone."""
    original = bench.parts
    return lambda host: original(host) if host.name != "lb2" else original(bench.topology.host("lb1"))[:1]


async def test_a_host_of_another_cluster_is_refused(deployed: Bench) -> None:
    manifest = deployed.root("db3") / "var/lib/pgbaton/manifest.json"
    manifest.write_text(manifest.read_text().replace('"shop"', '"stock"'))
    with pytest.raises(RefusedError, match="belongs to cluster stock, not to shop"):
        await deployed.plan()


async def test_settings_that_need_a_restart_get_it_the_primary_last(deployed: Bench) -> None:
    deployed.dynamic = {"ttl": 20, "postgresql": {"parameters": {"max_connections": 300}}}
    made = await deployed.plan()
    assert made.cost is Cost.SWITCHOVER
    deployed.waiting = ["db2", "db3", "db1"]
    await deployed.apply(made)
    assert deployed.server.dynamic["postgresql"]["parameters"] == {"max_connections": 300}
    assert deployed.calls == [f"restart of the server on {host}" for host in ("db2", "db3", "db1")]


async def test_a_lowered_limit_restarts_the_primary_first_and_in_place(deployed: Bench) -> None:
    deployed.server.dynamic["postgresql"] = {"parameters": {"max_connections": 300}}
    deployed.dynamic = {"ttl": 20, "postgresql": {"parameters": {"max_connections": 200}}}
    deployed.waiting = ["db2", "db3", "db1"]
    await deployed.apply()
    assert deployed.calls == [f"restart of the server on {host} in place" for host in ("db1", "db3", "db2")]


async def test_dynamic_configuration_that_changed_since_the_plan_is_refused(deployed: Bench) -> None:
    deployed.dynamic = {"ttl": 30}
    made = await deployed.plan()
    deployed.server.dynamic["ttl"] = 25
    with pytest.raises(RefusedError, match="dynamic configuration changed since"):
        await deployed.apply(made)


async def test_packages_install_while_nothing_may_start(bench: Bench) -> None:
    await bench.apply()
    installs = told(bench, "apt-get")
    assert installs
    assert all("guarded" in call for call in installs)
    assert not (bench.root("db1") / "usr/sbin/policy-rc.d").exists()


async def test_a_mode_that_was_changed_by_hand_is_put_right(deployed: Bench) -> None:
    path = deployed.root("lb1") / "etc/balancer/main.conf"
    path.chmod(0o644)
    made = await deployed.plan()
    assert [step.subject for step in made.steps if step.kind is Kind.FILE] == ["/etc/balancer/main.conf"]
    await deployed.apply(made)
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_stopped_unit_is_started_and_costs_nothing(deployed: Bench) -> None:
    (deployed.root("lb1") / "fake/units/balancer.service/state").write_text("inactive")
    deployed.components[2].on_change = OnChange.RESTART
    deployed.components[2].line = "second"
    made = await deployed.plan()
    assert {step.cost for step in made.steps if step.host == "lb1"} == {Cost.NOTHING}
    await deployed.apply(made)
    assert "lb1 start balancer.service" in deployed.calls
