"""Frozen dataclasses to what JSON can carry, and back, by their annotations alone."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

#: Metadata of a field that is left out where it is None: what is new in a form must not change what has nothing of it.
OPTIONAL: Mapping[str, bool] = MappingProxyType({"optional": True})


def encode(value: Any) -> Any:  # noqa: ANN401 - JSON has no static type
    """Return a value as dictionaries, lists and scalars."""
    if dataclasses.is_dataclass(value):
        fields = (field for field in dataclasses.fields(value) if told(field, value))
        return {field.name: encode(getattr(value, field.name)) for field in fields}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    return value


def told(field: dataclasses.Field[Any], value: object) -> bool:
    """Tell whether a field of a value is written down."""
    return not field.metadata.get("optional") or getattr(value, field.name) is not None


def decode(cls: type[T], data: Mapping[str, Any]) -> T:
    """Return the dataclass that ``encode`` gave ``data`` for; raises TypeError when a required field is missing."""
    return cls(**{name: _decode(annotation, data[name]) for name, annotation in _fields(cls).items() if name in data})


def _fields(cls: type) -> dict[str, Any]:
    # The snapshot imports Mapping for its annotations only, so it is named here.
    return get_type_hints(cls, localns={"Mapping": Mapping})


def _decode(annotation: Any, value: Any) -> Any:  # noqa: ANN401 - JSON has no static type
    if value is None:
        return None
    if get_origin(annotation) in {Union, types.UnionType}:
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is tuple:
        return tuple(_decode(get_args(annotation)[0], item) for item in value)
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return decode(annotation, value)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return annotation(value)
    return value
