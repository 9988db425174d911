from __future__ import annotations

import hashlib
import hmac
from itertools import count, pairwise

import pytest

from pgbaton.agent.decisions.terms import Case
from pgbaton.agent.peers import codec as codecs
from pgbaton.agent.peers.codec import Codec, Received, Rejected
from pgbaton.agent.peers.messages import (
    Ask,
    Challenge,
    Foreign,
    Heartbeat,
    Message,
    Refusal,
    Response,
    Vote,
    Withdraw,
)

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
HOSTS = ("db1", "db2", "db3")
CASE = Case("db2", "db1", 41, 42, 43, 44)
BEAT = Heartbeat(
    role="primary",
    writable=True,
    timeline=7,
    position=1 << 40,
    lock=True,
    following=False,
    poolers=True,
    state="running",
)
KINDS: tuple[Message, ...] = (
    BEAT,
    Heartbeat("unknown", False, 0, 0, False, True, False, "", frozenset({"db1", "db3"})),  # noqa: FBT003
    Ask(CASE),
    Vote(CASE, 12345),
    Refusal(CASE, "heard"),
    Withdraw(CASE),
)


def codec(me: str, *keys: bytes, boot: int = 1) -> Codec:
    return Codec(me, keys or (KEY,), boot, peers=HOSTS, nonces=count(1000 * boot).__next__)


def introduced(sender: Codec, receiver: Codec, *, me: str = "db2", to: str = "db3") -> None:
    """Let the receiver prove that the sender lives."""
    challenge = receiver.decode(sender.encode(BEAT, to)).reply
    assert isinstance(challenge, Challenge)
    response = sender.decode(receiver.encode(challenge, me)).reply
    assert isinstance(response, Response)
    assert receiver.decode(sender.encode(response, to)) == Received(me, response)


def pair() -> tuple[Codec, Codec]:
    """Return db2's codec and db3's, which knows that db2 lives."""
    sender, receiver = codec("db2", boot=2), codec("db3", boot=3)
    introduced(sender, receiver)
    return sender, receiver


def sealed(content: bytes, *, to: str = "db3", key: bytes = KEY) -> bytes:
    """Seal any content at all, as who has the key could."""
    return content + hmac.digest(key, bytes((len(to),)) + to.encode() + content, hashlib.sha256)[:16]


@pytest.mark.parametrize("message", KINDS, ids=lambda message: type(message).__name__)
def test_what_was_said_is_what_is_heard(message: Message) -> None:
    sender, receiver = pair()
    assert receiver.decode(sender.encode(message, "db3")) == Received("db2", message)


def test_the_form_of_a_datagram_is_what_it_was() -> None:
    # Whoever has to change these bytes changes VERSION too: agents of both forms meet during every upgrade.
    forms = [codec("db2", boot=2).encode(message, "db3")[: -codecs.SEAL_BYTES].hex() for message in KINDS]
    head, case = "0000000000000002000000000000000103646232", "03646232036462310000000000000029"
    case += "000000000000002a000000000000002b000000000000002c"
    assert forms == [
        "0103" + head + "000b000000000000000700000100000000000772756e6e696e67",
        "0103" + head + "030400000000000000000000000000000000000364623103646233",
        "0104" + head + case,
        "0105" + head + case + "0000000000003039",
        "0106" + head + case + "056865617264",
        "0107" + head + case,
    ]
    assert codecs.VERSION == 1


def test_no_datagram_is_longer_than_what_any_network_carries() -> None:
    hosts = frozenset(f"{number:063}" for number in range(30))
    sender = codec("a" * 63)
    longest = Heartbeat("standby", True, 1, 1, True, True, True, "ü" * 60, hosts)  # noqa: FBT003
    case = Case("a" * 63, "b" * 63, 1, 2, 3, 4)
    for message in (longest, Ask(case), Vote(case, 1), Refusal(case, "w" * 60), Withdraw(case)):
        assert len(sender.encode(message, "db3")) <= 512


def test_silent_hosts_that_do_not_fit_are_left_out_and_none_is_changed() -> None:
    sender, receiver = pair()
    hosts = frozenset(f"{number:063}" for number in range(30))
    received = receiver.decode(sender.encode(Heartbeat(*([*vars_of(BEAT), hosts])), "db3"))  # type: ignore[arg-type]
    assert isinstance(received, Received)
    assert isinstance(received.message, Heartbeat)
    assert len(received.message.silent) == 5
    assert received.message.silent < hosts


def vars_of(beat: Heartbeat) -> tuple[object, ...]:
    return (
        beat.role,
        beat.writable,
        beat.timeline,
        beat.position,
        beat.lock,
        beat.following,
        beat.poolers,
        beat.state,
    )


