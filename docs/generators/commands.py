"""The page of all commands, from click's own description of them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import click

from pgbaton import cli

if TYPE_CHECKING:
    from collections.abc import Iterator


def page() -> str:
    """Return the page of all commands."""
    head = (
        "# Commands\n\n"
        "Results go to standard output, progress and questions to standard error. Every command of one cluster takes\n"
        "`--cluster NAME`; without it, `PGBATON_CLUSTER` decides, else the only cluster this machine knows.\n"
        "What the exit codes mean stands [on a page of its own](../exit-codes.md).\n\n"
    )
    context = click.Context(cli.root, info_name="pgbaton")
    return head + "\n".join(command_section(child) for child in children(context))


def children(context: click.Context) -> Iterator[click.Context]:
    """Yield the context of each command of a group."""
    group = context.command
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if command is not None and not command.hidden:
                yield click.Context(command, info_name=name, parent=context)


def command_section(context: click.Context, level: int = 2) -> str:
    """Return the section of a command, and below it those of its own commands."""
    command = context.command
    parts = [f"{'#' * level} `{context.command_path}`\n", f"{prose(command.help)}\n"]
    below = [command_section(child, level + 1) for child in children(context)]
    if not below:
        pieces = " ".join(command.collect_usage_pieces(context))
        parts.append(f"```text\n{context.command_path} {pieces}\n```\n")
        parts.extend(option_entry(parameter) for parameter in command.params if isinstance(parameter, click.Option))
    parts.append(example(command.epilog))
    return "\n".join(part for part in [*parts, *below] if part)


def prose(text: str | None) -> str:
    """Return a help text without click's own marks."""
    return inspect.cleandoc(text or "").replace("\b\n", "").split("\f")[0]


def example(epilog: str | None) -> str:
    """Return a command's closing words: the example as code, whatever follows as text."""
    text = prose(epilog)
    if not text:
        return ""
    head, colon, rest = text.partition(":")
    if not colon or not head.startswith("Example"):
        return f"{text}\n"
    lines = "\n".join(line.strip() for line in rest.strip().splitlines() if line.strip())
    return f"{head}:\n\n```console\n{lines}\n```\n"


def option_entry(option: click.Option) -> str:
    """Return an option as an entry of a definition list."""
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    value = "" if option.is_flag or option.count else f" `{metavar(option)}`"
    notes = [option.help or ""]
    if option.envvar:
        notes.append(f"Environment: `{option.envvar}`.")
    if option.show_default and isinstance(option.default, str | int | float) and not option.is_flag:
        notes.append(f"Default: `{option.default}`.")
    return f"{names}{value}\n: {' '.join(notes)}\n"


def metavar(option: click.Option) -> str:
    """Return what stands for an option's value."""
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(str(choice) for choice in option.type.choices)
    return option.type.name.upper()
