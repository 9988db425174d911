from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from pgbaton.agent.settings import Host, Pooler, Settings, SettingsError, Way
from pgbaton.agent.settings_file import load, parse

KEY = "5a" * 32
OTHER_KEY = "a5" * 32
SECRETS = {
    "heartbeat_key": KEY,
    "rest_user": "patroni",
    "rest_password": "correct horse",
}
DOCUMENT = {
    "cluster": "orders",
    "scope": "orders",
    "kind": "patroni",
    "me": "db1",
    "hosts": [
        {"name": "db1", "address": "10.77.0.21", "roles": ["database", "dcs"]},
        {"name": "db2", "address": "10.77.0.22", "roles": ["database", "dcs"]},
        {"name": "lb1", "address": "fd00::23", "roles": ["balancer", "pooler", "dcs"]},
    ],
    "mode": "synchronous",
    "placement": "balancer",
    "accept_loss": False,
    "ports": {
        "heartbeat": 7790,
        "health": 7791,
        "postgresql": 5432,
        "rest": 8008,
        "etcd": 2379,
        "etcd_peer": 2380,
        "pool_write": 6432,
        "pool_read": 6433,
        "pool_synchronous": 6434,
    },
    "timings": {
        "heartbeat_seconds": 0.05,
        "detection_seconds": 0.25,
        "probe_seconds": 0.1,
        "deadline_seconds": 0.5,
        "failures": 3,
        "pause_seconds": 5,
    },
    "postgresql": {
        "version": 17,
        "data_directory": "/var/lib/postgresql/17/main",
        "socket_directory": "/run/postgresql",
        "role": "pgbaton_agent",
        "database": "postgres",
    },
    "tls": {
        "authority": "/etc/pgbaton/tls/ca.crt",
        "certificate": "/etc/pgbaton/tls/agent.crt",
        "key": "/etc/pgbaton/tls/agent.key",
        "etcd_authority": "/etc/pgbaton/tls/etcd-ca.crt",
        "etcd_certificate": "/etc/pgbaton/tls/agent-etcd.crt",
        "etcd_key": "/etc/pgbaton/tls/agent-etcd.key",
    },
    "haproxy_socket": "/run/haproxy/admin.sock",
    "pgbouncer_sockets": {
        "write": [
            {"instance": "write", "directory": "/run/pgbouncer-write"},
            {"instance": "write-2", "directory": "/run/pgbouncer-write-2"},
        ],
        "read": [{"instance": "read", "directory": "/run/pgbouncer-read"}],
        "synchronous": [],
    },
    "state_directory": "/var/lib/pgbaton-agent",
    "runtime_directory": "/run/pgbaton-agent",
}
MISSING = object()


