from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from benches import machine

from pgbaton.deploy import packages
from pgbaton.errors import CommandError
from pgbaton.hosts.fake import FakeHost

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost("db1", machine(tmp_path / "db1"))


async def test_no_server_called_main_is_made(host: FakeHost, tmp_path: Path) -> None:
    await packages.install(host, "patroni postgresql-17")
    settings = (tmp_path / "db1/etc/postgresql-common/createcluster.conf").read_text()
    assert settings == "create_main_cluster = false\n"
    installed = [line.split()[-1] for line in (tmp_path / "calls").read_text().splitlines()]
    assert installed[0] == "postgresql-common"


async def test_lists_are_fetched_when_they_are_missing(host: FakeHost, tmp_path: Path) -> None:
    (tmp_path / "db1/fake/no-lists").touch()
    await packages.install(host, "etcd-server")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [" update" in call for call in calls] == [False, True, False]


async def test_the_administrators_own_policy_stays(host: FakeHost, tmp_path: Path) -> None:
    policy = tmp_path / "db1/usr/sbin/policy-rc.d"
    policy.parent.mkdir(parents=True)
    policy.write_text("#!/bin/sh\nexit 0\n")
    await packages.install(host, "etcd-server")
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"


async def test_a_failure_has_apts_words(host: FakeHost, tmp_path: Path) -> None:
    program = tmp_path / "db1/fake/bin/apt-get"
    program.write_text("#!/bin/sh\necho 'E: Unable to locate package nonsense'\nexit 100\n")
    with pytest.raises(CommandError, match="Unable to locate package nonsense"):
        await packages.install(host, "nonsense")
    assert not (tmp_path / "db1/usr/sbin/policy-rc.d").exists()
