"""dsn, psql and secrets on a cluster of which only the state is there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict

from pgbaton import blueprint, state
from pgbaton.cli import access
from pgbaton.cli.opened import Opened
from pgbaton.errors import MissingCapabilityError, UsageError
from pgbaton.hosts import process
from pgbaton.secrets import Vault
from pgbaton.topology import presets
from pgbaton.topology.load import loads

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Return a real cluster that is known here, with its secrets."""
    monkeypatch.setenv("PGBATON_STATE_HOME", str(tmp_path / "with space"))
    monkeypatch.delenv("PGBATON_CLUSTER", raising=False)
    text = presets.text("standard")
    own = state.cluster("standard")
    own.create()
    own.topology_file.write_text(text)
    topology = loads(text)
    drawn = blueprint.draw(topology)
    Vault(own.vault_directory).ensure(drawn.passwords, (), days=365)
    return Opened(own, topology)


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Return the programs that this process would have become."""
    became: list[tuple[str, ...]] = []

    def become(*argv: str) -> None:
        became.append(argv)
        sys.exit(0)

    monkeypatch.setattr(process, "replace", become)
    return became


def said(*arguments: str) -> str:
    """Return what a command prints; errors are raised."""
    result = CliRunner().invoke(getattr(access, arguments[0]), arguments[1:], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def passwords(cluster: Opened) -> Mapping[str, str]:
    return cluster.vault.sensitive_values


def test_without_being_asked_dsn_shows_no_secret(cluster: Opened) -> None:
    for output in ("table", "json"):
        text = said("dsn", "-o", output)
        assert not [name for name, value in passwords(cluster).items() if value in text]
        assert "password/user/app" in text


def test_json_has_both_ways_with_every_driver(cluster: Opened) -> None:
    data = json.loads(said("dsn", "-o", "json"))
    assert (data["write"]["port"], data["read"]["port"], data["write"]["host"]) == (5000, 5001, "10.77.0.100")
    assert len(data["write"]["drivers"]) == 7
    assert data["sslrootcert"] == str(cluster.state.directory / "ca.crt")


@pytest.mark.parametrize(("option", "port"), [((), "5000"), (("--read",), "5001")])
def test_with_the_password_stdout_is_one_complete_uri(cluster: Opened, option: tuple[str, ...], port: str) -> None:
    (line,) = said("dsn", "--with-password", *option).splitlines()
    parsed = conninfo_to_dict(line)
    assert parsed["port"] == port
    assert parsed["password"] == cluster.vault.value("password/user/app")
    authority = Path(str(parsed["sslrootcert"]))
    assert authority.read_text() == cluster.vault.value("ca")


def test_uri_alone_is_one_line_without_the_password(cluster: Opened) -> None:
    (line,) = said("dsn", "--uri").splitlines()
    assert "password" not in conninfo_to_dict(line)
    assert conninfo_to_dict(line)["user"] == cluster.topology.users[0].name


def test_psql_of_a_real_cluster_runs_here_with_the_password_in_a_private_file(
    cluster: Opened, replaced: list[tuple[str, ...]]
) -> None:
    said("psql", "--read", "--", "-c", "select 1")
    ((program, *arguments),) = replaced
    assert program == "psql"
    assert arguments[-2:] == ["-c", "select 1"]
    assert not [word for word in arguments if cluster.vault.value("password/user/app") in word]
    parsed = conninfo_to_dict(arguments[1])
    assert (parsed["port"], parsed["sslmode"]) == ("5001", "verify-full")
    passfile = Path(str(parsed["passfile"]))
    assert passfile.stat().st_mode & 0o777 == 0o600
    assert passfile.read_text().endswith(f":app:{cluster.vault.value('password/user/app')}\n")


def test_psql_says_when_it_is_not_installed(cluster: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingCapabilityError, match="psql is not installed"):
        said("psql", "--cluster", cluster.state.name)


def test_psql_on_a_host_is_the_superuser_over_its_socket(cluster: Opened, replaced: list[tuple[str, ...]]) -> None:
    said("psql", "--host", "db2", "--cluster", cluster.state.name)
    line = " ".join(replaced[0])
    assert "10.77.0.22" in line
    assert "runuser" in line
    assert "/var/run/postgresql" in line


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("psql", "--host", "lb1"), "no database host is named lb1"),
        (("psql", "--host", "db1", "--read"), "--read, --synchronous and --user mean nothing"),
        (("psql", "--user", "nobody"), "no user nobody"),
        (("dsn", "--database", "nothing"), "no database nothing"),
        (("secrets", "show", "password/user/nobody"), "no secret named"),
        (("secrets", "show", "authority-key"), "no secret named"),
        (("dsn", "--cluster", "other"), "no cluster named other"),
    ],
)
def test_what_is_not_there_is_refused(arguments: tuple[str, ...], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        said(*arguments)


def test_the_listed_secrets_can_be_shown_and_only_those(cluster: Opened) -> None:
    names = said("secrets", "list").splitlines()
    assert names == list(cluster.vault.names)
    assert not [value for value in passwords(cluster).values() if value in said("secrets", "list", "-o", "json")]
    assert said("secrets", "show", "password/user/app") == cluster.vault.value("password/user/app") + "\n"
    shown = json.loads(said("secrets", "show", "ca", "-o", "json"))
    assert shown == {"name": "ca", "value": cluster.vault.value("ca")}


def wrapped(tmp_path: Path, psql: str) -> tuple[Path, subprocess.Popen[bytes]]:
    """Start this text in the place of psql, as in a machine; return its private directory and the process."""
    programs, private = tmp_path / "bin", tmp_path / "private"
    programs.mkdir()
    private.mkdir()
    (private / "passfile").write_text("secret")
    (programs / "psql").write_text(f"#!/bin/sh\n{psql}\n")
    (programs / "psql").chmod(0o755)
    argv = ("sh", "-c", access.PSQL_AND_CLEAN_UP, "sh", str(private), "-d", str(private / "passfile"))
    environment = {"PATH": f"{programs}:/usr/bin:/bin"}
    return private, subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, start_new_session=True)


def test_psql_in_a_machine_takes_its_directory_away_and_passes_its_status_on(tmp_path: Path) -> None:
    private, running = wrapped(tmp_path, 'test -e "$2" && exit 3')
    running.communicate(timeout=20)
    assert running.returncode == 3
    assert not private.exists()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_psql_in_a_machine_leaves_no_password_when_its_terminal_is_closed(tmp_path: Path, number: int) -> None:
    # A shell that is born with a signal ignored, as below nohup, cannot trap it.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        private, running = wrapped(tmp_path, "echo here; exec sleep 60")
    finally:
        signal.signal(number, before)
    assert running.stdout
    assert running.stdout.readline() == b"here\n"
    os.killpg(running.pid, number)
    running.communicate(timeout=20)
    assert running.returncode == 128 + number
    assert not private.exists()


def test_psql_in_a_machine_survives_an_interrupt_that_psql_handles(tmp_path: Path) -> None:
    private, running = wrapped(tmp_path, "trap 'echo cancelled; exit 0' INT; echo here; while :; do sleep 0.1; done")
    assert running.stdout
    assert running.stdout.readline() == b"here\n"
    os.killpg(running.pid, signal.SIGINT)
    assert running.stdout.readline() == b"cancelled\n"
    running.wait(timeout=20)
    running.stdout.close()
    assert running.returncode == 0
    assert not private.exists()


@pytest.mark.parametrize("value", ["plain", "it's", "back\\slash", "with space"])
def test_libpq_reads_quoted_values_as_they_were(value: str) -> None:
    assert conninfo_to_dict(f"dbname='{access.quoted(value)}'")["dbname"] == value


def test_a_users_password_is_renewed_without_being_shown(cluster: Opened) -> None:
    before = cluster.vault.value("password/user/app")
    printed = said("secrets", "rotate", "password/user/app")
    after = cluster.vault.value("password/user/app")
    assert after != before
    assert after not in printed
    assert "next pgbaton apply" in printed
