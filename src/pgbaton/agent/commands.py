"""What the command line runs: each takes the settings and the file of secrets, and returns an exit status."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import sys
from typing import TYPE_CHECKING

from pgbaton.agent.acting import holds
from pgbaton.agent.kernel import fences
from pgbaton.agent.kernel.fences import FenceError

if TYPE_CHECKING:
    from pathlib import Path

    from pgbaton.agent.settings import Settings


def run(settings: Settings, secrets: Path) -> int:
    """Hear the other hosts, and act, until told to stop."""
    from pgbaton.agent.daemon import Agent  # noqa: PLC0415 - what else is run here needs little of it, and soon

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s: %(message)s")
    do_not_wait_for_journal(sys.stderr.fileno())
    asyncio.run(Agent(settings, secrets).run())
    return os.EX_OK


def do_not_wait_for_journal(descriptor: int) -> None:
    """Let what the journal does not take be lost: when its disk hangs, the agent has more to do than to wait for it."""
    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        os.set_blocking(descriptor, False)
        logging.raiseExceptions = False


def restore_fences(settings: Settings, secrets: Path) -> int:
    """Put up the fences that stood before a reboot."""
    del secrets
    try:
        standing = asyncio.run(fences.restore(settings.state_directory))
    except FenceError as error:
        sys.stderr.write(f"{error}\n")
        return os.EX_UNAVAILABLE
    for fence in standing:
        sys.stdout.write(f"fenced {fence.host} ({fence.address}): {fence.reason}\n")
    return os.EX_OK


def release_holds(settings: Settings, secrets: Path) -> int:
    """Let clients go that an agent held, and Keepalived have its VIP."""
    del secrets
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s: %(message)s")
    asyncio.run(holds.let_go_after(settings, os.environ))
    return os.EX_OK
