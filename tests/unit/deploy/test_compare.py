from __future__ import annotations

import pytest

from pgbaton import blueprint as blueprints
from pgbaton.blueprint import HostBlueprint, Part
from pgbaton.components import manual
from pgbaton.components.base import File, OnChange, Unit, Wave
from pgbaton.deploy import compare, plan
from pgbaton.deploy.inventory import FileFacts, Inventory, Manifest, UnitFacts
from pgbaton.deploy.steps import Cost, Kind, Stage, Step
from pgbaton.secrets import Vault
from pgbaton.topology import load, presets

RUNNING = UnitFacts("loaded", "active", "enabled")
VAULT = Vault(None)  # type: ignore[arg-type]
VAULT._values = {}


def of(part: Part, **inventory: object) -> list[Step]:
    """The steps of a host with one component."""
    found = Inventory("db1", **inventory)  # type: ignore[arg-type]
    return list(compare.host_steps(HostBlueprint("db1", (part,)), found, VAULT))


def written(file: File) -> dict[str, FileFacts]:
    """The facts of a file that is as it should be."""
    return {file.path: FileFacts(compare.digest(file.content), f"{file.mode:04o} {file.owner} {file.group}")}


@pytest.mark.parametrize(
    ("facts", "masked", "expected"),
    [
        (RUNNING, False, None),
        (UnitFacts(), False, "enable, start"),
        (UnitFacts("loaded", "inactive", "enabled"), False, "start"),
        (UnitFacts("loaded", "failed", "enabled"), False, "start"),
        (UnitFacts("loaded", "activating", "enabled"), False, "start"),
        (UnitFacts("loaded", "active", "disabled"), False, "enable"),
        (UnitFacts("loaded", "active", "static"), False, None),
        (UnitFacts("masked", "inactive", "masked"), False, "unmask, enable, start"),
        (UnitFacts("loaded", "active", "enabled", needs_reload=True), False, "daemon-reload"),
        (RUNNING, True, "mask"),
        (UnitFacts("masked", "inactive", "masked"), True, None),
        (UnitFacts("masked", "active", "masked"), True, "mask"),
    ],
)
def test_a_unit_gets_what_it_lacks(facts: UnitFacts, masked: bool, expected: str | None) -> None:  # noqa: FBT001 - a table
    part = Part("x", Wave.DCS, units=(Unit("x.service", masked=masked),))
    assert [step.action for step in of(part, units={"x.service": facts})] == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("change", "server", "unit", "cost"),
    [
        (OnChange.NOTHING, "primary", "patroni.service", Cost.NOTHING),
        (OnChange.RELOAD, "primary", "patroni.service", Cost.RELOAD),
        (OnChange.RESTART, "primary", "patroni.service", Cost.SWITCHOVER),
        (OnChange.RESTART, "standby", "patroni.service", Cost.RESTART),
        (OnChange.RESTART, "primary", "etcd.service", Cost.RESTART),
    ],
)
def test_what_a_change_costs_depends_on_who_hears_of_it(change: OnChange, server: str, unit: str, cost: Cost) -> None:
    part = Part("x", Wave.DATABASE, files=(File("/etc/x", "new", unit=unit, on_change=change),), units=(Unit(unit),))
    steps = of(part, units={unit: RUNNING}, server=server)
    assert max(step.cost for step in steps) == cost


def test_the_strongest_demand_of_a_units_files_wins() -> None:
    files = (
        File("/etc/a", "a", unit="x.service", on_change=OnChange.RESTART),
        File("/etc/b", "b", unit="x.service", on_change=OnChange.RELOAD),
    )
    part = Part("x", Wave.DCS, files=files, units=(Unit("x.service"),))
    assert of(part, units={"x.service": RUNNING})[-1].action == "restart"


def test_a_file_of_a_template_concerns_every_instance() -> None:
    names = ("pool@write.service", "pool@read.service")
    file = File("/etc/users", "u", unit="pool@.service", on_change=OnChange.RELOAD)
    part = Part("pool", Wave.POOLER, files=(file,), units=tuple(Unit(name) for name in names))
    steps = of(part, units=dict.fromkeys(names, RUNNING))
    assert [(step.subject, step.action) for step in steps if step.kind is Kind.UNIT] == [
        ("pool@write.service", "reload"),
        ("pool@read.service", "reload"),
    ]
    assert steps[0].cost is Cost.RELOAD


def test_what_an_interrupted_apply_owed_a_unit_is_still_owed() -> None:
    part = Part("x", Wave.DCS, units=(Unit("x.service"),))
    (step,) = of(part, units={"x.service": RUNNING}, waiting={"x.service": "restart"})
    assert step.action == "restart"


@pytest.mark.parametrize(
    "changed",
    [
        File("/etc/a", "other"),
        File("/etc/a", "text", mode=0o600),
        File("/etc/a", "text", owner="postgres"),
        File("/etc/a", "text", group="postgres"),
    ],
)
def test_content_mode_owner_and_group_all_count(changed: File) -> None:
    now = written(File("/etc/a", "text"))
    assert of(Part("x", Wave.DCS, files=(File("/etc/a", "text"),)), files=now) == []
    assert [step.action for step in of(Part("x", Wave.DCS, files=(changed,)), files=now)] == ["change"]


def test_packages_that_are_missing_are_one_step() -> None:
    part = Part("packages", Wave.SYSTEM, packages=("a", "b", "c"))
    (step,) = of(part, packages=frozenset({"b"}))
    assert (step.kind, step.subject) == (Kind.PACKAGES, "a c")


def test_what_was_written_earlier_and_is_gone_from_the_blueprint_goes() -> None:
    manifest = Manifest("shop", {"/etc/old": "x", "/etc/gone": "x"}, ("old.service", "gone.service"))
    files = {"/etc/old": FileFacts("d", "0644 root root")}
    steps = of(Part("x", Wave.DCS), manifest=manifest, files=files, units={"old.service": RUNNING})
    assert [(step.subject, step.action) for step in steps] == [("old.service", "disable"), ("/etc/old", "remove")]


def test_a_timer_that_is_still_to_come_leaves_its_server_one_that_runs() -> None:
    topology = load.loads(presets.text("manual"))
    drawn = blueprints.draw(topology).host("db1")
    for units, running in (({manual.UNIT: RUNNING}, True), ({}, False)):
        seen = plan.Survey({"db1": Inventory("db1", units=units, server="primary")}, None)
        assert plan.situation(drawn, Stage.DATABASE, seen).running is running
