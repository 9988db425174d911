"""Who is connected: what HAProxy and PgBouncer say of one connection is one client."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from pgbaton.cli import clientview
from pgbaton.hosts.local import LocalHost
from pgbaton.hosts.machine import MachineHost
from pgbaton.observe import clients
from pgbaton.observe.clients import Client, Told
from pgbaton.observe.collect import connected, request
from pgbaton.topology import load, presets

TOPOLOGY = load.loads(presets.text("standard"))

#: HAProxy 3.0's answer to ``show sess all``: a client, one that has no pooler yet, and whoever asks.
SESSIONS = """\
0x7f33b3bfe400: [30/Nov/2026:02:28:45.347059] id=0 proto=tcpv4 source=10.77.0.31:45548
  flags=0x4a, conn_retries=0, conn_exp=<NEVER> conn_et=0x000 srv_conn=0x7f33b4a66000, pend_pos=(nil) waiting=0 epoch=0
  frontend=write (id=2 mode=tcp), listener=? (id=1) addr=10.77.0.100:5000
  backend=pooled_write (id=4 mode=tcp) addr=127.0.0.1:53344
  server=lb1 (id=1) addr=127.0.0.1:6432
  task=0x7f33b3b770e0 (state=0x00 nice=0 calls=2 rate=0 exp=0s tid=0(1/0) age=1s)
0x7f33b3bfe500: [30/Nov/2026:02:28:45.400000] id=1 proto=tcpv4 source=10.77.0.31:45550
  frontend=write (id=2 mode=tcp), listener=? (id=1) addr=10.77.0.100:5000
  backend=pooled_write (id=4 mode=tcp)
  server=<NONE> (id=-1)
0x7f33b3bfe600: [30/Nov/2026:02:28:45.400000] id=2 proto=tcpv4 source=127.0.0.1:39000
  frontend=primary (id=3 mode=tcp), listener=? (id=1) addr=127.0.0.1:6000
  backend=primary (id=5 mode=tcp) addr=10.77.0.11:40000
  server=db1 (id=1) addr=10.77.0.21:5432
0x7f33b3bfe800: [30/Nov/2026:02:28:45.670032] id=3 proto=unix_stream source=unix:1
  frontend=GLOBAL (id=0 mode=tcp), listener=? (id=1) addr=unix:1
  backend=<NONE> (id=-1 mode=-)
  server=<NONE> (id=-1)

"""
COLUMNS = "type,user,database,state,addr,port,ptr,link,remote_pid,application_name\n"
CLIENTS = (
    f"{COLUMNS}C,app,shop,active,127.0.0.1,53344,0xa,0xb,0,psql\nC,old,shop,idle,10.77.0.12,40001,0xc,,0,\n"
    "C,pgbouncer,pgbouncer,active,unix,6432,0xd,,77,psql\n"
)
SERVERS = f"{COLUMNS}S,app,shop,active,127.0.0.1,6000,0xb,0xa,4711,psql\n"


def told() -> Told:
    return clients.read({"sessions": {"answer": SESSIONS}, "pooled": {"answer": {"write": [CLIENTS, SERVERS]}}})


def test_a_client_is_told_with_its_own_address_and_who_it_is() -> None:
    found = clients.join({"lb1": told()})
    assert found.problems == {}
    assert Client(
        balancer="lb1", address="10.77.0.31", port=45548, entry="write", pooler="lb1", seen_as="127.0.0.1:53344",
        instance="write", user="app", database="shop", application="psql", state="active", server_pid=4711,
    ) in found.clients  # fmt: skip


def test_a_client_past_every_balancer_that_answered_is_told_without_its_address() -> None:
    past = [client for client in clients.join({"lb1": told()}).clients if client.user == "old"]
    assert [(client.address, client.seen_as, client.server_pid) for client in past] == [
        (None, "10.77.0.12:40001", None)
    ]
    assert clientview.row(past[0])[0] == "? (10.77.0.12:40001)"


def test_only_clients_of_applications_are_clients() -> None:
    assert [session.client for session in clients.sessions(SESSIONS)] == [("10.77.0.31", 45548)]
    assert {client.user for client in clients.join({"lb1": told()}).clients} == {"app", "old"}


def test_a_session_that_was_led_to_another_balancers_pooler_is_found_there() -> None:
    led = SESSIONS.replace("addr=127.0.0.1:53344", "addr=10.77.0.11:53344").replace("server=lb1", "server=lb2")
    first = replace(told(), sessions=tuple(clients.sessions(led)), pooled=())
    second = clients.read({"pooled": {"answer": {"write-2": [CLIENTS.replace("127.0.0.1", "10.77.0.11"), SERVERS]}}})
    (client,) = (each for each in clients.join({"lb1": first, "lb2": second}).clients if each.user == "app")
    assert (client.balancer, client.pooler, client.instance, client.address) == ("lb1", "lb2", "write-2", "10.77.0.31")


def test_what_a_pooler_does_not_tell_is_a_question_mark() -> None:
    half = clients.read({"sessions": {"answer": SESSIONS}, "pooled": {"error": "no answer within 3 s"}})
    found = clients.join({"lb1": half})
    assert found.problems == {"lb1": ("pooled: no answer within 3 s",)}
    assert clientview.row(found.clients[0])[4:] == ("?", "?", "?", "?", "")


def test_a_name_that_an_application_chose_does_nothing_to_a_terminal() -> None:
    assert clientview.printable("a\x1b[31mb\n") == "a?[31mb?"


def test_every_process_of_a_port_is_asked() -> None:
    topology = load.loads(presets.text("standard").replace("[pooling]", "[pooling]\nprocesses = 2"))
    asked = request(topology, topology.host("lb1"), deadline=1)
    assert asked["pools"] == {"write": 6432, "read": 6433, "write-2": 6432, "read-2": 6433}


async def test_a_host_that_does_not_answer_is_named() -> None:
    hosts = {spec.name: MachineHost(spec.name, None) for spec in TOPOLOGY.hosts}
    found = await connected(TOPOLOGY, {**hosts, "lb1": LocalHost("lb1")}, timeout=5)
    assert found.problems["lb2"] == ("the machine is powered off",)
    assert "sessions: " in found.problems["lb1"][0], "there is no HAProxy on this machine"
    assert json.loads(json.dumps(found.to_dict()))["clients"] == []


@pytest.mark.parametrize("option", ["--help"])
def test_the_command_is_there(option: str) -> None:
    from pgbaton.cli import root  # noqa: PLC0415 - as the entry point does

    assert "address that each client really has" in CliRunner().invoke(root, ["clients", option]).output
