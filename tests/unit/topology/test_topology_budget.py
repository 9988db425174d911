"""Predictions for the stock parts agree with what was measured, and follow the timings."""

from __future__ import annotations

import json
import math

import pytest
from refusals import BASE

from pgbaton.cli.demo import STOCK
from pgbaton.topology import capacity, load, pools, presets
from pgbaton.topology.budget import budget, prediction
from pgbaton.topology.durability import durability, promise
from pgbaton.topology.model import PoolMode, ReplicationMode, Topology
from pgbaton.topology.prediction import NONE, UNTIL_REPAIRED, Range, total

#: Outages that clients saw in a lab of the standard preset's shape, in seconds.
MEASURED = {
    "postmaster-killed": 1.1,
    "switchover": 1.6,
    "primary-power-off": 22.3,
    "primary-power-off-with-etcd-leader": 25.0,
    "haproxy-killed": 0.38,
    "balancer-power-off": 0.43,
}


def topology(more: str = "") -> Topology:
    """Return three databases behind two balancers, without agents."""
    return load.loads(f"{BASE}{STOCK}\n{more}")


@pytest.mark.parametrize(("fault", "seconds"), MEASURED.items())
def test_what_was_measured_is_within_the_prediction(fault: str, seconds: float) -> None:
    writes = prediction(load.loads(presets.text("standard") + STOCK), fault).write_seconds
    assert writes.minimum <= seconds <= writes.maximum
    assert writes.typical == pytest.approx(seconds, rel=0.3)


@pytest.mark.parametrize("more", ["", STOCK], ids=["with agents", "stock"])
@pytest.mark.parametrize("name", presets.WITH_PATRONI)
def test_every_prediction_is_the_sum_of_its_parts(name: str, more: str) -> None:
    predictions = budget(load.loads(presets.text(name) + more))
    assert len({made.fault for made in predictions}) == len(predictions)
    for made in predictions:
        assert made.write_seconds == total(made.parts)
        assert made.explanation
        assert all(part.source for part in made.parts)
        for seconds in (made.write_seconds, made.read_seconds, *(part.seconds for part in made.parts)):
            assert 0 <= seconds.minimum <= seconds.typical <= seconds.maximum


def test_predictions_are_json_without_infinities() -> None:
    text = json.dumps([made.as_dict() for made in budget(topology())], allow_nan=False)
    lost = next(made for made in json.loads(text) if made["fault"] == "etcd-quorum-lost")
    assert lost["write_seconds"] == {"min": 0.0, "typical": None, "max": None}


def test_a_longer_lock_makes_a_dead_host_cost_more_and_a_dead_process_not() -> None:
    short, long = topology("[timings]\nttl = 20"), topology("[timings]\nttl = 30")
    gain = prediction(long, "primary-power-off").write_seconds.typical
    gain -= prediction(short, "primary-power-off").write_seconds.typical
    assert gain == pytest.approx(10)
    assert prediction(short, "postmaster-killed") == prediction(long, "postmaster-killed")


def test_etcds_election_decides_how_long_the_loss_of_its_leader_costs() -> None:
    fault = "primary-power-off-with-etcd-leader"
    slow, usual = (prediction(topology(text), fault).write_seconds for text in ("[timings]\netcd_election = 3", ""))
    assert slow.minimum - usual.minimum == pytest.approx(2 * 2)
    assert slow.typical - usual.typical == pytest.approx(2 * 2.5)
    assert slow.maximum - usual.maximum == pytest.approx(2 * 3)


@pytest.mark.parametrize(
    ("more", "takes"),
    [
        (STOCK, "1 to 2 s"),
        ("", "0.33 to 0.67 s"),
        (f"{STOCK}[timings]\netcd_election = 12.5", "12.5 to 25 s"),
        ("[timings]\netcd_election = 1", "1 to 2 s"),
    ],
)
def test_how_long_etcds_members_take_to_elect_is_told(more: str, takes: str) -> None:
    assert f" takes {takes}, " in prediction(load.loads(f"{BASE}{more}"), "etcd-member-lost").explanation


def test_adverts_decide_how_long_a_dead_balancer_costs() -> None:
    slow, quick = topology("[timings]\nadvert_interval = 1"), topology()
    more = prediction(slow, "balancer-power-off").write_seconds.maximum
    more -= prediction(quick, "balancer-power-off").write_seconds.maximum
    assert more == pytest.approx(0.9 * (3 + (256 - 253) / 256))


