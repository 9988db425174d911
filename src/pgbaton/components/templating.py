"""Configuration files that have no structured form: the only module that knows jinja2."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from pgbaton.topology.addresses import bracketed

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def environment() -> Environment:
    """Return the environment of the templates: unknown names are errors, nothing is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - most commands fill in none

    made = Environment(
        loader=PackageLoader("pgbaton.components"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - configuration files, not HTML
    )
    made.filters["bracketed"] = bracketed
    return made


def render(template: str, **values: object) -> str:
    """Return a template of ``components/templates`` filled in."""
    return environment().get_template(template).render(**values)


def milliseconds(seconds: float) -> str:
    """Return a duration as HAProxy and PostgreSQL write it: ``200ms``."""
    return f"{round(seconds * 1000)}ms"
