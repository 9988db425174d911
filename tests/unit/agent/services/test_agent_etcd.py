"""The client of etcd's gateway, against answers that were recorded from two versions of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from canned_server import Canned, canned, chunk, chunked, plain, until
from recorded_gateway import (
    CHANGES,
    COMPACTED,
    LEADER,
    PREFIX,
    PREFIX_END,
    SYNC,
    SYNC_VALUE,
    VERSIONS,
    WATCH,
    Recorded,
    change,
)

from pgbaton.agent.services import etcd_session
from pgbaton.agent.services import following as following_module
from pgbaton.agent.services.etcd import (
    CompactedError,
    Etcd,
    Login,
    Member,
    NoLeaderError,
    NotInTimeError,
    OutcomeUnknownError,
    Patience,
    RejectedError,
    Status,
    UnavailableError,
)
from pgbaton.agent.services.following import Follower
from pgbaton.agent.services.keys import (
    Batch,
    Delete,
    Event,
    KeyValue,
    ModRevision,
    Put,
    Snapshot,
    TransactionResult,
    applied,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

OURS = "/service/orders/"
RANGE, TXN, PUT, WATCHES = "/v3/kv/range", "/v3/kv/txn", "/v3/kv/put", "/v3/watch"
IMPATIENT = Patience(deadline_seconds=0.15, retry_seconds=60)
LEADER_KEY = KeyValue("/service/orders/leader", b"db1", 2, 3437832039479394824)
SYNC_KEY = KeyValue("/service/orders/sync", b'{"leader":"db1","sync_standby":"db2"}', 3)


@pytest.fixture(params=VERSIONS, ids=lambda recorded: recorded.version)
def recorded(request: pytest.FixtureRequest) -> Recorded:
    return request.param


@pytest.fixture
async def local() -> AsyncIterator[Canned]:
    async with canned() as member:
        yield member


@pytest.fixture
async def other() -> AsyncIterator[Canned]:
    async with canned() as member:
        yield member


@contextlib.contextmanager
def client(*members: Canned | str, patience: Patience | None = None) -> Iterator[Etcd]:
    """Make a client for as long as the block lasts."""
    endpoints = [member if isinstance(member, str) else member.endpoint for member in members]
    etcd = Etcd(endpoints, tls=None, patience=patience or Patience(deadline_seconds=5, retry_seconds=60))
    try:
        yield etcd
    finally:
        etcd.close()


@pytest.fixture
def etcd(local: Canned) -> Iterator[Etcd]:
    with client(local) as made:
        yield made


# What is asked, and what is read.


async def test_keys_are_read_with_their_revisions_and_leases(local: Canned, etcd: Etcd, recorded: Recorded) -> None:
    local.says(RANGE, recorded.keys)
    found = await etcd.range(OURS)
    assert found == Snapshot(
        3, {LEADER_KEY.key: LEADER_KEY, SYNC_KEY.key: SYNC_KEY}, confirmed=True, endpoint=local.endpoint
    )
    assert local.asked[0].json() == {"key": PREFIX, "range_end": PREFIX_END, "serializable": False}
    assert local.asked[0].method == "POST"


async def test_no_keys_are_no_error_and_one_members_view_is_not_confirmed(
    local: Canned, etcd: Etcd, recorded: Recorded
) -> None:
    local.says(RANGE, recorded.empty)
    found = await etcd.range(OURS, serializable=True)
    assert found == Snapshot(1, {}, confirmed=False, endpoint=local.endpoint)
    assert local.asked[0].json()["serializable"] is True


async def test_a_transaction_compares_and_changes_in_the_order_given(
    local: Canned, etcd: Etcd, recorded: Recorded
) -> None:
    local.says(TXN, recorded.won)
    compare = [ModRevision(LEADER_KEY.key, 2), ModRevision("/service/orders/none", 0)]
    success = [Delete(LEADER_KEY.key), Put(SYNC_KEY.key, SYNC_KEY.value), Put("k", b"\x00\xff", lease=7)]
    assert await etcd.transaction(compare, success) == TransactionResult(succeeded=True, revision=4)
    assert local.asked[0].json() == {
        "compare": [
            {"key": LEADER, "target": "MOD", "result": "EQUAL", "mod_revision": "2"},
            {"key": "L3NlcnZpY2Uvb3JkZXJzL25vbmU=", "target": "MOD", "result": "EQUAL", "mod_revision": "0"},
        ],
        "success": [
            {"request_delete_range": {"key": LEADER}},
            {"request_put": {"key": SYNC, "value": SYNC_VALUE}},
            {"request_put": {"key": "aw==", "value": "AP8=", "lease": "7"}},
        ],
    }


async def test_a_comparison_that_fails_is_a_result(local: Canned, etcd: Etcd, recorded: Recorded) -> None:
    local.says(TXN, recorded.lost)
    assert await etcd.transaction([], []) == TransactionResult(succeeded=False, revision=4)


async def test_a_put_returns_its_revision(local: Canned, etcd: Etcd, recorded: Recorded) -> None:
    local.says(PUT, recorded.lost)
    assert await etcd.put("k", b"v") == 4
    assert local.asked[0].json() == {"key": "aw==", "value": "dg=="}


async def test_a_lease_that_is_gone_already_is_no_error(local: Canned, etcd: Etcd, recorded: Recorded) -> None:
    local.says("/v3/lease/revoke", recorded.lost, recorded.no_lease)
    assert [await etcd.revoke(3437832039479394824), await etcd.revoke(1)] == [True, False]
    assert local.asked[0].json() == {"ID": "3437832039479394824"}


async def test_what_etcd_refuses_is_certain_not_to_have_happened(local: Canned, etcd: Etcd, recorded: Recorded) -> None:
    local.says(PUT, recorded.no_lease)
    with pytest.raises(RejectedError, match="requested lease not found") as caught:
        await etcd.put("k", b"v", lease=1)
    assert caught.value.code == 5
    assert not etcd.trouble


async def test_the_leader_is_found_by_its_id(local: Canned, etcd: Etcd, recorded: Recorded) -> None:
    local.says("/v3/maintenance/status", recorded.status(101), recorded.status(101), recorded.status(0))
    local.always["/v3/cluster/member/list"] = recorded.members("127.0.0.1:1", "127.0.0.1:2")
    assert await etcd.status() == Status(10330772385792896949, 101, 2, recorded.version)
    assert await etcd.leader_of_cluster() == Member(101, "m1", ("http://127.0.0.1:2",))
    assert await etcd.leader_of_cluster() is None


async def test_the_leader_itself_is_asked_to_hand_over(
    local: Canned, other: Canned, etcd: Etcd, recorded: Recorded
) -> None:
    local.always["/v3/maintenance/status"] = recorded.status(101)
    local.always["/v3/cluster/member/list"] = recorded.members(local.endpoint, other.endpoint)
    other.says("/v3/maintenance/transfer-leadership", plain(b"{}"), recorded.not_leader)
    await etcd.move_leader("m0")
    assert other.asked[0].json() == {"targetID": "100"}
    await etcd.move_leader("m1")
    assert len(other.asked) == 1
    with pytest.raises(RejectedError, match="not leader"):
        await etcd.move_leader("m0")
    with pytest.raises(RejectedError, match="no member 'm7'; it has m0, m1"):
        await etcd.move_leader("m7")


async def test_without_a_leader_nobody_hands_over(local: Canned, etcd: Etcd, recorded: Recorded) -> None:
    local.always["/v3/maintenance/status"] = recorded.status(0)
    local.always["/v3/cluster/member/list"] = recorded.members(local.endpoint)
    with pytest.raises(NoLeaderError, match="wait until one is elected"):
        await etcd.move_leader("m0")


# Members that fail.


async def test_a_member_that_does_not_answer_is_left_and_asked_last_for_a_while(
    local: Canned, other: Canned, recorded: Recorded
) -> None:
    other.always[RANGE] = recorded.keys
    with client(local, other, patience=IMPATIENT) as etcd:
        for _ in range(3):
            assert (await etcd.range(OURS)).endpoint == other.endpoint
        assert (len(local.asked), len(other.asked)) == (1, 3)
        assert "no answer in time" in etcd.trouble[local.endpoint]


async def test_a_member_that_answers_again_is_asked_first_again(
    local: Canned, other: Canned, recorded: Recorded
) -> None:
    local.says(RANGE, recorded.timed_out)
    other.always[RANGE] = recorded.keys
    with client(local, other, patience=Patience(deadline_seconds=5, retry_seconds=0)) as etcd:
        assert (await etcd.range(OURS)).endpoint == other.endpoint
        local.always[RANGE] = recorded.keys
        assert (await etcd.range(OURS)).endpoint == local.endpoint
        assert etcd.trouble == {}


async def test_nobody_listens_here_and_there_is_an_error_with_every_reason(recorded: Recorded) -> None:
    async with canned() as gone, canned() as slow:
        slow.says(RANGE, recorded.timed_out)
        closed = "127.0.0.1:1"
        with client(closed, slow) as etcd, pytest.raises(UnavailableError) as caught:
            await etcd.range(OURS)
        del gone
    assert "127.0.0.1:1: no connection" in str(caught.value)
    assert "request timed out" in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b'{"code":14,"message":"etcdserver: no leader"}', NoLeaderError),
        (b'{"code":14,"message":"etcdserver: leader changed"}', NoLeaderError),
        (b'{"code":14,"message":"etcdserver: too busy"}', UnavailableError),
        (b"<html>a proxy</html>", UnavailableError),
        (b"{}", UnavailableError),
    ],
)
async def test_errors_of_members_have_kinds(
    local: Canned, etcd: Etcd, answer: bytes, kind: type[UnavailableError]
) -> None:
    local.says(RANGE, plain(answer, status="503 Service Unavailable"))
    with pytest.raises(UnavailableError) as caught:
        await etcd.range(OURS)
    assert type(caught.value) is kind


async def test_silence_everywhere_is_an_error_of_its_own(local: Canned, other: Canned) -> None:
    with client(local, other, patience=IMPATIENT) as etcd, pytest.raises(NotInTimeError):
        await etcd.range(OURS)


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b'{"header":{}}', b'{"header":{"revision":"x"}}', b'{"header":1}', b"{"]
)
async def test_an_answer_that_is_not_etcds_counts_as_none(local: Canned, etcd: Etcd, body: bytes) -> None:
    local.says(RANGE, plain(body))
    local.says(PUT, plain(body))
    with pytest.raises(UnavailableError):
        await etcd.range(OURS)
    with pytest.raises(OutcomeUnknownError):
        await etcd.put("k", b"v")


# Changes whose outcome nobody knows.


async def test_a_change_without_an_answer_in_time_is_unknown_and_asked_of_nobody_else(
    local: Canned, other: Canned
) -> None:
    with client(local, other, patience=IMPATIENT) as etcd:
        with pytest.raises(OutcomeUnknownError, match="not known"):
            await etcd.transaction([], [Delete("k")])
        assert (len(local.asked), len(other.asked)) == (1, 0)


async def test_a_change_that_a_member_gave_up_is_unknown(local: Canned, etcd: Etcd, recorded: Recorded) -> None:
    local.says(TXN, recorded.timed_out, recorded.given_up, b"")
    for _ in range(3):
        with pytest.raises(OutcomeUnknownError):
            await etcd.transaction([], [])


async def test_a_change_that_never_left_is_asked_of_the_next_member(other: Canned, recorded: Recorded) -> None:
    other.says(TXN, recorded.won)
    with client("127.0.0.1:1", other) as etcd:
        assert (await etcd.transaction([], [])).succeeded


async def test_a_change_is_not_sent_twice_over_a_connection_that_broke(
    local: Canned, etcd: Etcd, recorded: Recorded
) -> None:
    local.says(PUT, recorded.lost, b"", recorded.lost)
    await etcd.put("k", b"1")
    with pytest.raises(OutcomeUnknownError):
        await etcd.put("k", b"2")
    assert len(local.asked) == 2


async def test_a_change_may_have_a_deadline_of_its_own(local: Canned, etcd: Etcd) -> None:
    with pytest.raises(OutcomeUnknownError):
        await etcd.transaction([], [], deadline_seconds=0.15)
    assert len(local.asked) == 1


# Watching.


async def watched(etcd: Etcd, from_revision: int = 3) -> list[Batch]:
    """Return what a watch tells until it ends."""
    batches = []
    async with contextlib.aclosing(etcd.watch(OURS, from_revision)) as told:
        async for batch in told:
            batches.append(batch)
            if len(batches) == 2:
                break
    return batches


async def test_a_watch_tells_of_changes_in_order_and_of_no_later_revision_than_theirs(
    local: Canned, etcd: Etcd
) -> None:
    local.says(WATCHES, WATCH + chunk(CHANGES) + change(7, "eA=="))
    batches = await watched(etcd)
    put = KeyValue(SYNC_KEY.key, b"x", 4)
    assert batches[0] == Batch(
        4,
        (Event(SYNC_KEY.key, 3, SYNC_KEY), Event(LEADER_KEY.key, 4, None), Event(SYNC_KEY.key, 4, put)),
    )
    assert batches[1].revision == 7
    wanted = {"key": PREFIX, "range_end": PREFIX_END, "start_revision": "3"}
    assert local.asked[0].json() == {"create_request": wanted}


async def test_a_watch_on_what_is_gone_says_from_where_there_is_something(local: Canned, etcd: Etcd) -> None:
    local.says(WATCHES, WATCH + chunk(COMPACTED))
    with pytest.raises(CompactedError) as caught:
        await watched(etcd)
    assert caught.value.revision == 4
    assert not etcd.trouble


@pytest.mark.parametrize(
    "answer",
    [
        chunked(b'{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}}\n'),
        chunked(b'{"error":{"code":14,"message":"etcdserver: no leader"}}\n'),
        plain(b'{"code":14,"message":"etcdserver: no leader"}', status="503 Service Unavailable"),
        WATCH + chunk(b""),
        WATCH + chunk(b'{"result":[]}\n'),
        WATCH + chunk(b"nonsense\n"),
        b"",
    ],
)
async def test_a_watch_that_fails_leaves_its_member(local: Canned, etcd: Etcd, answer: bytes) -> None:
    local.says(WATCHES, answer, b"")
    with pytest.raises(UnavailableError):
        await watched(etcd)
    assert etcd.trouble.keys() == {local.endpoint}


async def test_a_watch_that_is_refused_is_no_fault_of_the_member(local: Canned, etcd: Etcd) -> None:
    told = b'{"error":{"grpc_code":7,"http_code":403,"message":"etcdserver: permission denied"}}\n'
    local.says(WATCHES, chunked(told))
    with pytest.raises(RejectedError, match="permission denied"):
        await watched(etcd)


@pytest.mark.parametrize("answer", [None, chunked(b" ")[:-2]], ids=["nothing", "half a line"])
async def test_a_watch_that_does_not_begin_in_time_leaves_its_member(local: Canned, answer: bytes | None) -> None:
    if answer:
        local.says(WATCHES, answer)
    with client(local, patience=IMPATIENT) as etcd, pytest.raises(NotInTimeError):
        await watched(etcd)


# Following.


class Heard:
    """What a follower told, and waiting for it."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self._more = asyncio.Event()

    def __call__(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)
        self._more.set()

    async def value(self, wanted: bytes) -> Snapshot:
        """Wait until /sync has a value, and return the first snapshot that said so."""
        async with asyncio.timeout(5):
            while True:
                for snapshot in self.snapshots:
                    if (there := snapshot.keys.get(SYNC_KEY.key)) and there.value == wanted:
                        return snapshot
                self._more.clear()
                await self._more.wait()


