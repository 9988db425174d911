"""Bring a server back as a standby: by rewinding what it has beyond the primary, else by cloning it anew."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pgbaton.deploy.establish import CLONE_SECONDS, prepare
from pgbaton.errors import Error
from pgbaton.operate.checks import Check, require
from pgbaton.operate.hand import claims, control, promotion, standbys
from pgbaton.operate.members import only_primary
from pgbaton.operate.waiting import going_on

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.operate.hand.control import Control
    from pgbaton.operate.members import View
    from pgbaton.operate.operation import Operation

#: How long a server that was rewound, or only told whom to follow, may take to stream before it is cloned instead.
STREAM_SECONDS = 20
CHECKPOINT_SECONDS = 1800


def consider(view: View, controls: Mapping[str, Control | None], host: str, *, discard: bool = False) -> str:
    """Return the primary to follow; raises RefusedError when the host is it, or does not answer. Pure.

    So it does when the host's data are of a newer timeline than the primary's, unless they are to be discarded: what
    was acknowledged there may be nowhere else.
    """
    primary = only_primary(view, "reinit")
    found = controls[host]
    own = Check(f"{host} as standby", host != primary, "the primary", "a standby", "pgbaton switchover first")
    answers = Check(f"{host} answers", found is not None, "no", "yes", "bring the host back first")
    seen, limit = str(found.timeline if found else 0), f"{timeline(controls, primary)} at most, the primary's"
    fix = (
        f"{host} was primary after {primary}, and may have what nobody else has: stop PostgreSQL on {primary}, then "
        f"pgbaton failover --to {host}; to throw it away, run this on a terminal, without --yes"
    )
    newer = Check(f"{host} timeline", discard or not is_newer(controls, host, primary), seen, limit, fix)
    require("reinit", (own, answers, newer))
    return primary


def is_newer(controls: Mapping[str, Control | None], host: str, primary: str) -> bool:
    """Tell whether a host's data are of a newer timeline than the primary's. Pure."""
    return timeline(controls, host) > timeline(controls, primary)


def timeline(controls: Mapping[str, Control | None], host: str) -> int:
    """Return the timeline of a host's data; 0 when it is not known. Pure."""
    found = controls[host]
    return found.timeline if found else 0


def consequences(view: View, host: str) -> str:
    """Return what bringing a server back means for its data, and for commits meanwhile. Pure."""
    fate = f"all data of {host} is thrown away and copied anew"
    if host not in view.streaming:
        fate = f"what {host} has beyond the primary is taken back; where that cannot be, all of it is copied anew"
    left = ", ".join(sorted(view.streaming - {host})) or "none"
    return f"{fate}; streaming standbys meanwhile: {left}"


async def rejoin(operation: Operation, host: str, *, discard: bool = False) -> tuple[str, str]:
    """Bring a server back as a standby that streams; return the primary, and how: rewind or clone.

    A standby that streams already is cloned: who asks for that wants its data gone. ``discard``: data of a newer
    timeline than the primary's, too.
    """
    async with claims.claimed(operation, f"reinit of {host}"):
        return await bring_back(operation, host, discard=discard)


async def bring_back(operation: Operation, host: str, *, discard: bool) -> tuple[str, str]:
    """Bring a server back, while nobody else changes who leads."""
    view, controls = await asyncio.gather(operation.look(), control.look(operation.topology, operation.hosts))
    primary, found = consider(view, controls, host, discard=discard), controls[host]
    with going_on(operation.report, f"{host} is no standby yet: run reinit again"):
        await operation.sql(primary, "CHECKPOINT", seconds=CHECKPOINT_SECONDS)
        await standbys.detach_meanwhile(operation, host, primary)
        await control.stop_for_good(operation, host)
        await promotion.renew_slot(operation, primary, host)
        rewinds = found is not None and found.data and host not in view.streaming
        how = "rewind" if rewinds and await rewound(operation, host, primary) else "clone"
        if how == "clone":
            await clone(operation, host, primary)
        await promotion.forget_slots(operation, host)
        await standbys.attach_again(operation, host, primary)
    return primary, how


async def rewound(operation: Operation, host: str, primary: str) -> bool:
    """Rewind a server and start it; return whether it streams soon."""
    start = time.monotonic()
    operation.report(f"{host}: taking back what it has beyond {primary}")
    try:
        await control.tell(operation, host, "rewind", primary, seconds=CLONE_SECONDS)
        await control.start_soon(operation, host)
        await operation.within(STREAM_SECONDS).until_streaming(host, primary)
    except Error as error:
        operation.report(f"{host}: not to be had by rewinding: {error.message.strip().splitlines()[-1]}")
        return False
    operation.report(f"{host} was rewound and streams after {time.monotonic() - start:.1f} s")
    return True


async def clone(operation: Operation, host: str, primary: str) -> None:
    """Copy the primary's data to a host, and wait until it streams."""
    operation.report(f"{host}: cloning {primary}")
    await control.stop_for_good(operation, host)
    await promotion.renew_slot(operation, primary, host)
    await prepare(operation.topology, operation.hosts[host])
    watching = asyncio.create_task(watch(operation, host))
    try:
        await control.tell(operation, host, "clone", primary, seconds=CLONE_SECONDS)
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    await control.start_soon(operation, host)
    await operation.until_streaming(host, primary)


async def watch(operation: Operation, host: str) -> None:
    """Tell how large the copy is, now and then, for as long as it is made."""
    while True:
        await asyncio.sleep(10)
        topology = operation.topology
        argv = ("du", "-shc", topology.data_directory, *topology.directories)
        result = await operation.hosts[host].run(*argv, check=False, timeout=60)
        total = (result.stdout.splitlines() or ["nothing"])[-1].split()[0]
        operation.report(f"{host}: {total} copied")
