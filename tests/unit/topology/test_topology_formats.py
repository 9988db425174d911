"""Presets are sound and explain themselves; the published schema says the same as the code."""

from __future__ import annotations

import tomllib

import jsonschema
import pytest
from refusals import BASE, STRUCTURE

from pgbaton.errors import UsageError
from pgbaton.topology import load, presets
from pgbaton.topology.model import ReplicationMode, Role
from pgbaton.topology.schema import schema


@pytest.mark.parametrize("name", presets.NAMES)
def test_a_preset_is_accepted_without_a_doubt(name: str) -> None:
    topology, problems = load.parse(presets.text(name), f"{name}.toml")
    assert problems == ()
    assert topology is not None
    assert topology.name == name
    assert topology.replication.mode == ReplicationMode.SYNCHRONOUS
    assert str(topology.network.vip) == "10.77.0.100"
    assert not topology.with_role(Role.APPLICATION)


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("classic", {"lb1": "balancer dcs", "lb2": "balancer", "db1": "database dcs", "db2": "database dcs"}),
        (
            "standard",
            {"lb1": "balancer", "lb2": "balancer", **dict.fromkeys(("db1", "db2", "db3"), "database dcs")},
        ),
        ("compact", dict.fromkeys(("n1", "n2", "n3"), "balancer database dcs")),
    ],
)
def test_a_preset_has_the_hosts_it_promises(name: str, roles: dict[str, str]) -> None:
    assert {host.name: " ".join(host.roles) for host in load.loads(presets.text(name)).hosts} == roles


@pytest.mark.parametrize("name", presets.NAMES)
def test_what_a_preset_shows_as_default_is_the_default(name: str) -> None:
    text = presets.text(name)
    shown = "\n".join(
        line.removeprefix("# ") if " = " in line or "[" in line[:3] else line for line in text.split("\n")
    )
    defaults, chosen = load.loads(text), load.loads(shown.replace('\nuser = "root"', "").replace("shared_buffers", "#"))
    assert chosen.network.gateway is not None
    network = chosen.network.model_copy(update={"gateway": None})
    # What is not said of agents, or of who is primary and how HAProxy finds it, comes to the same here.
    assert chosen.has_agents is defaults.has_agents is not defaults.is_manual
    assert chosen.first_primary == defaults.first_primary
    assert chosen.primary_check == defaults.primary_check
    unsaid = {
        "network": network,
        "orchestration": chosen.orchestration.model_copy(update={"agent": None, "primary": None}),
        "balancing": chosen.balancing.model_copy(update={"check": None}),
    }
    assert chosen.model_copy(update=unsaid) == defaults


@pytest.mark.parametrize("name", presets.NAMES)
def test_a_preset_takes_a_name(name: str) -> None:
    text = presets.text(name, cluster="orders")
    assert load.loads(text).name == "orders"
    assert len(text.split("\n")) == len(presets.text(name).split("\n"))


@pytest.mark.parametrize("cluster", ["", "a/b", "../x", "A", "a\nb", "-a", 'x"', "a" * 33])
def test_a_name_that_is_none_is_refused(cluster: str) -> None:
    with pytest.raises(UsageError, match="cannot be a cluster's name"):
        presets.text("standard", cluster=cluster)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(UsageError, match="no preset named large") as caught:
        presets.text("large")
    assert "standard, classic, compact" in str(caught.value.hint)


def test_the_schema_is_one_and_accepts_the_presets() -> None:
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    validator = jsonschema.Draft202012Validator(made)
    for name in presets.NAMES:
        validator.validate(tomllib.loads(presets.text(name)))
    assert "$id" not in made


def test_the_schema_refuses_what_types_and_limits_refuse() -> None:
    validator = jsonschema.Draft202012Validator(schema(), format_checker=jsonschema.FormatChecker())
    assert validator.is_valid(tomllib.loads(BASE))
    beyond = ("no number at all", "endless", "newline", "NUL", "date for", "a secret's reference")
    for case in STRUCTURE:
        if not case.name.startswith(beyond) and case.name not in BEYOND_A_SCHEMA:
            assert not validator.is_valid(tomllib.loads(case.text)), case.name


#: Refused by the code alone: a schema's formats are not that strict.
BEYOND_A_SCHEMA = {
    "subnet with host bits",
    "subnet of IPv6 with host bits",
    "newline in a value",
    "newline in a setting",
}


def test_every_key_of_the_schema_is_described() -> None:
    made = schema()
    for name, table in made["$defs"].items():
        for key, field in table.get("properties", {}).items():
            referred = made["$defs"].get(str(field.get("$ref")).rpartition("/")[2], {})
            assert field.get("description") or referred.get("description"), f"{name}.{key}"