@contextlib.asynccontextmanager
async def following(etcd: Etcd, *, pulse_seconds: float = 60.0) -> AsyncIterator[Heard]:
    """Follow for as long as the block lasts."""
    heard = Heard()
    task = asyncio.create_task(Follower(etcd, OURS, heard, pulse_seconds=pulse_seconds).run())
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


def keys_with(revision: int, value: str) -> bytes:
    """Return an answer with /sync alone; the value is base64 already."""
    entry = f'{{"key":"{SYNC}","mod_revision":"{revision}","value":"{value}"}}'
    return plain(f'{{"header":{{"revision":"{revision}"}},"kvs":[{entry}]}}'.encode())


async def watches(member: Canned, count: int) -> list[int]:
    """Wait for so many watches of a member, and return from which revisions they are."""

    def asked() -> list[int]:
        bodies = [asked.json() for asked in member.asked if asked.path == WATCHES]
        return [int(body["create_request"]["start_revision"]) for body in bodies]

    await until(lambda: len(asked()) >= count)
    return asked()


async def test_changes_are_heard_at_once_on_top_of_what_was_there(
    local: Canned, etcd: Etcd, recorded: Recorded
) -> None:
    local.says(RANGE, recorded.keys)
    local.says(WATCHES, WATCH)
    async with following(etcd) as heard:
        first = await heard.value(SYNC_KEY.value)
        assert await watches(local, 1) == [4]
        local.tell(change(4, "eA=="))
        second = await heard.value(b"x")
    assert first.confirmed
    changed = {**first.keys, SYNC_KEY.key: KeyValue(SYNC_KEY.key, b"x", 4)}
    assert second == Snapshot(4, changed, confirmed=False, endpoint=local.endpoint)


