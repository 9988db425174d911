"""What is wrong, said in the journal when it begins, now and then while it lasts, and when it is over."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pgbaton.agent.clock import clock

LOG = logging.getLogger(__name__)
#: What lasts is said again after so long, and after so long when there is something else to say of it.
AGAIN_SECONDS = 60.0
OTHER_SECONDS = 5.0


@dataclass(slots=True)
class Said:
    """What was said last of something, and when."""

    message: str
    at_seconds: float


class Complaints:
    """Keep one who tries again and again from filling the journal."""

    def __init__(self) -> None:
        self._said: dict[str, Said] = {}

    def about(self, what: str, message: str) -> None:
        """Say what is wrong with something, unless it was said a short time ago."""
        now, before = clock(), self._said.get(what)
        wait_seconds = AGAIN_SECONDS if before and before.message == message else OTHER_SECONDS
        if before is None or now - before.at_seconds >= wait_seconds:
            self._said[what] = Said(message, now)
            LOG.error("%s: %s", what, message)

    def over(self, what: str) -> None:
        """Say that something is well again, when it was not."""
        if self._said.pop(what, None) is not None:
            LOG.warning("%s: well again", what)
