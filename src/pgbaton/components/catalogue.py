"""All the components. Adding one is a new module and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgbaton.components.base import Component

COMPONENTS: tuple[Component, ...] = ()
