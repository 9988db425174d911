"""Options of ``pgbaton prove`` that say nothing beside others: refused, rather than one of them passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from click.core import ParameterSource

from pgbaton.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import click

#: What goes with --resume: everything else is as it was asked for then.
WITH_RESUME = frozenset({"resume", "html", "junit", "output", "yes"})
#: Suites whose faults are made for the run: how long they last is asked for.
LASTING = ("chaos", "soak")
PAIRS = (
    ("topology", "preset"),
    ("schedule", "suite"),
    ("schedule", "fault"),
    ("schedule", "minutes"),
)


def refuse(context: click.Context) -> None:
    """Raise UsageError when what the user gave contradicts itself; defaults contradict nothing."""
    given = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    for name in ("resume", "target"):
        if given.get(name) == "":
            message = f"{spelt(name)} is empty"
            raise UsageError(message, hint="an empty variable in a script? name what is meant, or leave the option out")
    for one, other in contradictions(given):
        message = f"{spelt(one)} does not go with {other}"
        raise UsageError(message, hint="leave one of them out")


def contradictions(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the options that do not go with others, and with what. Pure."""
    found = [(one, spelt(other)) for one, other in PAIRS if one in given and other in given]
    if "resume" in given:
        found.extend((name, "--resume, which goes on as it was asked for") for name in given if name not in WITH_RESUME)
    if "name" in given and given.get("target", "lab") != "lab":
        found.append(("name", f"--target {given['target']}, which has a name"))
    if given.get("suite", "chaos") != "chaos" and "fault" in given:
        found.append(("fault", f"--suite {given['suite']}, which has faults of its own"))
    if "minutes" in given and given.get("suite") not in LASTING:
        found.append(("minutes", f"anything but --suite {' or '.join(LASTING)}"))
    if "operator_seconds" in given and "fault" not in given:
        found.append(("operator_seconds", "anything but --fault: in no suite does a person end a fault"))
    return found


def spelt(name: str) -> str:
    """Return an option as the user writes it."""
    return "TOPOLOGY" if name == "topology" else f"--{name.replace('_', '-')}"
