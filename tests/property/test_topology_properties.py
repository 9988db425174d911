"""What holds for every topology file, sound or not."""

from __future__ import annotations

import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgbaton.errors import TopologyError
from pgbaton.topology import load, presets
from pgbaton.topology.budget import budget
from pgbaton.topology.lines import locate
from pgbaton.topology.model import Topology

JARGON = re.compile(r"Input should|pydantic|https?://|Value error|validation error|NoneType|Traceback|ctx")
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PRESETS = [presets.text(name) for name in presets.NAMES]

#: How addresses are written, the subnet, and another site's, in each family.
FAMILIES = (("10.9.0.{}", "10.9.0.0/24", "10.8.0.0/16"), ("fd00:9::{:x}", "fd00:9::/64", "fd00:8::/64"))


def toml(value: dict[str, Any], path: tuple[str, ...] = ()) -> str:
    """Write a table as TOML, tables last; arrays of tables in brackets of their own."""
    plain = {key: item for key, item in value.items() if not isinstance(item, dict) and not is_tables(item)}
    text = "".join(f"{key_of(key)} = {inline(item)}\n" for key, item in plain.items())
    for key, item in value.items():
        name = ".".join(map(key_of, (*path, key)))
        if isinstance(item, dict):
            text += f"[{name}]\n{toml(item, (*path, key))}"
        elif is_tables(item):
            text += "".join(f"[[{name}]]\n{toml(each, (*path, key))}" for each in item)
    return text


def is_tables(item: object) -> bool:
    return isinstance(item, list) and bool(item) and all(isinstance(each, dict) for each in item)


