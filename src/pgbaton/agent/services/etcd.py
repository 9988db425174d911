"""etcd's v3 API over its JSON gateway (3.4 and 3.5): the local member first, the others when that one does not answer.

A question is passed on from member to member. A change is passed on only when it certainly was not made: a write whose
answer did not come raises OutcomeUnknownError, and whoever asked has to look.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from pgbaton.agent.protocols.http1 import MalformedError
from pgbaton.agent.protocols.https import Client, ConnectError, HttpsError
from pgbaton.agent.services import etcd_answers as answers
from pgbaton.agent.services import keys
from pgbaton.agent.services.etcd_answers import (
    NOT_FOUND,
    UNAUTHENTICATED,
    CompactedError,
    EtcdError,
    Member,
    NoLeaderError,
    NotInTimeError,
    OutcomeUnknownError,
    RejectedError,
    Status,
    TlsRefusedError,
    UnavailableError,
    UnsureError,
)
from pgbaton.agent.services.etcd_session import LOGIN_SECONDS, Login, Session

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Callable, Iterable

    from pgbaton.agent.services.keys import Batch, Delete, Json, ModRevision, Put, Snapshot, TransactionResult

__all__ = [
    "CompactedError",
    "Etcd",
    "EtcdError",
    "Login",
    "Member",
    "NoLeaderError",
    "NotInTimeError",
    "OutcomeUnknownError",
    "Patience",
    "RejectedError",
    "Status",
    "TlsRefusedError",
    "UnavailableError",
]

T = TypeVar("T")

#: What is said to who logs in where nobody has to.
NO_LOGIN = "authentication is not enabled"
AUTHENTICATE = "/v3/auth/authenticate"


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
    """A client of all members of one etcd cluster. ``endpoints`` are ``address:port``, the local one first.

    ``login`` is for an etcd that asks for a password.
    """

    def __init__(
        self,
        endpoints: Iterable[str],
        *,
        tls: ssl.SSLContext | None,
        patience: Patience | None = None,
        login: Login | None = None,
    ) -> None:
        #: Why a member was last left for another one; gone when it has answered again.
        self.trouble: dict[str, str] = {}
        self._tls = tls
        self._patience = patience or Patience()
        self._members = [Endpoint(_client(f"//{endpoint}", tls)) for endpoint in endpoints]
        if not self._members:
            message = "no etcd member to ask: endpoints are empty"
            raise ValueError(message)
        self._session = Session(login)
        # One login at a time; the others who ask wait for its token.
        self._logging_in = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None

    def use(self, tls: ssl.SSLContext | None) -> None:
        """Use other certificates from now on."""
        self._tls = tls
        for endpoint in self._members:
            endpoint.client.use(tls)

    def prove_with(self, login: Login | None) -> None:
        """Log in as somebody else from now on, or with another password."""
        self._session.use(login)

    def close(self) -> None:
        """End the connections that are kept."""
        if self._renewal is not None:
            self._renewal.cancel()
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
        return await self._ask("/v3/maintenance/status", {}, lambda told, _: answers.status(told))

    async def members(self) -> tuple[Member, ...]:
        """Return etcd's members."""
        return await self._ask("/v3/cluster/member/list", {}, lambda told, _: answers.members(told))

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
            answers.object_of(await client.request("POST", path, request, deadline_seconds=deadline_seconds))
        except ConnectError as error:
            raise answers.unavailable(path, [error]) from error
        except (HttpsError, MalformedError, UnsureError) as error:
            raise answers.unknown(path, client.where, error) from error
        finally:
            client.close()

    async def watch(self, prefix: str, from_revision: int) -> AsyncGenerator[Batch, None]:
        """Return every change under a prefix from a revision on, as one member tells it, until that one fails.

        Close the iterator (``contextlib.aclosing``) when it is not read to its end. A member that is dead without
        closing its connection goes unnoticed here; :mod:`pgbaton.agent.services.following` looks after that. Raises
        UnavailableError when the member fails; it is then left for another one. Raises CompactedError.
        """
        await self._log_in()
        token = self._session.token
        endpoint = self._order()[0]
        seconds = self._patience.deadline_seconds
        request = _json(keys.watch_request(prefix, from_revision))
        try:
            async with endpoint.client.stream("POST", "/v3/watch", request, deadline_seconds=seconds) as stream:
                async with asyncio.timeout(seconds):
                    answers.change_of(await stream.line())
                while True:
                    batch = answers.change_of(await stream.line())
                    if batch is not None:
                        yield batch
        except (HttpsError, MalformedError, TimeoutError, UnsureError) as error:
            self._leave(endpoint, error)
            raise answers.unavailable("/v3/watch", [error]) from error  # noqa: EM101 - a path
        except RejectedError as error:
            if answers.wants_login(error):
                self._session.ended(token)
            raise

    async def _ask(
        self,
        path: str,
        fields: Json,
        read: Callable[[Json, str], T],
        *,
        deadline_seconds: float | None = None,
        repeatable: bool = True,
    ) -> T:
        """Ask as somebody who is logged in; once more, when the token has come to its end without anybody's notice.

        What was refused for want of a login was not carried out, so that a change may be asked for again.
        """
        await self._log_in()
        token = self._session.token
        asked = (path, fields, read, deadline_seconds, repeatable)
        try:
            answer = await self._ask_members(*asked)
        except RejectedError as error:
            if self._session.login is None or not answers.wants_login(error):
                raise
            self._session.ended(token)
            await self._log_in()
            answer = await self._ask_members(*asked)
        self._renew_in_time()
        return answer

    async def _log_in(self) -> None:
        """Get a token where one is wanted. Raises RejectedError when the login is refused, or was a moment ago."""
        if not self._session.is_wanted:
            return
        async with self._logging_in:
            if self._session.is_wanted:
                await self._begin_session()

    async def _begin_session(self) -> None:
        session, now = self._session, asyncio.get_running_loop().time
        login = session.login
        if login is None:
            return
        if why := session.refused(now()):
            raise RejectedError(why, UNAUTHENTICATED)
        fields = {"name": login.user, "password": login.password}
        try:
            token = await self._ask_members(AUTHENTICATE, fields, lambda told, _: str(told["token"]), LOGIN_SECONDS)
        except RejectedError as error:
            if NO_LOGIN not in str(error):
                self.trouble["login"] = f"{login.user} is not let in: {error}"
                session.was_refused(str(error), now())
                raise
            token = ""
        self.trouble.pop("login", None)
        if session.login == login:
            session.began(token, now())
            for endpoint in self._members:
                endpoint.client.say("authorization", token or None)

    def _renew_in_time(self) -> None:
        """Get another token beside what is asked, before members that are not asked forget this one."""
        is_idle = self._renewal is None or self._renewal.done()
        if is_idle and self._session.is_due(asyncio.get_running_loop().time()):
            self._renewal = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        with contextlib.suppress(EtcdError):  # the token still serves; the next question begins another try
            async with self._logging_in:
                await self._begin_session()

    async def _ask_members(
        self,
        path: str,
        fields: Json,
        read: Callable[[Json, str], T],
        deadline_seconds: float | None = None,
        repeatable: bool = True,  # noqa: FBT001, FBT002 - as _ask has it, which passes it on
    ) -> T:
        """Ask one member after the other until one answers. One that fails is asked last for a while."""
        seconds = deadline_seconds or self._patience.deadline_seconds
        request, failures = _json(fields), []
        for endpoint in self._order():
            client = endpoint.client
            try:
                response = await client.request("POST", path, request, deadline_seconds=seconds, repeatable=repeatable)
                answer = answers.understood(response, lambda fields: read(fields, client.where))  # noqa: B023 - called at once
            except (HttpsError, MalformedError, UnsureError) as error:
                self._leave(endpoint, error)
                if not (repeatable or isinstance(error, ConnectError)):
                    raise answers.unknown(path, client.where, error) from error
                failures.append(error)
            else:
                self._praise(endpoint)
                return answer
        raise answers.unavailable(path, failures)

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
