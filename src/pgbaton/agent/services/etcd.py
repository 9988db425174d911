"""etcd's v3 API over its JSON gateway (3.4 and 3.5): the local member first, the others when that one does not answer.

A question is passed on from member to member. A change is passed on only when it certainly was not made: a write whose
answer did not come raises OutcomeUnknownError, and whoever asked has to look.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from pgbaton.agent.protocols.http1 import MalformedError, Response
from pgbaton.agent.protocols.https import (
    BrokenError,
    Client,
    ConnectError,
    DeadlineError,
    HttpsError,
    SlowConnectError,
    TlsError,
)
from pgbaton.agent.services import keys

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

    from pgbaton.agent.services.keys import Batch, Delete, Json, ModRevision, Put, Snapshot, TransactionResult

T = TypeVar("T")

OK = 200
#: gRPC's codes (google.golang.org/grpc/codes) that tell nothing about whether a request was carried out: cancelled,
#: unknown, deadline exceeded, aborted, internal, unavailable, data loss. After all others it was not.
UNSURE = frozenset({1, 2, 4, 10, 13, 14, 15})
CANCELLED, NOT_FOUND = 1, 5
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


class _UnsureError(Exception):
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


@dataclass(slots=True)
class Endpoint:
    """A member's address, and until when it is asked only after the others, on the loop's clock."""

    client: Client
    left_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a member's answer, and for how long one that gave none is asked last, in seconds."""

    deadline_seconds: float = 0.5
    retry_seconds: float = 2.0


