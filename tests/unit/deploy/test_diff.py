from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgbaton.deploy import diff
from pgbaton.deploy.steps import Kind, Stage, Step
from pgbaton.secrets import Vault

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("password = hunter2", "hunter2"),
        ("  password: hunter2", "hunter2"),
        ('ETCD_ROOT_PASSWORD="hunter2"', "hunter2"),
        ("auth_pass hunter2", "hunter2"),
        ("primary_conninfo = 'host=db1 password=hunter2 user=x'", "hunter2"),
        ("api_token: hunter2", "hunter2"),
        ('  "heartbeat_key": "hunter2",', "hunter2"),
        ("url: postgres://app:hunter2@db1/app", "hunter2"),
        ('"pgbouncer" "hunter2"', "hunter2"),
        ('"pgbouncer" "SCRAM-SHA-256$4096:c2FsdA==$a:b"', "c2FsdA"),
        ("verifier md5d41d8cd98f00b204e9800998ecf8427e", "d41d8cd9"),
        ("-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----", "hunter2"),
        ("-----BEGIN PRIVATE KEY-----\nhunter2 and no end", "hunter2"),
    ],
)
def test_what_looks_like_a_credential_is_masked(text: str, hidden: str) -> None:
    assert hidden not in diff.mask(text)
    assert diff.MASK in diff.mask(text)


@pytest.mark.parametrize(
    "text",
    [
        "password: <<secret:password/rest>>",
        '"pgbouncer" "<<secret:password/pgbouncer>>"',
        "sslkey: /etc/pgbaton/tls/patroni.key",
        "max_connections = 200",
        "# the password is elsewhere",
        "password_file = /etc/secret",
    ],
)
def test_what_is_no_credential_stays(text: str) -> None:
    assert diff.mask(text) == text


def test_known_secrets_become_references_again(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.ensure(["app"], (), days=1)
    text = f"password = {vault.value('password/app')}\n"
    assert diff.presentable(vault, text) == "password = <<secret:password/app>>\n"


def test_a_line_that_stays_is_shown_as_it_is(tmp_path: Path) -> None:
    text = "password_encryption: scram-sha-256\npassword: hunter2\n"
    shown = diff.presentable(Vault(tmp_path), text, beside="password_encryption: scram-sha-256\n")
    assert shown == f"password_encryption: scram-sha-256\npassword: {diff.MASK}\n"


def test_only_files_that_are_nothing_but_references_are_wholly_secret() -> None:
    assert diff.wholly_secret("<<secret:certificate/a>>\n<<secret:key/a>>")
    assert not diff.wholly_secret("password = <<secret:password/a>>")
    assert not diff.wholly_secret("")


def test_a_secret_file_has_no_difference() -> None:
    step = Step(Kind.FILE, Stage.TLS, "db1", "certificates", "/k", "change", before="a", after="b", secret=True)
    assert diff.unified(step) == []


def test_a_new_file_is_compared_with_nothing() -> None:
    step = Step(Kind.FILE, Stage.DCS, "db1", "etcd", "/etc/x", "create", after="one\n")
    assert diff.unified(step) == ["--- /dev/null", "+++ /etc/x", "@@ -0,0 +1 @@", "+one"]