def test_etcd_away_from_the_databases_takes_the_slow_case_out() -> None:
    text = BASE.replace('["database", "dcs"]', '["database"]').replace('["balancer"]', '["balancer", "dcs"]') + STOCK
    text += '[[hosts]]\nname = "e1"\naddress = "10.77.0.31"\nroles = ["dcs"]\n'
    apart = prediction(load.loads(text), "primary-power-off")
    assert apart.write_seconds.maximum < prediction(topology(), "primary-power-off").write_seconds.maximum
    race = {part.name: part.seconds for part in apart.parts}["election"]
    assert race.maximum > 3, "a Patroni without an etcd member of its own may wait for the dead one"


@pytest.mark.parametrize(
    ("mode", "count", "one_lost", "all_lost"),
    [
        ("asynchronous", 1, NONE, NONE),
        ("synchronous", 1, "stall", "stall"),
        ("strict", 1, "stall", UNTIL_REPAIRED),
        ("strict", 2, UNTIL_REPAIRED, UNTIL_REPAIRED),
        ("quorum", 1, NONE, "stall"),
        ("quorum", 2, "stall", "stall"),
    ],
)
def test_lost_standbys_cost_what_the_mode_says(
    mode: str, count: int, one_lost: Range | str, all_lost: Range | str
) -> None:
    chosen = topology(f'[replication]\nmode = "{mode}"\ncount = {count}')
    for fault, expected in (("standby-power-off", one_lost), ("standbys-lost", all_lost)):
        seconds = prediction(chosen, fault).write_seconds
        if expected == "stall":
            assert 2 <= seconds.typical <= 4
            assert seconds.ends
        else:
            assert seconds == expected


def test_reads_without_a_fallback_wait_for_a_standby() -> None:
    only = topology('[balancing]\nread_policy = "standby-only"')
    assert prediction(only, "standbys-lost").read_seconds == UNTIL_REPAIRED
    assert prediction(topology(), "standbys-lost").read_seconds.ends


def test_reads_go_on_while_there_is_no_primary() -> None:
    for fault in ("primary-power-off", "primary-cut-off", "etcd-quorum-lost"):
        made = prediction(topology(), fault)
        assert made.read_seconds.maximum < 3 < made.write_seconds.typical


def test_without_a_vip_a_dead_balancer_is_repaired_by_hand() -> None:
    chosen = load.loads(BASE.replace('vip = "10.77.0.100"\n', "") + STOCK)
    assert not prediction(chosen, "balancer-power-off").write_seconds.ends
    assert not prediction(chosen, "haproxy-hung").write_seconds.ends
    assert prediction(chosen, "haproxy-killed").write_seconds.ends


def test_a_patient_primary_may_restart_first() -> None:
    chosen = topology("[timings]\nprimary_start_timeout = 30")
    made = prediction(chosen, "postmaster-killed")
    assert made.write_seconds.maximum > 30
    assert "restart in place for 30 s" in made.explanation


def test_ranges_are_written_for_people() -> None:
    assert str(NONE) == "none"
    assert str(UNTIL_REPAIRED) == "until repaired"
    assert str(Range(0.1, 0.25, 12)) == "0.25 (0.10 to 12.0)"
    assert str(Range(1, 2, math.inf)) == "2.00 (1.00 to ∞)"


def test_what_an_acknowledged_write_survives_depends_on_the_mode() -> None:
    assert durability(topology()) == promise(ReplicationMode.SYNCHRONOUS, 1)
    promises = [promise(mode, count) for mode in ReplicationMode for count in (1, 2)]
    assert "wait" in promise(ReplicationMode.STRICT, 1).alone
    assert "alone" in promise(ReplicationMode.SYNCHRONOUS, 1).alone
    assert "no standby had received" in promise(ReplicationMode.ASYNCHRONOUS, 1).lost
    assert "any 2 of" in promise(ReplicationMode.QUORUM, 2).acknowledged
    assert "any 2 hosts" in promise(ReplicationMode.STRICT, 2).survives
    assert all(json.dumps(made.as_dict()) for made in promises)


