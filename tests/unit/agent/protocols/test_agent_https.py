"""Both ends of HTTP/1.1: against each other over TLS, and each against an other side that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import ssl
import time
from typing import TYPE_CHECKING

import pytest
from canned_server import canned, chunk, chunked, plain, until
from tls_files import Authority, authority

from pgbaton.agent.protocols.http1 import Limits, MalformedError, Response
from pgbaton.agent.protocols.https import (
    BrokenError,
    Client,
    ConnectError,
    DeadlineError,
    HttpError,
    HttpsError,
    Identity,
    TlsError,
    client_context,
    server_context,
)
from pgbaton.agent.protocols.serving import Bounds, Request, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from canned_server import Canned

    from pgbaton.agent.protocols.serving import Handler

LOOPBACK = "127.0.0.1"
IN_TIME = {"deadline_seconds": 5.0}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls") / "theirs")


@pytest.fixture
async def server() -> AsyncIterator[Canned]:
    async with canned() as running:
        yield running


@contextlib.asynccontextmanager
async def serving(
    handler: Handler, tls: ssl.SSLContext | None = None, bounds: Bounds | None = None
) -> AsyncIterator[tuple[Server, int]]:
    """Run a server for as long as the block lasts."""
    server = Server(handler, tls=tls, bounds=bounds)
    port = await server.start(LOOPBACK, 0)
    try:
        yield server, port
    finally:
        await server.close(grace_seconds=0)


@contextlib.contextmanager
def client(port: int, tls: ssl.SSLContext | None = None, limits: Limits | None = None) -> Iterator[Client]:
    """Make a client for as long as the block lasts."""
    made = Client(LOOPBACK, port, tls=tls, limits=limits)
    try:
        yield made
    finally:
        made.close()


async def echo(request: Request) -> Response:
    """Answer with what was asked."""
    text = f"{request.method} {request.path} {request.query} {request.certified}".encode()
    return Response(200, text + request.body, {"x-test": "1"})


async def ask_raw(port: int, raw: bytes) -> bytes:
    """Send bytes and return all that comes back, until the server hangs up."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        writer.write(raw)
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.transport.abort()


# The client.


async def test_both_ends_show_certificates_and_a_connection_is_used_again(ours: Authority) -> None:
    tls = server_context(ours.identity("server"), ssl.CERT_REQUIRED)
    async with serving(echo, tls) as (server, port), contextlib.AsyncExitStack() as stack:
        asking = stack.enter_context(client(port, client_context(ours.identity("client"))))
        answers = [await asking.request("POST", "/a?b=c", b"{}", **IN_TIME) for _ in range(3)]
        assert {(answer.status, answer.text()) for answer in answers} == {(200, "POST /a b=c True{}")}
        assert answers[0].headers["x-test"] == "1"
        assert len(server._places) == 1


@pytest.mark.parametrize(
    "raw",
    [
        plain(b'{"a": 1}'),
        chunked(b'{"a"', b": 1}", trailer="Grpc-Trailer-Content-Type: application/grpc\r\n"),
        b'HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6\r\n\r\n{"a": 1}',
        b"HTTP/1.1 100 Continue\r\n\r\n" + plain(b'{"a": 1}'),
        b'HTTP/1.1 200\r\nContent-Length:8\r\n\r\n{"a": 1}',
    ],
    ids=["length", "chunks", "until the end", "after a continue", "without a phrase"],
)
async def test_a_body_is_read_however_it_is_framed(raw: bytes) -> None:
    async with canned(hangs_up=True) as server:
        server.says("/x", raw)
        with client(server.port) as asking:
            answer = await asking.request("GET", "/x", **IN_TIME)
    assert answer.json() == {"a": 1}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 5_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5_000,
        chunked(b"x" * 900, b"x" * 900, b""),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1_0\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 100,
        chunked(b"abc"),
    ],
)
async def test_an_answer_that_is_no_http_or_too_much_of_it_is_an_error(raw: bytes) -> None:
    async with canned(hangs_up=True) as server:
        server.says("/x", raw)
        limits = Limits(head_bytes=2_048, body_bytes=1_024)
        with client(server.port, limits=limits) as asking, pytest.raises(BrokenError, match="the answer broke off"):
            await asking.request("GET", "/x", **IN_TIME)


