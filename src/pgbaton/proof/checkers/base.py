"""What a checker is: a pure function from evidence to a check, which is valid, invalid or unknown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pgbaton.proof.outage import Span  # noqa: TC001 - holdings are read back by their annotations

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.proof.audit import FinalRead
    from pgbaton.proof.history import History
    from pgbaton.topology.model import Topology


class Validity(StrEnum):
    """What a checker concludes, the best first: unknown is no pass, and invalid outweighs everything."""

    VALID = "valid"
    UNKNOWN = "unknown"
    INVALID = "invalid"


def worst(validities: Iterable[Validity]) -> Validity:
    """Merge conclusions: the worst counts; of none at all nothing is known to be wrong."""
    order = tuple(Validity)
    return max(validities, key=order.index, default=Validity.VALID)


@dataclass(frozen=True)
class Check:
    """One checker's conclusion; ``findings`` are sentences, ``figures`` plain numbers and texts by name."""

    name: str
    validity: Validity
    findings: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the check as JSON can carry it."""
        return {"validity": str(self.validity), "findings": list(self.findings), "figures": dict(self.figures)}

    @staticmethod
    def from_dict(name: str, data: Mapping[str, Any]) -> Check:
        """Return the check that ``to_dict`` gave."""
        return Check(name, Validity(data["validity"]), tuple(data["findings"]), dict(data["figures"]))


@dataclass(frozen=True)
class Holding:
    """A time in which a balancer had a VIP on its interface, on the history's clock.

    ``vip`` is its address where the cluster has several.
    """

    host: str
    span: Span
    vip: str = ""


@dataclass(frozen=True)
class Evidence:
    """Everything a trial left to judge by, on the history's clock.

    ``window`` is what is judged, ``fault`` the time from the fault to its undoing. ``finals`` are the final reads of
    every database host. ``holdings`` are all stretches in which a balancer had a VIP, None when nobody watched.
    ``remains`` is what was still wrong with the cluster at the end, None when nobody could look.
    """

    topology: Topology
    history: History
    window: Span
    fault: Span
    finals: tuple[FinalRead, ...]
    holdings: tuple[Holding, ...] | None = None
    remains: tuple[str, ...] | None = ()


Checker = Callable[[Evidence], Check]
