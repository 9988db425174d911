"""Operations where a person promotes: what is refused, what may be lost, whom commits wait for."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Any

import pytest
from operate_views import DEAD, GONE, POSITION, primary, standby

from pgbaton.components import manual
from pgbaton.errors import RefusedError
from pgbaton.hosts.fake import FakeHost
from pgbaton.operate import switchover
from pgbaton.operate.checks import failed
from pgbaton.operate.dcs import Reading
from pgbaton.operate.hand import control, failover, rejoin, standbys
from pgbaton.operate.hand.control import Control
from pgbaton.operate.hand.sight import Sight
from pgbaton.operate.members import View
from pgbaton.operate.operation import Operation
from pgbaton.topology.model import Topology

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgbaton.operate.servers import Absence, Server

FOLLOWS = Control("active", data=True, standby=True, upstream="db1", timeline=4, confirms=0)
STOPPED = Control("inactive", data=True, timeline=4, state="in production")


def topology(databases: int = 3, **replication: Any) -> Topology:  # noqa: ANN401 - any field
    hosts = [{"name": f"lb{n}", "address": f"10.77.0.{n}", "roles": ["balancer"]} for n in (1, 2)]
    hosts += [{"name": f"db{n}", "address": f"10.77.0.1{n}", "roles": ["database"]} for n in range(1, databases + 1)]
    sections = {"cluster": {"name": "test"}, "network": {"subnet": "10.77.0.0/24", "vip": "10.77.0.100"}}
    kind = {"orchestration": {"kind": "manual"}, "replication": replication}
    return Topology.model_validate({"schema": 1, "hosts": hosts, **sections, **kind})


def sight(servers: Mapping[str, Server | Absence], **controls: Control | None) -> Sight:
    """Return a cluster whose standbys follow db1; a host that is silent has no control."""
    usual = {
        name: None if server == GONE else (STOPPED if name == "db1" else FOLLOWS) for name, server in servers.items()
    }
    return Sight(View(servers, Reading((), (), None)), {**usual, **controls})


def lonely(server: Server | Absence = DEAD) -> dict[str, Server | Absence]:
    """Return a cluster whose primary does not run."""
    return {"db1": server, "db2": standby(receiving=False), "db3": standby(receiving=False)}


def consider(
    of: Sight,
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


def test_nobody_is_promoted_while_a_standby_streams_from_a_silent_host_over_the_network_for_replication() -> None:
    """It is cut from clients and operators alone: it lives."""
    apart, over = with_network(topology()), standby(receiving=True, receiving_from="10.78.0.11")
    streams = sight(lonely(GONE) | {"db3": over})
    with pytest.raises(RefusedError, match="silent host: db3 streams from db1") as caught:
        failover.consider(apart, streams, None, off=("db1",)).require()
    assert "cut its power" in str(caught.value)
    assert failover.consider(apart, sight(lonely(GONE)), None, off=("db1",)).require().host == "db2"
    stopped = failover.consider(apart, sight(lonely() | {"db3": over}), None, off=())
    assert stopped.require(), "a primary that was stopped answers for itself"


def test_a_silent_standby_has_to_be_off_as_well() -> None:
    servers = {"db1": DEAD, "db2": standby(), "db3": GONE}
    with pytest.raises(RefusedError, match="no answer: db3"):
        consider(sight(servers)).require()


def routed(of: Sight, **routes: frozenset[str] | str) -> Sight:
    return replace(of, view=replace(of.view, routes=routes))


def test_a_host_that_balancers_reach_is_not_off_and_not_stopped() -> None:
    silent = sight(lonely(GONE))
    for of, off in ((silent, ("db1",)), (sight(lonely()), ())):
        seen = routed(of, lb1="no answer", lb2=frozenset({"db1"}))
        with pytest.raises(RefusedError, match="balancers that reach an old primary: lb2 reaches db1"):
            consider(seen, off=off).require()
        consider(routed(of, lb1="no answer", lb2=frozenset()), off=off).require()
    # It is the one that is to be started where it is.
    consider(routed(sight(lonely()), lb1=frozenset({"db1"})), "db1").require()


def test_a_host_that_a_standby_streams_from_is_not_off() -> None:
    streams = standby(receiving=True, receiving_from="10.77.0.11")
    with pytest.raises(RefusedError, match="silent host: db3 streams from db1"):
        consider(sight(lonely(GONE) | {"db3": streams}), off=("db1",)).require()
    # Whoever answers and does not say so is stopped first, so that nothing goes on there.
    consider(sight(lonely() | {"db3": streams})).require()
    consider(sight(lonely(GONE) | {"db3": replace(streams, receiving=False)}), off=("db1",)).require()


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
        # Only its own word counts, and from where on it was given.
        ({}, {"db2": replace(FOLLOWS, confirms=None)}, {}, False),
        ({}, {"db3": replace(FOLLOWS, confirms=None)}, {}, False),
        ({}, {"db2": replace(FOLLOWS, confirms=None)}, {"count": 2}, False),
        ({}, {"db3": replace(FOLLOWS, confirms=None)}, {"count": 2}, True),
        ({}, {"db2": replace(FOLLOWS, confirms=POSITION)}, {}, True),
        ({}, {"db2": replace(FOLLOWS, confirms=POSITION + 1)}, {}, False),
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


def test_a_stopped_primary_is_complete_only_while_everybody_answers() -> None:
    alone = sight({"db1": DEAD, "db2": GONE, "db3": standby(receiving=False)})
    intent = consider(alone, "db1", off=("db2",))
    assert intent.needs_acceptance
    target = intent.require()
    assert "missing if db2 was promoted after it" in str(target)
    with pytest.raises(RefusedError, match="none was accepted"):
        failover.accept(target, None)
    failover.accept(target, 0)


def test_a_primary_that_saw_another_after_it_is_started_by_no_number_of_bytes() -> None:
    after = replace(STOPPED, superseded=("db2", 5))
    for servers, off in ((lonely(), ()), ({**lonely(), "db2": GONE}, ("db2",))):
        intent = consider(sight(servers, db1=after), "db1", off=off)
        target = intent.require()
        assert (target.complete, target.outdated) == (False, True)
        with pytest.raises(RefusedError, match="db2 was primary after it, on timeline 5") as caught:
            failover.accept(target, 10**9)
        assert "type db1 on a terminal" in caught.value.hint
    with pytest.raises(RefusedError, match="since you decided"):
        failover.still(consider(sight(lonely(), db1=after), "db1"), consider(sight(lonely()), "db1"))


def test_a_standby_of_an_older_timeline_is_not_chosen_however_far_it_is() -> None:
    servers = lonely() | {"db2": standby(timeline=4, position=POSITION + 500), "db3": standby(timeline=5)}
    of = sight(servers, db1=replace(STOPPED, timeline=4))
    assert consider(of).require().host == "db3"
    with pytest.raises(RefusedError, match="db2 timeline: 4; wanted: 5, the newest of all"):
        consider(of, "db2").require()


def test_a_timeline_that_is_only_heard_of_makes_everybody_outdated() -> None:
    heard = replace(FOLLOWS, timeline=5)
    servers = {"db1": GONE, "db2": standby(timeline=4), "db3": standby(timeline=4)}
    target = consider(sight(servers, db2=heard), "db3", off=("db1",)).require()
    assert (target.complete, target.outdated) == (False, True)
    with pytest.raises(RefusedError, match="somebody was primary on timeline 5"):
        failover.accept(target, 10**9)
    # Of a host that was primary, what it saw says the same.
    seen = sight(lonely(), db1=replace(STOPPED, superseded=("db4", 5)))
    assert consider(seen, "db2").require().outdated


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
    with pytest.raises(RefusedError, match="nobody was promoted; stopped: db1: since"):
        failover.still(worse, before, fenced=("db1",))


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
    assert (back.attached, back.detached, back.joins) == (("db2", "db3"), (), "db2")


def test_who_follows_and_cannot_be_told_is_not_detached() -> None:
    controls = {"db1": Control("active"), "db2": None, "db3": FOLLOWS}
    with pytest.raises(RefusedError, match="db2 answers: no, and it streams"):
        standbys.consider(topology(), healthy(), controls, "db2", attach=False)
    apart = View({**healthy().servers, "db1": primary(streaming_to=frozenset({"db3"})), "db2": GONE}, healthy().reading)
    assert standbys.consider(topology(), apart, controls, "db2", attach=False).detached == ("db2",)


class Told:
    """A cluster's hosts that write down, in order, what they are told."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.operation = Operation(topology(), {name: self.host(name) for name in ("db1", "db2", "db3")}, print)

    def host(self, name: str) -> FakeHost:
        def note(argv: tuple[str, ...]) -> Callable[[str], str]:
            return lambda text: self.words.append(f"{name} {argv[-1]} {text}".strip()) or SAID

        asked = ("look", "detach", "confirm", "claim", "release")
        answers: dict[tuple[str, ...], Any] = {(*manual.AS_SERVER, word): note((word,)) for word in asked}
        answers |= {("systemctl", "reload"): note(("reload",)), ("runuser",): note(("sql",))}
        return FakeHost(name, answers=answers)

    def done(self, change: standbys.Change) -> list[str]:
        asyncio.run(standbys.carry_out(self.operation, change))
        return [word for word in self.words if word.split()[1] not in {"look", "claim", "release"}]