async def test_what_a_watch_misses_the_next_question_brings_and_the_watch_is_replaced(
    local: Canned, etcd: Etcd
) -> None:
    local.says(RANGE, keys_with(3, "YQ=="))
    local.always[RANGE] = keys_with(8, "eA==")
    local.says(WATCHES, WATCH, WATCH)
    async with following(etcd, pulse_seconds=0.01) as heard:
        assert (await heard.value(b"x")).confirmed
        assert await watches(local, 2) == [4, 9]


async def test_a_watch_that_is_only_late_owes_nothing_and_changes_nothing_twice(local: Canned, etcd: Etcd) -> None:
    local.says(RANGE, keys_with(3, "YQ=="), keys_with(8, "eA=="))
    heard = Heard()
    follower = Follower(etcd, OURS, heard)
    for _ in range(2):
        await follower._pulse()
    assert follower._told < follower._owed
    late = Event(SYNC_KEY.key, 8, KeyValue(SYNC_KEY.key, b"x", 8))
    follower._take(Batch(8, (Event(SYNC_KEY.key, 5, None), late)))
    assert follower._told == follower._owed
    assert [snapshot.revision for snapshot in heard.snapshots] == [3, 8]


async def test_a_deletion_that_a_watch_misses_is_noticed_too(local: Canned, etcd: Etcd, recorded: Recorded) -> None:
    local.says(RANGE, recorded.keys)
    local.always[RANGE] = plain(b'{"header":{"revision":"9"}}')
    local.says(WATCHES, WATCH, WATCH)
    async with following(etcd, pulse_seconds=0.01) as heard:
        assert await watches(local, 2) == [4, 10]
    assert heard.snapshots[-1].keys == {}


