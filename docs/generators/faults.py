"""The page of everything that a proof can break, from the faults themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.proof.faults import CATALOGUE
from pgbaton.proof.faults.base import Service

if TYPE_CHECKING:
    from types import ModuleType

    from pgbaton.proof.faults.base import Fault

HEAD = """# Faults

Everything that [`pgbaton prove`](../../howto/prove-a-cluster.md) can break. *Right* is what must come of it, whether or
not a cluster manages that: a trial in which it does not is a miss or a violation, never a pass. A suite contains the
smaller ones: smoke, standard, full.
"""


def page() -> str:
    """Return the page."""
    return "\n".join([HEAD, *map(section, CATALOGUE)])


def section(module: ModuleType) -> str:
    """Return the faults of one module."""
    head = (module.__doc__ or "").partition("\n")[0].partition(": ")
    return "\n".join([f"## {head[0].rstrip('.')}\n", *map(entry, module.FAULTS)])


def entry(fault: Fault) -> str:
    """Return what is known of a fault."""
    facts = {
        "Done": f"{fault.does}.",
        "Right": f"{fault.right}.",
        "Suite": f"{fault.suite}{'' if fault.lab else '; safe in production'}.",
    }
    if fault.service is Service.AFTER_HEALING:
        facts["Service"] = "clients are served again only once the fault is undone."
    if fault.hold_seconds:
        facts["Lasts"] = f"at least {fault.hold_seconds:g} s."
    facts |= {f"Tolerates `{check}`": f"{reason}." for check, reason in fault.tolerates.items()}
    lines = "\n".join(f"- {name}: {text[0].upper()}{text[1:]}" for name, text in facts.items())
    return f"### `{fault.name}`\n\n{fault.title}.\n\n{lines}\n"
