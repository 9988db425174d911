from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import pytest

from pgbaton.errors import RefusedError
from pgbaton.hosts import ssh

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Be an ordinary user for whom the directory is made below the one for temporary files."""
    user = os.geteuid() or 4242
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"pgbaton-ssh-{user}"


def test_the_directory_of_connections_is_private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    user = os.geteuid()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(ssh, "ROOT_BASE", tmp_path)
    made = ssh.control_directory()
    assert made == tmp_path / f"pgbaton-ssh-{user}"
    assert made.stat().st_mode & 0o777 == 0o700
    assert ssh.control_directory() == made


def test_a_directory_that_others_can_use_is_refused(base: Path) -> None:
    base.mkdir(mode=0o777)
    base.chmod(0o777)
    with pytest.raises(RefusedError, match="only you can use"):
        ssh.control_directory()


def test_a_link_in_its_place_is_refused(base: Path, tmp_path: Path) -> None:
    (tmp_path / "trap").mkdir(mode=0o700)
    base.symlink_to(tmp_path / "trap")
    with pytest.raises(RefusedError, match="only you can use"):
        ssh.control_directory()
