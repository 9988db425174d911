"""What must not outlive an agent: clients that it holds, at this host's server and in its pooler."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pgbaton.agent.acting import balancer
from pgbaton.agent.kernel import fences
from pgbaton.agent.kernel.fence_rules import Serving
from pgbaton.agent.kernel.fences import FenceError, Fences

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.agent.acting.own_fence import OwnFence
    from pgbaton.agent.settings import Settings

LOG = logging.getLogger(__name__)
#: How systemd says that a signal ended the agent, and not itself (systemd.exec(5), EXIT_CODE).
BY_SIGNAL = frozenset({"killed", "dumped"})


async def let_go_of_all(settings: Settings, own_fence: OwnFence | None) -> None:
    """Leave no client waiting for an agent that ends."""
    try:
        if own_fence is not None:
            await own_fence.let_in()
    except (FenceError, OSError) as error:
        LOG.error("clients of this host may still be held: %s", error)
    await let_go_of_pool(settings)


async def let_go_after(settings: Settings, environment: Mapping[str, str]) -> None:
    """Let clients go after an agent's end, however it ended.

    One that was killed is back in a moment, finds its clients held, and decides: a primary that has lost the majority
    must not serve meanwhile. One that ended by itself may not come back.
    """
    try:
        # Where a person promotes, no agent holds clients at a server.
        may_hold = not settings.is_manual and environment.get("EXIT_CODE") not in BY_SIGNAL
        if may_hold and fences.serving() is not Serving.OPEN:
            others = {host.name: host.addresses for host in settings.others}
            own = Fences(hosts=others, ports=settings.ports, directory=settings.state_directory)
            await own.serve(Serving.OPEN)
            own.close()
    except (FenceError, OSError) as error:
        LOG.error("clients of this host may still be held: %s", error)
    await let_go_of_pool(settings)


async def let_go_of_pool(settings: Settings) -> None:
    """Resume this host's pooler, and have Keepalived keep its VIP, where there are such."""
    if settings.me_host not in settings.holders and "balancer" not in settings.me_host.roles:
        return
    try:
        await balancer.let_go(settings)
    except OSError as error:
        LOG.error("Keepalived may still be told to give up the VIP: %s", error)
