"""Certificates and keys that change under a running agent, or that cannot be read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from small_cluster import settings, until
from tls_files import Authority, authority

from pgbaton.agent.complaints import Complaints
from pgbaton.agent.protocols import trust
from pgbaton.agent.protocols.http1 import Response
from pgbaton.agent.protocols.https import Client, ConnectError, client_context
from pgbaton.agent.protocols.serving import Request, Server
from pgbaton.agent.protocols.trust import Trust
from pgbaton.agent.settings import Secrets, Tls

if TYPE_CHECKING:
    from pgbaton.agent.protocols.https import Identity

OLD, NEW = "5a" * 32, "a5" * 32


class Files:
    """The files of an agent, and what was taken from them."""

    def __init__(self, directory: Path) -> None:
        self.authority: Authority = authority(directory / "ca")
        self.identity: Identity = self.authority.identity("me")
        own = tuple(Path(each) for each in (self.identity.authority, self.identity.certificate, self.identity.key))
        self.certificate = own[1]
        self.secrets = directory / "secrets.json"
        self.write_secrets(OLD)
        self.hosts: list[tuple[ssl.SSLContext, ssl.SSLContext, ssl.SSLContext]] = []
        self.etcd: list[ssl.SSLContext] = []
        self.keys: list[Secrets] = []
        self.trust = Trust(
            replace(settings(), tls=Tls(*own, *own)),
            Complaints(),
            secrets=self.secrets,
            on_hosts=lambda *made: self.hosts.append(made),
            on_etcd=self.etcd.append,
            on_secrets=self.keys.append,
        )

    def write_secrets(self, key: str) -> None:
        content = {"heartbeat_key": key, "rest_user": "patroni", "rest_password": "one"}
        self.secrets.write_text(json.dumps(content))
        self.secrets.chmod(0o600)

    @property
    def taken(self) -> tuple[int, int, int]:
        return len(self.hosts), len(self.etcd), len(self.keys)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_what_has_not_changed_is_read_once(files: Files) -> None:
    assert [files.trust.look() for _ in range(3)] == [True] * 3
    assert files.taken == (1, 1, 1)


def test_new_keys_are_taken_when_their_file_changes(files: Files) -> None:
    files.trust.look()
    files.write_secrets(f"{NEW},{OLD}")
    files.trust.look()
    assert [secrets.heartbeat_key for secrets in files.keys] == [OLD, f"{NEW},{OLD}"]
    assert files.taken == (1, 1, 2)


def test_a_new_certificate_is_taken_when_its_file_changes(files: Files) -> None:
    files.trust.look()
    new = files.authority.identity("new")
    for old, fresh in ((files.identity.certificate, new.certificate), (files.identity.key, new.key)):
        Path(fresh).replace(old)
    files.trust.look()
    assert files.taken == (2, 2, 1)


def test_files_that_do_not_fit_together_leave_those_of_before_in_use(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.trust.look()
    new = files.authority.identity("new")
    Path(new.certificate).replace(files.identity.certificate)  # its key comes a moment later
    assert not files.trust.look()
    assert files.taken == (1, 1, 1)
    assert "those of before stay in use" in caplog.text
    Path(new.key).replace(files.identity.key)
    assert files.trust.look()
    assert files.taken == (2, 2, 1)


def test_files_that_are_missing_at_the_start_stop_nothing_else(files: Files) -> None:
    content = files.certificate.read_bytes()
    files.certificate.unlink()
    assert not files.trust.look()
    assert files.taken == (0, 0, 1)
    files.certificate.write_bytes(content)
    assert files.trust.look()
    assert files.taken == (1, 1, 1)


def test_secrets_that_everybody_can_read_are_not_taken(files: Files) -> None:
    files.trust.look()
    files.write_secrets(NEW)
    files.secrets.chmod(0o644)
    assert not files.trust.look()
    assert files.taken == (1, 1, 1)


def test_a_time_that_goes_back_is_a_change_too(files: Files) -> None:
    files.trust.look()
    os.utime(files.secrets, (1, 1))
    files.trust.look()
    assert files.taken == (1, 1, 2)


async def test_it_looks_again_soon_while_something_is_missing(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "LOOK_SECONDS", 60.0)
    monkeypatch.setattr(trust, "MISSING_SECONDS", 0.0)
    content = files.certificate.read_bytes()
    files.certificate.unlink()
    running = asyncio.ensure_future(files.trust.run())
    await until(lambda: files.taken == (0, 0, 1))
    files.certificate.write_bytes(content)
    await until(lambda: files.taken == (1, 1, 1))
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_only_a_client_that_is_to_show_a_certificate_shows_one(files: Files) -> None:
    certified: list[bool] = []

    async def answer(request: Request) -> Response:
        certified.append(request.certified)
        return Response()

    files.trust.look()
    client_tls, server_tls, bare_tls = files.hosts[0]
    server = Server(answer, tls=server_tls)
    port = await server.start("127.0.0.1", 0)
    for tls in (client_tls, bare_tls):
        client = Client("127.0.0.1", port, tls=tls)
        await client.request("GET", "/", deadline_seconds=5.0)
        client.close()
    await server.close(grace_seconds=0.0)
    assert certified == [True, False]


async def test_without_certificates_nobody_trusts_and_nobody_is_trusted(files: Files) -> None:
    async def answer(_: Request) -> Response:
        return Response()

    files.trust.look()
    real, stranger = files.hosts[0][1], trust.nobody(ssl.PROTOCOL_TLS_CLIENT)
    for server_tls, client_tls in (
        (trust.nobody(ssl.PROTOCOL_TLS_SERVER), client_context(files.identity)),
        (real, stranger),
    ):
        server = Server(answer, tls=server_tls)
        port = await server.start("127.0.0.1", 0)
        client = Client("127.0.0.1", port, tls=client_tls)
        with pytest.raises(ConnectError):
            await client.request("GET", "/", deadline_seconds=5.0)
        client.close()
        await server.close(grace_seconds=0.0)


def test_an_etcd_that_wants_no_certificate_is_verified_all_the_same(tmp_path: Path) -> None:
    files = Files(tmp_path)
    made: list[ssl.SSLContext] = []
    bare = replace(settings().tls, etcd_authority=Path(files.identity.authority), etcd_certificate=None, etcd_key=None)
    (kept,) = trust.kept_of_etcd(bare, made.append)
    assert kept.look()
    assert made[0].verify_mode is ssl.CERT_REQUIRED
    assert made[0].check_hostname


def test_an_etcd_without_tls_has_no_files_to_look_at() -> None:
    plain = replace(settings().tls, etcd_authority=None, etcd_certificate=None, etcd_key=None)
    assert list(trust.kept_of_etcd(plain, lambda _: None)) == []
