"""What each placement of PgBouncer puts on which host."""

from __future__ import annotations

import pytest

import placed
from pgbaton import blueprint
from pgbaton.components import access, agent, firewall, haproxy, postgres
from pgbaton.topology import capacity, load, placement, presets
from pgbaton.topology.model import Placement, Role, Topology
from placed import POOLERS, SHOP

MORE = {Placement.POOLER: POOLERS, Placement.APPLICATION: SHOP}
DATABASES, BALANCERS = ("db1", "db2", "db3"), ("lb1", "lb2")


def topology(where: Placement, more: str = "") -> Topology:
    return load.loads(placed.text(where, MORE.get(where, "") + more))


def file(where: Placement, host: str, path: str) -> str:
    files = blueprint.draw(topology(where)).host(host).files
    (found,) = (each for each in files if each.path == path)
    assert isinstance(found.content, str)
    return found.content


def hosts_with(where: Placement, path: str) -> tuple[str, ...]:
    return tuple(
        host.host for host in blueprint.draw(topology(where)).hosts if path in {each.path for each in host.files}
    )


def server_lines(config: str, backend: str) -> list[str]:
    block = config.partition(f"\nbackend {backend}\n")[2].partition("\n\n")[0]
    servers = (line.split() for line in block.splitlines() if line.startswith("    server "))
    return [f"{name} {address}" for _, name, address, *_ in servers]


@pytest.mark.parametrize(
    ("where", "pools", "proxies"),
    [
        (Placement.BALANCER, BALANCERS, BALANCERS),
        (Placement.POOLER, ("pool1", "pool2"), (*BALANCERS, "pool1", "pool2")),
        (Placement.DATABASE, DATABASES, BALANCERS),
        (Placement.APPLICATION, ("shop",), BALANCERS),
        (Placement.NONE, (), BALANCERS),
    ],
)
def test_programs_are_where_they_are_placed(where: Placement, pools: tuple[str, ...], proxies: tuple[str, ...]) -> None:
    assert hosts_with(where, "/etc/pgbouncer/write.ini") == pools
    assert hosts_with(where, "/etc/haproxy/haproxy.cfg") == proxies
    assert hosts_with(where, "/etc/keepalived/keepalived.conf") == BALANCERS


def test_poolers_find_the_primary_beside_them_and_balancers_find_poolers() -> None:
    balancer, pooler = (file(Placement.POOLER, host, "/etc/haproxy/haproxy.cfg") for host in ("lb1", "pool1"))
    assert server_lines(balancer, "pooled_write") == ["pool1 10.77.0.31:6432", "pool2 10.77.0.32:6432"]
    assert "backend primary" not in balancer
    assert "{ path /ready } { nbsrv(pooled_write) ge 1 } { nbsrv(pooled_read) ge 1 }" in balancer
    assert server_lines(pooler, "primary") == [f"db{n} 10.77.0.2{n}:5432" for n in (1, 2, 3)]
    assert "bind :5000" not in pooler
    assert "{ path /ready } { nbsrv(primary) ge 1 }\n" in pooler
    assert "app = host=127.0.0.1 port=6000 " in file(Placement.POOLER, "pool1", "/etc/pgbouncer/write.ini")


def test_a_pool_beside_its_server_uses_the_unix_socket() -> None:
    balancer = file(Placement.DATABASE, "lb1", "/etc/haproxy/haproxy.cfg")
    assert server_lines(balancer, "primary") == [f"db{n} 10.77.0.2{n}:6432" for n in (1, 2, 3)]
    assert server_lines(balancer, "standbys") == [f"db{n} 10.77.0.2{n}:6433" for n in (1, 2, 3)]
    assert "frontend primary" not in balancer
    pool = file(Placement.DATABASE, "db2", "/etc/pgbouncer/write.ini")
    assert "app = host=/var/run/postgresql port=5432 " in pool
    assert "server_tls_sslmode" not in pool
    assert "local app all scram-sha-256" in access.rules(topology(Placement.DATABASE))


def test_a_pool_beside_an_application_goes_through_the_vip_and_serves_nobody_else() -> None:
    pool = file(Placement.APPLICATION, "shop", "/etc/pgbouncer/write.ini")
    assert "app = host=10.77.0.100 port=5000 " in pool
    assert "listen_addr = 127.0.0.1\n" in pool
    assert "app = host=10.77.0.100 port=5001 " in file(Placement.APPLICATION, "shop", "/etc/pgbouncer/read.ini")
    assert placement.entrance(topology(Placement.APPLICATION)) == placement.Entrance(("127.0.0.1",), 6432, 6433, None)


@pytest.mark.parametrize("where", [Placement.APPLICATION, Placement.NONE])
def test_who_meets_a_server_through_the_vip_can_verify_it_and_waits_when_it_is_full(where: Placement) -> None:
    made = topology(where)
    addresses, names = postgres.met_as(made, made.host("db2"))
    assert {"10.77.0.22", "10.77.0.100", "10.77.0.11", "10.77.0.12"} < set(addresses)
    assert names == ("db2", "lb1", "lb2")
    config = file(where, "lb1", "/etc/haproxy/haproxy.cfg")
    assert f" maxconn {capacity.room(made)}\n" in config
    assert "timeout queue 60000ms" in config
    rules = access.rules(made)
    assert "hostssl app all 10.77.0.11/32 scram-sha-256" in rules


