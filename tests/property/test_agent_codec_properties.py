from __future__ import annotations

import hashlib
import hmac
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from pgbaton.agent.decisions.terms import Case
from pgbaton.agent.peers import codec as codecs
from pgbaton.agent.peers.codec import Codec, Received, Rejected
from pgbaton.agent.peers.messages import (
    ROLES,
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

KEY = b"k" * 32
HOSTS = ("db1", "db2", "db3")
BEAT = Heartbeat("primary", True, 1, 1, True, False, True, "running")  # noqa: FBT003

NUMBERS = st.integers(0, (1 << 64) - 1)
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
WORDS = st.text(max_size=10)  # four bytes each at most: never cut
CASES = st.builds(Case, st.just("db2"), NAMES, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
TRUTHS = st.booleans()
SILENT = st.frozensets(NAMES, max_size=5)
MESSAGES = st.one_of(
    st.builds(Heartbeat, st.sampled_from(ROLES), TRUTHS, NUMBERS, NUMBERS, TRUTHS, TRUTHS, TRUTHS, WORDS, SILENT),
    st.builds(Ask, CASES),
    st.builds(Vote, CASES, NUMBERS),
    st.builds(Refusal, CASES, WORDS),
    st.builds(Withdraw, CASES),
    st.builds(Response, NUMBERS),
)


def codec(me: str, boot: int) -> Codec:
    return Codec(me, (KEY,), boot, peers=HOSTS, nonces=count(1000 * boot).__next__)


def introduced(sender: Codec, receiver: Codec) -> None:
    challenge = receiver.decode(sender.encode(BEAT, "db3")).reply
    assert challenge
    response = sender.decode(receiver.encode(challenge, "db2")).reply
    assert response
    assert isinstance(receiver.decode(sender.encode(response, "db3")), Received)


def pair() -> tuple[Codec, Codec]:
    sender, receiver = codec("db2", 2), codec("db3", 3)
    introduced(sender, receiver)
    return sender, receiver


@given(MESSAGES)
def test_every_message_arrives_as_it_was_sent(message: Message) -> None:
    sender, receiver = pair()
    datagram = sender.encode(message, "db3")
    assert len(datagram) <= codecs.LONGEST_BYTES
    assert receiver.decode(datagram) == Received("db2", message)


@given(st.binary(max_size=600))
def test_no_bytes_at_all_are_taken_or_raise_anything(datagram: bytes) -> None:
    assert isinstance(pair()[1].decode(datagram), Rejected)


@given(
    st.integers(0, 255), st.integers(0, 9), NUMBERS, st.just(b"\x03db2") | st.binary(max_size=9), st.binary(max_size=90)
)
def test_no_content_raises_anything_though_its_seal_is_right(
    version: int, kind: int, sequence: int, name: bytes, body: bytes
) -> None:
    content = codecs.FRAME.pack(version, kind, 2, sequence) + name + body
    seal = hmac.digest(KEY, b"\x03db3" + content, hashlib.sha256)[:16]
    outcome = pair()[1].decode(content + seal)
    assert isinstance(outcome, Received | Rejected)
    if isinstance(outcome, Received):
        # Whatever was taken can be sent on, so nothing in it is of no form.
        assert outcome.sender == "db2"
        if not isinstance(outcome.message, Foreign):
            assert codec("db2", 2).encode(outcome.message, "db3")


@given(MESSAGES, st.data())
def test_no_change_of_a_datagram_goes_unnoticed(message: Message, data: st.DataObject) -> None:
    sender, receiver = pair()
    datagram = bytearray(sender.encode(message, "db3"))
    position = data.draw(st.integers(0, len(datagram) - 1))
    datagram[position] ^= data.draw(st.integers(1, 255))
    assert receiver.decode(bytes(datagram)) == Rejected("forged")


#: How many datagrams db2 sent, and which of them proved that it lives.
SENT, PROOF = 300, 100


def conversation() -> list[bytes]:
    sender = codec("db2", 2)
    return [sender.encode(Response(3000) if number == PROOF else BEAT, "db3") for number in range(SENT)]


DATAGRAMS = conversation()
WINDOW = codecs.WINDOW
#: From the newest that arrived so far: anywhere near, and just at the window's edges.
LEAPS = st.integers(-WINDOW - 9, WINDOW + 9) | st.sampled_from((-WINDOW - 1, -WINDOW, 1 - WINDOW, 0, 1, WINDOW))


@given(st.lists(LEAPS, max_size=60))
def test_in_any_order_and_number_each_datagram_is_taken_once_at_most(leaps: list[int]) -> None:
    receiver = codec("db3", 3)
    receiver.decode(DATAGRAMS[0])
    assert isinstance(receiver.decode(DATAGRAMS[PROOF]), Received)
    taken: set[int] = set(range(PROOF + 1))  # what was sent before the proof may be a recording
    highest = PROOF
    for leap in leaps:
        number = min(highest + leap, SENT - 1)
        expected = number not in taken and highest - number < WINDOW
        assert isinstance(receiver.decode(DATAGRAMS[number]), Received) == expected
        if expected:
            taken.add(number)
            highest = max(highest, number)


class Story:
    """A sender that reboots, a receiver that starts anew, and somebody who records everything and plays it again."""

    def __init__(self) -> None:
        self.boots = count(10)
        self.recorded: list[bytes] = []
        self.taken: set[bytes] = set()
        self.reboot()
        self.restart()

    def reboot(self) -> None:
        self.sender = codec("db2", next(self.boots))

    def restart(self) -> None:
        self.receiver = codec("db3", next(self.boots))

    def lose(self) -> None:
        self.recorded.append(self.sender.encode(BEAT, "db3"))

    def talk(self) -> None:
        """Deliver a heartbeat, and every reply that follows."""
        self.lose()
        while not self.deliver(self.recorded[-1]):
            challenge = self.receiver.decode(self.sender.encode(BEAT, "db3")).reply
            assert isinstance(challenge, Challenge)
            response = self.sender.decode(self.receiver.encode(challenge, "db2")).reply
            assert isinstance(response, Response)
            self.recorded.append(self.sender.encode(response, "db3"))

    def replay(self, number: int) -> bool:
        return bool(self.recorded) and self.deliver(self.recorded[number % len(self.recorded)])

    def deliver(self, datagram: bytes) -> bool:
        taken = isinstance(self.receiver.decode(datagram), Received)
        assert not (taken and datagram in self.taken)
        self.taken |= {datagram} if taken else set()
        return taken


ACTS = st.sampled_from(["reboot", "talk", "talk", "lose", "restart"])
STEPS = st.lists(ACTS | st.integers(0, 30), min_size=6, max_size=30)


@given(STEPS, st.lists(st.integers(0, 100), min_size=1, max_size=30))
def test_who_records_everything_can_bring_no_dead_host_back_to_life(steps: list[str | int], after: list[int]) -> None:
    story = Story()
    for step in steps:
        if isinstance(step, int):
            story.replay(step)
        else:
            getattr(story, step)()
    # From here on the sender is dead, and the receiver has forgotten everything.
    story.restart()
    assert not any(story.replay(number) for number in after)
