"""HAProxy's runtime socket: what HAProxy 2.6 and 3.0 print, and what they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from wire_server import Peer, serving

from pgbaton.agent.protocols.connections import AbsentError, SilentError, UnixSocket
from pgbaton.agent.services import haproxy
from pgbaton.agent.services.haproxy import CheckResult, HaproxyError, Operational, Process, Server

if TYPE_CHECKING:
    from pathlib import Path

HEAD = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port\n"
)
#: Printed by 2.6.12 and 3.0.11 alike.
TABLE = (
    HEAD + "3 primary 1 db1 10.77.0.21 2 0 1 1 55 15 3 2 6 0 0 0 - 5432 - 0 8008 - - 8008\n"
    "3 primary 2 db2 10.77.0.22 0 0 1 1 56 17 2 0 6 0 0 0 - 5432 - 0 8008 - - 8008\n\n"
)
INFO = """Name: HAProxy
Version: 3.0.11-1+deb13u3
Release_date: 2026/05/20
Pid: 13383
Uptime: 0d 0h00m56s
Uptime_sec: 56
Maxconn: 200
CurrConns: 12
node: balancer1
description:

"""


class Runtime:
    """A runtime socket that prints what it is told to print."""

    def __init__(self, said: str) -> None:
        self.said = said
        self.heard: list[str] = []

    async def __call__(self, peer: Peer) -> None:
        self.heard.append((await peer.reader.readline()).decode())
        peer.say(self.said.encode())


async def test_the_servers_are_those_of_the_table(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", Runtime(TABLE)) as where:
        db1, db2 = await haproxy.servers(where, deadline_seconds=2)
    assert db1 == Server(
        backend="primary",
        name="db1",
        address="10.77.0.21",
        port=5432,
        operational=Operational.RUNNING,
        administrative=0,
        check=CheckResult.PASSED,
        check_health=2,
        changed_seconds_ago=55,
    )
    assert db1.up
    assert db2.operational == Operational.STOPPED
    assert db2.check == CheckResult.FAILED
    assert not db2.up


@pytest.mark.parametrize(
    ("operational", "administrative", "up", "in_service"),
    [
        (0, 0x00, False, True),
        (1, 0x00, True, True),
        (2, 0x01, True, False),
        (2, 0x04, True, False),
        (2, 0x08, True, False),
        (2, 0x20, True, False),
        (3, 0x40, True, True),
    ],
)
def test_a_server_is_up_or_out_of_service(operational: int, administrative: int, *, up: bool, in_service: bool) -> None:
    (server,) = haproxy.parse_servers(
        HEAD + f"3 primary 1 db1 - {operational} {administrative} 1 1 0 0 0 0 6 0 0 0 - 5432 - 0 0 - - 0\n"
    )
    assert server.up is up
    assert server.in_service is in_service


def test_no_servers_are_no_servers() -> None:
    assert haproxy.parse_servers(HEAD) == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Can't find backend.\n\n",
        "Permission denied\n",
        "2\n# be_name\n",
        "1\n",
        HEAD + "3 primary 1 db1 10.77.0.21\n",
        TABLE.replace(" 15 3 2 6", " 15 9 2 6"),
        TABLE.replace(" 2 0 1 1 55", " 7 0 1 1 55"),
        TABLE.replace("srv_op_state", "srv_state"),
        TABLE.replace(" 5432 ", " x "),
    ],
)
def test_another_table_is_an_error(text: str) -> None:
    with pytest.raises(HaproxyError):
        haproxy.parse_servers(text)


async def test_the_process_tells_who_it_is(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", Runtime(INFO)) as where:
        process = await haproxy.process(where, deadline_seconds=2)
    assert process == Process(version="3.0.11-1+deb13u3", pid=13383, uptime_seconds=56, connections=12)


@pytest.mark.parametrize("text", ["", "Unknown command: 'show info'\n", INFO.replace("Pid", "Tid"), "Pid: x\n"])
def test_other_information_is_an_error(text: str) -> None:
    with pytest.raises(HaproxyError, match="cannot be understood"):
        haproxy.parse_process(text)


async def test_each_command_is_a_connection_of_its_own(tmp_path: Path) -> None:
    runtime = Runtime("\n")
    async with serving(tmp_path / "s", runtime) as where:
        await haproxy.set_health(where, "primary", "db1", "up", deadline_seconds=2)
        await haproxy.set_health(where, "primary", "db2", "down", deadline_seconds=2)
        await haproxy.set_state(where, "primary", "db2", "drain", deadline_seconds=2)
        await haproxy.shutdown_sessions(where, "primary", "db2", deadline_seconds=2)
    assert runtime.heard == [
        "set server primary/db1 health up\n",
        "set server primary/db2 health down\n",
        "set server primary/db2 state drain\n",
        "shutdown sessions server primary/db2\n",
    ]


@pytest.mark.parametrize("said", ["No such server.\n\n", "Permission denied\n\n", "Unknown command: 'set'\n"])
async def test_whatever_haproxy_says_to_an_order_is_an_error(tmp_path: Path, said: str) -> None:
    async with serving(tmp_path / "s", Runtime(said)) as where:
        with pytest.raises(HaproxyError, match=said.strip()):
            await haproxy.shutdown_sessions(where, "primary", "db1", deadline_seconds=2)


async def test_an_order_without_an_answer_is_not_taken_for_done(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", Runtime("")) as where:
        with pytest.raises(HaproxyError, match="without an answer"):
            await haproxy.set_health(where, "primary", "db1", "up", deadline_seconds=2)


@pytest.mark.parametrize("name", ["", "db1 state maint", "db1\nshutdown", "db1;show info", "a/b"])
async def test_a_name_cannot_become_an_order(tmp_path: Path, name: str) -> None:
    runtime = Runtime("\n")
    async with serving(tmp_path / "s", runtime) as where:
        with pytest.raises(ValueError, match="is no name"):
            await haproxy.set_health(where, "primary", name, "up", deadline_seconds=2)
    assert runtime.heard == []


async def test_haproxy_that_hangs_is_silent(tmp_path: Path) -> None:
    async def hang(peer: Peer) -> None:
        await peer.gone()

    async with serving(tmp_path / "s", hang) as where:
        with pytest.raises(SilentError):
            await haproxy.servers(where, deadline_seconds=0.05)


async def test_haproxy_that_is_not_there_is_absent(tmp_path: Path) -> None:
    with pytest.raises(AbsentError):
        await haproxy.process(UnixSocket(tmp_path / "none"), deadline_seconds=2)