class Etcd:
    """A client of all members of one etcd cluster. ``endpoints`` are ``address:port``, the local one first."""

    def __init__(
        self, endpoints: Iterable[str], *, tls: ssl.SSLContext | None, patience: Patience | None = None
    ) -> None:
        #: Why a member was last left for another one; gone when it has answered again.
        self.trouble: dict[str, str] = {}
        self._tls = tls
        self._patience = patience or Patience()
        self._members = [Endpoint(_client(f"//{endpoint}", tls)) for endpoint in endpoints]
        if not self._members:
            message = "no etcd member to ask: endpoints are empty"
            raise ValueError(message)

    def use(self, tls: ssl.SSLContext | None) -> None:
        """Use other certificates from now on."""
        self._tls = tls
        for endpoint in self._members:
            endpoint.client.use(tls)

    def close(self) -> None:
        """End the connections that are kept."""
        for endpoint in self._members:
            endpoint.client.close()

    async def range(self, prefix: str, *, serializable: bool = False) -> Snapshot:
        """Return all keys under a prefix.

        ``serializable`` is one member's own view, which may be old; without it a majority stands behind the answer.
        Raises UnavailableError.
        """
        request = keys.range_request(prefix, serializable=serializable)

        def read(answer: Json, endpoint: str) -> Snapshot:
            return keys.snapshot(answer, confirmed=not serializable, endpoint=endpoint)

        return await self._ask("/v3/kv/range", request, read)

    async def transaction(
        self,
        compare: Iterable[ModRevision],
        success: Iterable[Put | Delete],
        *,
        deadline_seconds: float | None = None,
    ) -> TransactionResult:
        """Make all changes when all conditions hold, else none. Raises OutcomeUnknownError, UnavailableError.

        What is asked while etcd's leader is dead and not yet missed is lost with it, and no patience brings it back: a
        short deadline and another try do. A second try that fails its conditions may mean that the first one succeeded.
        """
        request = keys.transaction_request(compare, success)
        return await self._ask(
            "/v3/kv/txn",
            request,
            lambda answer, _: keys.transaction_result(answer),
            deadline_seconds=deadline_seconds,
            repeatable=False,
        )

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """Put a key whatever it was, and return the revision. Raises OutcomeUnknownError, UnavailableError."""
        request = keys.Put(key, value, lease).encoded()["request_put"]
        return await self._ask("/v3/kv/put", request, lambda answer, _: keys.revision_of(answer), repeatable=False)

    async def revoke(self, lease: int) -> bool:
        """End a lease, and delete every key that has it; False when there is no such lease (any more)."""
        try:
            await self._ask("/v3/lease/revoke", {"ID": str(lease)}, lambda answer, _: keys.revision_of(answer))
        except RejectedError as error:
            if error.code != NOT_FOUND:
                raise
            return False
        return True

    async def status(self) -> Status:
        """Return what the first member that answers says of itself."""
        return await self._ask("/v3/maintenance/status", {}, lambda answer, _: _status(answer))

    async def members(self) -> tuple[Member, ...]:
        """Return etcd's members."""
        return await self._ask("/v3/cluster/member/list", {}, lambda answer, _: _members(answer))

    async def leader_of_cluster(self) -> Member | None:
        """Return the member that leads, None when there is none now."""
        status, members = await self.status(), await self.members()
        return next((member for member in members if member.id == status.leader), None)

    async def move_leader(self, to: str, *, deadline_seconds: float = 5.0) -> None:
        """Make the member of this name the leader.

        Only the present leader can do so, and it has to be asked at its own address. Raises RejectedError when there is
        no such member or the leader has just changed, NoLeaderError when nobody leads, OutcomeUnknownError.
        """
        members, status = await self.members(), await self.status()
        target = next((member for member in members if member.name == to), None)
        leader = next((member for member in members if member.id == status.leader), None)
        if target is None:
            message = f"etcd has no member {to!r}; it has {', '.join(member.name for member in members)}"
            raise RejectedError(message, NOT_FOUND)
        if leader is None or not leader.urls:
            message = "etcd has no leader that could hand over; wait until one is elected"
            raise NoLeaderError(message)
        if target == leader:
            return
        await self._hand_over(leader, target, deadline_seconds)

    async def _hand_over(self, leader: Member, target: Member, deadline_seconds: float) -> None:
        client = _client(leader.urls[0], self._tls)
        path, request = "/v3/maintenance/transfer-leadership", _json({"targetID": str(target.id)})
        try:
            _answer(await client.request("POST", path, request, deadline_seconds=deadline_seconds))
        except ConnectError as error:
            raise _unavailable(path, [error]) from error
        except (HttpsError, MalformedError, _UnsureError) as error:
            raise _unknown(path, client, error) from error
        finally:
            client.close()

    async def watch(self, prefix: str, from_revision: int) -> AsyncGenerator[Batch, None]:
        """Return every change under a prefix from a revision on, as one member tells it, until that one fails.

        Close the iterator (``contextlib.aclosing``) when it is not read to its end. A member that is dead without
        closing its connection goes unnoticed here; :mod:`pgbaton.agent.services.following` looks after that. Raises
        UnavailableError when the member fails; it is then left for another one. Raises CompactedError.
        """
        endpoint = self._order()[0]
        seconds = self._patience.deadline_seconds
        request = _json(keys.watch_request(prefix, from_revision))
        try:
            async with endpoint.client.stream("POST", "/v3/watch", request, deadline_seconds=seconds) as stream:
                async with asyncio.timeout(seconds):
                    _told(await stream.line())
                while True:
                    batch = _told(await stream.line())
                    if batch is not None:
                        yield batch
        except (HttpsError, MalformedError, TimeoutError, _UnsureError) as error:
            self._leave(endpoint, error)
            raise _unavailable("/v3/watch", [error]) from error  # noqa: EM101 - a path

    async def _ask(
        self,
        path: str,
        fields: Json,
        read: Callable[[Json, str], T],
        *,
        deadline_seconds: float | None = None,
        repeatable: bool = True,
    ) -> T:
        """Ask one member after the other until one answers. One that fails is asked last for a while."""
        seconds = deadline_seconds or self._patience.deadline_seconds
        request, failures = _json(fields), []
        for endpoint in self._order():
            client = endpoint.client
            try:
                response = await client.request("POST", path, request, deadline_seconds=seconds, repeatable=repeatable)
                answer = _understood(response, lambda fields: read(fields, client.where))  # noqa: B023 - called at once
            except (HttpsError, MalformedError, _UnsureError) as error:
                self._leave(endpoint, error)
                if not (repeatable or isinstance(error, ConnectError)):
                    raise _unknown(path, client, error) from error
                failures.append(error)
            else:
                self._praise(endpoint)
                return answer
        raise _unavailable(path, failures)

    def _order(self) -> list[Endpoint]:
        """Return the members as they are to be asked."""
        now = asyncio.get_running_loop().time()
        return sorted(self._members, key=lambda endpoint: endpoint.left_until > now)

    def _leave(self, endpoint: Endpoint, error: Exception) -> None:
        endpoint.left_until = asyncio.get_running_loop().time() + self._patience.retry_seconds
        self.trouble[endpoint.client.where] = str(error) or type(error).__name__

    def _praise(self, endpoint: Endpoint) -> None:
        endpoint.left_until = 0.0
        self.trouble.pop(endpoint.client.where, None)