def test_another_placement_asks_for_no_other_access_so_that_nobody_is_locked_out_while_pools_move() -> None:
    made = {where: topology(where, "" if where is Placement.POOLER else POOLERS) for where in Placement}
    made[Placement.POOLER] = topology(Placement.POOLER)
    rules = {where: access.rules(each) for where, each in made.items()}
    assert all(each == rules[Placement.BALANCER] for each in rules.values())
    walls = {where: firewall.ruleset(each, each.host("db1")) for where, each in made.items()}
    assert all(each == walls[Placement.BALANCER] for each in walls.values())
    wall = walls[Placement.BALANCER]
    proxies = "10.77.0.11, 10.77.0.12, 10.77.0.31, 10.77.0.32"
    assert f"ip saddr {{ {proxies} }} tcp dport {{ 5432, 8008 }} accept" in wall
    assert "ip saddr { 10.77.0.11, 10.77.0.12 } tcp dport { 6432, 6433 } accept" in wall
    certificates = {where: postgres.met_as(each, each.host("db1")) for where, each in made.items()}
    assert len(set(certificates.values())) == 1


@pytest.mark.parametrize(
    ("where", "pools"),
    [
        (Placement.BALANCER, 2),
        (Placement.POOLER, 2),
        (Placement.DATABASE, 1),
        (Placement.APPLICATION, 1),
        (Placement.NONE, 0),
    ],
)
def test_a_server_has_room_for_the_pools_that_can_reach_it(where: Placement, pools: int) -> None:
    made = topology(where)
    assert capacity.poolers(made) == pools
    assert capacity.pools_a_user(made, made.users[0]) == pools * 2 * 25


@pytest.mark.parametrize("where", Placement)
def test_agents_are_told_the_placement_and_applications_have_no_vote(where: Placement) -> None:
    made = topology(where)
    assert agent.settings(made, made.host("lb1"))["placement"] == where
    assert not [host for host in made.voters if host.has(Role.APPLICATION)]


def test_nothing_is_put_on_an_applications_host_that_pools_nothing() -> None:
    made = topology(Placement.BALANCER, SHOP)
    assert not placement.is_managed(made, made.host("shop"))
    assert blueprint.draw(made).host("shop").parts == ()


def fresh(where: Placement) -> Topology:
    text = (
        placed.text(where)
        .replace("[balancing]", "[balancing]\nsynchronous_port = 5002")
        .replace("[replication]", "[replication]\napply = true")
    )
    return load.loads(text + MORE.get(where, ""))


@pytest.mark.parametrize(
    ("where", "router", "servers"), [(Placement.BALANCER, "lb1", 5432), (Placement.DATABASE, "lb1", 6434)]
)
def test_synchronous_standbys_have_a_port_a_pool_and_a_way_of_their_own(
    where: Placement, router: str, servers: int
) -> None:
    made = fresh(where)
    assert made.has_host(router)
    files = {each.path: each.content for each in blueprint.draw(made).host(router).files}
    config = str(files["/etc/haproxy/haproxy.cfg"])
    assert "bind :5002 " in config
    assert server_lines(config, "synchronous") == [f"db{n} 10.77.0.2{n}:{servers}" for n in (1, 2, 3)]
    assert "use_backend synchronous if { nbsrv(synchronous) ge 1 }\n    default_backend primary\n" in config
    assert "tcp dport { 5000, 5001, 5002 } accept" in str(files["/etc/pgbaton/firewall.nft"])
    assert postgres.parameters(made)["synchronous_commit"] == "remote_apply"
    pool = placement.poolers(made)[0]
    ini = next(
        str(each.content)
        for each in blueprint.draw(made).host(pool.name).files
        if each.path == "/etc/pgbouncer/synchronous.ini"
    )
    assert "listen_port = 6434\n" in ini
    assert [each["instance"] for each in agent.settings(made, pool)["pgbouncer_sockets"]["synchronous"]] == [
        "synchronous"
    ]


def test_without_such_a_port_nothing_of_it_is_there() -> None:
    config = file(Placement.BALANCER, "lb1", "/etc/haproxy/haproxy.cfg")
    assert "synchronous" not in config
    assert "synchronous_commit" not in postgres.parameters(topology(Placement.BALANCER))


def test_standbys_share_reads_by_their_weights() -> None:
    text = presets.text("standard").replace('address = "10.77.0.22"', 'address = "10.77.0.22"\nread_weight = 50')
    config = haproxy.configuration(load.loads(text), load.loads(text).host("lb1"))
    weighted = [line for line in config.splitlines() if " weight 50" in line]
    assert [line.split()[1] for line in weighted] == ["db2", "db2"], "with a primary, and without one"
