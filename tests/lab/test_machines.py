"""Real machines: boot, power, links, side by side, and nothing left of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from machines import nspawn_locks, topology, traces

from pgbaton import state as states
from pgbaton.errors import CommandError, RefusedError, UnreachableError, UsageError
from pgbaton.hosts import process
from pgbaton.hosts.connect import connect
from pgbaton.hosts.files import write_file
from pgbaton.hosts.ssh import SshHost
from pgbaton.lab import image, lifecycle, recipe
from pgbaton.topology.model import Ssh

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pgbaton.hosts.base import Host
    from pgbaton.lab.image import Image
    from pgbaton.state import ClusterState

pytestmark = pytest.mark.lab

#: A creator that can be killed: it says each step, and waits to be told to go on.
CREATOR = """
import asyncio, sys
from machines import topology
from pgbaton import state
from pgbaton.lab import image, lifecycle, recipe

def report(text):
    print(text, flush=True)
    sys.stdin.readline()

made = image.of(recipe.system("debian-13"))
asyncio.run(lifecycle.create(state.cluster(sys.argv[1]), topology(sys.argv[1]), image=made, report=report))
"""


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the state of these labs apart from the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("state")
        patch.setenv("PGBATON_STATE_HOME", str(directory))
        yield directory


@pytest.fixture(scope="module")
def made() -> Image:
    return asyncio.run(image.ensure(recipe.system("debian-13"), bare=True, report=print))


@pytest.fixture(scope="module")
def full(made: Image) -> Iterator[ClusterState]:
    state = states.cluster("test-full")
    asyncio.run(lifecycle.create(state, topology(state.name), image=made))
    yield state
    if state.exists:
        asyncio.run(lifecycle.destroy(state))


@pytest.fixture(scope="module")
def bare(made: Image) -> Iterator[ClusterState]:
    state = states.cluster("test-bare")
    asyncio.run(lifecycle.create(state, topology(state.name), image=made, bare=True))
    yield state
    asyncio.run(lifecycle.destroy(state))


@pytest.fixture(autouse=True)
def healed(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "full" in request.fixturenames and states.cluster("test-full").exists:
        asyncio.run(lifecycle.heal(states.cluster("test-full")))


async def pgbaton(*arguments: str) -> process.Result:
    return await process.run(sys.executable, "-m", "pgbaton", *arguments, check=False, timeout=60)


async def hears(state: ClusterState, source: str, target: str) -> bool:
    """Tell whether a packet of one machine reaches another: a request counts there, answered or not."""
    command = ("cat", "/proc/net/snmp")
    before = (await lifecycle.host(state, target).run(*command)).stdout
    address = {each.name: each.address for each in lifecycle.status(state).machines}[target]
    await lifecycle.host(state, source).run("ping", "-c", "1", "-W", "1", address, check=False)
    after = (await lifecycle.host(state, target).run(*command)).stdout
    return echo_requests(after) > echo_requests(before)


def echo_requests(snmp: str) -> int:
    names, values = (line.split() for line in snmp.splitlines() if line.startswith("Icmp:"))
    return int(values[names.index("InEchos")])


async def test_machines_run_systemd_with_all_units_settled(full: ClusterState) -> None:
    for each in lifecycle.status(full).machines:
        said = await lifecycle.host(full, each.name).run("systemctl", "is-system-running", check=False)
        assert (each.name, said.stdout.strip()) == (each.name, "running")


async def test_machines_have_the_control_groups_of_today_whatever_is_outside(full: ClusterState) -> None:
    one = lifecycle.host(full, "one")
    assert (await one.run("stat", "-f", "-c", "%T", "/sys/fs/cgroup")).stdout == "cgroup2fs\n"
    assert (await one.run("cat", "/proc/1/cgroup")).stdout.splitlines()[-1] == "0::/init.scope"
    await one.run("systemctl", "freeze", "ssh.service")
    await one.run("systemctl", "thaw", "ssh.service")


async def test_no_service_of_the_cluster_runs_before_it_is_deployed(full: ClusterState) -> None:
    said = await lifecycle.host(full, "one").run("ss", "-Hltn")
    assert {line.split()[3].rpartition(":")[2] for line in said.stdout.splitlines()} == {"22"}


async def test_every_lab_has_a_machine_for_applications(full: ClusterState) -> None:
    app = lifecycle.status(full).machine("app")
    assert app.roles == ("application",)
    said = await lifecycle.host(full, "app").run("sh", "-c", "psql --version && pgbench --version")
    assert said.stdout.count("PostgreSQL") == 2


async def test_machines_have_identities_of_their_own(full: ClusterState) -> None:
    command = ("cat", "/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub", "/etc/hostname")
    said = [(await lifecycle.host(full, each.name).run(*command)).stdout for each in lifecycle.status(full).machines]
    for line in range(3):
        assert len({text.splitlines()[line] for text in said}) == 3


async def test_machines_know_each_other_by_name(full: ClusterState) -> None:
    await lifecycle.host(full, "one").run("ping", "-c", "1", "-W", "2", "two")


async def test_status_is_json_that_names_usable_namespaces(full: ClusterState) -> None:
    said = await pgbaton("lab", "status", "--cluster", full.name, "-o", "json")
    data = json.loads(said.stdout)
    assert data["name"] == full.name
    assert data["vip"] == "10.99.0.100"
    assert data["ports"] == {"write": 5000, "read": 5001}
    for host in data["hosts"]:
        assert {"name", "roles", "address", "netns", "leader_pid", "state"} <= host.keys()
        inside = await process.run("ip", "netns", "exec", host["netns"], "ip", "-4", "address", "show", "eth0")
        assert host["address"] in inside.stdout
        assert host["state"] == "running"
        os.kill(host["leader_pid"], 0)


@pytest.mark.parametrize("status", [0, 3, 255])
async def test_exec_passes_the_exit_status_on(full: ClusterState, status: int) -> None:
    said = await pgbaton("lab", "exec", "--cluster", full.name, "one", "--", "sh", "-c", f"echo said; exit {status}")
    assert (said.exit_status, said.stdout) == (status, "said\n")


async def test_exec_passes_options_and_input_on(full: ClusterState) -> None:
    script = [sys.executable, "-m", "pgbaton", "lab", "exec", "--cluster", full.name, "one", "sed", "-n", "2p"]
    said = await process.run(*script, input="first\nsecond\n")
    assert said.stdout == "second\n"


async def test_a_shell_has_a_terminal(full: ClusterState) -> None:
    said = await process.run(
        sys.executable, "-m", "pgbaton", "lab", "shell", "--cluster", full.name, "two", input="tty; hostname; exit 4\n",
        check=False,
    )  # fmt: skip
    assert said.exit_status == 4
    assert "/dev/pts/" in said.stdout
    assert "\ntwo\r" in said.stdout


async def test_an_unknown_machine_is_refused_by_name(full: ClusterState) -> None:
    said = await pgbaton("lab", "exec", "--cluster", full.name, "three", "--", "true")
    assert said.exit_status == 2
    assert "no machine three" in said.stderr
    assert "one, two, app" in said.stderr


async def test_a_cut_separates_two_machines_and_heal_joins_them(full: ClusterState) -> None:
    assert await hears(full, "one", "two")
    await lifecycle.cut(full, "one", "two")
    assert not await hears(full, "one", "two")
    assert not await hears(full, "two", "one")
    assert await hears(full, "one", "app")
    await lifecycle.heal(full)
    assert await hears(full, "one", "two")


async def test_a_one_way_cut_lets_the_other_direction_through(full: ClusterState) -> None:
    assert await hears(full, "one", "two")  # both learn the other's hardware address
    await lifecycle.cut(full, "one", "two", one_way=True)
    assert not await hears(full, "one", "two")
    assert await hears(full, "two", "one")
    cuts = [(cut.source, cut.target) for cut in lifecycle.status(full).cuts]
    assert cuts == [("one", "two")]


async def test_a_power_cut_keeps_the_disk_and_loses_everything_else(full: ClusterState) -> None:
    one = lifecycle.host(full, "one")
    await one.run("sh", "-c", "echo kept > /var/kept; echo lost > /run/lost; ip address add 10.99.0.100/24 dev eth0")
    await lifecycle.power_off(full, "one")
    assert lifecycle.status(full).machine("one").state == "off"
    with pytest.raises(UnreachableError, match="powered off"):
        await lifecycle.host(full, "one").run("true")
    with pytest.raises(UsageError, match="off already"):
        await lifecycle.power_off(full, "one")
    logs = await pgbaton("lab", "logs", "--cluster", full.name, "one", "-n", "1000")
    assert "Startup finished" in logs.stdout
    await lifecycle.power_on(full, "one")
    said = await lifecycle.host(full, "one").run("sh", "-c", "cat /var/kept; ls /run/lost; ip -4 a", check=False)
    assert said.stdout.startswith("kept\n")
    assert "cannot access '/run/lost'" in said.stderr
    assert "10.99.0.100" not in said.stdout
    assert await hears(full, "two", "one")


async def test_nobody_hears_a_machine_die(full: ClusterState) -> None:
    """A crash resets its connections; a power cut must not."""
    listener = "import socket; s = socket.create_server(('', 7000)); c, _ = s.accept(); c.recv(1)"
    await lifecycle.host(full, "two").run("systemd-run", "--quiet", "python3", "-c", listener)
    client = (
        "import socket, time\n"
        "def connect():\n"
        "    for _ in range(100):\n"
        "        try: return socket.create_connection(('two', 7000), 2)\n"
        "        except ConnectionRefusedError: time.sleep(0.05)\n"
        "s = connect(); print('connected', flush=True); s.settimeout(3)\n"
        "try: print('heard', s.recv(1))\n"
        "except TimeoutError: print('silence')\n"
    )
    argv = lifecycle.host(full, "one").local_argv(("python3", "-c", client))
    waiting = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
    assert waiting.stdout is not None
    assert await waiting.stdout.readline() == b"connected\n"
    await lifecycle.power_off(full, "two")
    out, _ = await waiting.communicate()
    await lifecycle.power_on(full, "two")
    assert out == b"silence\n"


async def test_a_machine_that_died_by_itself_is_seen_as_off(full: ClusterState) -> None:
    leader = lifecycle.status(full).machine("two").leader_pid
    assert leader is not None
    os.kill(leader, signal.SIGKILL)
    for _ in range(100):
        if lifecycle.status(full).machine("two").state == "off":
            break
        await asyncio.sleep(0.05)
    assert connect(topology(full.name), full)["two"] == lifecycle.host(full, "two")
    await lifecycle.power_on(full, "two")
    assert await hears(full, "one", "two")


async def test_two_labs_with_the_same_addresses_stand_side_by_side(full: ClusterState, bare: ClusterState) -> None:
    def addresses(state: ClusterState) -> list[str]:
        return [each.address for each in lifecycle.status(state).machines]

    assert addresses(full) == addresses(bare)
    await lifecycle.host(full, "two").run("touch", "/var/full")
    said = await lifecycle.host(bare, "two").run("ls", "/var/full", check=False)
    assert not said.ok
    assert await hears(bare, "one", "two")
    assert not set(traces(full.name)) & set(traces(bare.name))


async def test_a_lab_of_other_machines_cannot_take_the_name(full: ClusterState, made: Image) -> None:
    other = topology(full.name)
    fewer = other.model_copy(update={"hosts": other.hosts[:1]})
    with pytest.raises(RefusedError, match="with other machines"):
        await lifecycle.create(full, fewer, image=made)


async def test_a_lab_of_another_state_directory_is_not_touched(full: ClusterState, made: Image, tmp_path: Path) -> None:
    stranger = states.ClusterState(full.name, tmp_path / "stranger")
    with pytest.raises(RefusedError, match="exists already"):
        await lifecycle.create(stranger, topology(full.name), image=made)
    await lifecycle.destroy(stranger)
    assert lifecycle.status(full).machine("one").state == "running"


async def test_making_a_lab_again_boots_what_is_off(full: ClusterState, made: Image) -> None:
    leader = lifecycle.status(full).machine("two").leader_pid
    await lifecycle.power_off(full, "one")
    await lifecycle.create(full, topology(full.name), image=made)
    assert lifecycle.status(full).machine("one").state == "running"
    assert lifecycle.status(full).machine("two").leader_pid == leader


@pytest.mark.parametrize("step", ["network of", "booting", "up"])
async def test_a_lab_whose_creator_was_killed_is_completed(made: Image, step: str) -> None:
    state = states.cluster("test-killed")
    kill_creator(state, step)
    await lifecycle.create(state, topology(state.name), image=made)
    assert [each.state for each in lifecycle.status(state).machines] == ["running"] * 3
    assert await hears(state, "one", "two")
    await lifecycle.destroy(state)
    assert traces(state.name) == []


@pytest.mark.parametrize("step", ["network of", "booting"])
async def test_a_lab_whose_creator_was_killed_is_taken_down(made: Image, step: str) -> None:
    del made
    state = states.cluster("test-killed")
    kill_creator(state, step)
    assert traces(state.name) != []
    said = await pgbaton("lab", "down", "--cluster", state.name)
    assert said.exit_status == 0, said.stderr
    assert traces(state.name) == []
    assert not state.directory.exists()


def kill_creator(state: ClusterState, step: str) -> None:
    """Have another process make a lab, and kill it when it reports a step."""
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}  # noqa: PTH120 - a path for another process
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen([sys.executable, "-c", CREATOR, state.name], **pipes) as creator:  # type: ignore[call-overload]
        while step not in (line := creator.stdout.readline()):
            assert line, "the creator ended before the step"
            creator.stdin.write("\n")
            creator.stdin.flush()
        creator.kill()


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_an_interrupted_up_says_how_to_go_on_and_can(made: Image, sent: int, status: int) -> None:
    del made
    up = ("lab", "up", "--preset", "compact", "--bare", "--no-deploy", "--cluster", "test-stopped")
    code, said = await interrupted(*up, at="booting", sent=sent)
    assert code == status
    assert "pgbaton lab up --cluster test-stopped completes the lab" in said
    again = await pgbaton("lab", "up", "--no-deploy", "--cluster", "test-stopped", "-o", "json")
    assert [host["state"] for host in json.loads(again.stdout)["hosts"]] == ["running"] * 4
    assert (await pgbaton("lab", "down", "--cluster", "test-stopped")).ok
    assert traces("test-stopped") == []


async def interrupted(*arguments: str, at: str, sent: int) -> tuple[int, str]:
    """Run a command, send it a signal when it reports something, and return its exit status and what it said."""
    command = (sys.executable, "-m", "pgbaton", *arguments)
    running = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    assert running.stderr is not None
    said = await running.stderr.readuntil(at.encode())
    running.send_signal(sent)
    said += await running.stderr.read()
    return await running.wait(), said.decode()


async def test_labs_that_lost_their_state_are_swept_away_by_the_next(made: Image, full: ClusterState) -> None:
    state = states.cluster("test-lost")
    kill_creator(state, "booting")
    await process.run("rm", "-r", str(state.directory))
    await lifecycle.create(full, topology(full.name), image=made)
    assert traces(state.name) == []
    assert lifecycle.status(full).machine("one").state == "running"


async def test_packages_install_in_a_bare_machine_without_any_way_out(bare: ClusterState) -> None:
    two = lifecycle.host(bare, "two")
    assert not (await two.run("which", "haproxy", check=False)).ok
    await two.run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "install", "haproxy", timeout=120)
    assert "HAProxy version" in (await two.run("haproxy", "-v")).stdout


@pytest.fixture(scope="module")
def ssh_config(bare: ClusterState, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let a new key in as root and as a user with sudo, on a machine whose own key nobody knows yet."""
    directory = tmp_path_factory.mktemp("ssh")
    asyncio.run(process.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "key")))
    asyncio.run(admit(lifecycle.host(bare, "one"), (directory / "key.pub").read_text()))
    config = directory / "config"
    known = f"UserKnownHostsFile {directory}/known_hosts\nGlobalKnownHostsFile /dev/null\n"
    config.write_text(f"{known}IdentityFile {directory}/key\nIdentitiesOnly yes\n")
    return config


