"""Files are read carefully: encodings, sizes, depth, syntax; and every key is found at its line."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from refusals import BASE

from pgbaton.errors import TopologyError
from pgbaton.topology import load
from pgbaton.topology.lines import line_of, locate

if TYPE_CHECKING:
    from pathlib import Path


def refusal(path: Path, data: bytes) -> TopologyError:
    path.write_bytes(data)
    with pytest.raises(TopologyError) as caught:
        load.load(path)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].file == str(path)
    return caught.value


def test_a_sound_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "topology.toml"
    path.write_text(BASE)
    topology = load.load(path)
    assert topology.name == "trial"
    assert topology.entry_address == IPv4Address("10.77.0.100")


def test_windows_line_ends_are_taken() -> None:
    assert load.loads(BASE.replace("\n", "\r\n")) == load.loads(BASE)


def test_bytes_that_are_no_utf8_are_refused_with_their_line(tmp_path: Path) -> None:
    problem = refusal(tmp_path / "t", b"schema = 1\n# caf\xe9\n").problems[0]
    assert (problem.line, "0xe9" in problem.reason, "UTF-8" in problem.fix) == (2, True, True)


def test_a_byte_order_mark_is_refused(tmp_path: Path) -> None:
    problem = refusal(tmp_path / "t", b"\xef\xbb\xbf" + BASE.encode()).problems[0]
    assert (problem.line, "byte-order mark" in problem.reason) == (1, True)


def test_utf16_is_refused(tmp_path: Path) -> None:
    assert "UTF-8" in refusal(tmp_path / "t", BASE.encode("utf-16")).problems[0].reason


@pytest.mark.parametrize("size", [load.LARGEST_BYTES + 1, load.LARGEST_BYTES * 3])
def test_a_file_that_is_too_large_is_refused(tmp_path: Path, size: int) -> None:
    data = BASE.encode() + b"#" * (size - len(BASE))
    assert "larger than 1024 KiB" in refusal(tmp_path / "t", data).problems[0].reason


def test_a_large_file_within_the_limit_is_read() -> None:
    text = BASE + "# comment\n" * 8_000
    assert load.loads(text) == load.loads(BASE)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(TopologyError) as caught:
        load.load(tmp_path / "none.toml")
    assert "No such file" in str(caught.value)
    assert "pgbaton init" in caught.value.problems[0].fix


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="directory"):
        load.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("schema = 1\ncluster = [1", 2, "no valid TOML"),
        ("schema = 1\nname = lb1\n", 2, "no valid TOML at column 8"),
        ("schema = 1\nschema = 1\n", 2, "cannot overwrite"),
        ("a = 1\n[a]\nb = 1\n", 2, "no valid TOML"),
        ("schema = 1\x00\n", 1, "no valid TOML"),
        (f"schema = {'9' * 5000}\n", None, "no valid TOML"),
        ("a = " + "[" * 100_000, None, "nested"),
        ("a = " + "[" * 50 + "]" * 50, None, "nested"),
        (".".join(["a"] * 5000) + " = 1", None, "nested"),
        ("a = " + "{b = " * 50 + "1" + "}" * 50, None, "nested"),
    ],
)
def test_bad_syntax_is_refused_with_its_line(text: str, line: int | None, reason: str) -> None:
    topology, problems = load.parse(text, "t.toml")
    assert topology is None
    assert [(problem.line, reason in problem.reason) for problem in problems] == [(line, True)]


TRICKY = '''\
# [comment] = 1
schema = 1
a.b."x.y" = [1,
  2.5, # ] ,
  { k = "a # b", l = [ 1979-05-27T07:32:00.5Z ] },
]
[[hosts]]
name = 'x = 1'
"na\\u006De2" = """
[not.a.table]
k = 1
""quoted"""""
after = \'\'\'
it's\'\'\'
[hosts.sub]
z = 1
[[ hosts ]]
name = "y"
[[hosts.disk]]
q = 07:32:00.25
[[hosts.disk]]
q = -1e3
[hosts.disk.inner]
w = true
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("schema",), 2),
        (("a",), 3),
        (("a", "b", "x.y"), 3),
        (("a", "b", "x.y", 0), 3),
        (("a", "b", "x.y", 1), 4),
        (("a", "b", "x.y", 2, "k"), 5),
        (("a", "b", "x.y", 2, "l", 0), 5),
        (("hosts",), 7),
        (("hosts", 0, "name"), 8),
        (("hosts", 0, "name2"), 9),
        (("hosts", 0, "after"), 13),
        (("hosts", 0, "sub", "z"), 16),
        (("hosts", 1), 17),
        (("hosts", 1, "name"), 18),
        (("hosts", 1, "disk", 0, "q"), 20),
        (("hosts", 1, "disk", 1), 21),
        (("hosts", 1, "disk", 1, "q"), 22),
        (("hosts", 1, "disk", 1, "inner", "w"), 24),
    ],
)
def test_keys_are_found_at_their_lines(path: tuple[str | int, ...], line: int) -> None:
    assert locate(TRICKY)[path] == line


def test_a_missing_key_is_at_its_table() -> None:
    lines = locate(TRICKY)
    assert line_of(lines, ("hosts", 1, "address")) == 17
    assert line_of(lines, ("hosts", 0, "sub", "deeper", 3)) == 15
    assert line_of(lines, ("network", "vip")) is None
    assert line_of(lines, ()) is None
    assert locate("") == {}
