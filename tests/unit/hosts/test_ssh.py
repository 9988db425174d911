from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from pgbaton.errors import UsageError
from pgbaton.hosts import ssh
from pgbaton.hosts.ssh import SshHost
from pgbaton.state import ClusterState
from pgbaton.topology.model import HostSpec, Role, Ssh

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(ssh, "control_directory", lambda: tmp_path)
    return tmp_path


def spec(**changes: str) -> HostSpec:
    data = {"name": "db1", "address": "192.0.2.1", "roles": (Role.DATABASE,)}
    return HostSpec.model_validate(data | changes)


def make(
    tmp_path: Path, settings: Ssh, *, config: str = "", cluster: str = "a", host: HostSpec | None = None
) -> SshHost:
    path = tmp_path / "config"
    path.write_text(config)
    chosen = settings.model_copy(update={"config_file": str(path)})
    return SshHost.of(host or spec(), chosen, ClusterState(cluster, tmp_path / cluster))


def option(host: SshHost, name: str) -> str:
    found = [word.partition("=")[2] for word in host.options if word.startswith(f"{name}=")]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("", "yes"),
        ("StrictHostKeyChecking no", "yes"),
        ("StrictHostKeyChecking ask", "yes"),
        ("StrictHostKeyChecking accept-new", "accept-new"),
    ],
)
def test_host_keys_are_always_checked(tmp_path: Path, config: str, expected: str) -> None:
    assert option(make(tmp_path, Ssh(), config=config), "StrictHostKeyChecking") == expected


def test_nothing_ever_asks_and_every_wait_ends(tmp_path: Path) -> None:
    host = make(tmp_path, Ssh())
    assert option(host, "BatchMode") == "yes"
    assert option(host, "ConnectTimeout") == "10"
    assert option(host, "ServerAliveInterval") == "5"


@pytest.mark.parametrize(
    ("user", "config", "sudo"),
    [("root", "", False), ("deploy", "", True), (None, "User deploy", True), (None, "User root", False)],
)
def test_sudo_is_used_by_whoever_is_not_root(tmp_path: Path, user: str | None, config: str, sudo: bool) -> None:  # noqa: FBT001
    host = make(tmp_path, Ssh(user=user), config=config)
    remote = host.local_argv(("true",))[-1]
    assert remote.startswith("sudo -n -- ") == sudo


def test_settings_of_the_topology_become_options(tmp_path: Path) -> None:
    host = make(tmp_path, Ssh(user="deploy", port=2222, identity_file="/keys/one"))
    line = shlex.join(host.local_argv(("true",)))
    assert " -l deploy -p 2222 -i /keys/one " in line
    assert f" -F {tmp_path}/config " in line


def test_a_command_reaches_the_remote_shell_quoted(tmp_path: Path) -> None:
    command = ("printf", "%s", "it's $HOME; `id` *\n")
    *_, separator, destination, remote = make(tmp_path, Ssh(user="root")).local_argv(command)
    assert (separator, destination) == ("--", "192.0.2.1")
    assert tuple(shlex.split(remote))[-3:] == command


def test_a_terminal_is_asked_for_only_where_one_is_wanted(tmp_path: Path) -> None:
    host = make(tmp_path, Ssh())
    assert "-tt" in host.local_argv(("bash",), terminal=True)
    assert "-T" in host.local_argv(("true",))


def test_the_host_s_own_destination_wins_over_its_address(tmp_path: Path) -> None:
    assert make(tmp_path, Ssh(), host=spec(ssh="deploy@bastion-db1")).destination == "deploy@bastion-db1"
    assert make(tmp_path, Ssh(), host=spec(ssh="deploy@bastion-db1")).sudo


def test_a_user_in_the_destination_is_the_one_that_counts(tmp_path: Path) -> None:
    assert not make(tmp_path, Ssh(), config="User deploy", host=spec(ssh="root@db1")).sudo


def test_a_destination_that_is_an_option_is_refused(tmp_path: Path) -> None:
    host = spec().model_copy(update={"ssh": "-oProxyCommand=touch /tmp/x"})
    with pytest.raises(UsageError, match="ssh would take it for an option"):
        make(tmp_path, Ssh(), host=host)


def test_a_broken_configuration_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Bad configuration option"):
        make(tmp_path, Ssh(), config="NoSuchOption yes")


def test_connections_of_different_clusters_are_never_shared(tmp_path: Path) -> None:
    first, again, other = (make(tmp_path, Ssh(), cluster=name) for name in ("a", "a", "b"))
    assert option(first, "ControlPath") == option(again, "ControlPath")
    assert option(first, "ControlPath") != option(other, "ControlPath")


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("Host key verification failed.", "fingerprint"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", "another key"),
        ("root@h: Permission denied (publickey).", "agent"),
        ("ssh: connect to host h port 22: No route to host", "reach"),
    ],
)
def test_every_failure_of_ssh_comes_with_advice(said: str, advice: str) -> None:
    assert advice in ssh.hint_for(said)