def key_of(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else quoted(key)


def quoted(text: str) -> str:
    plain = (letter if letter.isascii() and letter.isprintable() and letter not in '"\\' else None for letter in text)
    return (
        '"' + "".join(letter or f"\\U{ord(original):08X}" for letter, original in zip(plain, text, strict=True)) + '"'
    )


def inline(item: object) -> str:
    if isinstance(item, dict):
        return "{" + ", ".join(f"{key_of(key)} = {inline(value)}" for key, value in item.items()) + "}"
    if isinstance(item, list):
        return "[" + ", ".join(map(inline, item)) + "]"
    return quoted(item) if isinstance(item, str) else repr(item).lower()


@st.composite
def valid(draw: st.DrawFn) -> dict[str, Any]:
    """Make a topology of parts that are each valid, with enough hosts of each role."""
    databases, balancers = draw(st.integers(2, 5)), draw(st.integers(2, 3))
    near, subnet, site = draw(st.sampled_from(FAMILIES))
    hosts: list[dict[str, Any]] = [
        {"name": f"db{n}", "address": near.format(10 + n), "roles": ["database"]} for n in range(databases)
    ]
    hosts += [{"name": f"lb{n}", "address": near.format(50 + n), "roles": ["balancer"]} for n in range(balancers)]
    for host in draw(st.permutations(hosts))[:3]:
        host["roles"].append("dcs")
    names = draw(st.lists(st.from_regex(r"\A[b-m][a-z0-9_]{0,20}\Z"), min_size=1, max_size=2, unique=True))
    ttl = draw(st.integers(20, 300))
    far_address = site.partition("/")[0].removesuffix("0") + "1"
    far = {
        "name": "far",
        "address": far_address,
        "roles": ["database"],
        "failover": False,
        "reads": draw(st.booleans()),
    }
    hosts += draw(st.sampled_from([[], [far], [{**far, "replicate_from": "db0"}]]))
    last = draw(st.lists(st.integers(100, 254), min_size=1, max_size=balancers, unique=True))
    vip, *more = (near.format(number) for number in last)
    return {
        "schema": 1,
        "cluster": {"name": draw(st.from_regex(r"\A[a-z]([a-z0-9-]{0,9}[a-z0-9])?\Z"))},
        "network": {
            "subnet": subnet,
            "vip": vip,
            "more_vips": more,
            "virtual_router_id": draw(st.integers(1, 255)),
            "other_subnets": [site],
        },
        "hosts": draw(st.permutations(hosts)),
        "postgresql": {
            "max_connections": draw(st.integers(500, 1000)),
            **draw(st.sampled_from([{}, {"wal_directory": "/srv/wal/main"}])),
            "settings": {
                "work_mem": draw(st.sampled_from([64, "4MB"])),
                "auto_explain.log_timing": draw(st.booleans()),
            },
        },
        "users": [{"name": name} for name in names],
        "databases": [{"name": name, "owner": draw(st.sampled_from(names))} for name in names],
        "tablespaces": [{"name": name, "owner": name, "location": f"/srv/fast/{name}"} for name in names],
        "replication": {
            "mode": draw(st.sampled_from(["asynchronous", "synchronous", "strict", "quorum"])),
            "count": draw(st.integers(1, databases - 1)),
        },
        "pooling": {"size": draw(st.integers(1, 10)), "mode": draw(st.sampled_from(["session", "transaction"]))},
        "timings": {
            "ttl": ttl,
            "loop_wait": draw(st.integers(1, ttl - 2 * 6)),
            "retry_timeout": draw(st.integers(3, 6)),
            "advert_interval": draw(st.integers(1, 400)) / 100,
        },
        "orchestration": draw(st.sampled_from([{}, {"agent": True}, {"agent": False}])),
    }


@given(valid())
@FEW
def test_a_topology_of_valid_parts_loads_and_survives_being_written_again(data: dict[str, Any]) -> None:
    topology = load.loads(toml(data))
    written = toml(topology.model_dump(mode="json", by_alias=True, exclude_none=True))
    assert load.loads(written) == topology
    assert Topology.model_validate_json(topology.model_dump_json(by_alias=True)) == topology


@given(valid(), st.integers(1, 100))
@FEW
def test_a_longer_lock_never_shortens_an_outage(data: dict[str, Any], more: int) -> None:
    before = budget(load.loads(toml(data)))
    data["timings"]["ttl"] += more
    for shorter, longer in zip(before, budget(load.loads(toml(data))), strict=True):
        assert longer.write_seconds.minimum >= shorter.write_seconds.minimum
        assert longer.write_seconds.typical >= shorter.write_seconds.typical
        assert longer.write_seconds.maximum >= shorter.write_seconds.maximum
        assert longer.read_seconds.maximum >= shorter.read_seconds.maximum


@given(valid(), st.integers(1, 100))
@FEW
def test_a_longer_election_of_etcds_never_shortens_an_outage(data: dict[str, Any], more: int) -> None:
    data["timings"]["etcd_election"] = 0.5
    before = budget(load.loads(toml(data)))
    data["timings"]["etcd_election"] += more / 10
    for shorter, longer in zip(before, budget(load.loads(toml(data))), strict=True):
        assert longer.write_seconds.minimum >= shorter.write_seconds.minimum
        assert longer.write_seconds.typical >= shorter.write_seconds.typical
        assert longer.write_seconds.maximum >= shorter.write_seconds.maximum


@given(
    st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
)
@FEW
def test_garbage_is_refused_and_nothing_else(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        with pytest.raises(TopologyError) as caught:
            load.load(Path(file.name))
    assert caught.value.problems
    assert not JARGON.search(str(caught.value))


@given(st.sampled_from(PRESETS), st.data())
@FEW
def test_a_damaged_file_is_accepted_or_refused_in_words(text: str, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, min(len(text), begin + 40)))
    damaged = text[:begin] + data.draw(st.text(max_size=12)) + text[end:]
    assert_told_in_words(damaged)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.just("10.77.0.13")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(min_size=1, max_size=6), inner, max_size=2)
    ),
    max_leaves=6,
)


