"""Every input that must be refused is refused, at its line, with a reason and a fix."""

from __future__ import annotations

import copy
import importlib
import json
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

import pytest
from refusals import BASE, DOUBTED, REFUSED, Case

from pgbaton.errors import TopologyError, UsageError
from pgbaton.topology import load, rules
from pgbaton.topology.plain import PATTERNS
from pgbaton.topology.rules.base import Rule
from pgbaton.topology.rules.managed import INSTEAD, MANAGED
from pgbaton.topology.schema import PATTERNS as NETWORKS
from pgbaton.topology.schema import schema
from pgbaton.topology.unknown import ELSEWHERE

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology

JARGON = ("Input should", "pydantic", "https://errors", "Value error", "validation", "NoneType")


def test_the_base_is_sound() -> None:
    topology, problems = load.parse(BASE, "base.toml")
    assert topology is not None
    assert problems == ()


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_it_is_refused_with_its_place_reason_and_fix(case: Case) -> None:
    topology, problems = load.parse(case.text, "trial.toml")
    refused = [problem for problem in problems if problem.level == "error" and problem.path == case.path]
    assert topology is None
    assert len(refused) == 1, problems
    problem = refused[0]
    assert problem.file == "trial.toml"
    assert case.reason in problem.reason
    assert len(problem.fix) >= len("write 1")
    assert problem.line == case.line or case.line is None
    assert not any(word in str(problem) for word in JARGON)


@pytest.mark.parametrize("case", DOUBTED, ids=lambda case: case.name)
def test_it_is_doubted_and_accepted(case: Case) -> None:
    topology, problems = load.parse(case.text, "trial.toml")
    assert topology is not None, problems
    doubted = [problem for problem in problems if problem.path == case.path and case.reason in problem.reason]
    assert [problem.level for problem in doubted] == ["warning"], problems
    assert doubted[0].line == case.line or case.line is None
    assert load.loads(case.text) == topology


def test_every_rule_and_every_misplaced_key_has_a_case() -> None:
    said = set()
    for case in (*REFUSED, *DOUBTED):
        said |= {problem.reason for problem in load.parse(case.text, "trial.toml")[1]}
    for _, reason, _ in ELSEWHERE:
        assert reason in said
    for rule in rules.RULES:
        assert any(objects(rule, case) for case in (*REFUSED, *DOUBTED)), f"no case makes {rule.name} object"


@cache
def sound_part(case: Case) -> tuple[Topology, set[str]]:
    data, _ = load._read_toml(case.text, "trial.toml")
    assert data is not None
    return load._sound_part(load._without_unknown(data, load._errors(data)))


def objects(rule: Rule, case: Case) -> bool:
    topology, sound = sound_part(case)
    return rule.reads <= sound and any(True for _ in rule.check(topology))


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.name)
def test_a_rule_reads_only_the_tables_it_names(rule: Rule) -> None:
    for case in (*REFUSED, *DOUBTED):
        topology, sound = sound_part(case)
        if rule.reads <= sound:
            blind = copy.copy(topology)
            for name in set(blind.__dict__) - rule.reads:
                blind.__dict__.pop(name)
            assert list(rule.check(blind)) == list(rule.check(topology))


def test_every_rule_that_is_written_is_in_the_table() -> None:
    written = set()
    for module in pkgutil.iter_modules(rules.__path__, f"{rules.__name__}."):
        found = vars(importlib.import_module(module.name)).values()
        written |= {value.name for value in found if isinstance(value, Rule)}
    assert written == {rule.name for rule in rules.RULES}
    assert len(written) == len(rules.RULES)
    assert all(rule.summary for rule in rules.RULES)


def test_every_pattern_has_words() -> None:
    def patterns(node: object) -> set[str]:
        if isinstance(node, list):
            return {found for item in node for found in patterns(item)}
        if not isinstance(node, dict):
            return set()
        own = {node["pattern"]} if isinstance(node.get("pattern"), str) else set()
        keyed = set(node["patternProperties"]) if "patternProperties" in node else set()
        return own | keyed | {found for value in node.values() for found in patterns(value)}

    assert patterns(schema()) - set(NETWORKS.values()) == set(PATTERNS)


def test_settings_that_have_a_key_of_their_own_are_managed() -> None:
    assert set(INSTEAD) <= MANAGED
    _, problems = load.parse(f"{BASE}\n[postgresql.settings]\nport = 1\n", "t")
    assert problems[0].fix == "take it out and set postgresql.port"


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    text = BASE.replace('"10.77.0.100"', '"10.77.0.21"').replace('name = "lb2"', 'name = "lb1"')
    text += '[timings]\nttl = 19\nwat = 1\n[security]\nfirewall = "yes"\n'
    with pytest.raises(TopologyError) as caught:
        load.loads(text, source="many.toml")
    paths = [problem.path for problem in caught.value.problems]
    assert paths == ["network.vip", "hosts[1].name", "timings.ttl", "timings.wat", "security.firewall"]
    assert isinstance(caught.value, UsageError)
    assert str(caught.value).startswith("many.toml: 5 problems in the topology\n  line 8  network.vip = ")
    assert caught.value.exit_code == 2


def test_a_near_key_is_proposed() -> None:
    fixes = {
        "[timings]\nlop_wait = 1\n": "did you mean loop_wait?",
        "[timings]\nLoop-Wait = 1\n": "did you mean loop_wait?",
        "[balancing]\nmax_clients = 1\n": "did you mean pooling.max_clients or max_connections?",
        "[ssh]\nqqqqqqqq = 1\n": "take it out; known here: user, port, identity_file, config_file",
    }
    for text, fix in fixes.items():
        _, problems = load.parse(f"{BASE}\n{text}", "t")
        assert [problem.fix for problem in problems] == [fix]


def test_defaults_are_shown_as_values_that_hold() -> None:
    _, problems = load.parse(f"{BASE}\n[balancing]\nread_port = 5000\n[timings]\nretry_timeout = 10\n", "t")
    assert {problem.path: problem.value for problem in problems} == {"balancing.read_port": "5000", "timings.ttl": "20"}


@pytest.mark.parametrize(
    "text",
    [
        '[[users]]\nname = "app"\npassword = "hunter2"',
        '[ssh]\nidentity = "hunter2"',
        '[postgresql.settings]\nprimary_conninfo = "host=a password=hunter2"',
        '[postgresql.settings]\nssl_passphrase_command = "echo hunter2"',
        '[postgresql.settings]\n"my.secret" = "hunter2\'"',
        '[ssh]\nconfig_file = "postgresql://app:hunter2@db/app"',
        '[postgresql]\npassword = "hunter2',
    ],
)
def test_what_may_be_a_secret_is_never_repeated(text: str) -> None:
    _, problems = load.parse(f"{BASE}\n{text}\n", "t")
    assert problems
    assert "hunter2" not in json.dumps([vars(problem) for problem in problems])


def test_values_are_safe_on_any_terminal() -> None:
    _, problems = load.parse(f'{BASE}\n[ssh]\nuser = "\\u001b[31m{"x" * 200}"\n', "t")
    shown = str(problems[0])
    assert "\x1b" not in shown
    assert len(shown) < 400
