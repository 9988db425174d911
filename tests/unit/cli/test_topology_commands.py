"""The commands about topology files: what they print, what they refuse, how they exit."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pgbaton import cli
from pgbaton.cli.demo import STOCK
from pgbaton.cli.topology import folded
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def pgbaton(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, given: str = "") -> Done:
        monkeypatch.setattr(sys, "argv", ["pgbaton", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        status: object = None
        try:
            cli.main()
        except SystemExit as ended:
            status = ended.code
        printed = capsys.readouterr()
        return Done(status if isinstance(status, int) else 0, printed.out, printed.err)

    return run


def test_what_init_writes_is_accepted_by_check(pgbaton: Run, tmp_path: Path) -> None:
    made = pgbaton("init", "--preset", "compact", "--name", "orders")
    assert (made.returncode, made.stderr) == (0, "")
    assert load.load(tmp_path / "topology.toml").name == "orders"
    checked = pgbaton("check")
    assert checked.returncode == 0
    for words in ("cluster orders", "n1", "10.77.0.100 (VIP)", "writes on 5000", "synchronous", "survives"):
        assert words in checked.stdout


def test_init_overwrites_only_by_force(pgbaton: Run, tmp_path: Path) -> None:
    (tmp_path / "topology.toml").write_text("mine")
    refused = pgbaton("init")
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert (tmp_path / "topology.toml").read_text() == "mine"
    assert pgbaton("init", "--force", "-o", "json").returncode == 0
    assert (tmp_path / "topology.toml").read_text() == presets.text("standard")


def test_init_prints_to_standard_output(pgbaton: Run) -> None:
    assert pgbaton("init", "--preset", "classic", "-").stdout == presets.text("classic")


@pytest.mark.parametrize(
    "arguments", [("init", "--name", "A b"), ("init", "--preset", "x"), ("init", "no/such/directory.toml")]
)
def test_init_refuses_what_cannot_be(pgbaton: Run, arguments: tuple[str, ...]) -> None:
    refused = pgbaton(*arguments)
    assert refused.returncode == 2
    assert refused.stderr
    assert "Traceback" not in refused.stderr


BAD = presets.text("standard").replace("10.77.0.12", "10.77.0.11").replace("[balancing]", "[balancing]\nread_prt = 1")


def test_check_tells_everything_on_standard_error(pgbaton: Run) -> None:
    refused = pgbaton("check", "-", given=BAD)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "standard input: 2 problems" in refused.stderr
    assert "hosts[1].address" in refused.stderr
    assert "did you mean read_port?" in refused.stderr


def test_check_tells_the_same_as_json(pgbaton: Run) -> None:
    refused = pgbaton("check", "-o", "json", "-", given=BAD)
    told = json.loads(refused.stdout)
    assert (refused.returncode, told["accepted"]) == (2, False)
    assert [problem["path"] for problem in told["problems"]] == ["hosts[1].address", "balancing.read_prt"]
    assert {"file", "line", "path", "value", "reason", "fix", "level"} == set(told["problems"][0])
    accepted = json.loads(pgbaton("check", "-o", "json", "-", given=presets.text("classic")).stdout)
    assert accepted["accepted"]
    assert accepted["problems"] == []
    assert accepted["ports"] == {"write": 5000, "read": 5001}
    assert accepted["durability"]["mode"] == "synchronous"


def test_check_says_whose_each_of_several_vips_is(pgbaton: Run) -> None:
    vip = 'vip = "10.77.0.100"'
    given = presets.text("standard").replace(vip, f'more_vips = ["10.77.0.101"]\n{vip}')
    shown = " ".join(pgbaton("check", "-", given=given).stdout.split())
    assert "10.77.0.100 (VIP of lb1) and 10.77.0.101 (VIP of lb2), writes on 5000" in shown
    told = json.loads(pgbaton("check", "-o", "json", "-", given=given).stdout)
    assert told["vip"] == told["entry"] == "10.77.0.100"
    assert told["vips"] == [
        {"address": "10.77.0.100", "virtual_router_id": 51, "home": "lb1"},
        {"address": "10.77.0.101", "virtual_router_id": 52, "home": "lb2"},
    ]
    alone = json.loads(pgbaton("check", "-o", "json", "-", given=presets.text("standard")).stdout)
    assert alone["vips"] == [{"address": "10.77.0.100", "virtual_router_id": 51, "home": None}]


def test_check_names_the_twin_of_a_vip(pgbaton: Run) -> None:
    text = presets.text("standard").replace("10.77.0.0/24", "fd00:77::/64").replace("10.77.0.", "fd00:77::")
    given = text.replace("[network]\n", '[network]\ntwin_vips = ["10.77.0.100/24"]\n')
    shown = " ".join(pgbaton("check", "-", given=given).stdout.split())
    assert "fd00:77::100 (VIP, with 10.77.0.100), writes on 5000" in shown
    (told,) = json.loads(pgbaton("check", "-o", "json", "-", given=given).stdout)["vips"]
    assert told == {"address": "fd00:77::100", "virtual_router_id": 51, "home": None, "twin": "10.77.0.100"}


def test_check_accepts_what_it_only_doubts(pgbaton: Run) -> None:
    doubted = presets.text("standard").replace('mode = "synchronous"', 'mode = "asynchronous"')
    checked = pgbaton("check", "-", given=doubted)
    assert checked.returncode == 0
    assert "warning: line " in checked.stdout
    assert "may lose some" in checked.stdout


@pytest.mark.parametrize("command", ["check", "budget"])
@pytest.mark.parametrize("mode", ["synchronous", "strict", "quorum"])
def test_no_line_is_longer_than_a_hundred_columns_or_ends_in_blanks(pgbaton: Run, command: str, mode: str) -> None:
    given = (
        presets.text("standard").replace('mode = "synchronous"', f'mode = "{mode}"').replace("# count = 1", "count = 2")
    )
    told = pgbaton(command, "-", given=given).stdout
    assert told
    assert [line for line in told.splitlines() if len(line) > 100 or line != line.rstrip()] == []


def test_what_is_wrong_is_told_in_lines_of_a_hundred_columns(pgbaton: Run) -> None:
    given = presets.text("standard").replace("# max_connections", "max_connections").replace("= 200", "= 50")
    told = pgbaton("check", "-", given=given).stderr
    assert "fix: set postgresql.max_connections to" in told
    assert max(map(len, told.splitlines())) <= 100


def test_check_of_nothing_says_how_to_begin(pgbaton: Run) -> None:
    refused = pgbaton("check")
    assert refused.returncode == 2
    assert "topology.toml" in refused.stderr
    assert "pgbaton init" in refused.stderr


def test_schema_is_json(pgbaton: Run) -> None:
    assert json.loads(pgbaton("schema").stdout)["properties"]["cluster"]


def test_parts_that_do_not_fit_a_line_go_on_in_the_next_and_none_is_split() -> None:
    parts = [f"part number {number} {number / 10:.2f}" for number in range(1, 12)]
    lines = folded(parts)
    assert len(lines) == 3
    assert all(line.startswith("  part number ") and len(line) <= 100 for line in lines)
    assert " ".join(line.strip() for line in lines) == " + ".join(parts)
    assert folded([]) == []


@pytest.mark.parametrize("more", ["", STOCK], ids=["with agents", "stock"])
def test_budget_tells_the_same_as_table_and_json(pgbaton: Run, more: str) -> None:
    text = presets.text("standard") + more
    table = pgbaton("budget", "-", given=text).stdout
    told = json.loads(pgbaton("budget", "-o", "json", "-", given=text).stdout)
    assert told["cluster"] == "standard"
    for prediction in told["predictions"]:
        assert prediction["title"] in table
    assert told["durability"]["survives"] in table
    assert pgbaton("budget", "-", given=BAD).returncode == 2
    assert all(len(line) <= 100 for line in table.split("\n") if " + " in line or "(" in line)


def test_the_module_is_imported_without_pydantic() -> None:
    program = "import sys, pgbaton.cli.topology; print('pydantic' in sys.modules)"
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