async def test_compaction_makes_it_start_anew_from_all_keys(local: Canned, etcd: Etcd, recorded: Recorded) -> None:
    local.says(RANGE, recorded.keys, keys_with(8, "eA=="))
    local.says(WATCHES, WATCH + chunk(COMPACTED), WATCH)
    async with following(etcd) as heard:
        await heard.value(b"x")
        assert await watches(local, 2) == [4, 9]


async def test_a_member_that_hangs_is_left_for_one_that_answers(
    local: Canned, other: Canned, recorded: Recorded
) -> None:
    local.says(RANGE, recorded.keys)
    local.says(WATCHES, WATCH)
    other.always[RANGE] = keys_with(8, "eA==")
    other.says(WATCHES, WATCH)
    with client(local, other, patience=Patience(0.2, 60)) as etcd:
        async with following(etcd, pulse_seconds=0.01) as heard:
            assert (await heard.value(b"x")).endpoint == other.endpoint
            assert await watches(other, 1) == [9]
            other.tell(change(9, "eQ=="))
            await heard.value(b"y")
        assert etcd.trouble.keys() == {local.endpoint}


async def test_without_a_majority_a_watch_is_still_heard_but_nothing_is_confirmed(
    local: Canned, etcd: Etcd, recorded: Recorded
) -> None:
    local.says(RANGE, recorded.keys)
    local.always[RANGE] = recorded.timed_out
    local.says(WATCHES, WATCH)
    async with following(etcd, pulse_seconds=0.01) as heard:
        await watches(local, 1)
        await until(lambda: etcd.trouble)
        local.tell(change(4, "eA=="))
        assert not (await heard.value(b"x")).confirmed
    assert [snapshot.confirmed for snapshot in heard.snapshots] == [True, False]