async def admit(host: Host, key: str) -> None:
    await host.run("useradd", "--create-home", "--shell", "/bin/bash", "deployer")
    await write_file(host, "/etc/sudoers.d/deployer", "deployer ALL=(ALL) NOPASSWD: ALL\n", mode=0o440)
    await host.run("install", "-d", "-m", "700", "/root/.ssh")
    await host.run("install", "-d", "-m", "700", "-o", "deployer", "/home/deployer/.ssh")
    await write_file(host, "/root/.ssh/authorized_keys", key)
    await write_file(host, "/home/deployer/.ssh/authorized_keys", key)


def over_ssh(state: ClusterState, config: Path, user: str, *, port: int | None = None) -> SshHost:
    """Return the first machine, reached by this machine's own ssh client from where applications are."""
    host = topology(state.name).host("one")
    prefix = ("ip", "netns", "exec", lifecycle.status(state).machine("app").netns)
    return SshHost.of(host, Ssh(user=user, config_file=str(config), port=port), state, prefix=prefix)


async def make_known(state: ClusterState, config: Path) -> None:
    key = (await lifecycle.host(state, "one").run("cat", "/etc/ssh/ssh_host_ed25519_key.pub")).stdout
    (config.parent / "known_hosts").write_text(f"10.99.0.11 {key}")


