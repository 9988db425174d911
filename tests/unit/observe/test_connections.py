from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_interface, ip_network

import pytest
from observed import TOPOLOGY, topology
from psycopg.conninfo import conninfo_to_dict

from pgbaton.errors import UsageError
from pgbaton.observe import connections
from pgbaton.observe.connections import Endpoint, endpoints

AUTHORITY = "/state/cluster a/ca.crt"


def ways(**choice: str) -> tuple[Endpoint, Endpoint]:
    return endpoints(TOPOLOGY, authority=AUTHORITY, user=choice.get("user"), database=choice.get("database"))


def test_libpq_understands_the_uri() -> None:
    write, read = ways()
    parsed = conninfo_to_dict(write.uri("p/w:d@%+"))
    assert (parsed["host"], parsed["port"], parsed["dbname"]) == ("10.77.0.100", "5000", "app")
    assert (parsed["user"], parsed["password"]) == ("app", "p/w:d@%+")
    assert (parsed["sslmode"], parsed["sslrootcert"]) == ("verify-full", AUTHORITY)
    assert int(str(parsed["tcp_user_timeout"])) >= 1000
    assert conninfo_to_dict(read.uri())["port"] == "5001"
    assert "password" not in conninfo_to_dict(read.uri())


def test_without_a_vip_every_balancer_is_a_way_in_and_writes_want_one_that_takes_them() -> None:
    write, read = endpoints(topology(network={"vip": None}), authority=AUTHORITY, user=None, database=None)
    parsed = conninfo_to_dict(write.uri())
    assert (parsed["host"], parsed["port"]) == ("10.77.0.11,10.77.0.12", "5000,5000")
    assert parsed["target_session_attrs"] == "read-write"
    assert "target_session_attrs" not in conninfo_to_dict(read.uri())
    assert "10.77.0.11:5000,10.77.0.12:5000/app" in connections.jdbc(write)
    assert "targetServerType=primary" in connections.jdbc(write)
    assert "target_session_attrs=read-write" in connections.pgx(write)
    assert 'host=["10.77.0.11", "10.77.0.12"]' in connections.asyncpg(write)
    assert "Target Session Attributes=read-write" in connections.npgsql(write)
    assert 'host: "10.77.0.11"' in connections.node(write)
    assert "10.77.0.12" in connections.node(write).splitlines()[0]
    assert connections.passfile(write, "p") == "10.77.0.11:*:*:app:p\n10.77.0.12:*:*:app:p\n"


def test_clients_are_spread_over_several_vips_where_their_drivers_can() -> None:
    several = topology(network={"more_vips": (IPv4Address("10.77.0.101"),)})
    write, read = endpoints(several, authority=AUTHORITY, user=None, database=None)
    for way in (write, read):
        parsed = conninfo_to_dict(way.uri())
        assert (parsed["host"], parsed["load_balance_hosts"]) == ("10.77.0.100,10.77.0.101", "random")
        assert "target_session_attrs" not in parsed
    assert "loadBalanceHosts=true" in connections.jdbc(write)
    assert "targetServerType" not in connections.jdbc(write)
    assert "Load Balance Hosts=true" in connections.npgsql(write)
    for refused in (connections.pgx(write), connections.asyncpg(write)):
        assert "load_balance" not in refused
        assert "10.77.0.101" in refused
    assert "one name in the DNS" in connections.node(write)


def test_an_address_of_ipv6_has_brackets_in_uris_and_none_where_it_stands_alone() -> None:
    vip = {"subnet": ip_network("fd00:77::/64"), "vip": ip_address("fd00:77::100")}
    write, _ = endpoints(topology(network=vip), authority=AUTHORITY, user=None, database=None)
    assert "@[fd00:77::100]:5000/app?" in write.uri()
    assert conninfo_to_dict(write.uri())["host"] == "fd00:77::100"
    assert "//[fd00:77::100]:5000/app" in connections.jdbc(write)
    assert "@[fd00:77::100]:5000/app" in connections.pgx(write)
    assert 'host="fd00:77::100"' in connections.asyncpg(write)
    assert 'host: "fd00:77::100"' in connections.node(write)
    assert "Host=fd00:77::100;" in connections.npgsql(write)
    # Colons part the fields of a password file.
    assert connections.passfile(write, "a:b") == "fd00\\:77\\:\\:100:*:*:app:a\\:b\n"


def test_clients_of_either_family_have_one_uri_where_a_vip_has_a_twin() -> None:
    twin = topology(network={"twin_vips": (ip_interface("fd00:77::100/64"),)})
    write, read = endpoints(twin, authority=AUTHORITY, user=None, database=None)
    parsed = conninfo_to_dict(write.uri())
    assert (parsed["host"], parsed["port"]) == ("10.77.0.100,fd00:77::100", "5000,5000")
    assert parsed["target_session_attrs"] == "read-write"
    assert "load_balance_hosts" not in parsed
    assert conninfo_to_dict(read.uri())["host"] == "10.77.0.100,fd00:77::100"


def test_an_old_libpq_is_not_told_of_what_it_would_refuse() -> None:
    old = topology(network={"more_vips": (IPv4Address("10.77.0.101"),)}, postgresql={"version": 15})
    write, _ = endpoints(old, authority=AUTHORITY, user=None, database=None)
    assert "load_balance_hosts" not in write.uri()
    assert conninfo_to_dict(write.uri())["host"] == "10.77.0.100,10.77.0.101"


@pytest.mark.parametrize("choice", [{"user": "nobody"}, {"database": "nothing"}])
def test_users_and_databases_that_are_not_there_are_refused(choice: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="has no") as refused:
        ways(**choice)
    assert refused.value.hint == "known: app"


@pytest.mark.parametrize("name", connections.DRIVERS)
def test_every_driver_verifies_the_server_and_names_no_password(name: str) -> None:
    words = connections.DRIVERS[name](ways()[0])
    assert "10.77.0.100" in words
    assert "5000" in words
    assert "ca.crt" in words
    assert any(
        word in words for word in ("verify-full", "VerifyFull", "ssl: { ca", "ssl.create_default_context(cafile")
    )


def test_drivers_prepare_nothing_where_the_pooler_cannot_keep_it() -> None:
    write, _ = endpoints(topology(pooling={"prepared_statements": 0}), authority=AUTHORITY, user=None, database=None)
    assert "prepareThreshold=0" in connections.jdbc(write)
    assert "default_query_exec_mode=exec" in connections.pgx(write)
    assert "prepare_threshold = None" in connections.psycopg(write)
    assert "statement_cache_size=0" in connections.asyncpg(write)
    assert "prepareThreshold" not in connections.jdbc(ways()[0])


def test_a_password_file_escapes_what_libpq_splits_at() -> None:
    assert connections.passfile(ways()[0], "a:b\\c") == "10.77.0.100:*:*:app:a\\:b\\\\c\n"
