"""What operators do on purpose, and faults that strike while they do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.operate.switchover import switchover
from pgbaton.proof.faults.base import Fault, Suite, predicted, primary
from pgbaton.proof.parts import SWITCHOVER_PARTS
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Strike


async def switch_over(strike: Strike) -> None:
    """Move the primary to a standby, as an operator would."""
    await switchover(strike.target.operation, to=None)


FAULTS = (
    Fault(
        name="switchover",
        title="Planned switchover",
        does="the primary is moved to a standby by its operator",
        right="the chosen standby is primary, nothing is in doubt",
        victims=primary,
        inject=switch_over,
        expects=predicted("switchover", SWITCHOVER_PARTS),
        needs=((Role.DATABASE, 2),),
        lab=False,
        suite=Suite.SMOKE,
    ),
)
