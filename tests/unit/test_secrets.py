from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from pgbaton import pki, references
from pgbaton.components.base import Certificate
from pgbaton.errors import UsageError
from pgbaton.secrets import Vault, scram_matches, scram_verifier

if TYPE_CHECKING:
    from pathlib import Path

SERVER = Certificate("etcd/db1", "etcd", "etcd", "etcd-peer", ("10.0.0.1",), ("db1",), server=True, authority="etcd-ca")
CLIENT = Certificate("replicator/db1", "replicator", "postgres", "replicator", client=True)


def filled(directory: Path) -> Vault:
    vault = Vault(directory)
    vault.ensure(["replicator"], [SERVER, CLIENT], days=365)
    return vault


def test_secrets_are_generated_once(tmp_path: Path) -> None:
    vault = filled(tmp_path)
    password = vault.value("password/replicator")
    assert len(password) >= 32
    again = Vault(tmp_path)
    assert again.ensure(["replicator"], [SERVER, CLIENT], days=365) == ()
    assert again.value("password/replicator") == password


def test_a_shared_key_is_32_bytes_in_hexadecimal_and_is_generated_once(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    assert "key/heartbeat" in vault.ensure([], (), shared_keys=["heartbeat"], days=1)
    key = vault.value("key/heartbeat")
    assert len(bytes.fromhex(key)) == 32
    assert vault.redact(f"key: {key}") == f"key: {references.secret('key/heartbeat')}"
    assert vault.sensitive_values["key/heartbeat"] == key
    again = Vault(tmp_path)
    assert again.ensure([], (), shared_keys=["heartbeat"], days=1) == ()
    assert again.value("key/heartbeat") == key


def test_the_vault_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    assert stat.S_IMODE((tmp_path / "vault.json").stat().st_mode) == 0o600


def test_a_provisional_vault_writes_nothing(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "none")
    assert "password/x" in vault.ensure(["x"], [SERVER], days=365, save=False)
    assert vault.value("password/x")
    assert not (tmp_path / "none").exists()


def test_each_authority_signs_only_its_own(tmp_path: Path) -> None:
    vault = filled(tmp_path)
    own, other = (x509.load_pem_x509_certificate(vault.value(name).encode()) for name in ("etcd-ca", "ca"))
    certificate = x509.load_pem_x509_certificate(vault.value("certificate/etcd/db1").encode())
    certificate.verify_directly_issued_by(own)
    with pytest.raises(ValueError, match="does not match"):
        certificate.verify_directly_issued_by(other)


def test_a_certificate_of_another_authority_is_issued_anew(tmp_path: Path) -> None:
    filled(tmp_path)
    moved = Certificate(**{**vars(SERVER), "authority": "ca"})
    assert Vault(tmp_path).ensure([], [moved], days=365) == ("certificate/etcd/db1",)


def test_a_certificate_for_other_addresses_is_issued_anew(tmp_path: Path) -> None:
    filled(tmp_path)
    moved = Certificate(**{**vars(SERVER), "addresses": ("10.0.0.9",)})
    assert Vault(tmp_path).ensure([], [moved], days=365) == ("certificate/etcd/db1",)


@pytest.mark.parametrize(("days_left", "serves"), [(31, True), (29, False), (-1, False)])
def test_a_certificate_is_renewed_a_month_before_it_expires(days_left: int, *, serves: bool) -> None:
    authority = pki.make_authority("ca")
    issued = pki.issue(authority, CLIENT, days=365)
    now = datetime.now(UTC) + timedelta(days=365 - days_left)
    assert pki.serves(issued.certificate, CLIENT, authority=authority.certificate, now=now) is serves


def test_the_keys_of_the_authorities_cannot_be_had_by_name(tmp_path: Path) -> None:
    vault = filled(tmp_path)
    hidden = [name for name in json.loads((tmp_path / "vault.json").read_text()) if name.startswith("authority-key/")]
    assert sorted(hidden) == ["authority-key/ca", "authority-key/etcd-ca"]
    assert not set(hidden) & set(vault.names)
    for name in hidden:
        with pytest.raises(UsageError, match="no secret named"):
            vault.value(name)


def test_an_unknown_secret_is_refused_with_the_names_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        filled(tmp_path).value("password/nobody")
    assert "password/replicator" in str(caught.value.hint)


def test_a_vault_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no secret named ca: the cluster's vault is not there") as caught:
        Vault(tmp_path / "secrets").value("ca")
    assert caught.value.where == str(tmp_path / "secrets" / "vault.json")
    assert caught.value.hint == "restore the state directory from a backup; pgbaton apply makes one for a new cluster"


def test_references_are_resolved_and_put_back(tmp_path: Path) -> None:
    vault = filled(tmp_path)
    text = f"user {references.secret('password/replicator')}\n{references.secret('key/etcd/db1')}"
    resolved = vault.resolve(text)
    assert vault.value("password/replicator") in resolved
    assert "BEGIN PRIVATE KEY" in resolved
    assert vault.redact(resolved) == text


def test_names_lists_references_once_in_order() -> None:
    text = f"{references.secret('b')} {references.secret('a/1')} {references.secret('b')}"
    assert references.names(text) == ("b", "a/1")


def test_a_scram_verifier_is_the_one_of_rfc_7677() -> None:
    # The example of RFC 7677: user "user", password "pencil".
    verifier = scram_verifier("pencil", salt=b"[m\x99h\x9d\x125\x8e\xec\xa0K\x14\x126\xfa\x81", iterations=4096)
    assert str(verifier) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_a_verifier_matches_its_password_alone() -> None:
    verifier = str(scram_verifier("right"))
    assert scram_matches(verifier, "right")
    assert not scram_matches(verifier, "wrong")
    assert not scram_matches("md5abc", "right")
    assert not scram_matches("", "right")


def test_only_the_passwords_of_users_are_renewed_alone(tmp_path: Path) -> None:
    vault = filled(tmp_path)
    vault.ensure(["user/app"], (), days=1)
    before = vault.value("password/user/app")
    vault.renew("password/user/app")
    assert Vault(tmp_path).value("password/user/app") == vault.value("password/user/app") != before
    for name in ("password/replicator", "ca"):
        with pytest.raises(UsageError, match="is not the password of a user"):
            vault.renew(name)
    with pytest.raises(UsageError, match="no secret named"):
        vault.renew("password/user/nobody")