def test_a_word_is_cut_at_the_end_of_a_character() -> None:
    sender, receiver = pair()
    received = receiver.decode(sender.encode(Refusal(CASE, "x" + "ü" * 40), "db3"))
    assert isinstance(received, Received)
    assert received.message == Refusal(CASE, "x" + "ü" * 19)


def test_a_name_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        codec("db2").encode(Ask(Case("a" * 64, "db1", 1, 2, 3, 4)), "db3")
    with pytest.raises(ValueError, match="0 bytes"):
        codec("db2").encode(BEAT, "")


def test_there_is_no_codec_without_a_key() -> None:
    with pytest.raises(ValueError, match="no key"):
        Codec("db2", (), 1, peers=HOSTS)


# What is rejected.


def test_a_datagram_is_taken_once() -> None:
    sender, receiver = pair()
    datagram = sender.encode(BEAT, "db3")
    assert isinstance(receiver.decode(datagram), Received)
    assert receiver.decode(datagram) == Rejected("replayed", "db2")


def test_what_overtook_each_other_is_taken_within_the_window() -> None:
    sender, receiver = pair()
    datagrams = [sender.encode(BEAT, "db3") for _ in range(64)]
    assert all(isinstance(receiver.decode(datagram), Received) for datagram in reversed(datagrams))
    assert all(receiver.decode(datagram) == Rejected("replayed", "db2") for datagram in datagrams)


def test_what_is_older_than_the_window_is_not_taken() -> None:
    sender, receiver = pair()
    late, *others = [sender.encode(BEAT, "db3") for _ in range(65)]
    assert isinstance(receiver.decode(others[-1]), Received)
    assert receiver.decode(late) == Rejected("replayed", "db2")
    assert isinstance(receiver.decode(others[0]), Received)


def test_a_leap_ahead_leaves_nothing_of_the_window_behind() -> None:
    sender, receiver = pair()
    late = sender.encode(BEAT, "db3")
    sender._sequence = (1 << 64) - 3
    assert isinstance(receiver.decode(sender.encode(BEAT, "db3")), Received)
    assert receiver.decode(late) == Rejected("replayed", "db2")
    assert isinstance(receiver.decode(sender.encode(BEAT, "db3")), Received)


def test_a_change_of_any_byte_is_noticed() -> None:
    sender, receiver = pair()
    datagram = sender.encode(BEAT, "db3")
    for position in range(len(datagram)):
        changed = bytearray(datagram)
        changed[position] ^= 1
        assert receiver.decode(bytes(changed)) == Rejected("forged")
    assert isinstance(receiver.decode(datagram), Received)


def test_a_truncated_datagram_is_rejected_whatever_its_length() -> None:
    sender, receiver = pair()
    datagram = sender.encode(BEAT, "db3")
    reasons = {receiver.decode(datagram[:length]) for length in range(len(datagram))}
    assert reasons == {Rejected("length"), Rejected("forged")}


def test_a_datagram_that_is_too_long_is_rejected() -> None:
    assert pair()[1].decode(bytes(513)) == Rejected("length")


def test_a_datagram_for_one_host_is_none_for_another() -> None:
    sender, _ = pair()
    datagram = sender.encode(BEAT, "db1")
    assert codec("db3").decode(datagram) == Rejected("forged")
    assert codec("db1").decode(datagram) != Rejected("forged")


def test_a_datagram_of_another_cluster_is_rejected() -> None:
    assert codec("db3", OTHER_KEY).decode(codec("db2").encode(BEAT, "db3")) == Rejected("forged")


def test_a_host_that_was_taken_out_of_the_cluster_is_a_stranger() -> None:
    gone = Codec("db9", (KEY,), 9, peers=HOSTS)
    assert codec("db3").decode(gone.encode(BEAT, "db3")) == Rejected("stranger", "db9")


def test_an_agent_does_not_listen_to_itself() -> None:
    assert codec("db3").decode(codec("db3").encode(BEAT, "db3")) == Rejected("stranger", "db3")


def test_nobody_asks_in_the_name_of_another() -> None:
    sender, receiver = pair()
    for message in (Ask(Case("db1", "db2", 1, 2, 3, 4)), Withdraw(Case("db1", "db2", 1, 2, 3, 4))):
        assert receiver.decode(sender.encode(message, "db3")) == Rejected("malformed", "db2")