async def test_an_answer_that_a_watch_has_overtaken_confirms_and_takes_nothing_back(local: Canned, etcd: Etcd) -> None:
    local.says(RANGE, keys_with(3, "YQ=="))
    local.says(WATCHES, WATCH)
    async with following(etcd, pulse_seconds=0.01) as heard:
        await until(lambda: [asked.path for asked in local.asked] == [RANGE, WATCHES, RANGE])
        questions, watch = local.connections
        watch.write(change(9, "eA=="))
        await heard.value(b"x")
        questions.write(keys_with(5, "Yg=="))
        await until(lambda: len(heard.snapshots) == 3)
    last = heard.snapshots[-1]
    assert (last.confirmed, last.revision, last.keys[SYNC_KEY.key].value) == (True, 9, b"x")


async def test_a_store_that_was_made_anew_is_read_and_watched_anew(
    local: Canned, etcd: Etcd, caplog: pytest.LogCaptureFixture
) -> None:
    local.says(RANGE, keys_with(30, "YQ=="))
    local.always[RANGE] = keys_with(3, "eA==")
    local.says(WATCHES, WATCH, WATCH)
    async with following(etcd, pulse_seconds=0.01) as heard:
        await heard.value(b"x")
        assert await watches(local, 2) == [31, 4]
    assert "went back from 30 to 3" in caplog.text


