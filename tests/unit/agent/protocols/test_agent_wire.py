"""The client of PostgreSQL's protocol, against servers that say what they should, and what they should not."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import ipaddress
import os
import socket
import ssl
import struct
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from wire_server import (
    LOGGED_IN,
    READY,
    Peer,
    answering,
    authentication,
    columns,
    error,
    greeting,
    message,
    row,
    serving,
)

from pgbaton.agent.protocols import connections, scram, wire
from pgbaton.agent.protocols.connections import AbsentError, RefusedError, SilentError, TcpAddress, UnixSocket
from pgbaton.agent.protocols.wire import Answer, Login, ServerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    TlsScript = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LOGIN = Login("agent", "postgres", password="pencil", settings=(("statement_timeout", "500"),))
SHORT_SECONDS = 0.05
DAY = dt.timedelta(days=1)


async def ask(where: UnixSocket | TcpAddress, statement: str = "select 1", login: Login = LOGIN) -> Answer:
    return await wire.ask(where, login, statement, deadline_seconds=2)


class ScramServer:
    """The server's side of SCRAM-SHA-256, written from RFC 5802."""

    def __init__(self, password: str) -> None:
        self.salt = b"0123456789abcdef"
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), self.salt, 4096)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        self.stored_key = hashlib.sha256(client_key).digest()
        self.server_key = hmac.digest(salted, b"Server Key", "sha256")

    async def log_in(self, peer: Peer, *, signature: bytes | None = None) -> bool:
        """Return whether the client knows the password; ``signature`` replaces the server's own."""
        peer.say(authentication(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"))
        kind, body = await peer.hear()
        assert kind == "p"
        mechanism, _, initial = body.partition(b"\0")
        assert mechanism == b"SCRAM-SHA-256"
        bare = initial[4:].decode().removeprefix("n,,")
        nonce = bare.partition("r=")[2] + "server"
        challenge = f"r={nonce},s={base64.b64encode(self.salt).decode()},i=4096"
        peer.say(authentication(11, challenge.encode()))
        _, body = await peer.hear()
        without_proof, _, proof = body.decode().rpartition(",p=")
        assert without_proof == f"c=biws,r={nonce}"
        signed = f"{bare},{challenge},{without_proof}".encode()
        mask = hmac.digest(self.stored_key, signed, "sha256")
        key = bytes(one ^ other for one, other in zip(base64.b64decode(proof), mask, strict=True))
        mine = signature or hmac.digest(self.server_key, signed, "sha256")
        peer.say(authentication(12, b"v=" + base64.b64encode(mine)))
        return hashlib.sha256(key).digest() == self.stored_key


async def test_a_trusted_login_gets_its_rows_as_text(tmp_path: Path) -> None:
    told: dict[str, str] = {}

    async def script(peer: Peer) -> None:
        await peer.start()
        told.update(peer.startup)
        peer.say(authentication(0), message("S", b"server_version\x0017.4\0"), message("K", bytes(8)), READY)
        assert await peer.hear() == ("Q", b"select 1\0")
        peer.say(columns("name", "häuser"), row("one", None), row("", "zwei"), message("C", b"SELECT 2\0"), READY)
        assert await peer.gone() == message("X", b"")

    async with serving(tmp_path / "s", script) as where:
        answer = await ask(where)
    assert answer == Answer(("name", "häuser"), (("one", None), ("", "zwei")))
    assert answer.records()[0] == {"name": "one", "häuser": None}
    assert told["user"] == "agent"
    assert told["database"] == "postgres"
    assert told["statement_timeout"] == "500"


async def test_scram_proves_both_sides(tmp_path: Path) -> None:
    known: list[bool] = []

    async def script(peer: Peer) -> None:
        await peer.start()
        known.append(await ScramServer("pencil").log_in(peer))
        peer.say(LOGGED_IN)
        await peer.hear()
        peer.say(columns("one"), row("1"), message("C", b"SELECT 1\0"), READY)

    async with serving(tmp_path / "s", script) as where:
        assert (await ask(where)).rows == (("1",),)
    assert known == [True]


async def test_a_server_that_does_not_know_the_password_is_not_believed(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.start()
        await ScramServer("pencil").log_in(peer, signature=bytes(32))
        peer.say(LOGGED_IN)

    async with serving(tmp_path / "s", script) as where:
        with pytest.raises(RefusedError, match="does not know the password") as refused:
            await ask(where)
    assert refused.value.sqlstate == wire.LOGIN_IMPOSSIBLE


async def test_a_login_that_stops_in_the_middle_of_scram_is_not_believed(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.start()
        peer.say(authentication(10, b"SCRAM-SHA-256\0\0"))
        await peer.hear()
        peer.say(LOGGED_IN)

    async with serving(tmp_path / "s", script) as where:
        with pytest.raises(RefusedError, match="authentication 0 in place of 11"):
            await ask(where)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (authentication(3), "wants authentication 3"),
        (authentication(5, b"salt"), "wants authentication 5"),
        (authentication(10, b"OAUTHBEARER\0\0"), "no SCRAM-SHA-256"),
        (message("R", b"\0"), "message 'R' is wrong"),
    ],
)
async def test_no_other_authentication_is_answered(tmp_path: Path, asked: bytes, reason: str) -> None:
    async with serving(tmp_path / "s", greeting(asked)) as where:
        with pytest.raises(RefusedError, match=reason):
            await ask(where)


async def test_a_password_is_sent_only_where_there_is_one(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", greeting(authentication(10, b"SCRAM-SHA-256\0\0"))) as where:
        with pytest.raises(RefusedError, match="wants a password"):
            await ask(where, login=Login("agent", "postgres"))


def test_a_password_is_not_printed() -> None:
    assert "pencil" not in repr(LOGIN)


@pytest.mark.parametrize("sqlstate", ["53300", "57P03"])
async def test_a_refusal_carries_its_sqlstate(tmp_path: Path, sqlstate: str) -> None:
    async with serving(tmp_path / "s", greeting(error(sqlstate, "no"), close=True)) as where:
        with pytest.raises(ServerError, match="it says: no") as refused:
            await ask(where)
    assert refused.value.sqlstate == sqlstate
    assert refused.value.fatal


async def test_after_an_error_the_session_goes_on(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.start()
        peer.say(LOGGED_IN)
        await peer.hear()
        peer.say(error("08P01", "already paused", severity="ERROR"), READY)
        assert await peer.hear() == ("Q", b"second\0")
        peer.say(message("N", b"SNOTICE\0Mmind you\0\0"), message("C", b"RESUME\0"), READY)

    async with (
        serving(tmp_path / "s", script) as where,
        wire.session(where, LOGIN, deadline_seconds=2) as session,
    ):
        with pytest.raises(ServerError, match="already paused") as refused:
            await session.query("first")
        assert not refused.value.fatal
        assert await session.query("second") == Answer()
        assert session.notices == ["mind you"]


async def test_the_first_reason_counts_when_the_connection_ends_behind_it(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.start()
        peer.say(LOGGED_IN)
        await peer.hear()
        peer.say(error("57014", "cancelled", severity="ERROR"))

    async with serving(tmp_path / "s", script) as where:
        with pytest.raises(ServerError, match="cancelled") as refused:
            await ask(where)
    assert refused.value.sqlstate == "57014"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak PostgreSQL's protocol: b'HTTP/1.1 400"),
        (b"Ecould not fork new process for connection\n\0", "could not fork"),
        (b"R\0\0\0\x03", "does not speak"),
        (message("D", b"\0\0"), "message 'D' is wrong: not expected here"),
        (message("E", b"Mwithout a code\0\0"), "message 'E' is wrong"),
        (message("S", b"half"), "message 'S' is wrong"),
        (message("S", b"\xff\0\xff\0"), "message 'S' is wrong"),
    ],
)
async def test_garbage_is_refused(tmp_path: Path, said: bytes, reason: str) -> None:
    async with serving(tmp_path / "s", greeting(said, close=True)) as where:
        with pytest.raises(RefusedError, match=reason) as refused:
            await ask(where)
    assert refused.value.sqlstate == wire.PROTOCOL_VIOLATION


@pytest.mark.parametrize(
    "answer",
    [
        columns("one", "two") + row("1"),
        message("T", columns("one")[5:] + b"x"),
        message("T", b"\0\x02a\0" + bytes(18)),
        columns("one") + message("D", struct.pack("!Hi", 1, 100) + b"short"),
        columns("one") + message("D", struct.pack("!Hi", 1, 1)),
        columns("one") + message("D", b""),
        columns("one") + row("1", "2"),
        columns("one") + message("D", struct.pack("!Hi", 1, 2) + b"\xff\xfe"),
        columns("one") + message("G", b""),
    ],
)
async def test_an_answer_that_contradicts_itself_is_refused(tmp_path: Path, answer: bytes) -> None:
    async with serving(tmp_path / "s", answering(answer, READY)) as where:
        with pytest.raises(RefusedError) as refused:
            await ask(where)
    assert refused.value.sqlstate == wire.PROTOCOL_VIOLATION


@pytest.mark.parametrize("said", [b"", b"R\0\0", LOGGED_IN[:-3]])
async def test_half_an_answer_is_refused(tmp_path: Path, said: bytes) -> None:
    async with serving(tmp_path / "s", greeting(said, close=True)) as where:
        with pytest.raises(RefusedError, match="closed the connection") as refused:
            await ask(where)
    assert refused.value.sqlstate == wire.CONNECTION_FAILURE


@pytest.mark.parametrize("said", [b"", b"R\0\0", authentication(0), LOGGED_IN])
async def test_silence_ends_with_the_deadline(tmp_path: Path, said: bytes) -> None:
    async with serving(tmp_path / "s", greeting(said)) as where:
        with pytest.raises(SilentError, match=r"no answer within 0.05 s"):
            await wire.ask(where, LOGIN, "select 1", deadline_seconds=SHORT_SECONDS)


async def test_the_deadline_counts_for_what_is_done_with_a_session(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", greeting(LOGGED_IN)) as where:
        with pytest.raises(SilentError):
            async with wire.session(where, LOGIN, deadline_seconds=SHORT_SECONDS) as session:
                await session.query("one")


async def test_a_server_that_begins_too_late_finds_its_client_gone(tmp_path: Path) -> None:
    reads = asyncio.Event()
    found: list[bytes] = []

    async def script(peer: Peer) -> None:
        peer.writer.transport.pause_reading()
        await reads.wait()
        peer.writer.transport.resume_reading()
        await peer.start()
        peer.say(LOGGED_IN)
        found.append(await peer.gone())

    async with serving(tmp_path / "s", script) as where:
        with pytest.raises(SilentError):
            await wire.ask(where, LOGIN, "select 1", deadline_seconds=SHORT_SECONDS)
        reads.set()
    assert found == [b""]


async def test_a_caller_that_gives_up_leaves_no_connection(tmp_path: Path) -> None:
    asked = asyncio.Event()
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.start()
        peer.say(LOGGED_IN)
        await peer.hear()
        asked.set()
        assert await peer.gone() == message("X", b"")
        left.set()

    async with serving(tmp_path / "s", script) as where:
        asking = asyncio.create_task(ask(where))
        await asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(1):
            await left.wait()


async def test_nobody_there_is_told_from_a_server_that_refuses(tmp_path: Path) -> None:
    with pytest.raises(AbsentError, match="nobody is there"):
        await ask(UnixSocket(tmp_path / "none"))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "deaf"))
        with pytest.raises(AbsentError):
            await ask(UnixSocket(tmp_path / "deaf"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(AbsentError):
            await ask(TcpAddress("127.0.0.1", free.getsockname()[1]))


async def test_a_full_backlog_is_silence(tmp_path: Path) -> None:
    path = tmp_path / "full"
    with socket.socket(socket.AF_UNIX) as hung, contextlib.ExitStack() as waiting:
        hung.bind(str(path))
        hung.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                one = waiting.enter_context(socket.socket(socket.AF_UNIX))
                one.settimeout(0)
                one.connect(str(path))
        with pytest.raises(SilentError):
            await wire.ask(UnixSocket(path), LOGIN, "select 1", deadline_seconds=SHORT_SECONDS)


def test_the_proof_is_the_one_of_rfc_7677() -> None:
    nonce = "rOprNGfwEbeRWgbNEkqO"
    challenge = f"r={nonce}%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    proof = scram.prove("user", "pencil", nonce, challenge)
    assert scram.first_message("user", nonce) == f"n,,n=user,r={nonce}"
    assert proof.message.endswith(",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    scram.verify(proof, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


@pytest.mark.parametrize(
    ("challenge", "reason"),
    [
        ("r=other,s=W22Z,i=4096", "another login"),
        ("r=nonce,s=W22Z,i=4096", "another login"),
        ("r=nonce1,s=W22Z", "lacks the attribute i"),
        ("r=nonce1,s=W22Z,i=9999999999", "iterations"),
        ("r=nonce1,s=W22Z,i=0", "iterations"),
        ("r=nonce1,s=W22Z,i=-4096", "iterations"),
        ("r=nonce1,s=W22Z,i=²", "iterations"),
        ("r=nonce1,s=?,i=4096", "no Base64"),
        ("nonsense", "no attribute"),
    ],
)
def test_a_challenge_that_is_wrong_is_not_answered(challenge: str, reason: str) -> None:
    with pytest.raises(scram.ScramError, match=reason):
        scram.prove("user", "pencil", "nonce", challenge)


def test_a_server_may_say_why_it_ends_the_login() -> None:
    with pytest.raises(scram.ScramError, match="invalid-proof"):
        scram.verify(scram.Proof("", b""), "e=invalid-proof")


def test_only_ascii_passwords_are_taken() -> None:
    with pytest.raises(scram.ScramError, match="outside of ASCII"):
        scram.prove("user", "pässword", "nonce", "r=nonce1,s=W22Z,i=4096")


async def peer_of_a_connection(path: Path, as_uid: int) -> int:
    """Return the uid that a listener sees."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        os.chmod(path, 0o777)  # noqa: PTH101, S103 - everybody may connect, and nothing blocks
        listener.listen(1)
        with await connections.connect(UnixSocket(path, as_uid=as_uid)):
            accepted, _ = listener.accept()
            with accepted:
                credentials = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", credentials)[1])


async def test_a_connection_of_ones_own_is_seen_as_ones_own(tmp_path: Path) -> None:
    assert await peer_of_a_connection(tmp_path / "s", os.geteuid()) == os.geteuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be somebody else")
async def test_the_peer_is_seen_as_the_other_user_for_the_instant_of_connecting(tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents[:-2]):
        directory.chmod(0o755)
    assert await peer_of_a_connection(tmp_path / "s", 65534) == 65534
    assert os.geteuid() == 0


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return TLS for a server on 127.0.0.1, and for clients that trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "db1")])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("db1")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - DAY, now + DAY)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    both = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    both.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(both)
    return server, ssl.create_default_context(cafile=str(both))


@contextlib.asynccontextmanager
async def listening(
    script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Listen on a port for clients that begin by asking for TLS."""
    running: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(8) == struct.pack("!II", 8, 80877103)
        try:
            await script(reader, writer)
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.append(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        async with asyncio.timeout(1):
            await asyncio.gather(*running)


async def test_a_login_over_tls(trust: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"S")
        await writer.start_tls(trust[0])
        await answering(columns("one"), row("x" * 300_000), READY)(Peer(reader, writer))

    async with listening(script) as port:
        answer = await ask(TcpAddress("127.0.0.1", port, tls=trust[1]))
    assert answer.rows == (("x" * 300_000,),)


async def test_a_certificate_for_another_name_is_refused(trust: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"S")
        with contextlib.suppress(OSError):
            await writer.start_tls(trust[0])
            await reader.read()

    async with listening(script) as port:
        with pytest.raises(RefusedError, match="certificate is not valid for 'db2'"):
            await ask(TcpAddress("127.0.0.1", port, tls=trust[1], tls_name="db2"))


async def test_a_server_without_tls_is_told_nothing(trust: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    heard: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"N")
        heard.append(await reader.read())

    async with listening(script) as port:
        with pytest.raises(RefusedError, match="does not offer TLS"):
            await ask(TcpAddress("127.0.0.1", port, tls=trust[1]))
    assert heard == [b""]


async def test_words_before_tls_are_not_taken_for_the_servers(trust: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"S" + LOGGED_IN)
        with contextlib.suppress(OSError):
            await writer.start_tls(trust[0])
            await reader.read()

    async with listening(script) as port:
        with pytest.raises(RefusedError, match="no TLS with it"):
            await ask(TcpAddress("127.0.0.1", port, tls=trust[1]))


@pytest.mark.parametrize("willing", [b"", b"S"])
async def test_silence_in_the_middle_of_tls_ends_with_the_deadline(
    trust: tuple[ssl.SSLContext, ssl.SSLContext], willing: bytes
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(willing)
        await reader.read()

    async with listening(script) as port:
        # Twice: the second one gets the first one's file descriptor.
        for _ in range(2):
            where = TcpAddress("127.0.0.1", port, tls=trust[1])
            with pytest.raises(SilentError):
                await wire.ask(where, LOGIN, "select 1", deadline_seconds=SHORT_SECONDS)