@pytest.mark.parametrize(
    "tail",
    [
        b"\x03db2" + bytes.fromhex("040b") + bytes(16) + b"\x00",
        b"\x03db2" + bytes.fromhex("0010") + bytes(16) + b"\x00",
        b"\x03db2" + bytes.fromhex("000b") + bytes(15),
        b"\x03db2" + bytes.fromhex("000b") + bytes(16) + b"\x29" + b"x" * 41,
        b"\x03db2" + bytes.fromhex("000b") + bytes(16) + b"\x01\xff",
        b"\x03db2" + bytes.fromhex("000b") + bytes(16) + b"\x00" + b"\x04db1",
        b"\x03db2" + bytes.fromhex("000b") + bytes(16) + b"\x00" + b"\x00",
        b"\x03db2",
    ],
    ids=["role", "flag", "short", "long word", "no UTF-8", "short name", "no name", "empty"],
)
def test_an_authentic_heartbeat_of_no_known_form_is_malformed(tail: bytes) -> None:
    sender, receiver = pair()
    frame = codecs.FRAME.pack(1, 3, 2, sender._sequence + 1)
    assert receiver.decode(sealed(frame + tail)) == Rejected("malformed", "db2")


@pytest.mark.parametrize("name", [b"", b"\x00", b"\x05db2", b"\x02\xff\xff", b"\x40" + b"a" * 64])
def test_an_authentic_datagram_without_a_sender_is_malformed(name: bytes) -> None:
    content = codecs.FRAME.pack(1, 3, 2, 9) + name
    assert codec("db3").decode(sealed(content)) in (Rejected("malformed"), Rejected("length"))


def test_a_kind_or_a_rest_that_nobody_knows_is_malformed() -> None:
    _, receiver = pair()
    assert receiver.decode(sealed(codecs.FRAME.pack(1, 99, 2, 90) + b"\x03db2")) == Rejected("malformed", "db2")
    rest = codecs.FRAME.pack(1, 1, 2, 91) + b"\x03db2" + bytes(9)
    assert receiver.decode(sealed(rest)) == Rejected("malformed", "db2")


# Who is alive.


def test_a_host_that_was_never_met_is_asked_to_prove_that_it_lives() -> None:
    sender, receiver = codec("db2", boot=2), codec("db3", boot=3)
    assert receiver.decode(sender.encode(BEAT, "db3")) == Rejected("unproven", "db2", Challenge(3000))
    assert sender.decode(receiver.encode(Challenge(3000), "db2")) == Rejected("unproven", "db3", Response(3000))
    assert receiver.decode(sender.encode(Response(3000), "db3")) == Received("db2", Response(3000))
    assert receiver.decode(sender.encode(BEAT, "db3")) == Received("db2", BEAT)


def test_the_same_question_is_asked_until_it_is_answered() -> None:
    sender, receiver = codec("db2", boot=2), codec("db3", boot=3)
    replies = {receiver.decode(sender.encode(BEAT, "db3")).reply for _ in range(5)}
    assert replies == {Challenge(3000)}


def test_every_question_is_a_new_one_once_one_was_answered() -> None:
    receiver = codec("db3", boot=3)
    introduced(codec("db2", boot=2), receiver)
    reply = receiver.decode(codec("db2", boot=4).encode(BEAT, "db3")).reply
    assert isinstance(reply, Challenge)
    assert reply != Challenge(3000)


def test_both_sides_can_prove_at_once_that_they_live() -> None:
    left, right = codec("db2", boot=2), codec("db3", boot=3)
    to_right, to_left = [left.encode(BEAT, "db3")], [right.encode(BEAT, "db2")]
    for _ in range(3):
        answers = (
            [right.decode(datagram).reply for datagram in to_right],
            [left.decode(datagram).reply for datagram in to_left],
        )
        to_left = [right.encode(reply, "db2") for reply in answers[0] if reply]
        to_right = [left.encode(reply, "db3") for reply in answers[1] if reply]
    assert right.decode(left.encode(BEAT, "db3")) == Received("db2", BEAT)
    assert left.decode(right.encode(BEAT, "db2")) == Received("db3", BEAT)


def test_a_host_that_was_proved_to_live_still_answers_the_question() -> None:
    sender, receiver = pair()
    assert receiver.decode(sender.encode(Challenge(5), "db3")) == Received("db2", Challenge(5), Response(5))


def test_a_new_boot_is_not_believed_until_it_is_proved_and_then_the_old_one_is_not() -> None:
    old, receiver = pair()
    recorded = [old.encode(BEAT, "db3") for _ in range(3)]
    new = codec("db2", boot=5)
    assert receiver.decode(new.encode(BEAT, "db3")).reply is not None
    assert isinstance(receiver.decode(recorded[0]), Received)
    introduced(new, receiver)
    assert receiver.decode(new.encode(BEAT, "db3")) == Received("db2", BEAT)
    for datagram in recorded:
        assert isinstance(receiver.decode(datagram), Rejected)


