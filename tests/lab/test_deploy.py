"""Deployments from nothing: every preset, both systems, over SSH, interrupted, and changes to what runs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from labs import Lab, down, pgbaton, up

from pgbaton import state as states
from pgbaton.hosts import process
from pgbaton.hosts.files import write_file
from pgbaton.lab import lifecycle
from pgbaton.topology.load import load

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.lab

DATABASES = ("db1", "db2", "db3")
IN_RECOVERY = "SELECT pg_is_in_recovery()"


async def status(lab: Lab) -> dict[str, object]:
    said = await lab.pgbaton("status", "-o", "json")
    data: dict[str, object] = json.loads(said.stdout)
    return data


async def write_through_the_vip(lab: Lab) -> str:
    uri = (await lab.pgbaton("dsn", "--with-password")).stdout
    sql = "CREATE TABLE seen (id int); INSERT INTO seen VALUES (1); SELECT count(*) FROM seen"
    script = f'IFS= read -r URI; psql -XAtq -d "$URI" -c "{sql}"'
    said = await lab.hosts()["app"].run("sh", "-c", script, input=uri, check=False)
    assert said.ok, said.stderr
    return said.stdout.strip()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("test-classic", ("--preset", "classic")),
        ("test-compact", ("--preset", "compact")),
        ("test-debian12", ("--preset", "standard", "--os", "debian-12")),
    ],
)
async def test_a_preset_comes_up_and_takes_writes(lab_home: Path, name: str, arguments: tuple[str, ...]) -> None:
    del lab_home
    try:
        lab = await asyncio.to_thread(up, name, *arguments)
        assert (await status(lab))["health"] == "healthy"
        assert await write_through_the_vip(lab) == "1"
    finally:
        await asyncio.to_thread(down, name)


async def test_an_interrupted_bring_up_is_completed_by_running_it_again(lab_home: Path) -> None:
    """The tool dies by SIGKILL as soon as it speaks of a step, three steps further each time."""
    del lab_home
    name, steps = "test-killed", ("lb1: up", "etcd:", "databases:", "poolers:")
    argv = [sys.executable, "-m", "pgbaton", "lab", "up", "--preset", "standard", "--cluster", name]
    try:
        for step in steps:
            tool = subprocess.Popen(  # noqa: ASYNC220 - its output is followed line by line
                argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
            )
            assert tool.stderr is not None
            seen = ""
            for line in tool.stderr:
                seen += line
                if step in line:
                    break
            os.kill(tool.pid, signal.SIGKILL)
            tool.wait()
            tool.stderr.close()
            assert step in seen, seen
        lab = await asyncio.to_thread(up, name, "--preset", "standard")
        assert (await status(lab))["health"] == "healthy"
        again = await lab.pgbaton("plan", "--detailed-exitcode")
        assert again.exit_status == 0, again.stdout
    finally:
        await asyncio.to_thread(down, name)


class OverSsh:
    """Three bare machines, and an operator's machine that reaches them only over SSH."""

    def __init__(self, name: str, directory: Path) -> None:
        self.state = states.cluster(name)
        self.directory = directory
        self.namespace = f"pgb-{name}.app"
        self.key = directory / "id_ed25519"
        self.known_hosts = directory / "known_hosts"
        self.file = directory / "topology.toml"

    async def prepare(self) -> None:
        """Let the operator's key in, as root and as a user with sudo; know the hosts' keys."""
        await process.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key))
        public = self.key.with_suffix(".pub").read_text()
        known = ""
        for name in ("n1", "n2", "n3"):
            host = lifecycle.host(self.state, name)
            await write_file(host, "/root/.ssh/authorized_keys", public, mode=0o600)
            await host.run("useradd", "-m", "-s", "/bin/bash", "dba")
            await write_file(host, "/etc/sudoers.d/dba", "dba ALL=(ALL) NOPASSWD: ALL\n", mode=0o440)
            await write_file(host, "/home/dba/.ssh/authorized_keys", public, mode=0o600, owner="dba", group="dba")
            await host.run("chown", "dba:dba", "/home/dba/.ssh")
            address = load(self.state.topology_file).host(name).address
            known += f"{address} {(await host.run('cat', '/etc/ssh/ssh_host_ed25519_key.pub')).stdout}"
        self.known_hosts.write_text(known)

    def topology(self, user: str, *, known_hosts: Path | None = None) -> Path:
        """Write the topology file of the cluster, with the operator's SSH settings."""
        config = self.directory / f"config-{user}-{known_hosts is None}"
        config.write_text(f"Host *\n  UserKnownHostsFile {known_hosts or self.known_hosts}\n  IdentitiesOnly yes\n")
        text = subprocess.run(
            [sys.executable, "-m", "pgbaton", "init", "--preset", "compact", "--name", "shop", "-"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        ssh = f'\n[ssh]\nuser = "{user}"\nidentity_file = "{self.key}"\nconfig_file = "{config}"\n'
        self.file.write_text(text + ssh)
        return self.file

    async def pgbaton(self, *arguments: str, timeout: float = 400) -> process.Result:
        """Run pgbaton on the operator's machine, with a memory of its own."""
        home = f"PGBATON_STATE_HOME={self.directory / 'operator'}"
        argv = ("ip", "netns", "exec", self.namespace, "env", home, sys.executable, "-m", "pgbaton", *arguments)
        return await process.run(*argv, check=False, timeout=timeout)


async def test_bare_hosts_become_a_cluster_over_ssh(lab_home: Path, tmp_path: Path) -> None:
    del lab_home
    name = "test-ssh"
    try:
        await asyncio.to_thread(up, name, "--preset", "compact", "--bare", "--no-deploy")
        operator = OverSsh(name, tmp_path)
        await operator.prepare()
        await unknown_host_keys_are_refused(operator)
        made = await operator.pgbaton("apply", str(operator.topology("dba")), "--yes")
        assert made.ok, made.stderr
        seen = await operator.pgbaton("status", "-o", "json")
        assert json.loads(seen.stdout)["health"] == "healthy", seen.stdout
        as_root = await operator.pgbaton("plan", str(operator.topology("root")), "--detailed-exitcode")
        assert as_root.exit_status == 0, as_root.stdout + as_root.stderr
        moved = await operator.pgbaton("switchover", "--yes", "-o", "json")
        assert moved.ok, moved.stderr
    finally:
        await asyncio.to_thread(down, name)


async def unknown_host_keys_are_refused(operator: OverSsh) -> None:
    nobody = operator.directory / "known_nobody"
    nobody.write_text("")
    said = await operator.pgbaton("apply", str(operator.topology("root", known_hosts=nobody)), "--yes")
    assert said.exit_status == 4, said.stderr
    assert "Host key verification failed" in said.stderr
    assert not states.cluster("shop").exists


class TestChanges:
    """What an apply does to a cluster that runs."""

    async def edit(self, lab: Lab, old: str, new: str) -> Path:
        """Return a topology file in which something is other than what runs."""
        text = lab.state.topology_file.read_text()
        assert old in text, text
        file = lab.state.directory / "changed.toml"
        file.write_text(text.replace(old, new, 1))
        return file

    async def parameter(self, lab: Lab, name: str) -> set[str]:
        """Return a server setting's values on all database hosts."""
        argv = ("runuser", "-u", "postgres", "--", "psql", "-XAtqc", f"SHOW {name}")
        return {(await lab.hosts()[host].run(*argv)).stdout.strip() for host in ("db1", "db2", "db3")}

    async def test_a_second_apply_changes_nothing(self, stock_lab: Lab) -> None:
        said = await stock_lab.pgbaton("plan", "--detailed-exitcode")
        assert said.exit_status == 0, said.stdout

    async def test_a_setting_is_reloaded_shown_first_and_taken_back(self, stock_lab: Lab) -> None:
        before = await self.parameter(stock_lab, "work_mem")
        text = stock_lab.state.topology_file.read_text()
        file = stock_lab.state.directory / "changed.toml"
        file.write_text(text.replace("[postgresql]\n", '[postgresql]\nsettings = { work_mem = "7MB" }\n', 1))
        assert "7MB" in file.read_text(), text
        plan = await stock_lab.pgbaton("plan", str(file), "--detailed-exitcode")
        assert plan.exit_status == 2, plan.stderr
        assert "work_mem: 7MB" in plan.stdout
        assert await self.parameter(stock_lab, "work_mem") == before
        made = await stock_lab.pgbaton("apply", str(file), "--yes")
        assert made.ok, made.stderr
        assert await self.parameter(stock_lab, "work_mem") == {"7MB"}
        back = await stock_lab.pgbaton("rollback", "--yes")
        assert back.ok, back.stderr
        assert await self.parameter(stock_lab, "work_mem") == before

    async def test_files_of_wal_keep_the_size_that_they_were_made_with(self, stock_lab: Lab) -> None:
        text = stock_lab.state.topology_file.read_text()
        file = stock_lab.state.directory / "changed.toml"
        assert await self.parameter(stock_lab, "wal_segment_size") == {"4MB"}
        assert await self.parameter(stock_lab, "max_wal_size") == {"1GB"}
        file.write_text(text.replace("wal_segment_size_mb = 4", "wal_segment_size_mb = 16", 1))
        assert file.read_text() != text
        refused = await stock_lab.pgbaton("apply", str(file), "--yes")
        assert refused.exit_status == 6, refused.stdout
        assert "files of WAL are of 4 MiB here, and the topology says 16" in refused.stderr
        again = await stock_lab.pgbaton("plan", "--detailed-exitcode")
        assert again.exit_status == 0, again.stdout

    async def test_a_file_changed_by_hand_after_the_plan_stops_the_apply(self, stock_lab: Lab, tmp_path: Path) -> None:
        host = stock_lab.hosts()["lb2"]
        path = "/etc/haproxy/haproxy.cfg"
        original = (await host.run("cat", path)).stdout
        await write_file(host, path, original + "# by hand\n", mode=0o640)
        saved = tmp_path / "plan.json"
        planned = await stock_lab.pgbaton("plan", "--save", str(saved))
        assert planned.ok, planned.stderr
        assert "-# by hand" in planned.stdout
        await write_file(host, path, original + "# by hand again\n", mode=0o640)
        refused = await stock_lab.pgbaton("apply", str(saved), "--yes")
        assert refused.exit_status == 6, refused.stdout
        assert path in refused.stderr
        assert (await host.run("cat", path)).stdout == original + "# by hand again\n"
        mended = await stock_lab.pgbaton("apply", "--yes")
        assert mended.ok, mended.stderr
        assert (await host.run("cat", path)).stdout == original

    @pytest.mark.parametrize(
        ("setting", "said"),
        [
            ('work_mem = "banana"', "invalid value for parameter"),
            ("no_such_setting = 1", "unrecognized configuration parameter"),
            ('shared_buffers = "999GB"', "could not map anonymous shared memory"),
        ],
    )
    async def test_settings_that_no_server_would_start_with_change_nothing(
        self, stock_lab: Lab, setting: str, said: str
    ) -> None:
        file = stock_lab.state.directory / "changed.toml"
        text = stock_lab.state.topology_file.read_text()
        file.write_text(text.replace("[postgresql]\n", f"[postgresql]\nsettings = {{ {setting} }}\n", 1))
        configs = [(await stock_lab.hosts()[name].run("cat", "/etc/patroni/config.yml")).stdout for name in DATABASES]
        refused = await stock_lab.pgbaton("apply", str(file), "--yes")
        assert refused.exit_status != 0
        assert said in refused.stderr
        now = [(await stock_lab.hosts()[name].run("cat", "/etc/patroni/config.yml")).stdout for name in DATABASES]
        assert now == configs
        file.write_text(text)
        assert (await stock_lab.pgbaton("apply", str(file), "--yes")).ok

    async def test_the_replication_mode_and_the_vip_change_while_it_runs(self, stock_lab: Lab) -> None:
        file = stock_lab.state.directory / "changed.toml"
        text = stock_lab.state.topology_file.read_text()
        moved = text.replace('mode = "synchronous"', 'mode = "quorum"', 1).replace("10.77.0.100", "10.77.0.101")
        assert "quorum" in moved, text
        for wanted in (moved, text):
            file.write_text(wanted)
            made = await stock_lab.pgbaton("apply", str(file), "--yes")
            assert made.ok, made.stderr
            seen = await status(stock_lab)
            assert seen["health"] == "healthy", seen
            answered = await pgbaton("psql", "--cluster", stock_lab.name, "--", "-Atc", IN_RECOVERY)
            assert answered.stdout.strip() == "f", answered.stderr

    async def test_without_a_terminal_and_without_yes_nothing_is_done(self, stock_lab: Lab) -> None:
        host = stock_lab.hosts()["lb2"]
        path = "/etc/pgbaton/firewall.nft"
        original = (await host.run("cat", path)).stdout
        await write_file(host, path, original + "# by hand\n", mode=0o600)
        refused = await stock_lab.pgbaton("apply")
        assert refused.exit_status == 6, refused.stderr
        assert "--yes" in refused.stderr
        assert (await host.run("cat", path)).stdout == original + "# by hand\n"
        assert (await stock_lab.pgbaton("apply", "--yes")).ok
