from __future__ import annotations

import asyncio
import socket

import pytest
from psycopg.conninfo import conninfo_to_dict

from pgbaton.proof.attempts import attempts, beginning_at
from pgbaton.proof.session import ConnectFailure, Deadlines, Session


def wanted(conninfo: bytes) -> list[tuple[object, object, object]]:
    parsed = (conninfo_to_dict(attempt.decode()) for attempt in attempts(conninfo))
    return [(each.get("host"), each.get("port"), each.get("target_session_attrs")) for each in parsed]


def test_one_host_is_left_as_it_is() -> None:
    assert attempts(b"host=a port=5000 user=app") == (b"host=a port=5000 user=app",)


def test_every_host_is_tried_with_its_own_port() -> None:
    conninfo = b"host=a,b port=1,2 target_session_attrs=read-write"
    assert wanted(conninfo) == [("a", "1", "read-write"), ("b", "2", "read-write")]


def test_one_port_is_all_hosts_port() -> None:
    assert wanted(b"host=a,b,c port=7") == [("a", "7", "any"), ("b", "7", "any"), ("c", "7", "any")]


def test_a_preferred_standby_is_looked_for_on_all_hosts_before_any_server_will_do() -> None:
    found = wanted(b"host=a,b port=5432 target_session_attrs=prefer-standby")
    assert found == [
        ("a", "5432", "standby"),
        ("b", "5432", "standby"),
        ("a", "5432", "any"),
        ("b", "5432", "any"),
    ]


def test_what_else_a_connection_string_says_holds_for_every_host() -> None:
    each = [conninfo_to_dict(attempt.decode()) for attempt in attempts(b"host=a,b user=app dbname=shop")]
    assert [(one["user"], one["dbname"]) for one in each] == [("app", "shop")] * 2


def test_clients_begin_at_different_hosts_and_know_all() -> None:
    parameters = {"host": "a,b,c", "port": 7, "password": "secret"}
    begun = [beginning_at(parameters, place) for place in range(4)]
    assert [each["host"] for each in begun] == ["a,b,c", "b,c,a", "c,a,b", "a,b,c"]
    assert all(each["port"] == 7 and each["password"] == "secret" for each in begun)
    assert beginning_at({"host": "a"}, 5) == {"host": "a"}


def test_a_host_that_does_not_answer_does_not_keep_the_next_one_from_being_tried() -> None:
    with socket.socket() as silent, socket.socket() as closed:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # accepts, and says nothing
        closed.bind(("127.0.0.1", 0))  # refuses: nobody listens
        ports = f"{silent.getsockname()[1]},{closed.getsockname()[1]}"
        conninfo = f"host=127.0.0.1,127.0.0.1 port={ports} user=app dbname=app".encode()
        with pytest.raises(ConnectFailure, match="refused"):
            asyncio.run(Session.open(conninfo, Deadlines(connect_seconds=0.2, login_seconds=0.2)))