def test_connections_are_counted_over_poolers_ports_users_and_databases() -> None:
    users = "".join(f'[[users]]\nname = "u{number}"\n' for number in (1, 2))
    databases = '[[databases]]\nname = "a"\nowner = "u1"\n[[databases]]\nname = "b"\nowner = "u2"\npool_size = 7\n'
    counted = topology(f"{users}{databases}[pooling]\nsize = 3\nreserve = 1\n")
    assert capacity.pooled_connections(counted) == 2 * 2 * 2 * ((3 + 1) + (7 + 1))
    assert capacity.lookup_connections(counted) == 2 * 2 * 2
    limited = topology('[[users]]\nname = "app"\nconnection_limit = 9\n')
    assert capacity.pooled_connections(limited) == 9


def test_users_own_sizes_and_limits_count() -> None:
    users = '[[users]]\nname = "u1"\npool_size = 5\n[[users]]\nname = "u2"\nmax_user_connections = 6\n'
    databases = '[[databases]]\nname = "a"\nowner = "u1"\n[[databases]]\nname = "b"\nowner = "u2"\npool_size = 7\n'
    counted = topology(f"{users}{databases}[pooling]\nsize = 3\nreserve = 1\n")
    assert [pools.of_user(counted, user) for user in counted.users] == [(5 + 1) + (5 + 1), 6]
    assert capacity.pooled_connections(counted) == 2 * 2 * (12 + 6)
    bounded = topology(f"{users}{databases}max_db_connections = 4\n[pooling]\nsize = 3\nreserve = 1\n")
    assert [pools.of_database(bounded, database) for database in bounded.databases] == [6 + 4, 4]
    assert capacity.pooled_connections(bounded) == 2 * 2 * (10 + 4)


def test_processes_share_pools_and_have_look_ups_of_their_own() -> None:
    one, three = load.loads(BASE), load.loads(f"{BASE}\n[pooling]\nprocesses = 3\n")
    assert capacity.pooled_connections(three) == capacity.pooled_connections(one)
    assert capacity.lookup_connections(three) == 3 * capacity.lookup_connections(one)
    assert capacity.agent_connections(three) - capacity.agent_connections(one) == 2 * 2 * 2 * 2
    assert capacity.probe_connections(three) - capacity.probe_connections(one) == 2 * 2


def test_shares_of_processes_make_the_whole_again() -> None:
    for whole, processes in ((20, 1), (20, 3), (3, 3), (2, 3), (0, 4)):
        shares = [pools.share(whole, processes, number) for number in range(1, processes + 1)]
        assert sum(shares) == whole
        assert max(shares) - min(shares) <= 1
    assert pools.instances("write", 3) == ("write", "write-2", "write-3")


def test_a_users_mode_comes_before_the_databases() -> None:
    modes = '[[users]]\nname = "app"\n[[users]]\nname = "old"\npool_mode = "session"\n'
    made = topology(
        f'{modes}[[databases]]\nname = "app"\nowner = "app"\npool_mode = "statement"\n[pooling]\nsize = 5\n'
    )
    found = [pools.mode(made, made.databases[0], user) for user in made.users]
    assert found == [PoolMode.STATEMENT, PoolMode.SESSION]


@pytest.mark.parametrize("fault", ["haproxy-killed", "balancer-power-off"])
def test_of_several_vips_it_is_told_who_notices_and_when_one_goes_back(fault: str) -> None:
    vip = 'vip = "10.77.0.100"'
    text = f"{BASE}{STOCK}[timings]\nvip_return = 45\n".replace(vip, f'more_vips = ["10.77.0.101"]\n{vip}')
    several, single = prediction(load.loads(text), fault), prediction(topology(), fault)
    assert "Clients of other VIPs notice nothing; this one goes back after 45 s" in several.explanation
    assert "other VIPs" not in single.explanation
    assert several.write_seconds == single.write_seconds


def test_a_pool_beside_an_application_may_wait_for_tcp_to_repeat_what_it_began_while_the_vip_moved() -> None:
    shop = '[[hosts]]\nname = "shop"\naddress = "10.77.0.41"\nroles = ["application"]\n'
    beside = topology(f'{shop}[pooling]\nplacement = "application"\n')
    usual, later = (prediction(each, "balancer-power-off").write_seconds for each in (topology(), beside))
    assert later.maximum - usual.maximum == pytest.approx(1.0)