async def test_a_body_may_be_as_long_as_the_limit(server: Canned) -> None:
    server.says("/x", plain(b"x" * 1_024), chunked(b"x" * 1_024, trailer="a: b\r\n"))
    with client(server.port, limits=Limits(body_bytes=1_024)) as asking:
        answers = [await asking.request("GET", "/x", **IN_TIME) for _ in range(2)]
    assert [len(answer.body) for answer in answers] == [1_024, 1_024]


async def test_a_silent_server_costs_no_more_than_the_deadline(server: Canned) -> None:
    with client(server.port) as asking, pytest.raises(DeadlineError, match="no answer in time"):
        await asking.request("GET", "/silent", deadline_seconds=0.15)
    assert [asked.path for asked in server.asked] == ["/silent"]


async def test_a_deadline_covers_the_body_too(server: Canned) -> None:
    server.says("/x", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
    with client(server.port) as asking, pytest.raises(DeadlineError):
        await asking.request("GET", "/x", deadline_seconds=0.15)


async def test_where_nobody_listens_the_request_never_left() -> None:
    async with canned() as gone:
        port = gone.port
    with client(port) as asking, pytest.raises(ConnectError, match="no connection"):
        await asking.request("GET", "/", **IN_TIME)


async def test_an_answer_to_head_has_no_body(server: Canned) -> None:
    server.says("/x", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", plain(b"next"))
    with client(server.port) as asking:
        assert (await asking.request("HEAD", "/x", **IN_TIME)).body == b""
        assert (await asking.request("GET", "/x", **IN_TIME)).body == b"next"
    assert len(server.connections) == 1


async def test_a_kept_connection_that_breaks_is_replaced_for_what_may_be_repeated(server: Canned) -> None:
    server.says("/x", plain(b"1"), b"", plain(b"2"))
    with client(server.port) as asking:
        await asking.request("POST", "/x", **IN_TIME)
        assert (await asking.request("POST", "/x", repeatable=True, **IN_TIME)).body == b"2"
    assert len(server.connections) == 2


async def test_what_must_not_be_repeated_is_sent_once(server: Canned) -> None:
    server.says("/x", plain(b"1"), b"", plain(b"2"))
    with client(server.port) as asking:
        await asking.request("POST", "/x", **IN_TIME)
        with pytest.raises(BrokenError):
            await asking.request("POST", "/x", **IN_TIME)
    assert len(server.asked) == 2


async def test_a_fresh_connection_that_breaks_is_not_tried_again(server: Canned) -> None:
    server.says("/x", b"", plain(b"2"))
    with client(server.port) as asking, pytest.raises(BrokenError):
        await asking.request("GET", "/x", repeatable=True, **IN_TIME)


async def test_an_answer_to_nobodys_question_is_not_taken_for_the_next_one(server: Canned) -> None:
    server.says("/x", plain(b"1"), plain(b"2"))
    with client(server.port) as asking:
        await asking.request("GET", "/x", **IN_TIME)
        server.tell(plain(b"too late", status="408 Request Timeout"))
        await until(lambda: asking._idle[0].reader.spoilt)
        assert (await asking.request("GET", "/x", **IN_TIME)).body == b"2"
    assert len(server.connections) == 2


async def test_a_request_that_is_given_up_takes_its_connection_with_it(server: Canned) -> None:
    with client(server.port) as asking:
        task = asyncio.create_task(asking.request("GET", "/silent", **IN_TIME))
        await until(lambda: server.asked)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert asking._idle == []
    await until(
        lambda: server.connections[0].is_closing() or server.connections[0].transport.get_write_buffer_size() == 0
    )


async def test_requests_at_the_same_time_have_connections_of_their_own(server: Canned) -> None:
    server.always["/x"] = plain(b"1")
    with client(server.port) as asking:
        answers = await asyncio.gather(*(asking.request("GET", "/x", **IN_TIME) for _ in range(5)))
        assert len(answers) == len(server.connections) == 5
        assert len(asking._idle) == 2


async def test_a_server_of_another_authority_is_not_asked(ours: Authority, theirs: Authority) -> None:
    tls = server_context(theirs.identity("server"), ssl.CERT_NONE)
    async with serving(echo, tls) as (_, port):
        with client(port, client_context(ours.identity("client"))) as asking, pytest.raises(TlsError, match="no TLS"):
            await asking.request("GET", "/", **IN_TIME)


async def test_a_server_at_another_address_than_its_certificates_is_not_asked(ours: Authority) -> None:
    tls = server_context(ours.identity("server", address="10.0.0.1"), ssl.CERT_NONE)
    async with serving(echo, tls) as (_, port):
        with (
            client(port, client_context(ours.identity("client"))) as asking,
            pytest.raises(TlsError, match="IP address mismatch"),
        ):
            await asking.request("GET", "/", **IN_TIME)


async def test_a_client_of_another_authority_is_not_answered(ours: Authority, theirs: Authority) -> None:
    tls = server_context(ours.identity("server"), ssl.CERT_REQUIRED)
    stranger = dataclasses.replace(theirs.identity("client"), authority=ours.identity("client").authority)
    async with serving(echo, tls) as (_, port):
        # Which of the two depends on whether the refusal or the end of the connection is seen first.
        with client(port, client_context(stranger)) as asking, pytest.raises((TlsError, BrokenError)):
            await asking.request("GET", "/", **IN_TIME)


async def test_lines_of_a_stream_come_as_they_are_sent(server: Canned) -> None:
    server.says("/x", chunked(b'{"a"', b":1}\n{"))
    with client(server.port) as asking:
        async with asking.stream("POST", "/x", b"{}", **IN_TIME) as stream:
            assert stream.status == 200
            assert await stream.line() == b'{"a":1}'
            server.tell(chunk(b'"b":2}\n\nlast') + chunk(b""))
            assert [await stream.line() for _ in range(4)] == [b'{"b":2}', b"", b"last", None]


async def test_a_stream_that_breaks_off_says_so(server: Canned) -> None:
    server.says("/x", chunked(b"one\ntw"))
    with client(server.port) as asking:
        async with asking.stream("POST", "/x", **IN_TIME) as stream:
            assert await stream.line() == b"one"
            server.connections[0].close()
            with pytest.raises(BrokenError, match="the connection ended"):
                await stream.line()


async def test_a_line_of_a_stream_is_bounded(server: Canned) -> None:
    server.says("/x", chunked(*[b"x" * 100] * 5))
    with client(server.port, limits=Limits(line_bytes=250)) as asking:
        async with asking.stream("POST", "/x", **IN_TIME) as stream:
            with pytest.raises(BrokenError, match="a line of more than 250 bytes"):
                await stream.line()


async def test_a_stream_that_does_not_begin_costs_no_more_than_the_deadline(server: Canned) -> None:
    with client(server.port) as asking, pytest.raises(DeadlineError):
        async with asking.stream("POST", "/silent", deadline_seconds=0.15):
            pass


def test_an_unwanted_status_says_what_was_answered() -> None:
    error = HttpError("here:1", "GET /x", Response(503, b"not now\n"))
    assert str(error) == "here:1: GET /x: status 503: not now"
    assert isinstance(error, HttpsError)


def test_an_answer_that_is_no_object_is_not_taken_for_one() -> None:
    with pytest.raises(MalformedError, match="no JSON object"):
        Response(200, b"[1]").json()


# The server.


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (b"GET /a?b HTTP/1.0\r\n\r\n", b"GET /a b False"),
        (b"OPTIONS * HTTP/1.0\r\n\r\n", b"OPTIONS *  False"),
        (b"OPTIONS / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"OPTIONS /  False"),
        (b"HEAD / HTTP/1.0\r\n\r\n", b""),
        (b"POST /p HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", b"POST /p  Falseabc"),
        (
            b"POST /p HTTP/1.1\r\nConnection: close\r\n" + chunked(b"abc", b"").split(b"\r\n", 1)[1],
            b"POST /p  Falseabc",
        ),
    ],
    ids=["GET", "OPTIONS of all", "OPTIONS", "HEAD", "POST", "POST in chunks"],
)
async def test_checks_and_posts_are_answered(raw: bytes, answer: bytes) -> None:
    async with serving(echo) as (_, port):
        head, _, body = (await ask_raw(port, raw)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close" in head
    assert body == answer


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/2.0\r\n\r\n", b"505"),
        (b"GET /\r\n\r\n", b"505"),
        (b"DELETE / HTTP/1.1\r\n\r\n", b"405"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\na: " + b"x" * 3_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\na: " + b"x" * 10_000, b"431"),
        (b"POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"501"),
        (b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", b"417"),
    ],
)
async def test_nonsense_is_answered_once_and_hung_up_on(raw: bytes, status: bytes) -> None:
    bounds = Bounds(limits=Limits(head_bytes=2_048, body_bytes=100))
    async with serving(echo, bounds=bounds) as (_, port):
        answer = await ask_raw(port, raw)
    assert answer.split(b" ")[1] == status
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_a_request_that_does_not_end_is_hung_up_on() -> None:
    async with serving(echo, bounds=Bounds(request_seconds=0.02)) as (server, port):
        assert await ask_raw(port, b"GET / HTTP/1.1\r\nHost: ") == b""
        await until(lambda: not server._places)


async def test_a_client_that_stays_is_hung_up_on_when_it_asks_no_more() -> None:
    async with serving(echo, bounds=Bounds(idle_seconds=0.02)) as (_, port):
        answer = await ask_raw(port, b"GET / HTTP/1.1\r\n\r\n")
    assert b"connection: keep-alive" in answer


async def test_who_keeps_us_waiting_longest_makes_room() -> None:
    async with serving(echo, bounds=Bounds(connections=2)) as (server, port):
        first, second = await asyncio.open_connection(LOOPBACK, port), await asyncio.open_connection(LOOPBACK, port)
        await until(lambda: len(server._places) == 2)
        first[1].write(b"GET / HTTP/1.1\r\n\r\n")
        assert (await first[0].readuntil(b"False")).startswith(b"HTTP/1.1 200")
        assert b"200 OK" in await ask_raw(port, b"GET / HTTP/1.0\r\n\r\n")
        assert await second[0].read() == b""
        first[1].write(b"GET /again HTTP/1.0\r\n\r\n")
        assert b"/again" in await first[0].read()
        for _, writer in (first, second):
            writer.transport.abort()


async def test_who_is_being_served_is_not_made_to_leave() -> None:
    busy, done = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Response:
        busy.set()
        await done.wait()
        return await echo(request)

    async with serving(slow, bounds=Bounds(connections=1)) as (_, port):
        task = asyncio.create_task(ask_raw(port, b"GET /slow HTTP/1.0\r\n\r\n"))
        await busy.wait()
        with contextlib.suppress(ConnectionError):
            assert await ask_raw(port, b"") == b""
        done.set()
        assert b"/slow" in await task


async def test_an_error_of_the_handler_is_an_answer_and_not_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(request: Request) -> Response:
        if request.path == "/bad":
            message = "a secret"
            raise ValueError(message)
        return await echo(request)

    async with serving(fails) as (_, port):
        answer = await ask_raw(port, b"GET /bad HTTP/1.1\r\n\r\nGET /good HTTP/1.0\r\n\r\n")
    assert b" 500 " in answer
    assert b"a secret" not in answer
    assert b"GET /good" in answer
    assert "GET /bad" in caplog.text


async def test_a_handler_that_hangs_is_given_up() -> None:
    async def hangs(request: Request) -> Response:
        await asyncio.Event().wait()
        return await echo(request)

    async with serving(hangs, bounds=Bounds(handler_seconds=0.02)) as (_, port):
        assert b" 503 " in await ask_raw(port, b"GET / HTTP/1.0\r\n\r\n")


async def test_closing_lets_an_answer_leave_and_ends_the_rest() -> None:
    busy, done = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Response:
        busy.set()
        await done.wait()
        return await echo(request)

    async with serving(slow) as (server, port):
        idle = await asyncio.open_connection(LOOPBACK, port)
        task = asyncio.create_task(ask_raw(port, b"GET /slow HTTP/1.1\r\n\r\n"))
        await busy.wait()
        closing = asyncio.create_task(server.close(grace_seconds=5))
        await until(server._accepting.done)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(LOOPBACK, port)
        done.set()
        answer = await task
        await closing
        assert b"GET /slow" in answer
        assert b"connection: close" in answer
        assert await idle[0].read() == b""
        idle[1].transport.abort()


async def test_closing_does_not_wait_longer_than_it_was_told() -> None:
    busy = asyncio.Event()

    async def hangs(request: Request) -> Response:
        busy.set()
        await asyncio.Event().wait()
        return await echo(request)

    async with serving(hangs, bounds=Bounds(handler_seconds=60)) as (server, port):
        task = asyncio.create_task(ask_raw(port, b"GET / HTTP/1.0\r\n\r\n"))
        await busy.wait()
        async with asyncio.timeout(5):
            await server.close(grace_seconds=0.01)
        with contextlib.suppress(ConnectionError):
            assert await task == b""


async def test_certificates_change_while_the_server_listens(ours: Authority) -> None:
    async with serving(echo, server_context(ours.identity("old"), ssl.CERT_NONE)) as (server, port):
        trust = client_context(ours.identity("client"))
        before = await shown(port, trust)
        with client(port, trust) as asking:
            await asking.request("GET", "/", **IN_TIME)
            server.use(server_context(ours.identity("new"), ssl.CERT_NONE))
            assert (await asking.request("GET", "/still", **IN_TIME)).text() == "GET /still  False"
        assert [before, await shown(port, trust)] == ["old", "new"]


async def shown(port: int, tls: ssl.SSLContext) -> str:
    """Return the common name of the certificate that a server shows."""
    _, writer = await asyncio.open_connection(LOOPBACK, port, ssl=tls)
    certificate = writer.get_extra_info("peercert")
    writer.transport.abort()
    return str(dict(pair for (pair,) in certificate["subject"])["commonName"])


async def test_an_answer_over_tls_and_its_end_come_at_once(ours: Authority) -> None:
    """The quickest of several: one that waits for a delayed ACK takes 40 ms, one that is not let go of two seconds."""
    identity = ours.identity("both")
    async with serving(echo, server_context(identity, ssl.CERT_OPTIONAL)) as (_, port):
        taken = [await asyncio.to_thread(seconds_until_end, port, client_context(identity)) for _ in range(4)]
    assert min(taken) < 0.03


def seconds_until_end(port: int, tls: ssl.SSLContext) -> float:
    """Return how long an answer and the end of its connection take; who asks is in no loop with who answers."""
    began = time.monotonic()
    with (
        socket.create_connection((LOOPBACK, port)) as plain,
        tls.wrap_socket(plain, server_hostname=LOOPBACK) as asking,
    ):
        asking.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while asking.recv(65_536):
            pass
    return time.monotonic() - began


async def test_a_client_may_but_need_not_show_a_certificate(ours: Authority) -> None:
    async with serving(echo, server_context(ours.identity("server"), ssl.CERT_OPTIONAL)) as (_, port):
        bare = ssl.create_default_context(cafile=ours.identity("client").authority)
        for tls, certified in ((client_context(ours.identity("client")), "True"), (bare, "False")):
            with client(port, tls) as asking:
                assert (await asking.request("GET", "/", **IN_TIME)).text() == f"GET /  {certified}"


async def test_what_is_no_tls_costs_a_tls_server_nothing(ours: Authority) -> None:
    tls = server_context(ours.identity("server"), ssl.CERT_NONE)
    async with serving(echo, tls, Bounds(request_seconds=0.05)) as (server, port):
        for raw in (b"GET / HTTP/1.0\r\n\r\n", b"", b"\x16\x03"):
            with contextlib.suppress(ConnectionError):
                await ask_raw(port, raw)
        await until(lambda: not server._places)
        with client(port, client_context(ours.identity("client"))) as asking:
            assert (await asking.request("GET", "/", **IN_TIME)).status == 200


def test_tls_older_than_1_2_is_not_spoken(ours: Authority) -> None:
    identity: Identity = ours.identity("any")
    for context in (client_context(identity), server_context(identity, ssl.CERT_REQUIRED)):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert client_context(identity).check_hostname
