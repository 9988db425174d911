"""The topology format as JSON Schema, for editors."""

from __future__ import annotations

from typing import Any

from pgbaton.topology.model import Topology

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Formats that pydantic names and JSON Schema does not know, as patterns that it does.
PATTERNS = {
    "ipv4network": r"^\d{1,3}(\.\d{1,3}){3}/\d{1,2}$",
    "ipv4interface": r"^\d{1,3}(\.\d{1,3}){3}/\d{1,2}$",
    "ipv6interface": r"^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/(\d{1,2}|1[01]\d|12[0-8])$",
    "ipv6network": r"^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/(\d{1,2}|1[01]\d|12[0-8])$",
}


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of topology files, parsed from TOML to JSON's types."""
    described = _exact(Topology.model_json_schema(by_alias=True))
    return {"$schema": DIALECT, **described, "title": "pgbaton topology"}


def _exact(node: Any) -> Any:  # noqa: ANN401 - any part of a schema
    """Refuse what pydantic's schema leaves open: unknown formats, and keys that no pattern matches."""
    if isinstance(node, list):
        return [_exact(item) for item in node]
    if not isinstance(node, dict):
        return node
    exact = {key: _exact(value) for key, value in node.items()}
    if exact.get("format") in PATTERNS:
        exact["pattern"] = PATTERNS[exact.pop("format")]
    if "patternProperties" in exact:
        exact["additionalProperties"] = False
    return exact
