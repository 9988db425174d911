from __future__ import annotations

import tomllib

import pytest

from pgbaton.errors import UsageError
from pgbaton.lab import definition, recipe
from pgbaton.topology.model import Role, Topology

DATA = {
    "schema": 1,
    "cluster": {"name": "shop"},
    "hosts": [{"name": "db1", "address": "10.0.0.1", "roles": ["database", "dcs"]}],
    "network": {"subnet": "10.0.0.0/29", "vip": "10.0.0.6"},
    "users": [{"name": "app"}, {"name": "report", "connection_limit": 5}],
    "databases": [{"name": "app", "owner": "app"}],
    "ssh": {"identity_file": 'keys/"odd"\\name é'},
    "security": {"client_networks": ["10.0.0.0/29", "10.1.0.0/16"], "firewall": False},
    "postgresql": {
        "settings": {"work_mem": "8MB", "auto_explain.log_analyze": True, "jit": False, "random_page_cost": 1.1}
    },
}


def topology(**changes: object) -> Topology:
    return Topology.model_validate(DATA | changes)


def test_a_topology_without_an_application_host_gets_one_at_the_highest_free_address() -> None:
    complete = definition.complete(topology(), "trial")
    assert complete.name == "trial"
    app = complete.host("app")
    assert app.roles == (Role.APPLICATION,)
    assert str(app.address) == "10.0.0.5"


def test_the_machine_of_the_applications_takes_no_vips_address() -> None:
    several = topology(network={"subnet": "10.0.0.0/29", "vip": "10.0.0.6", "more_vips": ["10.0.0.5"]})
    assert str(definition.complete(several, "trial").host("app").address) == "10.0.0.4"


def test_the_machine_of_the_applications_has_an_address_of_ipv6_that_people_can_read() -> None:
    hosts = [{"name": "db1", "address": "fd00:77::1", "roles": ["database", "dcs"]}]
    wide = topology(hosts=hosts, network={"subnet": "fd00:77::/64", "vip": "fd00:77::fffe"})
    assert str(definition.complete(wide, "trial").host("app").address) == "fd00:77::fffd"
    small = topology(hosts=hosts, network={"subnet": "fd00:77::/125", "vip": "fd00:77::6"})
    assert str(definition.complete(small, "trial").host("app").address) == "fd00:77::5"


def test_completing_a_complete_topology_changes_nothing() -> None:
    once = definition.complete(topology(), "shop")
    assert definition.complete(once, "shop") == once


def test_an_application_host_of_any_name_is_enough() -> None:
    host = {"name": "clients", "address": "10.0.0.2", "roles": ["application"]}
    given = topology(hosts=[*DATA["hosts"], host])  # type: ignore[misc]
    assert definition.complete(given, "shop") == given


def test_a_host_named_app_with_another_role_is_refused() -> None:
    given = topology(hosts=[{"name": "app", "address": "10.0.0.2", "roles": ["database"]}])
    with pytest.raises(UsageError, match="no role application"):
        definition.complete(given, "shop")


def test_a_full_network_is_refused() -> None:
    hosts = [{"name": f"db{n}", "address": f"10.0.0.{n}", "roles": ["database"]} for n in range(1, 6)]
    with pytest.raises(UsageError, match=r"no address of 10\.0\.0\.0/29 is free"):
        definition.complete(topology(hosts=hosts), "shop")


@pytest.mark.parametrize("name", ["", "../etc", "a/b", "A", "-a", "a.b", "a" * 33])
def test_names_that_would_not_fit_paths_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        definition.complete(topology(), name)


def test_what_is_written_as_toml_reads_back_the_same() -> None:
    given = definition.complete(topology(), "trial")
    again = Topology.model_validate(tomllib.loads(definition.to_toml(given)))
    assert again == given
    assert again.ssh.identity_file == 'keys/"odd"\\name é'


def test_postgresql_follows_the_operating_system_unless_the_file_names_a_version() -> None:
    old = recipe.system("debian-12")
    assert definition.on_system(topology(), old).postgresql.version == 15
    assert definition.on_system(topology(postgresql={"version": 15}), old).postgresql.version == 15
    with pytest.raises(UsageError, match="debian-12 has PostgreSQL 15, the topology asks for 17"):
        definition.on_system(topology(postgresql={"version": 17}), old)