def test_a_recording_brings_no_dead_host_back_to_life() -> None:
    sender, before = pair()
    recorded = [sender.encode(message, "db3") for message in (BEAT, Response(3000), Challenge(1), Vote(CASE, 1))]
    assert isinstance(before.decode(recorded[0]), Received)
    after = codec("db3", boot=6)  # db3 starts anew, and db2 is dead by now
    for datagram in [*recorded, *reversed(recorded)]:
        outcome = after.decode(datagram)
        assert isinstance(outcome, Rejected)
        assert outcome.reason == "unproven"


def test_a_recorded_proof_proves_nothing_again() -> None:
    sender, receiver = codec("db2", boot=2), codec("db3", boot=3)
    receiver.decode(sender.encode(BEAT, "db3"))
    proof = sender.encode(Response(3000), "db3")
    assert isinstance(receiver.decode(proof), Received)
    assert receiver.decode(proof) == Rejected("replayed", "db2")
    introduced(codec("db2", boot=4), receiver)
    assert receiver.decode(proof) == Rejected("unproven", "db2")


def test_a_proof_with_another_number_is_none() -> None:
    sender, receiver = codec("db2", boot=2), codec("db3", boot=3)
    assert receiver.decode(sender.encode(Response(3000), "db3")) == Rejected("unproven", "db2")
    receiver.decode(sender.encode(BEAT, "db3"))
    assert receiver.decode(sender.encode(Response(3001), "db3")) == Rejected("unproven", "db2")


def test_what_was_sent_before_the_proof_counts_as_taken() -> None:
    sender, receiver = codec("db2", boot=2), codec("db3", boot=3)
    recorded = sender.encode(BEAT, "db3")
    introduced(sender, receiver)
    assert receiver.decode(recorded) == Rejected("replayed", "db2")


def test_one_host_s_number_proves_nothing_for_another() -> None:
    receiver = codec("db3", boot=3)
    receiver.decode(codec("db2", boot=2).encode(BEAT, "db3"))
    assert isinstance(receiver.decode(codec("db1", boot=1).encode(Response(3000), "db3")), Rejected)


# Keys and versions that change.


def test_either_of_two_keys_is_accepted_and_the_first_one_seals() -> None:
    old, both, new = codec("db1", KEY), codec("db3", OTHER_KEY, KEY, boot=3), codec("db2", OTHER_KEY, boot=2)
    introduced(new, both)
    assert both.decode(old.encode(BEAT, "db3")).sender == "db1"
    assert old.decode(both.encode(BEAT, "db1")) == Rejected("forged")
    assert new.decode(both.encode(BEAT, "db2")) != Rejected("forged")


def test_a_key_can_be_replaced_host_by_host_without_a_datagram_being_lost() -> None:
    stages = [(KEY,), (KEY, OTHER_KEY), (OTHER_KEY, KEY), (OTHER_KEY,)]
    for before, after in pairwise(stages):
        left, right = codec("db2", *before, boot=2), codec("db3", *after, boot=3)
        introduced(left, right)
        introduced(right, left, me="db3", to="db2")


def in_version(version: int, sender: Codec, message: Message, monkeypatch: pytest.MonkeyPatch) -> bytes:
    with monkeypatch.context() as patch:
        patch.setattr(codecs, "VERSION", version)
        return sender.encode(message, "db3")


def test_a_host_of_another_version_is_alive_and_that_is_news_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sender, receiver = pair()
    beats = [in_version(2, sender, BEAT, monkeypatch) for _ in range(3)]
    assert receiver.decode(beats[0]) == Received("db2", Foreign(2, news=True))
    assert receiver.decode(beats[1]) == Received("db2", Foreign(2, news=False))
    assert receiver.decode(beats[1]) == Rejected("replayed", "db2")
    assert receiver.decode(in_version(3, sender, BEAT, monkeypatch)) == Received("db2", Foreign(3, news=True))


def test_hosts_of_different_versions_can_prove_that_they_live(monkeypatch: pytest.MonkeyPatch) -> None:
    sender, receiver = codec("db2", boot=2), codec("db3", boot=3)
    reply = receiver.decode(in_version(2, sender, BEAT, monkeypatch)).reply
    assert reply == Challenge(3000)
    proof = in_version(2, sender, Response(3000), monkeypatch)
    assert receiver.decode(proof) == Received("db2", Response(3000))
    assert receiver.decode(in_version(2, sender, Challenge(1), monkeypatch)).reply == Response(1)
