"""The command line as a whole: it starts quickly, explains itself, and refuses with a hint."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from pgbaton import __version__, cli, errors

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What takes long to import, and no help text needs.
HEAVY = ("asyncio", "cryptography", "jinja2", "psycopg", "pydantic", "rich", "tomllib", "yaml")

#: Commands that are about one cluster: they all choose it in the same way.
OF_ONE_CLUSTER = (
    *("status", "watch", "logs", "switchover", "failover", "restart", "reinit", "dsn", "psql", "rollback"),
    *("secrets show", "lab up", "lab down", "lab status", "lab exec", "lab shell", "lab logs"),
    *("lab power-off", "lab power-on", "lab cut", "lab heal"),
)

#: Commands whose result programs want to read.
WITH_JSON = (
    *("check", "budget", "render", "plan", "apply", "rollback", "status", "logs", "switchover", "failover", "restart"),
    *("reinit", "dsn", "demo", "lab status"),
)


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below a group by the words that call it."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield from walk(child, (*path, name))


def every_command() -> dict[str, click.Command]:
    return dict(walk(cli.root))


def options(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def run_main(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "pgbaton", *arguments), capture_output=True, text=True, check=False, timeout=30
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        f"sys.argv = ['pgbaton', *{arguments!r}]\n"
        "from pgbaton.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('HEAVY', *[name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    ran = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, check=True, timeout=30)
    assert ran.stdout.splitlines()[-1] == "HEAVY"


def test_version_is_the_packages() -> None:
    assert run_main("--version").stdout == f"pgbaton, version {__version__}\n"


def test_help_lists_every_command_in_the_order_of_the_table() -> None:
    listing = CliRunner().invoke(cli.root, ["--help"]).output.split("Commands:\n")[1].split("\n\n")[0]
    listed = [line.split()[0] for line in listing.splitlines()]
    assert listed == list(cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_of_the_table_exists_under_its_name(name: str) -> None:
    command = cli.root.get_command(click.Context(cli.root), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").strip()


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    command = cli.root.get_command(click.Context(cli.root), name)
    assert command is not None
    for words, leaf in walk(command, (name,)):
        told = CliRunner().invoke(leaf, ["--help"], prog_name=f"pgbaton {words}").output
        assert f"pgbaton {words}" in told.split("Example", 1)[-1], f"{words} has no example"
        undocumented = [option.name for option in leaf.params if isinstance(option, click.Option) and not option.help]
        assert not undocumented, f"{words}: options without help"


def test_commands_of_one_cluster_choose_it_the_same_way() -> None:
    commands = every_command()
    assert [name for name in OF_ONE_CLUSTER if "--cluster" not in options(commands[name])] == []


def test_results_come_as_json_too() -> None:
    commands = every_command()
    assert [name for name in WITH_JSON if "--output" not in options(commands[name])] == []


@pytest.mark.parametrize("arguments", [["statu"], ["lab", "upp"], ["status", "--cluste"], ["dsn", "--no-such-option"]])
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str]) -> None:
    ran = run_main(*arguments)
    assert ran.returncode == errors.UsageError.exit_code
    assert ran.stdout == ""
    assert "No such" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_unknown_cluster_is_a_usage_error_with_a_hint(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("PGBATON_STATE_HOME", str(tmp_path))
    ran = run_main("status", "--cluster", "nowhere")
    assert ran.returncode == errors.UsageError.exit_code
    assert "no cluster named nowhere is known here (known: none)" in ran.stderr
    assert "hint: " in ran.stderr


@pytest.mark.parametrize("arguments", [("schema",), ("init", "-")], ids=["long", "short"])
def test_a_reader_that_has_enough_ends_the_command_quietly(arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    argv = (sys.executable, "-m", "pgbaton", *arguments)
    try:
        ran = subprocess.run(argv, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=30)
    finally:
        os.close(writing)
    assert (ran.returncode, ran.stderr) == (141, "")


def test_every_kind_of_error_has_its_own_exit_code() -> None:
    kinds = (
        *(errors.UsageError, errors.UnhealthyError, errors.UnreachableError),
        *(errors.ObjectiveMissedError, errors.RefusedError),
    )
    assert [kind.exit_code for kind in kinds] == [2, 3, 4, 5, 6]
    assert errors.Error.exit_code == 1