async def test_what_a_majority_said_dates_from_when_it_was_asked(
    local: Canned, etcd: Etcd, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.says(RANGE, recorded.keys, recorded.timed_out)
    times = iter([10.0, 20.0])
    monkeypatch.setattr(following_module, "clock", lambda: next(times))
    follower = Follower(etcd, OURS, Heard())
    assert follower.asked_seconds is None
    await follower._pulse()
    assert follower.asked_seconds == 10.0
    await follower._pulse()
    assert follower.asked_seconds == 10.0


async def test_who_wants_to_know_sooner_has_it_asked_at_once(local: Canned, etcd: Etcd, recorded: Recorded) -> None:
    local.always[RANGE] = recorded.keys
    local.says(WATCHES, WATCH)
    heard = Heard()
    follower = Follower(etcd, OURS, heard, pulse_seconds=60.0)
    task = asyncio.create_task(follower.run())
    await watches(local, 1)
    assert len(heard.snapshots) == 1
    follower.ask_every(0.01)
    await until(lambda: len(heard.snapshots) >= 3)
    follower.ask_every(60.0)
    task.cancel()
    await asyncio.wait([task])


async def test_failing_over_and_over_becomes_slower_and_stays_below_a_limit(
    etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    follower = Follower(etcd, OURS, Heard())
    monkeypatch.setattr(following_module.asyncio, "sleep", sleep)
    for _ in range(5):
        await follower._pause(None)
    assert slept == [0.05, 0.1, 0.2, 0.4, 0.4]


async def test_a_fault_of_whoever_listens_is_not_swallowed(local: Canned, etcd: Etcd, recorded: Recorded) -> None:
    local.says(RANGE, recorded.keys)
    local.says(WATCHES, WATCH + change(4, "eA=="))

    def fails(snapshot: Snapshot) -> None:
        if snapshot.revision == 4:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Follower(etcd, OURS, fails).run()


def test_events_apply_in_order() -> None:
    there = {LEADER_KEY.key: LEADER_KEY}
    again = KeyValue(LEADER_KEY.key, b"db2", 9)
    events = [Event(LEADER_KEY.key, 8, None), Event(LEADER_KEY.key, 9, again), Event("absent", 9, None)]
    assert applied(there, events) == {LEADER_KEY.key: again}
    assert applied(there, events[:1]) == {}
    assert there == {LEADER_KEY.key: LEADER_KEY}


@pytest.mark.parametrize(("endpoints", "said"), [([], "no etcd member"), (["db1"], "no address and port: '//db1'")])
def test_without_an_address_there_is_nobody_to_ask(endpoints: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Etcd(endpoints, tls=None)


# An etcd that asks for a password.

AUTHENTICATE = "/v3/auth/authenticate"
LOGIN = Login("orders", "let me in")


def token(text: str) -> bytes:
    return plain(f'{{"header":{{"revision":"1"}},"token":"{text}"}}'.encode())


def refused(code: int, text: str, status: str = "400 Bad Request") -> bytes:
    return plain(f'{{"error":"{text}","code":{code},"message":"{text}"}}'.encode(), status=status)


STALE = refused(16, "etcdserver: invalid auth token", "401 Unauthorized")
OLD = refused(3, "etcdserver: revision of auth store is old")
EMPTY = refused(3, "etcdserver: user name is empty")
WRONG = refused(3, "etcdserver: authentication failed, invalid user ID or password")
NOT_ENABLED = refused(9, "etcdserver: authentication is not enabled")


@contextlib.contextmanager
def member_of(*members: Canned | str, login: Login | None = LOGIN) -> Iterator[Etcd]:
    """Make a client that logs in."""
    endpoints = [member if isinstance(member, str) else member.endpoint for member in members]
    made = Etcd(endpoints, tls=None, patience=Patience(deadline_seconds=5, retry_seconds=60), login=login)
    try:
        yield made
    finally:
        made.close()


def shown(member: Canned) -> list[tuple[str, str | None]]:
    """Return what was asked, and the token that was shown with it."""
    return [(asked.path, asked.headers.get("authorization")) for asked in member.asked]


async def test_whoever_logs_in_shows_a_token_from_then_on(local: Canned, recorded: Recorded) -> None:
    local.says(AUTHENTICATE, token("one"))
    local.says(RANGE, recorded.keys, recorded.keys)
    with member_of(local) as etcd:
        await etcd.range(OURS)
        await etcd.range(OURS)
    assert shown(local) == [(AUTHENTICATE, None), (RANGE, "one"), (RANGE, "one")]
    assert local.asked[0].json() == {"name": "orders", "password": "let me in"}


@pytest.mark.parametrize("answer", [STALE, OLD, EMPTY], ids=["unknown", "old", "none"])
async def test_a_token_that_is_not_accepted_any_more_costs_one_login(
    local: Canned, recorded: Recorded, answer: bytes
) -> None:
    local.says(AUTHENTICATE, token("one"), token("two"))
    local.says(RANGE, answer, recorded.keys)
    with member_of(local) as etcd:
        assert (await etcd.range(OURS)).confirmed
    assert shown(local) == [(AUTHENTICATE, None), (RANGE, "one"), (AUTHENTICATE, "one"), (RANGE, "two")]


async def test_a_change_that_was_refused_for_its_token_is_asked_for_again_since_nothing_was_done(
    local: Canned, recorded: Recorded
) -> None:
    local.says(AUTHENTICATE, token("one"), token("two"))
    local.says(TXN, OLD, recorded.won)
    with member_of(local) as etcd:
        assert (await etcd.transaction([], [Delete("k")])).succeeded
    assert [path for path, _ in shown(local)] == [AUTHENTICATE, TXN, AUTHENTICATE, TXN]


async def test_a_change_without_an_answer_stays_unknown_for_whoever_is_logged_in(local: Canned, other: Canned) -> None:
    local.says(AUTHENTICATE, token("one"))
    local.says(TXN, b"")
    with member_of(local, other) as etcd, pytest.raises(OutcomeUnknownError):
        await etcd.transaction([], [Delete("k")])
    assert other.asked == []


async def test_a_login_that_is_refused_is_not_tried_again_at_once(local: Canned, recorded: Recorded) -> None:
    local.says(AUTHENTICATE, WRONG, token("one"))
    local.says(RANGE, recorded.keys)
    with member_of(local) as etcd:
        for _ in range(3):
            with pytest.raises(RejectedError, match="invalid user ID or password"):
                await etcd.range(OURS)
        assert shown(local) == [(AUTHENTICATE, None)]
        assert "orders is not let in" in etcd.trouble["login"]
        assert "let me in" not in str(etcd.trouble)
        etcd.prove_with(Login("orders", "another password"))
        await etcd.range(OURS)
        assert "login" not in etcd.trouble
    assert local.asked[1].json()["password"] == "another password"


async def test_where_nobody_has_to_log_in_nothing_is_shown(local: Canned, recorded: Recorded) -> None:
    local.says(AUTHENTICATE, NOT_ENABLED, token("one"))
    local.says(RANGE, recorded.keys, recorded.keys, EMPTY, recorded.keys)
    with member_of(local) as etcd:
        await etcd.range(OURS)
        await etcd.range(OURS)
        assert shown(local) == [(AUTHENTICATE, None), (RANGE, None), (RANGE, None)]
        await etcd.range(OURS)  # its operators have it ask for a login from now on
    assert shown(local)[3:] == [(RANGE, None), (AUTHENTICATE, None), (RANGE, "one")]


async def test_a_login_is_passed_on_like_a_question(local: Canned, recorded: Recorded) -> None:
    local.says(AUTHENTICATE, token("one"))
    local.says(RANGE, recorded.keys)
    with member_of("127.0.0.1:1", local) as etcd:
        await etcd.range(OURS)
    assert shown(local) == [(AUTHENTICATE, None), (RANGE, "one")]


async def test_a_token_is_renewed_beside_the_questions_before_others_forget_it(
    local: Canned, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd_session, "RENEW_SECONDS", 0.0)
    local.says(AUTHENTICATE, token("one"), token("two"))
    local.says(RANGE, recorded.keys, recorded.keys)
    with member_of(local) as etcd:
        await etcd.range(OURS)
        await until(lambda: len(local.asked) == 3 and etcd._session.token == "two")
        monkeypatch.setattr(etcd_session, "RENEW_SECONDS", 120.0)
        await etcd.range(OURS)
    assert shown(local) == [(AUTHENTICATE, None), (RANGE, "one"), (AUTHENTICATE, "one"), (RANGE, "two")]


async def test_all_who_ask_at_once_wait_for_one_login(local: Canned, recorded: Recorded) -> None:
    local.says(AUTHENTICATE, token("one"))
    local.says(RANGE, recorded.keys, recorded.keys, recorded.keys)
    with member_of(local) as etcd:
        await asyncio.gather(*(etcd.range(OURS) for _ in range(3)))
    assert sorted(shown(local), key=str) == [(AUTHENTICATE, None), *[(RANGE, "one")] * 3]


CANCELLED = (
    b'{"result":{"header":{"revision":"7"},"created":true,"canceled":true,'
    b'"cancel_reason":"rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"}}\n'
)


async def watch_to_the_end(etcd: Etcd) -> None:
    async with contextlib.aclosing(etcd.watch(OURS, 4)) as changes:
        async for _ in changes:
            pass


async def test_a_watch_that_is_refused_for_its_token_has_the_next_question_log_in(
    local: Canned, recorded: Recorded
) -> None:
    local.says(AUTHENTICATE, token("one"), token("two"))
    local.says(WATCHES, chunked(CANCELLED))
    local.says(RANGE, recorded.keys)
    with member_of(local) as etcd:
        with pytest.raises(RejectedError, match="invalid auth token"):
            await watch_to_the_end(etcd)
        await etcd.range(OURS)
    assert [path for path, _ in shown(local)] == [AUTHENTICATE, WATCHES, AUTHENTICATE, RANGE]


def test_a_password_is_not_in_what_is_printed_of_a_login() -> None:
    assert "let me in" not in repr(LOGIN)
