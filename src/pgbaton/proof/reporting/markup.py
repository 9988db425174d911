"""HTML in small pieces: cells, tables, badges. Everything that comes from outside is escaped here. Pure."""

from __future__ import annotations

from html import escape
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PACKAGE = "pgbaton.proof.reporting"


def resource(name: str) -> str:
    """Return a file that lies beside the code."""
    return resources.files(PACKAGE).joinpath(name).read_text(encoding="utf-8")


def style() -> str:
    """Return the style sheet that all pages share."""
    return resource("style.css")


def cell(content: str, *, css: str = "") -> str:
    """Return a cell with text."""
    return markup_cell(escape(content), css=css)


def markup_cell(content: str, *, css: str = "") -> str:
    """Return a cell with what is HTML already."""
    return f'<td class="{css}">{content}</td>' if css else f"<td>{content}</td>"


def table(heads: Sequence[tuple[str, str]], rows: Iterable[str], *, css: str = "") -> str:
    """Return a table: ``heads`` are texts with their class, ``rows`` are cells already."""
    head = "".join(f'<th class="{of}">{escape(text)}</th>' if of else f"<th>{escape(text)}</th>" for text, of in heads)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="wide"><table class="{css}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def badge(verdict: str) -> str:
    """Return a verdict as a coloured word."""
    return f'<span class="badge {verdict}">{verdict}</span>'


def bullets(sentences: Iterable[str]) -> str:
    """Return sentences as a list."""
    return "<ul>" + "".join(f"<li>{escape(each)}</li>" for each in sentences) + "</ul>"


def place(left: float, content: str = "", *, css: str, width: float | None = None, title: str = "") -> str:
    """Return a mark at a percentage of its parent's width, with a tooltip."""
    style = f"left:{left:.2f}%" + (f";width:{width:.2f}%" if width is not None else "")
    tip = f' title="{escape(title)}"' if title else ""
    return f'<i class="{css}" style="{style}"{tip}>{escape(content)}</i>'
