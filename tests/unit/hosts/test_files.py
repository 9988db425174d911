from __future__ import annotations

import getpass
import grp
import os
from typing import TYPE_CHECKING

import pytest

from pgbaton.errors import CommandError
from pgbaton.hosts.files import read_files, remove_file, write_file
from pgbaton.hosts.local import LocalHost

if TYPE_CHECKING:
    from pathlib import Path

HERE = LocalHost("here")
OWNER = getpass.getuser()
GROUP = grp.getgrgid(os.getegid()).gr_name
AWKWARD = bytes(range(256)) + b"line\nline\n"


async def test_what_is_written_is_read_back_to_the_byte(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "a file; $(with) 'odd' name")
    await write_file(HERE, path, AWKWARD, mode=0o640, owner=OWNER, group=GROUP)
    (state,) = (await read_files(HERE, [path, str(tmp_path / "missing")])).values()
    assert (state.path, state.content, state.mode, state.owner, state.group) == (path, AWKWARD, 0o640, OWNER, GROUP)


async def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "empty")
    await write_file(HERE, path, "", owner=OWNER, group=GROUP)
    assert (await read_files(HERE, [path]))[path].content == b""


async def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_text("old")
    with pytest.raises(CommandError):
        await write_file(HERE, str(path), "new", owner="no-such-user-here")
    assert path.read_text() == "old"
    assert (await HERE.run("ls", "-A", str(tmp_path))).stdout == "kept\n"


async def test_removing_a_file_that_is_missing_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "-file"
    path.touch()
    await remove_file(HERE, str(path))
    await remove_file(HERE, str(path))
    assert not path.exists()
