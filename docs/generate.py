"""Write the reference pages that the code knows better than anybody: commands, and keys of the topology file."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import click

from pgbaton import cli
from pgbaton.topology.model import Topology

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Schema = dict[str, Any]

#: JSON Schema's types and formats in words.
TYPES = {
    "boolean": "`true` or `false`",
    "integer": "Whole number",
    "number": "Number",
    "object": "Table",
    "string": "Text",
}
FORMATS = {"ipv4": "IPv4 address", "ipv4network": "IPv4 network"}


def write(directory: Path) -> None:
    """Write every generated page; a page that would not change keeps its time, so that it is not built again."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in {"commands.md": commands_page(), "topology.md": topology_page()}.items():
        page = directory / name
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


# Commands


def commands_page() -> str:
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


# The topology file


def topology_page() -> str:
    """Return the page of all keys of the topology file."""
    schema = Topology.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    head = (
        "# Topology file\n\n"
        "One TOML file says everything about a cluster. Every key has a default except those marked required; an\n"
        "unknown key is refused. `pgbaton schema` prints the same as a JSON Schema, with which editors complete keys\n"
        "and mark mistakes. Durations are in seconds.\n\n"
        "```{literalinclude} ../../../src/pgbaton/topology/presets/standard.toml\n"
        ":language: toml\n:caption: The preset `standard`, as `pgbaton init` writes it\n```\n\n"
    )
    top = [f"`{key}`{requirement(schema, key)}\n: {describe(prop, definitions)}\n" for key, prop in scalars(schema)]
    return head + "\n".join([*top, *(table_section(schema, key, definitions) for key in tables(schema))])


def scalars(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield the keys of a table that are no tables themselves."""
    for key, prop in schema["properties"].items():
        if table_of(prop) is None:
            yield key, prop


def tables(schema: Schema) -> Iterator[str]:
    """Yield the keys of the file that are tables, or lists of them."""
    return (key for key, prop in schema["properties"].items() if table_of(prop) is not None)


def table_of(prop: Schema) -> str | None:
    """Return the definition that a key's table has in the schema, or None when it is no table."""
    target = prop.get("$ref") or prop.get("items", {}).get("$ref")
    return None if target is None or prop.get("items", {}).get("enum") else target.rsplit("/", 1)[-1]


def table_section(schema: Schema, key: str, definitions: dict[str, Schema]) -> str:
    """Return the section of one table of the file."""
    prop = schema["properties"][key]
    definition = definitions[table_of(prop) or ""]
    title = f"[[{key}]]" if prop.get("type") == "array" else f"[{key}]"
    entries = [
        f"`{name}`{requirement(definition, name)}\n: {describe(entry, definitions)}\n"
        for name, entry in definition["properties"].items()
    ]
    return "\n".join([f"## `{title}`\n", f"{inspect.cleandoc(definition.get('description', ''))}\n", *entries])


def requirement(definition: Schema, name: str) -> str:
    """Return the mark of a key that must be given."""
    return " (required)" if name in definition.get("required", []) else ""


def describe(prop: Schema, definitions: dict[str, Schema]) -> str:
    """Return a key's description, its type with limits, and its default."""
    default = prop.get("default")
    shown = "" if default is None or default in ([], {}) else f" Default: `{plain(default)}`."
    return f"{prop.get('description', '')} *{kind(prop, definitions)}.*{shown}".strip()


def plain(value: object) -> str:
    """Return a value as TOML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def kind(prop: Schema, definitions: dict[str, Schema]) -> str:
    """Return a key's type in words, with its limits."""
    if "$ref" in prop:
        return kind(definitions[prop["$ref"].rsplit("/", 1)[-1]], definitions)
    if "anyOf" in prop:
        return " or ".join(kind(choice, definitions) for choice in prop["anyOf"] if choice.get("type") != "null")
    if "enum" in prop:
        return "One of " + ", ".join(f"`{choice}`" for choice in prop["enum"])
    if "const" in prop:
        return f"`{prop['const']}`"
    if prop.get("type") == "array":
        return f"List of: {kind(prop['items'], definitions)}"
    return scalar_kind(prop)


def scalar_kind(prop: Schema) -> str:
    """Return the type of a single value in words, with its limits."""
    words = {
        "integer": "Whole number",
        "number": "Number",
        "string": "Text",
        "boolean": "`true` or `false`",
        "object": "Table",
    }
    name = {"ipv4": "IPv4 address", "ipv4network": "IPv4 network"}.get(prop.get("format", ""), words[prop["type"]])
    lowest, highest = prop.get("minimum"), prop.get("maximum")
    above = prop.get("exclusiveMinimum")
    if lowest is not None and highest is not None:
        return f"{name}, {lowest} to {highest}"
    if above is not None:
        return f"{name}, above {above}" + (f", at most {highest}" if highest is not None else "")
    if lowest is not None:
        return f"{name}, at least {lowest}"
    return f"{name} like `{prop['pattern']}`" if "pattern" in prop else name
