"""Operations where a person promotes: what is refused, what may be lost, whom commits wait for."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Any

import pytest
from operate_views import DEAD, GONE, POSITION, primary, standby

from pgbaton.errors import RefusedError
from pgbaton.operate import switchover
from pgbaton.operate.checks import failed
from pgbaton.operate.dcs import Reading
from pgbaton.operate.hand import control, failover, rejoin, standbys
from pgbaton.operate.hand.control import Control
from pgbaton.operate.members import View
from pgbaton.operate.operation import Operation
from pgbaton.topology.model import Topology

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.operate.servers import Absence, Server

FOLLOWS = Control("active", data=True, standby=True, upstream="db1", timeline=4)
STOPPED = Control("inactive", data=True, timeline=4, state="in production")


def topology(databases: int = 3, **replication: Any) -> Topology:  # noqa: ANN401 - any field
    hosts = [{"name": f"lb{n}", "address": f"10.77.0.{n}", "roles": ["balancer"]} for n in (1, 2)]
    hosts += [{"name": f"db{n}", "address": f"10.77.0.1{n}", "roles": ["database"]} for n in range(1, databases + 1)]
    sections = {"cluster": {"name": "test"}, "network": {"subnet": "10.77.0.0/24", "vip": "10.77.0.100"}}
    kind = {"orchestration": {"kind": "manual"}, "replication": replication}
    return Topology.model_validate({"schema": 1, "hosts": hosts, **sections, **kind})


def sight(servers: Mapping[str, Server | Absence], **controls: Control | None) -> failover.Sight:
    """Return a cluster whose standbys follow db1; a host that is silent has no control."""
    usual = {
        name: None if server == GONE else (STOPPED if name == "db1" else FOLLOWS) for name, server in servers.items()
    }
    return failover.Sight(View(servers, Reading((), (), None)), {**usual, **controls})


def lonely(server: Server | Absence = DEAD) -> dict[str, Server | Absence]:
    """Return a cluster whose primary does not run."""
    return {"db1": server, "db2": standby(receiving=False), "db3": standby(receiving=False)}


def consider(
    of: failover.Sight,
    to: str | None = None,
    *,
    off: tuple[str, ...] = (),
    **replication: Any,  # noqa: ANN401 - any field
) -> failover.Intent:
    return failover.consider(topology(**replication), of, to, off=off)


def test_a_standby_takes_over_and_what_is_left_of_the_primary_is_stopped_first() -> None:
    intent = consider(sight(lonely()))
    assert intent.require().host == "db2"
    assert intent.fenced == ("db1",)
    assert not intent.needs_acceptance
    assert [each["host"] for each in intent.data["candidates"]] == ["db1", "db2", "db3"]


def test_nobody_is_promoted_beside_a_primary_that_runs() -> None:
    servers = {"db1": primary(), "db2": standby(), "db3": standby()}
    with pytest.raises(RefusedError, match="servers out of recovery: db1"):
        consider(sight(servers), "db2").require()


def test_a_host_that_says_nothing_has_to_be_known_to_be_off() -> None:
    silent = sight(lonely(GONE))
    with pytest.raises(RefusedError, match="no answer: db1") as caught:
        consider(silent).require()
    assert "--old-primary-is-off db1" in str(caught.value)
    with pytest.raises(RefusedError, match="no answer: db1"):
        consider(silent, off=("db3",)).require()
    intent = consider(silent, off=("db1",))
    assert (intent.require().host, intent.fenced, intent.silent) == ("db2", (), ("db1",))
    assert "there will be two" in str(intent.warning)


def with_network(made: Topology) -> Topology:
    """Return a topology whose databases replicate over a network of their own."""
    hosts = tuple(
        host.model_copy(update={"replication_address": IPv4Address(str(host.address).replace(".77.", ".78."))})
        if host.name.startswith("db")
        else host
        for host in made.hosts
    )
    net = made.network.model_copy(update={"replication_subnet": IPv4Network("10.78.0.0/24")})
    return made.model_copy(update={"hosts": hosts, "network": net})


def test_nobody_is_promoted_while_a_standby_receives_from_a_host_that_is_said_to_be_off() -> None:
    """It is cut from clients and operators, and replicates over its second network: it lives."""
    streams = sight(lonely(GONE) | {"db3": standby()})
    apart = with_network(topology())
    with pytest.raises(RefusedError, match="standbys that still receive WAL: db3; wanted: none") as caught:
        failover.consider(apart, streams, None, off=("db1",)).require()
    assert "cut its power" in str(caught.value)
    assert failover.consider(apart, sight(lonely(GONE)), None, off=("db1",)).require().host == "db2"
    assert consider(streams, off=("db1",)).require(), "one network tells nothing of the kind: it is cut as a whole"
    stopped = failover.consider(apart, sight(lonely() | {"db3": standby()}), None, off=())
    assert stopped.require(), "a primary that was stopped answers for itself"


async def test_a_standby_has_the_time_to_notice_that_its_primary_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [sight(lonely(GONE) | {"db3": standby()})] * 2 + [sight(lonely(GONE))]
    told: list[str] = []

    async def look(_: Operation) -> failover.Sight:
        return looks.pop(0)

    monkeypatch.setattr(failover, "look", look)
    monkeypatch.setattr(failover, "PAUSE_SECONDS", 0.0)
    seen = await failover.look_when_known(Operation(with_network(topology()), {}, told.append))
    assert failover.receiving(seen) == ()
    assert told == ["db3 may still receive WAL: 5 s at most until that is known"]
    looks = [sight(lonely(GONE) | {"db3": standby()})]
    assert failover.receiving(await failover.look_when_known(Operation(topology(), {}, told.append))) == ("db3",)


def test_a_silent_standby_has_to_be_off_as_well() -> None:
    servers = {"db1": DEAD, "db2": standby(), "db3": GONE}
    with pytest.raises(RefusedError, match="no answer: db3"):
        consider(sight(servers)).require()


def test_the_furthest_standby_is_chosen_and_another_needs_a_loss_accepted() -> None:
    servers = lonely() | {"db2": standby(position=POSITION - 500)}
    intent = consider(sight(servers))
    assert intent.require().host == "db3"
    named = consider(sight(servers), "db2")
    assert named.needs_acceptance
    target = named.require()
    assert target.gap_bytes == 500
    for accepted in (None, 499):
        with pytest.raises(RefusedError, match="possible loss"):
            failover.accept(target, accepted)
    failover.accept(target, 500)


@pytest.mark.parametrize(
    ("servers", "controls", "replication", "complete"),
    [
        ({}, {}, {}, True),
        ({}, {}, {"mode": "asynchronous"}, False),
        ({}, {}, {"mode": "quorum"}, True),
        # The one that is gone may have confirmed what the other lacks.
        ({"db3": DEAD}, {}, {}, False),
        ({"db3": DEAD}, {}, {"count": 2}, True),
        # Nobody waited for it, so it says nothing about what was acknowledged.
        ({}, {"db2": replace(FOLLOWS, detached=("db2", "db3"))}, {}, False),
        ({"db3": DEAD}, {"db2": replace(FOLLOWS, detached=("db3",))}, {}, True),
        # Standbys that were told different things.
        ({}, {"db3": replace(FOLLOWS, upstream="db2")}, {}, False),
    ],
)
def test_a_standby_is_known_to_have_everything_or_not(
    servers: dict[str, Any], controls: dict[str, Control], replication: dict[str, Any], *, complete: bool
) -> None:
    intent = consider(sight(lonely() | servers, **controls), "db2", **replication)
    assert intent.require().complete is complete


def test_a_stopped_primary_is_started_only_when_it_is_named_and_newest() -> None:
    intent = consider(sight(lonely()), "db1")
    target = intent.require()
    assert (target.restarts, target.complete, intent.fenced) == (True, True, ())
    newer = sight(lonely(), db2=replace(FOLLOWS, timeline=5))
    with pytest.raises(RefusedError, match="db1 timeline: 4"):
        consider(newer, "db1").require()


def test_two_former_primaries_are_not_both_left_to_start() -> None:
    servers = {"db1": DEAD, "db2": DEAD, "db3": standby(receiving=False)}
    two = sight(servers, db2=replace(STOPPED, timeline=5), db3=replace(FOLLOWS, upstream="db2", timeline=5))
    assert consider(two, "db3").fenced == ("db1", "db2")
    assert consider(two, "db2").fenced == ("db1",)


def test_an_acceptance_does_not_outlive_what_it_was_for() -> None:
    before = consider(sight(lonely()), "db2")
    worse = consider(sight(lonely() | {"db2": standby(position=POSITION - 1)}), "db2")
    with pytest.raises(RefusedError, match="since you decided"):
        failover.still(worse, before)


@pytest.mark.parametrize(
    ("mode", "apart", "left_out"),
    [
        ("synchronous", ("db1",), ("db1",)),
        ("synchronous", ("db1", "db3"), ("db1", "db3")),
        ("strict", ("db1", "db3"), ()),
    ],
)
def test_commits_do_not_wait_for_who_does_not_follow(
    mode: str, apart: tuple[str, ...], left_out: tuple[str, ...]
) -> None:
    assert failover.detached(topology(mode=mode), sight(lonely()), "db2", apart) == left_out


def test_a_switchover_needs_no_etcd() -> None:
    servers = {"db1": primary(), "db2": standby(), "db3": standby()}
    intent = switchover.consider(topology(), View(servers, Reading((), (), None)), "db2")
    assert failed(intent.checks) == ()
    assert intent.require() == ("db1", "db2")


def healthy() -> View:
    return View({"db1": primary(), "db2": standby(), "db3": standby()}, Reading((), (), None))


def test_a_standby_is_detached_and_attached() -> None:
    controls = {"db1": Control("active"), "db2": FOLLOWS, "db3": FOLLOWS}
    change = standbys.consider(topology(), healthy(), controls, "db2", attach=False)
    assert (change.attached, change.detached) == (("db3",), ("db2",))
    told = {name: replace(each, detached=("db2",)) for name, each in controls.items()}
    back = standbys.consider(topology(), healthy(), told, "db2", attach=True)
    assert (back.attached, back.detached) == (("db2", "db3"), ())


@pytest.mark.parametrize(
    ("host", "attach", "mode", "reason"),
    [
        ("db1", False, "synchronous", "db1 as standby: the primary"),
        ("db4", True, "synchronous", "db4 streams"),
        ("db2", False, "strict", "standbys left in strict mode"),
    ],
)
def test_a_change_that_breaks_a_promise_is_refused(host: str, *, attach: bool, mode: str, reason: str) -> None:
    view = View({**healthy().servers, "db4": DEAD}, Reading((), (), None))
    out = ("db3", "db4")
    controls = dict.fromkeys(view.servers, replace(FOLLOWS, detached=out))
    with pytest.raises(RefusedError, match=reason):
        standbys.consider(topology(4, mode=mode), view, controls, host, attach=attach)


def test_where_patroni_decides_nobody_else_does() -> None:
    plain = topology().model_dump(mode="json", by_alias=True, exclude_unset=True)
    plain["hosts"][2:] = [{**host, "roles": ["database", "dcs"]} for host in plain["hosts"][2:]]
    with pytest.raises(RefusedError, match="has Patroni"):
        standbys.refuse_elsewhere(Topology.model_validate({**plain, "orchestration": {}}))


@pytest.mark.parametrize(("host", "found", "reason"), [("db1", STOPPED, "the primary"), ("db2", None, "db2 answers")])
def test_who_cannot_be_brought_back(host: str, found: Control | None, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        rejoin.consider(healthy(), host, found)


def test_what_a_host_says_is_read() -> None:
    words = {"system": "7", "state": "shut down", "checkpoint": "1/28B80", "timeline": "4"}
    told = {"upstream": None, "detached": ["db3"], "permitted": "x", "timeline": 5, "control": words}
    said = json.dumps({"data": True, "standby": False, "unit": "active", **told})
    found = control.parse(said)
    assert (found.was_primary, found.runs, found.timeline, found.detached) == (True, True, 5, ("db3",))
    assert found.checkpoint == (1 << 32) + 0x28B80
