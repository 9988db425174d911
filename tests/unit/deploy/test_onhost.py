from __future__ import annotations

import base64
import json
import stat
from typing import TYPE_CHECKING, Any

import pytest
from benches import OWNER, machine

from pgbaton.deploy import apply
from pgbaton.deploy.compare import digest
from pgbaton.hosts.fake import FakeHost

if TYPE_CHECKING:
    from pathlib import Path

ACCESS = f"0640 {OWNER['owner']} {OWNER['group']}"


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost("db1", machine(tmp_path / "db1"))


def file(path: str, content: str, *, before: str = "", **more: str | bool) -> dict[str, Any]:
    common = {"path": path, "before": before, "after": digest(content), "stage": "dcs", "component": "etcd"}
    rest = {"unit": "", "on_change": "nothing", "secret": False, "access": ACCESS, "source": ""}
    return {**common, **rest, "content": base64.b64encode(content.encode()).decode(), **more}


def request(**parts: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    empty: dict[str, Any] = {"files": [], "remove": [], "checks": [], "units": []}
    return {"plan": "p1", "cluster": "shop", **empty, "manifest": {"files": [], "units": []}, **parts}


async def test_a_file_gets_its_content_mode_and_a_place_in_the_manifest(host: FakeHost, tmp_path: Path) -> None:
    asked = request(files=[file("/etc/a/b", "text")], manifest={"files": ["/etc/a/b"], "units": ["u.service"]})
    answer = await apply.ask(host, asked)
    written = tmp_path / "db1/etc/a/b"
    assert answer == {"done": ["/etc/a/b"], "problem": None}
    assert (written.read_text(), stat.S_IMODE(written.stat().st_mode)) == ("text", 0o640)
    assert stat.S_IMODE(written.parent.stat().st_mode) == 0o755
    manifest = json.loads((tmp_path / "db1/var/lib/pgbaton/manifest.json").read_text())
    assert manifest == {"cluster": "shop", "files": {"/etc/a/b": digest("text")}, "units": ["u.service"]}


async def test_nothing_staged_is_left_and_what_is_kept_is_private(host: FakeHost, tmp_path: Path) -> None:
    await apply.ask(host, request(files=[file("/etc/a", "one")]))
    await apply.ask(host, request(plan="p2", files=[file("/etc/a", "two", before=digest("one"))]))
    home = tmp_path / "db1/var/lib/pgbaton"
    assert not (home / "staging").exists()
    kept = home / "previous/p2"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "manifest.json").stat().st_mode) == 0o600
    (entry,) = json.loads((kept / "index.json").read_text())
    assert entry["kept"] == "/var/lib/pgbaton/previous/p2/000"
    assert (kept / "000").read_text() == "one"


async def test_only_the_last_few_applies_are_kept(host: FakeHost, tmp_path: Path) -> None:
    for number in range(8):
        before = digest(str(number - 1)) if number else ""
        await apply.ask(host, request(plan=f"p{number}", files=[file("/etc/a", str(number), before=before)]))
    kept = sorted(path.name for path in (tmp_path / "db1/var/lib/pgbaton/previous").iterdir())
    assert kept == ["p3", "p4", "p5", "p6", "p7"]


async def test_a_file_that_drifted_stops_everything(host: FakeHost, tmp_path: Path) -> None:
    (tmp_path / "db1/etc").mkdir()
    (tmp_path / "db1/etc/b").write_text("changed by hand")
    answer = await apply.ask(host, request(files=[file("/etc/a", "x"), file("/etc/b", "y", before=digest("y0"))]))
    assert (answer["problem"]["kind"], answer["problem"]["subject"]) == ("drift", "/etc/b")
    assert not (tmp_path / "db1/etc/a").exists()


async def test_a_file_that_a_package_brought_is_kept_and_replaced(host: FakeHost, tmp_path: Path) -> None:
    (tmp_path / "db1/etc").mkdir()
    (tmp_path / "db1/etc/b").write_text("the package's own")
    answer = await apply.ask(host, request(files=[file("/etc/b", "ours", may_appear=True)]))
    assert answer == {"done": ["/etc/b"], "problem": None}
    assert (tmp_path / "db1/etc/b").read_text() == "ours"
    assert (tmp_path / "db1/var/lib/pgbaton/previous/p1/000").read_text() == "the package's own"


async def test_a_check_sees_the_staged_file_and_new_files_beside_it(host: FakeHost, tmp_path: Path) -> None:
    script = 'grep -q new "$1" && [ -f "$2" ]'
    checks = [{"argv": ["sh", "-c", script, "sh", "{/etc/a}", str(tmp_path / "db1/etc/key")], "user": "root"}]
    checks[0]["paths"] = ["/etc/a"]
    answer = await apply.ask(host, request(files=[file("/etc/key", "k"), file("/etc/a", "new")], checks=checks))
    assert answer["problem"] is None


async def test_after_a_failed_check_everything_is_as_before(host: FakeHost, tmp_path: Path) -> None:
    await apply.ask(host, request(files=[file("/etc/a", "old")]))
    check = {"argv": ["sh", "-c", "echo no good; exit 1", "{/etc/a}"], "paths": ["/etc/a"], "user": "root"}
    changed = file("/etc/a", "new", before=digest("old"), unit="u.service", on_change="restart")
    answer = await apply.ask(host, request(plan="p2", files=[file("/etc/key", "k"), changed], checks=[check]))
    assert answer["problem"] == {"kind": "check", "subject": "/etc/a", "message": "no good"}
    assert (tmp_path / "db1/etc/a").read_text() == "old"
    assert not (tmp_path / "db1/etc/key").exists()
    assert not (tmp_path / "db1/var/lib/pgbaton/pending.json").exists()


async def test_what_a_unit_has_to_do_is_remembered_until_it_is_done(host: FakeHost, tmp_path: Path) -> None:
    pending = tmp_path / "db1/var/lib/pgbaton/pending.json"
    changed = file("/etc/a", "x", unit="u.service", on_change="restart")
    await apply.ask(host, request(files=[changed]))
    assert json.loads(pending.read_text()) == {"u.service": "restart"}
    await apply.ask(host, request(units=[{"name": "u.service", "actions": ["restart"]}]))
    assert not pending.exists()


async def test_unit_files_are_read_anew_before_units_are_told(host: FakeHost, tmp_path: Path) -> None:
    unit = file("/etc/systemd/system/u.service", "[Service]\n", unit="u.service", on_change="restart")
    actions = ["unmask", "enable", "start"]
    await apply.ask(host, request(files=[unit], units=[{"name": "u.service", "actions": actions}]))
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [
        f"db1 {call}" for call in ("unmask u.service", "enable u.service", "daemon-reload", "start u.service")
    ]


async def test_an_owner_that_does_not_exist_is_named(host: FakeHost) -> None:
    answer = await apply.ask(host, request(files=[file("/etc/a", "x", access="0600 nobody-here nobody-here")]))
    assert answer["problem"]["kind"] == "file"
    assert "nobody-here" in answer["problem"]["message"]
