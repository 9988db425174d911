"""The page of all keys of the topology file, from its JSON Schema."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pgbaton.topology.model import Topology

if TYPE_CHECKING:
    from collections.abc import Iterator

Schema = dict[str, Any]

#: JSON Schema's types and formats in words.
TYPES = {
    "boolean": "`true` or `false`",
    "integer": "Whole number",
    "number": "Number",
    "object": "Table",
    "string": "Text",
}
FORMATS = {
    "ipv4": "IPv4 address",
    "ipv4interface": "IPv4 address with its prefix length",
    "ipv4network": "IPv4 network",
    "ipv6": "IPv6 address",
    "ipv6interface": "IPv6 address with its prefix length",
    "ipv6network": "IPv6 network",
}


def page() -> str:
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
    name = FORMATS.get(prop.get("format", ""), words[prop["type"]])
    lowest, highest = prop.get("minimum"), prop.get("maximum")
    above = prop.get("exclusiveMinimum")
    if lowest is not None and highest is not None:
        return f"{name}, {lowest} to {highest}"
    if above is not None:
        return f"{name}, above {above}" + (f", at most {highest}" if highest is not None else "")
    if lowest is not None:
        return f"{name}, at least {lowest}"
    return f"{name} like `{prop['pattern']}`" if "pattern" in prop else name
