from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.hosts.connect import connect
from pgbaton.hosts.local import LocalHost
from pgbaton.hosts.ssh import SshHost
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_host_can_be_the_machine_that_pgbaton_runs_on(tmp_path: Path) -> None:
    text = presets.text("standard").replace('name = "db1"', 'name = "db1"\nssh = "local"', 1)
    hosts = connect(load.loads(text), ClusterState("shop", tmp_path))
    assert isinstance(hosts["db1"], LocalHost)
    assert (await LocalHost("db1").run("echo", "here")).stdout == "here\n"
    assert isinstance(hosts["db2"], SshHost)