def changed(document: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return the document with one value set, or taken out, at a path such as ``hosts.1.address``."""
    result = copy.deepcopy(document)
    *way, last = (int(step) if step.isdecimal() else step for step in path.split("."))
    place: Any = result
    for step in way:
        place = place[step]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return result


def settings(**changes: object) -> Settings:
    return parse({**DOCUMENT, **changes}, SECRETS)


def written(directory: Path, document: str, secrets: str, *, mode: int = 0o600) -> tuple[Path, Path]:
    path, secrets_path = directory / "agent.json", directory / "agent-secrets.json"
    path.write_text(document)
    secrets_path.write_text(secrets)
    secrets_path.chmod(mode)
    return path, secrets_path


def test_every_value_arrives_with_its_type() -> None:
    found = settings()
    assert found.hosts[1] == Host("db2", "10.77.0.22", ("database", "dcs"))
    assert found.timings.pause_seconds == 5.0
    assert isinstance(found.timings.pause_seconds, float)
    assert found.ports.pool_read == 6433
    assert found.tls.etcd_key == Path("/etc/pgbaton/tls/agent-etcd.key")
    assert found.pgbouncer_sockets.write[1] == Pooler("write-2", Path("/run/pgbouncer-write-2"))
    assert found.postgresql.version == 17
    assert found.mode == "synchronous"
    assert found.accept_loss is False
    assert found.secrets.rest_password == "correct horse"


def test_a_host_may_be_met_at_a_second_address() -> None:
    apart = changed(DOCUMENT, "hosts.0.replication_address", "10.78.0.21")
    found = parse(apart, SECRETS)
    assert found.hosts[0].addresses == ("10.77.0.21", "10.78.0.21")
    assert found.hosts[1].addresses == ("10.77.0.22",)
    for taken in ("10.77.0.22", "10.77.0.21", "eth1"):
        with pytest.raises(SettingsError, match=r"hosts\[\d\].*an IP address of its own"):
            parse(changed(apart, "hosts.0.replication_address", taken), SECRETS)


def test_the_hosts_can_be_asked_for_by_what_they_are() -> None:
    found = settings(me="lb1")
    assert found.me_host.name == "lb1"
    assert [host.name for host in found.others] == ["db1", "db2"]
    assert [host.name for host in found.databases] == ["db1", "db2"]
    assert found.voters == {"db1", "db2", "lb1"}
    assert found.host("db2").address == "10.77.0.22"
    with pytest.raises(KeyError):
        found.host("db9")


@pytest.mark.parametrize(("count", "majority"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_a_majority_is_more_than_half_of_all_who_are_configured(count: int, majority: int) -> None:
    hosts = [{"name": f"db{n}", "address": f"10.0.0.{n}", "roles": ["database"]} for n in range(1, count + 1)]
    assert settings(hosts=hosts).majority == majority


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ("cluster", MISSING, "cluster"),
        ("cluster", "", "cluster"),
        ("clusters", "orders", "clusters"),
        ("secrets", {}, "secrets"),
        ("hosts", {}, "hosts"),
        ("hosts", [], "me"),
        ("hosts.1", "db2", "hosts[1]"),
        ("hosts.1.address", "10.77.0.999", "hosts[1].address"),
        ("hosts.1.address", "10.77.0.21", "hosts[1].address"),
        ("hosts.1.name", "db1", "hosts[1].name"),
        ("hosts.1.name", "DB 2", "hosts[1].name"),
        ("hosts.1.name", "a" * 64, "hosts[1].name"),
        ("hosts.1.roles", [], "hosts[1].roles"),
        ("hosts.1.roles", ["data"], "hosts[1].roles[0]"),
        ("hosts.1.roles", [["database"]], "hosts[1].roles[0]"),
        ("me", "db9", "me"),
        ("mode", "async", "mode"),
        ("kind", MISSING, "kind"),
        ("kind", "repmgr", "kind"),
        ("tls.etcd_key", MISSING, "tls.etcd_key"),
        ("accept_loss", 1, "accept_loss"),
        ("accept_loss", None, "accept_loss"),
        ("ports.rest", MISSING, "ports.rest"),
        ("ports.rest", 0, "ports.rest"),
        ("ports.rest", 65536, "ports.rest"),
        ("ports.rest", "8008", "ports.rest"),
        ("ports.rest", 8008.0, "ports.rest"),
        ("ports.rest", True, "ports.rest"),
        ("timings.heartbeat_seconds", 0, "timings.heartbeat_seconds"),
        ("timings.heartbeat_seconds", True, "timings.heartbeat_seconds"),
        ("timings.detection_seconds", 0.19, "timings.detection_seconds"),
        ("timings.detection_seconds", float("nan"), "timings.detection_seconds"),
        ("timings.detection_seconds", 10**400, "timings.detection_seconds"),
        ("timings.failures", 0, "timings.failures"),
        ("timings.failures", 1.5, "timings.failures"),
        ("postgresql.data_directory", "main", "postgresql.data_directory"),
        ("postgresql.data_directory", "/a\0b", "postgresql.data_directory"),
        ("tls", None, "tls"),
        ("pgbouncer_sockets.read", MISSING, "pgbouncer_sockets.read"),
    ],
)
def test_what_is_wrong_is_named(path: str, value: object, key: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse(changed(DOCUMENT, path, value), SECRETS)
    assert refused.value.key == key


def test_the_message_says_what_was_seen_and_what_is_wanted() -> None:
    with pytest.raises(SettingsError, match=r"^mode: seen 'sync', wanted one of asynchronous, synchronous, .*fix: "):
        settings(mode="sync")
    with pytest.raises(SettingsError, match=r"detection_seconds: seen 0\.1, wanted at least 4 heartbeats, 0\.2"):
        parse(changed(DOCUMENT, "timings.detection_seconds", 0.1), SECRETS)
    with pytest.raises(SettingsError, match=r"seen nothing, wanted a whole number"):
        parse(changed(DOCUMENT, "ports.rest", MISSING), SECRETS)


def test_four_heartbeats_are_enough() -> None:
    assert parse(changed(DOCUMENT, "timings.detection_seconds", 0.2), SECRETS).timings.detection_seconds == 0.2


@pytest.mark.parametrize("document", [None, [], "text", 3])
def test_a_document_that_is_no_object_is_refused(document: object) -> None:
    with pytest.raises(SettingsError, match="wanted an object"):
        parse(document, SECRETS)
    with pytest.raises(SettingsError, match="wanted an object"):
        parse(DOCUMENT, document)


def test_the_heartbeat_key_may_be_two_while_one_replaces_the_other() -> None:
    assert parse(DOCUMENT, SECRETS).secrets.heartbeat_keys == (bytes.fromhex(KEY),)
    both = parse(DOCUMENT, {**SECRETS, "heartbeat_key": f"{OTHER_KEY},{KEY}"})
    assert both.secrets.heartbeat_keys == (bytes.fromhex(OTHER_KEY), bytes.fromhex(KEY))


@pytest.mark.parametrize("key", [KEY[:-2], KEY + "00", "z" * 64, f"{KEY},", f"{KEY},{KEY[:-2]}", " "])
def test_a_key_of_another_length_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse(DOCUMENT, {**SECRETS, "heartbeat_key": key})
    assert refused.value.key == "heartbeat_key"
    assert key not in str(refused.value).split(": ", 1)[1] or key == " "
    assert f"{len(key)} characters" in str(refused.value)


@pytest.mark.parametrize("value", [["hidden-1"], {"hidden-1": 1}, 77123])
def test_a_secret_of_a_wrong_type_is_refused_without_showing_it(value: object) -> None:
    with pytest.raises(SettingsError) as refused:
        parse(DOCUMENT, {**SECRETS, "rest_password": value})
    assert refused.value.key == "rest_password"
    assert "hidden-1" not in str(refused.value)
    assert "77123" not in str(refused.value)


def test_only_beside_patroni_an_agent_needs_a_way_to_it_and_to_etcd() -> None:
    key = {"heartbeat_key": KEY}
    with pytest.raises(SettingsError, match=r"rest_user: seen nothing"):
        parse(DOCUMENT, key)
    tls = {name: path for name, path in DOCUMENT["tls"].items() if not name.startswith("etcd_")}  # type: ignore[attr-defined]
    found = parse({**DOCUMENT, "kind": "manual", "tls": tls}, key)
    assert (found.is_manual, found.tls.etcd_authority, found.secrets.rest_password) == (True, None, None)
    assert not settings().is_manual
    with pytest.raises(SettingsError, match=r"tls.etcd_authority: seen nothing"):
        parse({**DOCUMENT, "tls": tls}, SECRETS)


WAY_THERE = {"port": 5000, "role": "pgbaton_probe", "database": "postgres", "every_seconds": 1}


def test_the_clients_way_and_its_password_may_be_missing() -> None:
    assert (settings().path, settings().secrets.probe_password) == (None, None)
    found = parse({**DOCUMENT, "path": WAY_THERE}, {**SECRETS, "probe_password": "paper clip"})
    assert found.path == Way(5000, "pgbaton_probe", "postgres", 1.0)
    assert found.secrets.probe_password == "paper clip"


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (None, "path"),
        ("here", "path"),
        ({**WAY_THERE, "port": 0}, "path.port"),
        ({**WAY_THERE, "port": None}, "path.port"),
        ({**WAY_THERE, "every_seconds": 0}, "path.every_seconds"),
        ({**WAY_THERE, "more": 1}, "path.more"),
        ({"port": 5000}, "path.role"),
    ],
)
def test_a_clients_way_that_is_there_is_as_strict_as_all(path: object, key: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse({**DOCUMENT, "path": path}, SECRETS)
    assert refused.value.key == key


@pytest.mark.parametrize("password", [None, "", 77123])
def test_a_password_for_it_that_is_none_is_refused_without_showing_it(password: object) -> None:
    with pytest.raises(SettingsError) as refused:
        parse(DOCUMENT, {**SECRETS, "probe_password": password})
    assert refused.value.key == "probe_password"
    assert "77123" not in str(refused.value)


def test_no_secret_is_in_what_is_printed() -> None:
    found = parse(DOCUMENT, {**SECRETS, "probe_password": "paper clip"})
    shown = repr(found) + str(found.secrets)
    for secret in (KEY, "correct horse", "paper clip"):
        assert secret not in shown


def test_both_files_are_read(tmp_path: Path) -> None:
    assert load(*written(tmp_path, json.dumps(DOCUMENT), json.dumps(SECRETS))) == settings()


def test_a_mistake_names_its_file(tmp_path: Path) -> None:
    path, secrets_path = written(tmp_path, json.dumps({**DOCUMENT, "me": "db9"}), json.dumps(SECRETS))
    with pytest.raises(SettingsError, match=r"^\S+/agent\.json: me: "):
        load(path, secrets_path)
    path, secrets_path = written(tmp_path, json.dumps(DOCUMENT), json.dumps({**SECRETS, "more": 1}))
    with pytest.raises(SettingsError, match=r"^\S+/agent-secrets\.json: more: seen an unknown key"):
        load(path, secrets_path)


@pytest.mark.parametrize("content", ['{"rest_password": "hidden-1"', '{"hidden-1": ' + "9" * 5000 + "}", "[" * 100_000])
def test_a_broken_file_of_secrets_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    path, secrets_path = written(tmp_path, json.dumps(DOCUMENT), content)
    with pytest.raises(SettingsError, match=r"agent-secrets\.json: whole file: ") as refused:
        load(path, secrets_path)
    assert "hidden-1" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path, secrets_path = written(tmp_path, json.dumps(DOCUMENT), "")
    secrets_path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="UnicodeDecodeError"):
        load(path, secrets_path)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    path, secrets_path = written(tmp_path, json.dumps(DOCUMENT), json.dumps(SECRETS))
    path.unlink()
    with pytest.raises(SettingsError, match=r"agent\.json: whole file: seen No such file"):
        load(path, secrets_path)


@pytest.mark.parametrize(("mode", "accepted"), [(0o600, True), (0o640, True), (0o644, False), (0o602, False)])
def test_secrets_that_everybody_may_read_are_refused(tmp_path: Path, *, mode: int, accepted: bool) -> None:
    paths = written(tmp_path, json.dumps(DOCUMENT), json.dumps(SECRETS), mode=mode)
    if accepted:
        assert load(*paths).secrets.rest_user == "patroni"
        return
    with pytest.raises(SettingsError, match=f"seen mode {mode:04o}, wanted a file that only its owner"):
        load(*paths)


# An etcd that is on none of the hosts.

ETCD = {"endpoints": ["10.9.0.1:2379", "etcd2.example.org:2379"], "plain": False, "prefix": "/pg/orders/"}


def elsewhere(etcd: dict[str, Any] | None = None, *, secrets: dict[str, str] | None = None, **tls: object) -> Settings:
    """Read settings with an etcd elsewhere; what is None of ``tls`` is left out."""
    told = {**DOCUMENT["tls"], **tls}  # type: ignore[dict-item]
    document = {**DOCUMENT, "tls": {key: value for key, value in told.items() if value is not None}}
    return parse({**document, "etcd": {**ETCD, **(etcd or {})}}, {**SECRETS, **(secrets or {})})


def test_an_etcd_elsewhere_has_its_endpoints_and_its_prefix() -> None:
    assert settings().dcs_prefix == "/service/orders/"
    found = elsewhere({"user": "orders"}, secrets={"etcd_password": "let me in"})
    assert found.etcd is not None
    assert found.etcd.endpoints == ("10.9.0.1:2379", "etcd2.example.org:2379")
    assert (found.dcs_prefix, found.etcd.user) == ("/pg/orders/", "orders")
    assert "let me in" not in repr(found)
    assert elsewhere({"endpoints": ["[fd00:9::1]:2379"]}).etcd is not None


def test_it_may_want_no_certificate_and_have_no_tls() -> None:
    bare = elsewhere(etcd_certificate=None, etcd_key=None)
    assert (bare.tls.etcd_authority, bare.tls.etcd_certificate) == (Path("/etc/pgbaton/tls/etcd-ca.crt"), None)
    none = elsewhere({"plain": True}, etcd_authority=None, etcd_certificate=None, etcd_key=None)
    assert none.tls.etcd_authority is None


@pytest.mark.parametrize(
    ("etcd", "tls", "key"),
    [
        ({"endpoints": []}, {}, "etcd.endpoints"),
        ({"endpoints": ["https://10.9.0.1:2379"]}, {}, "etcd.endpoints[0]"),
        ({"endpoints": ["10.9.0.1:0"]}, {}, "etcd.endpoints[0]"),
        ({"endpoints": ["fd00:9::1:2379"]}, {}, "etcd.endpoints[0]"),
        ({"endpoints": ["[fd00:9::1::2]:2379"]}, {}, "etcd.endpoints[0]"),
        ({"prefix": "/pg/orders"}, {}, "etcd.prefix"),
        ({"user": "orders"}, {}, "etcd.user"),
        ({"plain": True}, {}, "tls.etcd_authority"),
        ({}, {"etcd_authority": None}, "tls.etcd_authority"),
        ({}, {"etcd_key": None}, "tls.etcd_key"),
    ],
)
def test_what_contradicts_itself_about_it_is_refused(etcd: dict[str, Any], tls: dict[str, object], key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        elsewhere(etcd, **tls)
    assert caught.value.key == key


def test_an_etcd_of_its_own_needs_all_of_its_files() -> None:
    tls = {key: value for key, value in DOCUMENT["tls"].items() if key != "etcd_authority"}  # type: ignore[attr-defined]
    with pytest.raises(SettingsError, match=r"tls\.etcd_authority"):
        settings(tls=tls)
