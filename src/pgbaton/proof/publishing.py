"""Write a run's report: the page and JUnit XML, into its folder and wherever else they are wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.proof.reporting import junit as xml
from pgbaton.proof.reporting import page
from pgbaton.proof.store import JUNIT, PAGE

if TYPE_CHECKING:
    from pathlib import Path

    from pgbaton.proof.store import StoredRun


def publish(stored: StoredRun, *, html: Path | None = None, junit: Path | None = None) -> None:
    """Write the report of a stored run, whether it is complete or not."""
    run = stored.result()
    rendered, cases = page.render(run, stored.story, stored.history), xml.junit(run)
    for text, paths in ((rendered, (stored.path / PAGE, html)), (cases, (stored.path / JUNIT, junit))):
        for path in paths:
            if path is not None:
                path.write_text(text, encoding="utf-8")
