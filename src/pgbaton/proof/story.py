"""What happened in one trial and when: enough to draw it, together with its history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgbaton.observe import codec
from pgbaton.proof.checkers.base import Holding  # noqa: TC001 - a story is read back by its annotations
from pgbaton.proof.marks import Mark  # noqa: TC001
from pgbaton.proof.outage import Span  # noqa: TC001
from pgbaton.proof.parts import Part  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Story:
    """A trial's course, on its history's clock (seconds).

    ``window`` is the time measured in; ``injected``, ``struck``, ``served`` and ``healed`` are as in Trial. ``outage``
    is the longest one of writes, ``parts`` what it was made of. ``addresses`` names hosts by address, ``primary`` and
    ``vip`` those that had the parts before. ``holdings`` tell who had the VIP and when.
    """

    fault: str
    title: str
    does: str
    hosts: tuple[str, ...]
    window: Span
    injected: float
    struck: float
    served: float | None
    healed: float
    outage: Span
    parts: tuple[Part, ...]
    marks: tuple[Mark, ...]
    holdings: tuple[Holding, ...]
    addresses: Mapping[str, str]
    primary: str
    vip: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the story as JSON can carry it."""
        data: dict[str, Any] = codec.encode(self)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Story:
        """Return the story that ``to_dict`` gave."""
        return codec.decode(cls, data)
