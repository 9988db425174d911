"""PgBouncer's own configuration: processes that share a port, pools with modes and sizes of their own, look-ups."""

from __future__ import annotations

import configparser

import pytest

from pgbaton.components import agent, pgbouncer
from pgbaton.components.base import Unit
from pgbaton.topology import load, presets
from pgbaton.topology.model import Topology

Sections = dict[str, dict[str, str]]


def topology(**sections: object) -> Topology:
    base = load.loads(presets.text("standard")).model_dump(mode="json", by_alias=True, exclude_unset=True)
    return Topology.model_validate(base | sections)


def read(made: Topology, instance: str) -> Sections:
    """Return an instance's configuration on the first balancer."""
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=(";", "#"))
    parser.read_string(pgbouncer.configuration(made, made.host("lb1"), instance).shown)
    return {name: dict(parser[name]) for name in parser.sections()}


def words(text: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in text.split())


def test_one_process_a_port_needs_no_peers() -> None:
    made = topology()
    assert pgbouncer.instances(made) == ("write", "read")
    for instance in pgbouncer.instances(made):
        config = read(made, instance)
        assert "peers" not in config
        assert "peer_id" not in config["pgbouncer"]
        assert config["pgbouncer"]["so_reuseport"] == "1", "a further process may come beside it"


def test_processes_of_a_port_share_its_pools_and_know_each_other() -> None:
    made = topology(pooling={"processes": 3, "size": 20, "reserve": 4})
    assert pgbouncer.instances(made) == ("write", "read", "write-2", "read-2", "write-3", "read-3")
    configs = [read(made, instance) for instance in pgbouncer.processes(made, "write")]
    own = [config["pgbouncer"] for config in configs]
    assert [each["peer_id"] for each in own] == ["1", "2", "3"]
    assert {each["listen_port"] for each in own} == {"6432"}
    directories = [each["unix_socket_dir"] for each in own]
    assert directories == ["/run/pgbouncer-write", "/run/pgbouncer-write-2", "/run/pgbouncer-write-3"]
    wanted = {str(number): f"host={where} port=6432" for number, where in enumerate(directories, 1)}
    assert all(config["peers"] == wanted for config in configs)
    assert [words(config["databases"]["app"])["pool_size"] for config in configs] == ["7", "7", "6"]
    assert [each["reserve_pool_size"] for each in own] == ["2", "1", "1"]
    assert {each["max_client_conn"] for each in own} == {"3000"}, "the kernel spreads clients as it likes"


def test_units_of_further_processes_come_after_the_first_ones() -> None:
    made = topology(pooling={"processes": 2})
    units = pgbouncer.Pgbouncer().units(made, made.host("lb1"))
    assert units[2:] == tuple(Unit(f"pgbouncer@{name}.service") for name in ("write", "read", "write-2", "read-2"))


def test_what_a_reload_does_not_bring_into_effect_restarts_poolers() -> None:
    plain = pgbouncer.template_unit(topology())
    for pooling in ({"processes": 2}, {"write_port": 7432}, {"max_clients": 1000}):
        assert pgbouncer.template_unit(topology(pooling=pooling)) != plain
    assert pgbouncer.template_unit(topology(pooling={"size": 10})) == plain


def test_pools_have_modes_sizes_and_limits_of_their_own() -> None:
    made = topology(
        users=[
            {"name": "app"},
            {"name": "batch", "pool_mode": "session", "pool_size": 3, "max_user_connections": 5},
        ],
        databases=[
            {"name": "app", "owner": "app", "pool_mode": "statement", "max_db_connections": 9},
            {"name": "log", "owner": "app"},
        ],
        pooling={"size": 4, "mode": "session"},
    )
    config = read(made, "write")
    app, log = words(config["databases"]["app"]), words(config["databases"]["log"])
    assert (app["pool_mode"], app["max_db_connections"]) == ("statement", "9")
    assert {"pool_mode", "max_db_connections"}.isdisjoint(log)
    assert words(config["users"]["batch"]) == {"pool_mode": "session", "pool_size": "3", "max_user_connections": "5"}
    assert "app" not in config["users"], "a user without settings of its own needs no line"
    assert words(config["databases"]["postgres"])["pool_mode"] == "transaction", "agents ask whatever the others do"


def test_look_ups_hold_one_connection_a_database() -> None:
    assert words(read(topology(), "write")["users"]["pgbouncer"]) == {"pool_size": "1", "reserve_pool_size": "0"}
    old = topology(postgresql={"version": 15}, databases=[{"name": n, "owner": "app"} for n in ("a", "b")])
    assert words(read(old, "write")["users"]["pgbouncer"]) == {"max_user_connections": "2"}


@pytest.mark.parametrize(("clients", "backlog"), [(3000, "3000"), (10_000, "4096"), (100, "100")])
def test_as_many_clients_may_wait_to_be_accepted_as_may_come(clients: int, backlog: str) -> None:
    made = topology(pooling={"max_clients": clients})
    assert read(made, "read")["pgbouncer"]["listen_backlog"] == backlog


def test_addresses_are_logged_and_added_when_that_is_asked_for() -> None:
    plain, told = (
        read(each, "write")["pgbouncer"]
        for each in (
            topology(),
            topology(pooling={"application_name_add_host": True}, balancing={"log_connections": True}),
        )
    )
    assert ("application_name_add_host" in plain, plain["log_connections"]) == (False, "0")
    assert (told["application_name_add_host"], told["log_connections"]) == ("1", "1")


def test_agents_are_told_of_every_process() -> None:
    made = topology(pooling={"processes": 2})
    sockets = agent.settings(made, made.host("lb1"))["pgbouncer_sockets"]
    assert [each["instance"] for each in sockets["write"]] == ["write", "write-2"]
    assert [each["directory"] for each in sockets["read"]] == ["/run/pgbouncer-read", "/run/pgbouncer-read-2"]