def without_nothing(value: object) -> object:
    """TOML has no null."""
    if isinstance(value, list):
        return [without_nothing(item) for item in value if item is not None]
    if isinstance(value, dict):
        return {key: without_nothing(item) for key, item in value.items() if item is not None}
    return value


@given(valid(), VALUES, st.data())
@settings(FEW, max_examples=60)
def test_any_value_in_any_place_is_accepted_or_refused_in_words(
    data: dict[str, Any], value: object, choice: st.DataObject
) -> None:
    table, known = choice.draw(st.sampled_from(places(data)))
    key = choice.draw(st.one_of(st.sampled_from(known), st.text(min_size=1, max_size=10)))
    if value is None:
        table.pop(key, None)
    else:
        table[key] = without_nothing(value)
    assert_told_in_words(toml(data))


def places(data: dict[str, Any]) -> list[tuple[dict[str, Any], list[str]]]:
    """Return tables of a topology with the keys that the format has there."""
    return [
        (data, ["cluster", "hosts", "users", "postgresql", "timings", "schema"]),
        (data["hosts"][0], ["name", "address", "roles", "priority", "failover", "ssh", "failure_domain"]),
        (data["network"], ["subnet", "vip", "more_vips", "dns_names", "interface", "gateway", "taken_router_ids"]),
        (data["postgresql"], ["version", "settings", "data_directory", "port"]),
        (data["postgresql"]["settings"], ["work_mem", "fsync"]),
        (data["databases"][0], ["name", "owner", "pool_size"]),
        (data["pooling"], ["size", "features", "mode"]),
        (data["timings"], ["ttl", "check_interval", "advert_interval", "etcd_election"]),
        (data["orchestration"], ["agent", "rest_port"]),
    ]


def assert_told_in_words(text: str) -> None:
    topology, problems = load.parse(text, "t.toml")
    lines = text.count("\n") + 1
    assert (topology is None) == any(problem.level == "error" for problem in problems)
    for problem in problems:
        assert problem.reason
        assert problem.fix
        assert problem.line is None or 1 <= problem.line <= lines
        assert not JARGON.search(f"{problem.reason} {problem.fix}")
        assert "cannot be read as what belongs here" not in problem.reason, "pydantic found something without words"


@given(
    st.sampled_from(["password", "passwd", "secret", "token", "identity", "auth_pass", "x"]),
    st.sampled_from(["cluster", "network", "postgresql", "ssh"]),
)
@FEW
def test_the_value_of_an_unknown_key_is_never_repeated(key: str, table: str) -> None:
    text = presets.text("standard")
    line = f"[{table}]" if f"\n[{table}]" in text else f"# [{table}]"
    text = text.replace(line, f'[{table}]\n{key} = "hunter2-{key}"', 1)
    with pytest.raises(TopologyError) as caught:
        load.loads(text)
    assert "hunter2" not in str(caught.value)


KEYS = st.one_of(st.from_regex(r"\A[a-z]{1,4}\Z"), st.text(min_size=1, max_size=4))
MARKS = st.integers(0, 2**60)
TREES = st.recursive(
    st.one_of(MARKS, st.lists(MARKS, max_size=3)),
    lambda inner: st.one_of(
        st.dictionaries(KEYS, inner, max_size=3), st.lists(st.dictionaries(KEYS, inner, max_size=2), max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, TREES, max_size=4))
@settings(FEW, max_examples=60)
def test_every_key_is_found_at_its_line(data: dict[str, Any]) -> None:
    text = toml(data)
    lines, written = locate(text), text.split("\n")

    def compare(value: object, path: tuple[str | int, ...]) -> None:
        if path:
            assert path in lines
        if isinstance(value, dict):
            for key, item in value.items():
                compare(item, (*path, key))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                compare(item, (*path, index))
        else:
            assert str(value) in written[lines[path] - 1]

    assert tomllib.loads(text) == data
    compare(data, ())
