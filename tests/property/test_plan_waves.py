from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgbaton.deploy import objects, waves
from pgbaton.deploy.steps import Kind, Stage, Step
from pgbaton.deploy.waves import SERIAL, Situation

names = st.lists(st.sampled_from([f"h{number}" for number in range(8)]), unique=True, min_size=1)


@st.composite
def situations(draw: st.DrawFn) -> list[Situation]:
    """Hosts of which at most one is active, and only when it runs."""
    hosts = draw(names)
    running = [draw(st.booleans()) for _ in hosts]
    active = draw(st.sampled_from([*hosts, None]))
    return [Situation(host, up, up and host == active) for host, up in zip(hosts, running, strict=True)]


@st.composite
def some_steps(draw: st.DrawFn) -> list[Step]:
    """Steps in any order."""
    places = draw(st.lists(st.tuples(st.sampled_from(Stage), st.sampled_from(Kind), names), max_size=12))
    return [Step(kind, stage, hosts[0], "c", f"/{n}", "change") for n, (stage, kind, hosts) in enumerate(places)]


@given(st.sampled_from(Stage), situations())
def test_every_host_is_in_exactly_one_batch(stage: Stage, hosts: list[Situation]) -> None:
    placed = [host for batch in waves.batches(stage, hosts) for host in batch]
    assert sorted(placed) == sorted(each.host for each in hosts)


@given(st.sampled_from(sorted(SERIAL)), situations())
def test_what_runs_is_changed_alone_and_after_what_does_not(stage: Stage, hosts: list[Situation]) -> None:
    batches = waves.batches(stage, hosts)
    running = {each.host for each in hosts if each.running}
    assert all(len(batch) == 1 for batch in batches if running & set(batch))
    kinds = [bool(running & set(batch)) for batch in batches]
    assert kinds == sorted(kinds)


@given(st.sampled_from(sorted(SERIAL)), situations())
def test_the_primary_or_vip_holder_comes_last(stage: Stage, hosts: list[Situation]) -> None:
    active = [each.host for each in hosts if each.active]
    batches = waves.batches(stage, hosts)
    assert not active or batches[-1] == tuple(active)


@given(situations())
def test_the_first_database_of_a_new_cluster_is_alone(hosts: list[Situation]) -> None:
    stopped = [Situation(each.host) for each in hosts]
    assert waves.batches(Stage.DATABASE, stopped)[0] == (hosts[0].host,)


@given(some_steps(), st.dictionaries(st.sampled_from(Stage), situations()))
def test_a_plan_has_every_step_once_in_the_order_of_the_stages(
    steps: list[Step], hosts: dict[Stage, list[Situation]]
) -> None:
    arranged = waves.arrange(steps, dict(hosts))
    placed = [step for wave in arranged for step in wave.steps]
    assert sorted(placed, key=lambda step: step.subject) == sorted(steps, key=lambda step: step.subject)
    stages = [wave.stage for wave in arranged]
    assert stages == sorted(set(stages))
    for wave in arranged:
        busy = {step.host for step in wave.steps}
        assert {host for batch in wave.batches for host in batch} == busy
        order = [host for batch in wave.batches for host in batch]
        assert [order.index(step.host) for step in wave.steps] == sorted(order.index(step.host) for step in wave.steps)


values = st.one_of(st.integers(0, 3), st.booleans(), st.sampled_from(["on", "off", "x"]))
keys = st.sampled_from(["ttl", "loop_wait", "mode"])
parameters = st.fixed_dictionaries({"parameters": st.dictionaries(st.sampled_from("abc"), values)})
configurations = st.builds(
    lambda plain, inner: plain | {"postgresql": inner}, st.dictionaries(keys, values), parameters
)


def merged(current: dict[str, object], patch: dict[str, object]) -> dict[str, object]:
    """Merge a patch as Patroni does."""
    result = dict(current)
    for key, value in patch.items():
        there = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merged(there if isinstance(there, dict) else {}, value)
        else:
            result[key] = value
    return result


@given(configurations, configurations)
def test_a_patch_makes_the_configuration_what_is_wanted(wanted: dict[str, object], current: dict[str, object]) -> None:
    after = merged(current, objects.difference(wanted, current))
    assert objects.difference(wanted, after) == {}


@given(configurations, configurations)
def test_a_patchs_counterpart_takes_it_back(wanted: dict[str, object], current: dict[str, object]) -> None:
    patch = objects.difference(wanted, current)
    assert merged(merged(current, patch), objects.counterpart(patch, current)) == current
