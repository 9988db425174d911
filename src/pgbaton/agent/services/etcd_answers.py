"""What etcd's members answer over their JSON gateway, read into values and errors. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pgbaton.agent.protocols.http1 import MalformedError, Response
from pgbaton.agent.protocols.https import BrokenError, DeadlineError, SlowConnectError, TlsError
from pgbaton.agent.services import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgbaton.agent.services.keys import Batch, Json

T = TypeVar("T")

OK = 200
#: gRPC's codes (google.golang.org/grpc/codes) that tell nothing about whether a request was carried out: cancelled,
#: unknown, deadline exceeded, aborted, internal, unavailable, data loss. After all others it was not.
UNSURE = frozenset({1, 2, 4, 10, 13, 14, 15})
CANCELLED, NOT_FOUND, UNAUTHENTICATED = 1, 5, 16
#: What is said to who has to log in, for the first time or anew. Rights are checked before anything is carried out.
LOG_IN = ("invalid auth token", "user name is empty", "revision of auth store is old", "revision in header is old")
#: What members say when the cluster has no leader, or has had none for a while.
NO_LEADER = ("no leader", "leader changed", "leader failure", "connection lost")


class EtcdError(Exception):
    """Something about etcd went wrong."""


class UnavailableError(EtcdError):
    """No member answered a question; the message says why each did not."""


class NoLeaderError(UnavailableError):
    """A member answered that etcd has no leader: its majority is gone, or votes."""


class NotInTimeError(UnavailableError):
    """No member answered in time."""


class TlsRefusedError(UnavailableError):
    """Certificates were not accepted, by us or by every member."""


class OutcomeUnknownError(EtcdError):
    """A change was asked for and no answer came: it may have been made, or may yet be, or not."""


class RejectedError(EtcdError):
    """etcd answered that it will not do it; ``code`` is gRPC's."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class CompactedError(EtcdError):
    """The changes that were asked for are gone; ``revision`` is the first that is still there. Read the keys anew."""

    def __init__(self, message: str, revision: int) -> None:
        super().__init__(message)
        self.revision = revision


class UnsureError(Exception):
    """A member answered with an error that leaves open what became of the request."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of etcd's members; ``id`` is what it calls itself."""

    id: int
    name: str
    urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """What a member says of itself; ``leader`` is 0 when it knows of none."""

    member: int
    leader: int
    term: int
    version: str


def understood(response: Response, read: Callable[[Json], T]) -> T:
    """Return what is read from an answer; raises MalformedError when it is not as etcd writes it."""
    told = object_of(response)
    try:
        return read(told)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"not as etcd answers: {error!r}"
        raise MalformedError(message) from error


def object_of(response: Response) -> Json:
    """Return an answer's object; raises RejectedError or UnsureError for one that is an error."""
    if response.status == OK:
        return response.json()
    try:
        told = response.json()
    except MalformedError:
        message = f"status {response.status}: {response.text()[:200].strip()}"
        raise UnsureError(message) from None
    raise error_of(told)


def error_of(told: Json) -> Exception:
    """Return the error that a member tells of.

    Its code and text are named ``code`` and ``message`` or ``error``; within a watch, older gateways say ``grpc_code``.
    """
    code = told.get("code") or told.get("grpc_code")
    text = str(told.get("message") or told.get("error") or told)
    if any(word in text for word in LOG_IN):
        return RejectedError(text, UNAUTHENTICATED)
    return UnsureError(text) if not isinstance(code, int) or code in UNSURE else RejectedError(text, code)


def wants_login(error: RejectedError) -> bool:
    """Tell whether a member wants whoever asks to log in."""
    return error.code == UNAUTHENTICATED or any(word in str(error) for word in LOG_IN)


def change_of(line: bytes | None) -> Batch | None:
    """Return what a line of a watch tells; None when that is only that the watch stands."""
    if line is None:
        message = "the member ended the watch"
        raise UnsureError(message)
    return understood(Response(OK, line), changes)


def changes(told: Json) -> Batch | None:
    """Read a message of a watch; raises CompactedError or RejectedError for one that is its end."""
    if "result" not in told:
        raise error_of(told["error"])
    result = told["result"]
    if not result.get("canceled"):
        return keys.batch(result)
    compacted = int(result.get("compact_revision", 0))
    text = f"the watch was cancelled: {result.get('cancel_reason') or f'the first revision left is {compacted}'}"
    raise CompactedError(text, compacted) if compacted else RejectedError(text, CANCELLED)


def status(answer: Json) -> Status:
    """Read what a member says of itself."""
    return Status(
        member=int(answer["header"]["member_id"]),
        leader=int(answer.get("leader", 0)),
        term=int(answer.get("raftTerm", 0)),
        version=str(answer.get("version", "")),
    )


def members(answer: Json) -> tuple[Member, ...]:
    """Read the list of members."""
    return tuple(
        Member(int(entry["ID"]), str(entry.get("name", "")), tuple(entry.get("clientURLs", ())))
        for entry in answer["members"]
    )


def unknown(what: str, where: str, error: Exception) -> OutcomeUnknownError:
    """Return the error for a change that one member was asked for, and did not answer."""
    return OutcomeUnknownError(f"{what}: {where} was asked, and what became of it is not known: {error}")


def unavailable(what: str, failures: Sequence[Exception]) -> UnavailableError:
    """Return the error that all failures together amount to."""
    text = f"{what}: no etcd member answered: " + "; ".join(str(error) or type(error).__name__ for error in failures)
    if any(word in str(error) for error in failures for word in NO_LEADER):
        return NoLeaderError(text)
    refused = any(isinstance(error, TlsError) for error in failures)
    if refused and all(isinstance(error, (TlsError, BrokenError)) for error in failures):
        return TlsRefusedError(text)  # a server that refuses a certificate may hang up before it can be heard to say so
    if all(isinstance(error, (DeadlineError, SlowConnectError, TimeoutError)) for error in failures):
        return NotInTimeError(text)
    return UnavailableError(text)
