"""The program that asks an etcd elsewhere, against a gateway that answers as etcd does."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from pgbaton.components import foreign_program
from pgbaton.components.foreign_program import fitness, health, keys, system_identifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PREFIX = "/service/orders/"
HEADER = {"cluster_id": "14841639068965178418", "member_id": "1", "revision": "7", "raft_term": "2"}
DENIED = {"code": 7, "message": "etcdserver: permission denied"}
TOKEN = "sssvIpwfnLAcWAQH.9"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@dataclass
class Gateway:
    """A member: what it keeps, whom it lets in, and what it refuses to everybody."""

    keys: dict[str, str] = field(default_factory=dict)
    password: str = ""
    denied: tuple[str, ...] = ()
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    stalls: threading.Event | None = None

    def answer(self, path: str, fields: dict[str, Any], token: str | None) -> tuple[int, dict[str, Any]]:
        self.asked.append((path, fields))
        if path == "/v3/auth/authenticate":
            if fields["password"] != self.password:
                return 400, {"code": 3, "message": "etcdserver: authentication failed, invalid user ID or password"}
            return 200, {"header": HEADER, "token": TOKEN}
        if self.password and token != TOKEN:
            return 400, {"code": 3, "message": "etcdserver: user name is empty"}
        if path in self.denied:
            return 403, DENIED
        return 200, {"header": HEADER, **self.told(path, fields)}

    def told(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        if path == "/v3/kv/range":
            wanted = base64.b64decode(fields["key"]).decode()
            found = {key: value for key, value in self.keys.items()
                     if (key.startswith(wanted) if "range_end" in fields else key == wanted)}  # fmt: skip
            pairs = [{"key": b64(key), "value": b64(value), "create_revision": "5", "mod_revision": "6"}
                     for key, value in found.items()]  # fmt: skip
            return {"count": str(len(found)), **({"kvs": pairs} if pairs and not fields.get("count_only") else {})}
        if path == "/v3/maintenance/status":
            return {"version": "3.5.16", "dbSize": "20480", "leader": "1"}
        if path == "/v3/cluster/member/list":
            return {"members": [{"ID": "1", "name": "etcd1"}, {"ID": "2", "name": "etcd2"}]}
        return {}


@contextlib.contextmanager
def served(gateway: Gateway) -> Iterator[str]:
    """Run a member for as long as the block lasts; return its endpoint."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            if gateway.stalls is not None:
                gateway.stalls.wait(30)
            fields = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, told = gateway.answer(self.path, fields, self.headers.get("Authorization"))
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        if gateway.stalls is not None:
            gateway.stalls.set()
        server.shutdown()
        thread.join()
        server.server_close()


def settings(*endpoints: str, **more: str) -> dict[str, Any]:
    return {"endpoints": list(endpoints), "plain": True, "prefix": PREFIX, **more}


def test_a_member_says_who_leads_how_large_it_is_and_that_nothing_is_wrong() -> None:
    with served(Gateway()) as endpoint:
        (seen,) = health(settings(endpoint))["endpoints"]
    assert seen == {
        "endpoint": endpoint,
        "ok": True,
        "cluster": HEADER["cluster_id"],
        "version": "3.5.16",
        "leader": "etcd1",
        "members": ["etcd1", "etcd2"],
        "db_size_bytes": 20480,
        "quota_bytes": None,
        "alarms": [],
    }


def test_brackets_are_not_part_of_the_address_that_is_connected_to() -> None:
    member = foreign_program.Member({}, "[fd00:9::1]:12379", None)
    assert (member._connection.host, member._connection.port) == ("fd00:9::1", 12379)


def test_what_this_user_may_not_ask_is_not_known_and_nothing_worse() -> None:
    denied = ("/v3/maintenance/status", "/v3/maintenance/alarm", "/v3/cluster/member/list")
    with served(Gateway(password="let me in", denied=denied)) as endpoint:
        (seen,) = health(settings(endpoint, user="orders", password="let me in"))["endpoints"]
    assert seen["ok"]
    assert [seen[name] for name in ("leader", "members", "db_size_bytes", "alarms")] == [None] * 4


def test_a_login_that_is_refused_and_one_that_is_missing_are_told_in_etcds_words() -> None:
    with served(Gateway(password="let me in")) as endpoint:
        (wrong,) = health(settings(endpoint, user="orders", password="something"))["endpoints"]
        (none,) = health(settings(endpoint))["endpoints"]
    assert "invalid user ID or password" in wrong["reason"]
    assert "user name is empty" in none["reason"]
    assert "something" not in wrong["reason"]


def test_one_that_is_not_there_takes_nothing_from_the_others() -> None:
    with served(Gateway()) as endpoint:
        gone, seen = health(settings("127.0.0.1:1", endpoint))["endpoints"]
    assert (gone["ok"], seen["ok"]) == (False, True)
    assert "refused" in gone["reason"]


def test_one_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_program, "HEALTH_SECONDS", 0.2)
    with served(Gateway(stalls=threading.Event())) as slow, served(Gateway()) as endpoint:
        late, seen = health(settings(slow, endpoint))["endpoints"]
    assert (late["reason"], seen["ok"]) == ("no answer within 0.2 s", True)


def test_the_record_is_read_from_the_first_that_answers_with_numbers_as_etcdctl_prints_them() -> None:
    with served(Gateway(keys={f"{PREFIX}leader": "db1", "/service/others/leader": "x"})) as endpoint:
        told = keys(settings("127.0.0.1:1", endpoint))
    assert told == {
        "kvs": [{"key": b64(f"{PREFIX}leader"), "value": b64("db1"), "create_revision": 5, "mod_revision": 6}]
    }


def test_a_record_that_nobody_tells_is_an_error_with_all_reasons() -> None:
    with served(Gateway(denied=("/v3/kv/range",))) as endpoint, pytest.raises(foreign_program.RefusedError) as caught:
        keys(settings("127.0.0.1:1", endpoint))
    assert "refused" in str(caught.value)
    assert "permission denied" in str(caught.value)


def test_rights_are_tried_by_a_change_that_can_never_be_made(tmp_path: Path) -> None:
    gateway = Gateway(keys={f"{PREFIX}initialize": "7424242424242424242"})
    with served(gateway) as endpoint:
        told = fitness(settings(endpoint, data_directory=str(tmp_path)))
    (seen,) = told["endpoints"]
    assert (seen["ok"], seen["initialize"], seen["keys"], told["system"]) == (True, "7424242424242424242", 1, None)
    ((_, asked),) = [each for each in gateway.asked if each[0] == "/v3/kv/txn"]
    (condition,) = asked["compare"]
    assert (condition["target"], condition["result"], condition["version"]) == ("VERSION", "LESS", "0")
    changes = [
        path for path, _ in gateway.asked if path.startswith("/v3/kv/") and path not in {"/v3/kv/range", "/v3/kv/txn"}
    ]
    assert changes == []


def test_whoever_may_read_and_not_write_is_no_use() -> None:
    with served(Gateway(denied=("/v3/kv/txn",))) as endpoint:
        (seen,) = fitness(settings(endpoint))["endpoints"]
    assert not seen["ok"]
    assert "permission denied" in seen["reason"]


def test_a_database_is_told_by_the_first_bytes_of_its_control_file(tmp_path: Path) -> None:
    assert system_identifier(None) is None
    assert system_identifier(str(tmp_path)) is None
    (tmp_path / "global").mkdir()
    (tmp_path / "global" / "pg_control").write_bytes((7424242424242424242).to_bytes(8, sys.byteorder) + b"rest")
    assert system_identifier(str(tmp_path)) == "7424242424242424242"
