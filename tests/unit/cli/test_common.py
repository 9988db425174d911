from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgbaton.cli.common import require_writable
from pgbaton.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_page_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write the file") as caught:
        require_writable(tmp_path / "missing" / "page.html", option="--html")
    assert caught.value.hint == "choose another place with --html FILE"


def test_looking_whether_the_page_can_be_written_leaves_no_trace(tmp_path: Path) -> None:
    require_writable(tmp_path / "page.html", option="--html")
    assert not list(tmp_path.iterdir())
    (tmp_path / "page.html").write_text("an older one")
    require_writable(tmp_path / "page.html", option="--html")
    assert (tmp_path / "page.html").read_text() == "an older one"
