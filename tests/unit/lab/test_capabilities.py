from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pgbaton.errors import MissingCapabilityError
from pgbaton.lab import capabilities
from pgbaton.lab.capabilities import Probe

if TYPE_CHECKING:
    from pathlib import Path

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces")


def test_without_root_the_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingCapabilityError, match="needs root") as caught:
        capabilities.require_root()
    assert "sudo" in (caught.value.hint or "")


def test_all_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ip").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingCapabilityError) as caught:
        capabilities.require_programs(capabilities.PROGRAMS)
    assert "systemd-nspawn" in caught.value.message
    assert "lacks ip" not in caught.value.message
    hint = "on Debian: apt-get install mount nftables systemd systemd-container util-linux"
    assert caught.value.hint == hint


@needs_root
async def test_what_the_kernel_refuses_is_named_with_its_remedy() -> None:
    good = Probe("good things", "true", "nothing to do")
    bad = Probe("bad things", "echo no such device >&2; false", "modprobe badness")
    with pytest.raises(MissingCapabilityError, match=r"bad things \(no such device\)") as caught:
        await capabilities.require_probes((good, bad))
    assert caught.value.hint == "modprobe badness"


@needs_root
async def test_probes_leave_nothing_behind() -> None:
    await capabilities.require_probes(capabilities.PROBES)
    before = os.listdir("/mnt"), os.listdir("/sys/class/net")  # noqa: PTH208 - names are all that matters
    await capabilities.require_probes(capabilities.PROBES)
    assert (os.listdir("/mnt"), os.listdir("/sys/class/net")) == before  # noqa: PTH208
