"""The topology format as JSON Schema, for editors."""

from __future__ import annotations

from typing import Any

from pgbaton.topology.model import Topology

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Formats that pydantic names and JSON Schema does not know, as patterns that it does.
PATTERNS = {"ipv4network": r"^\d{1,3}(\.\d{1,3}){3}/\d{1,2}$"}


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of topology files, parsed from TOML to JSON's types."""
    described = _known_formats(Topology.model_json_schema(by_alias=True))
    return {"$schema": DIALECT, **described, "title": "pgbaton topology"}


def _known_formats(node: Any) -> Any:  # noqa: ANN401 - any part of a schema
    if isinstance(node, list):
        return [_known_formats(item) for item in node]
    if not isinstance(node, dict):
        return node
    known = {key: _known_formats(value) for key, value in node.items()}
    if known.get("format") in PATTERNS:
        known["pattern"] = PATTERNS[known.pop("format")]
    return known
