from __future__ import annotations

import os
import subprocess

import pytest

from pgbaton.errors import UnreachableError
from pgbaton.hosts.machine import MachineHost, is_living, started


def test_a_process_is_told_from_later_ones_of_the_same_id() -> None:
    since = started(os.getpid())
    assert since is not None
    assert is_living(os.getpid(), since)
    assert not is_living(os.getpid(), f"{since}1")


def test_a_process_that_is_not_there_does_not_live() -> None:
    beyond = 2**22 + 1  # the kernel's largest process id is 2**22
    assert started(beyond) is None
    assert not is_living(beyond, None)
    assert not is_living(None, None)


def test_a_machine_that_is_off_is_unreachable() -> None:
    with pytest.raises(UnreachableError, match="powered off") as caught:
        MachineHost("db1", None).local_argv(("true",))
    assert caught.value.hint == "pgbaton lab power-on db1"


def test_programs_in_a_machine_see_nothing_of_this_machine_s_environment() -> None:
    argv = MachineHost("db1", 42).local_argv(("printenv", "-0"))
    assert argv[:3] == ("nsenter", "-t", "42")
    assert argv[argv.index("env") + 1] == "-i"
    assert argv[-2:] == ("printenv", "-0")


def test_on_a_terminal_an_interrupt_is_the_program_s_affair_and_its_status_is_passed_on() -> None:
    argv = MachineHost("db1", 42).local_argv(("psql", "-X"), terminal=True)
    assert "--no-fork" in argv[: argv.index("--")]
    program = "trap 'exit 3' INT; kill -INT $PPID $$; exit 9"
    survivor = (*argv[argv.index("sh") : -2], "sh", "-c", program)
    # In the background of a script, nobody could trap what is ignored from the start.
    argv = ("env", "--default-signal=INT", *survivor)
    assert subprocess.run(argv, check=False, timeout=10).returncode == 3