SAID = json.dumps(
    {
        "data": True,
        "standby": True,
        "unit": "active",
        "upstream": "db1",
        "detached": [],
        "control": {},
        "timeline": 4,
        "superseded": None,
        "confirms": None,
    }
)


def test_a_standby_loses_its_word_before_commits_go_on_without_it_and_gets_it_after_they_wait() -> None:
    out = standbys.Change("db1", ("db3",), ("db2",))
    assert Told().done(out) == ["db2 detach", "db3 detach", "db1 detach", "db1 reload"]
    back = standbys.Change("db1", ("db2", "db3"), (), joins="db2")
    words = ["db1 detach", "db1 reload", "db1 sql CHECKPOINT", "db2 detach", "db3 detach", "db2 confirm"]
    assert Told().done(back) == words


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
    controls = {"db1": Control("active", timeline=4), "db2": FOLLOWS, "db3": FOLLOWS, host: found}
    with pytest.raises(RefusedError, match=reason):
        rejoin.consider(healthy(), controls, host)


def test_data_of_a_newer_timeline_than_the_primarys_are_not_thrown_away_by_the_way() -> None:
    newer = replace(STOPPED, timeline=5)
    controls = {"db1": Control("active", timeline=4), "db2": newer, "db3": FOLLOWS}
    view = View({**healthy().servers, "db2": DEAD}, Reading((), (), None))
    with pytest.raises(RefusedError, match="db2 timeline: 5; wanted: 4 at most") as caught:
        rejoin.consider(view, controls, "db2")
    assert "pgbaton failover --to db2" in str(caught.value)
    assert rejoin.consider(view, controls, "db2", discard=True) == "db1"
    assert rejoin.consider(view, {**controls, "db1": Control("active", timeline=5)}, "db2") == "db1"


def test_what_a_host_says_is_read() -> None:
    words = {"system": "7", "state": "shut down", "checkpoint": "1/28B80", "timeline": "4"}
    told = {"upstream": None, "detached": ["db3"], "permitted": "x", "timeline": 5, "control": words}
    told |= {"superseded": ["db2", 6], "confirms": 7}
    said = json.dumps({"data": True, "standby": False, "unit": "active", **told})
    found = control.parse(said)
    assert (found.was_primary, found.runs, found.timeline, found.detached) == (True, True, 5, ("db3",))
    assert (found.superseded, found.confirms) == (("db2", 6), 7)
    assert found.checkpoint == (1 << 32) + 0x28B80