def _client(url: str, tls: ssl.SSLContext | None) -> Client:
    parts = urlsplit(url)
    if not parts.hostname or not parts.port:
        message = f"no address and port: {url!r}"
        raise ValueError(message)
    return Client(parts.hostname, parts.port, tls=tls)


def _json(fields: Json) -> bytes:
    return json.dumps(fields).encode()


def _understood(response: Response, read: Callable[[Json], T]) -> T:
    """Return what is read from an answer; raises MalformedError when it is not as etcd writes it."""
    answer = _answer(response)
    try:
        return read(answer)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"not as etcd answers: {error!r}"
        raise MalformedError(message) from error


def _answer(response: Response) -> Json:
    """Return an answer's object; raises RejectedError or _UnsureError for one that is an error."""
    if response.status == OK:
        return response.json()
    try:
        told = response.json()
    except MalformedError:
        message = f"status {response.status}: {response.text()[:200].strip()}"
        raise _UnsureError(message) from None
    raise _error(told)


def _error(told: Json) -> Exception:
    """Return the error that a member tells of.

    Its code and text are named ``code`` and ``message`` or ``error``; within a watch, older gateways say ``grpc_code``.
    """
    code = told.get("code") or told.get("grpc_code")
    text = str(told.get("message") or told.get("error") or told)
    return _UnsureError(text) if not isinstance(code, int) or code in UNSURE else RejectedError(text, code)


def _told(line: bytes | None) -> Batch | None:
    """Return what a line of a watch tells; None when that is only that the watch stands."""
    if line is None:
        message = "the member ended the watch"
        raise _UnsureError(message)
    return _understood(Response(OK, line), _result)


def _result(told: Json) -> Batch | None:
    if "result" not in told:
        raise _error(told["error"])
    result = told["result"]
    if not result.get("canceled"):
        return keys.batch(result)
    compacted = int(result.get("compact_revision", 0))
    text = f"the watch was cancelled: {result.get('cancel_reason') or f'the first revision left is {compacted}'}"
    raise CompactedError(text, compacted) if compacted else RejectedError(text, CANCELLED)


def _status(answer: Json) -> Status:
    return Status(
        member=int(answer["header"]["member_id"]),
        leader=int(answer.get("leader", 0)),
        term=int(answer.get("raftTerm", 0)),
        version=str(answer.get("version", "")),
    )


def _members(answer: Json) -> tuple[Member, ...]:
    return tuple(
        Member(int(entry["ID"]), str(entry.get("name", "")), tuple(entry.get("clientURLs", ())))
        for entry in answer["members"]
    )


def _unknown(what: str, client: Client, error: Exception) -> OutcomeUnknownError:
    return OutcomeUnknownError(f"{what}: {client.where} was asked, and what became of it is not known: {error}")


def _unavailable(what: str, failures: Sequence[Exception]) -> UnavailableError:
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
