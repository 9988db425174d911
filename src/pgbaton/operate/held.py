"""A hand-over with clients held: what agents do together, asked of the one on the primary's host."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgbaton.components import agent
from pgbaton.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.operate.operation import Operation

#: The agent's own patience, and the way there.
SECONDS = 45.0
#: How the agent's program ends that is not there, or does not understand its settings (sysexits.h: EX_CONFIG).
NEVER_ASKED = (2, 78)


@dataclass(frozen=True)
class HandedOver:
    """What came of it: ``seconds`` by part when it happened, else why it did not.

    ``refused``: nothing was changed; without it nobody knows how far it came.
    """

    done: bool
    refused: bool = False
    why: str = ""
    seconds: Mapping[str, float] | None = None


async def hand_over(operation: Operation, source: str, target: str) -> HandedOver:
    """Ask the agent of the primary's host; a host without one refuses."""
    argv = (*agent.RUN.split(), "switchover", "--to", target)
    try:
        result = await operation.hosts[source].run(*argv, check=False, timeout=SECONDS)
    except CommandError as error:
        return HandedOver(done=False, why=error.message)
    return read(result.stdout, result.stderr, result.exit_status)


def read(stdout: str, stderr: str, exit_status: int = 1) -> HandedOver:
    """Read what the agent's program printed; without that, nobody knows how far it came. Pure."""
    try:
        said: dict[str, Any] = json.loads(stdout)
        if said["done"]:
            return HandedOver(done=True, seconds=said["seconds"])
        return HandedOver(done=False, refused=bool(said["refused"]), why=str(said["why"]))
    except (KeyError, TypeError, ValueError):
        never_asked = exit_status in NEVER_ASKED and not stdout.strip()
        return HandedOver(
            done=False, refused=never_asked, why=(stderr.strip() or "it printed nothing").splitlines()[-1]
        )
