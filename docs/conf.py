"""Sphinx's configuration; the pages about commands and the topology file are generated before each build."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

import generators

from pgbaton import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "pgbaton"
author = "the pgbaton developers"
copyright = f"2026, {author}"
release = version = __version__

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"pgbaton {release}"
html_show_sphinx = False
html_copy_source = False


def setup(app: Sphinx) -> None:
    """Write the generated pages before Sphinx looks for pages."""
    generators.write(Path(app.srcdir) / "reference" / "generated")
