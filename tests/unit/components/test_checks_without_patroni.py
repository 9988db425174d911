"""How HAProxy finds the primary where no Patroni tells it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from pgbaton import blueprint
from pgbaton.components import access, checking, haproxy, manual, postgres, standing
from pgbaton.topology import capacity, load, placement, presets
from pgbaton.topology.model import Placement

if TYPE_CHECKING:
    from pathlib import Path

    from pgbaton.topology.model import Topology


def topology(*, check: str = "query", version: int = 17) -> Topology:
    text = presets.text("manual").replace("# check = ", "check = ").replace('"query" ', f'"{check}" ')
    return load.loads(text.replace("# version = 17", f"version = {version}"))


def placed(where: Placement, *, check: str = "query") -> Topology:
    text = presets.text("manual").replace("# check = ", "check = ").replace('"query" ', f'"{check}" ')
    pool = '[[hosts]]\nname = "pool"\naddress = "10.77.0.31"\nroles = ["pooler", "application"]\n'
    wanted = f'[pooling]\nplacement = "{where}"\n'
    return load.loads(text.replace("[pooling]\n", wanted).replace("[postgresql]\n", f"{pool}\n[postgresql]\n"))


def configuration(of: Topology) -> str:
    return haproxy.configuration(of, placement.routers(of)[0])


def test_a_question_is_what_postgresql_reads() -> None:
    opened = bytes.fromhex(standing.startup("someone", "postgres"))
    assert int.from_bytes(opened[:4], "big") == len(opened)
    assert opened[8:].split(b"\0")[:4] == [b"user", b"someone", b"database", b"postgres"]
    assert opened.endswith(b"\0\0")
    asked = bytes.fromhex(standing.query("SELECT 1"))
    assert (asked[:1], int.from_bytes(asked[1:5], "big")) == (b"Q", len(asked) - 1)
    assert asked[5:] == b"SELECT 1\0"


def test_who_streams_is_fit_and_nobody_else_passes_for_another() -> None:
    assert standing.FIT in standing.STREAMS
    for answer in (standing.TAKES_WRITES, standing.LATE):
        assert standing.FIT not in answer


@pytest.mark.parametrize("where", list(Placement))
@pytest.mark.parametrize("check", ["query", "script"])
def test_servers_are_asked_themselves_wherever_clients_are_led(where: Placement, check: str) -> None:
    made = placed(where, check=check)
    text = configuration(made)
    lines = [line for line in text.splitlines() if " 10.77.0.2" in line and ":643" in line]
    assert len(lines) == (6 if where is Placement.DATABASE else 0)
    if check == "query":
        assert all(" check port 5432 check-ssl " in line for line in lines)
    else:
        (program,) = checking.files(made)
        assert " -p 5432 " in str(program.content)
    assert ("default_backend primary" in text, "backend undecided" in text) == (False, True)
    assert "nbsrv(primary) ge 1" not in text


@pytest.mark.parametrize("where", list(Placement))
def test_whoever_could_ask_may_log_in_before_everybody_is_turned_away(where: Placement) -> None:
    made = placed(where)
    rules = access.rules(made)
    asking = [f"hostssl postgres pgbaton_check 10.77.0.{n}/32 cert" for n in (11, 12, 31)]
    places = [rules.index(rule) for rule in asking]
    assert max(places) < next(n for n, rule in enumerate(rules) if "pgbaton_check" in rule and "reject" in rule)
    (role,) = postgres.check_roles(made)
    assert role.connection_limit == capacity.check_connections(made) == 3 * capacity.CHECK_CONNECTIONS


def test_who_asks_nobody_has_no_program() -> None:
    made = placed(Placement.POOLER, check="script")
    with_program = [
        host.host for host in blueprint.draw(made).hosts if checking.PROGRAM in [file.path for file in host.files]
    ]
    assert with_program == ["pool"]
    assert "chroot" in haproxy.configuration(made, made.host("lb1"))


@pytest.mark.parametrize("check", ["query", "script"])
def test_neither_of_two_primaries_gets_a_new_connection(check: str) -> None:
    text = configuration(topology(check=check))
    assert "use_backend primary if { nbsrv(primary) eq 1 }" in text
    assert "nbsrv(primary) ge 1" not in text
    assert "httpchk" not in text


def test_a_question_goes_over_tls_that_both_sides_prove() -> None:
    text = configuration(topology())
    assert text.count("check-ssl check-alpn postgresql verify required verifyhost") == 6
    assert f"crt /etc/pgbaton/tls/{checking.FILE}.pem" in text
    rules = blueprint.draw(topology()).host("db1").files
    (access,) = [file.content for file in rules if file.path == f"{manual.DIRECTORY}/pg_hba.conf"]
    assert "hostssl postgres pgbaton_check 10.77.0.11/32 cert" in str(access)
    assert "trust" not in str(access)


def test_a_program_is_not_started_more_often_than_it_can_end() -> None:
    text = configuration(topology(check="script"))
    assert "default-server inter 1000ms fastinter 1000ms downinter 1000ms" in text
    assert "external-check command /usr/lib/pgbaton/ask-server" in text
    assert "chroot" not in text


def test_a_busy_server_has_the_time_to_answer() -> None:
    assert "default-server inter 1000ms fastinter 500ms downinter 500ms" in configuration(topology())
    text = (
        presets.text("manual").replace("# [timings]", "[timings]").replace("# check_interval = ", "check_interval = ")
    )
    assert "default-server inter 200ms fastinter 500ms downinter 500ms" in configuration(load.loads(text))


def test_an_old_server_is_asked_by_a_program() -> None:
    text = presets.text("manual").replace("# version = 17", "version = 15")
    assert "external-check" in configuration(load.loads(text))


@pytest.mark.parametrize(
    ("backend", "said", "passes"),
    [
        ("primary", standing.TAKES_WRITES, True),
        ("primary", standing.STREAMS, False),
        ("standbys", standing.STREAMS, True),
        ("standbys", standing.FIT, False),
        ("standbys", standing.TAKES_WRITES, False),
        ("stranded", standing.FIT, True),
        ("stranded", standing.STREAMS, True),
        ("stranded", standing.LATE, False),
        ("primary", "", False),
    ],
)
def test_the_program_judges_as_the_question_does(tmp_path: Path, backend: str, said: str, *, passes: bool) -> None:
    (file,) = checking.files(topology(check="script"))
    psql = tmp_path / "psql"
    psql.write_text(f"#!/bin/sh\necho {said}\n")
    psql.chmod(0o755)
    script = str(file.content).replace("/usr/lib/postgresql/17/bin/psql", str(psql))
    argv = ["sh", "-c", script, "sh", "127.0.0.1", "6000", "10.77.0.21", "5432"]
    result = subprocess.run(argv, env={"HAPROXY_PROXY_NAME": backend, "PATH": "/usr/bin:/bin"}, check=False)
    assert (result.returncode == 0) is passes