async def test_an_unknown_host_key_is_refused(bare: ClusterState, ssh_config: Path) -> None:
    (ssh_config.parent / "known_hosts").write_text("")
    with pytest.raises(UnreachableError, match="Host key verification failed") as caught:
        await over_ssh(bare, ssh_config, "root").run("true")
    assert "compare the key's fingerprint" in (caught.value.hint or "")
    assert (ssh_config.parent / "known_hosts").read_text() == ""


async def test_a_changed_host_key_is_refused_even_where_new_ones_are_accepted(
    bare: ClusterState, ssh_config: Path
) -> None:
    stranger = (ssh_config.parent / "key.pub").read_text()
    (ssh_config.parent / "known_hosts").write_text(f"10.99.0.11 {stranger}")
    accepting = ssh_config.with_name("accepting")
    accepting.write_text(f"StrictHostKeyChecking accept-new\nInclude {ssh_config}\n")
    with pytest.raises(UnreachableError, match="IDENTIFICATION HAS CHANGED") as caught:
        await over_ssh(bare, accepting, "root").run("true")
    assert "find out why" in (caught.value.hint or "")


@pytest.mark.parametrize("user", ["root", "deployer"])
async def test_programs_run_as_root_over_ssh(bare: ClusterState, ssh_config: Path, user: str) -> None:
    await make_known(bare, ssh_config)
    host = over_ssh(bare, ssh_config, user)
    try:
        assert (await host.run("id", "-u")).stdout == "0\n"
        odd = "it's $HOME; `id` \"\\ *\n"
        assert (await host.run("printf", "%s", odd)).stdout == odd
        assert (await host.run("cat", input=odd)).stdout == odd
        assert (await host.run("sh", "-c", "echo gone >&2; exit 255", check=False)).exit_status == 255
        with pytest.raises(CommandError, match="exit status 3 from: sh -c exit 3"):
            await host.run("sh", "-c", "exit 3")
        await write_file(host, "/etc/written", "over ssh\n", mode=0o600)
        assert (await lifecycle.host(bare, "one").run("stat", "-c", "%a %U", "/etc/written")).stdout == "600 root\n"
    finally:
        await host.close()


async def test_a_refused_login_says_what_to_do(bare: ClusterState, ssh_config: Path) -> None:
    await make_known(bare, ssh_config)
    with pytest.raises(UnreachableError, match="Permission denied") as caught:
        await over_ssh(bare, ssh_config, "nobody").run("true")
    assert "without asking" in (caught.value.hint or "")
    with pytest.raises(UnreachableError, match="Connection refused"):
        await over_ssh(bare, ssh_config, "root", port=2222).run("true")


async def test_down_leaves_nothing_of_a_lab_and_all_of_the_other(full: ClusterState, bare: ClusterState) -> None:
    locks = nspawn_locks(full.name)
    assert len([path for path in locks if path.exists()]) == 3
    assert len(traces(full.name)) > 10
    said = await pgbaton("lab", "down", "--cluster", full.name)
    assert said.exit_status == 0, said.stderr
    assert traces(full.name) == []
    assert not full.directory.exists()
    assert not any(path.exists() for path in locks)
    assert await hears(bare, "one", "two")
