"""What a database host's own program says and does: the server's data, whom it follows, its unit."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.components import manual
from pgbaton.errors import CommandError, Error, UnhealthyError
from pgbaton.observe.snapshot import position
from pgbaton.operate.members import database_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.operate.operation import Operation
    from pgbaton.topology.model import Topology

LOOK_SECONDS = 10
TELL_SECONDS = 30
#: A fast shutdown waits for a checkpoint and for what is written to reach the standbys.
STOP_SECONDS = 120
#: How long a server that is to be stopped for good may take before it is ended by force.
FENCE_SECONDS = 20
START_SECONDS = 120
#: A primary that was stopped for a hand-over starts again after so long by itself, should nobody say otherwise: longer
#: than a stop may take. Its own condition asks the others first.
AGAIN_SECONDS = 180
AGAIN = "pgbaton-start-again"
# Arguments: the timer, its seconds, the server's unit, then what resigns and tells what was left.
STOP = """
set -u
timer=$1 seconds=$2 unit=$3
shift 3
systemctl stop "$timer.timer" 2>/dev/null
systemd-run --quiet --collect --unit="$timer" --on-active="$seconds" -- systemctl start "$unit" || exit 1
systemctl stop "$unit" && exec "$@"
"""


@dataclass(frozen=True)
class Control:
    """A database host, as it can be seen without its server; ``checkpoint`` is the last one's position, in bytes.

    ``standby`` says whether the server would start as a standby, ``detached`` which standbys commits do not wait for,
    ``superseded`` who was seen to be primary after these data, and on which timeline. ``confirms`` is the position from
    which on every commit has waited for this standby, in bytes, by the word of the primary that it follows; None when
    there is no such word.
    """

    unit: str
    data: bool = False
    standby: bool = False
    upstream: str | None = None
    detached: tuple[str, ...] = ()
    timeline: int = 0
    checkpoint: int = 0
    state: str = ""
    system: str = ""
    superseded: tuple[str, int] | None = None
    confirms: int | None = None

    @property
    def runs(self) -> bool:
        """Tell whether the unit is up, or on its way."""
        return self.unit in {"active", "activating", "reloading", "deactivating"}

    @property
    def in_recovery(self) -> bool:
        """Tell whether the data never took a write by themselves: so says the control file of a stopped standby."""
        return self.state.endswith("recovery")

    @property
    def was_primary(self) -> bool:
        """Tell whether the data are those of a primary: nobody told them to follow."""
        return self.data and not self.standby


def parse(output: str) -> Control:
    """Read what the host's program printed."""
    said = json.loads(output)
    control, after = said["control"], said.get("superseded")
    return Control(
        unit=said["unit"],
        data=said["data"],
        standby=said["standby"],
        upstream=said["upstream"],
        detached=tuple(said["detached"]),
        timeline=int(said["timeline"]),
        checkpoint=position(control["checkpoint"]) if "checkpoint" in control else 0,
        state=control.get("state", ""),
        system=control.get("system", ""),
        superseded=(after[0], int(after[1])) if after else None,
        confirms=said.get("confirms"),
    )


async def look(topology: Topology, hosts: Mapping[str, Host]) -> dict[str, Control | None]:
    """Ask every database host at once; None for one that does not answer."""
    names = database_names(topology)
    found = await asyncio.gather(*(ask(hosts[name]) for name in names))
    return dict(zip(names, found, strict=True))


async def ask(host: Host) -> Control | None:
    """Ask one host; None when it does not answer."""
    try:
        return parse((await host.run(*manual.AS_SERVER, "look", timeout=LOOK_SECONDS)).stdout)
    except (Error, ValueError, LookupError):
        return None


async def tell(operation: Operation, host: str, *words: str, seconds: float = TELL_SECONDS) -> None:
    """Have a host's program do something as the server's own user; raises CommandError with its words."""
    await operation.hosts[host].run(*manual.AS_SERVER, *words, timeout=seconds)


async def confirm(operation: Operation, host: str) -> None:
    """Have a standby ask whether commits wait for it; where that fails, it asks again by itself soon."""
    try:
        await tell(operation, host, "confirm")
    except Error as error:
        why = error.message.strip().splitlines()[-1]
        operation.report(f"{host}: a failover does not count on it before it has asked whom commits wait for: {why}")


async def start(operation: Operation, host: str) -> None:
    """Start a host's server; its own condition may keep it down, which raises UnhealthyError with the reason."""
    await operation.hosts[host].run("systemctl", "start", manual.UNIT, timeout=START_SECONDS, check=False)
    found = await ask(operation.hosts[host])
    if found is not None and not found.runs:
        asked = await operation.hosts[host].run(*manual.AS_SERVER, "condition", check=False, timeout=START_SECONDS)
        reason = asked.stderr.strip() or "PostgreSQL did not start"
        raise UnhealthyError(reason, where=host, hint=f"pgbaton logs --host {host}")


async def start_soon(operation: Operation, host: str) -> None:
    """Have a host's server started, without waiting for it."""
    await operation.hosts[host].run("systemctl", "start", "--no-block", manual.UNIT, timeout=TELL_SECONDS)


async def stop(operation: Operation, host: str, *, seconds: float = STOP_SECONDS) -> None:
    """Stop a host's server in order."""
    await operation.hosts[host].run("systemctl", "stop", manual.UNIT, timeout=seconds)


async def stop_and_look(operation: Operation, host: str) -> Control:
    """Stop a primary in order, and look at what it left: one way to the host, because clients are waiting.

    It starts again by itself when nobody calls :func:`disarm`, and then leads only if all others answer and none does.
    """
    # A program of an earlier version, on a host that an apply has not come to yet, takes this for a look alone.
    words = (AGAIN, str(AGAIN_SECONDS), manual.UNIT, *manual.AS_SERVER, "look", "resign")
    return parse((await operation.hosts[host].run("sh", "-c", STOP, "sh", *words, timeout=STOP_SECONDS)).stdout)


async def permit(operation: Operation, host: str) -> None:
    """Let a server that resigned lead again, whoever is silent; one of an earlier version never did resign."""
    with suppress(CommandError):
        await tell(operation, host, "permit")


async def disarm(operation: Operation, host: str) -> None:
    """Have a server that was stopped for a hand-over not start by itself; its condition holds where this fails."""
    with suppress(Error):
        await operation.hosts[host].run("systemctl", "stop", f"{AGAIN}.timer", check=False, timeout=TELL_SECONDS)


async def stop_for_good(operation: Operation, host: str) -> None:
    """Stop a host's server, by force when it does not stop in order; raises UnhealthyError when it runs on."""
    seam = operation.hosts[host]
    try:
        await stop(operation, host, seconds=FENCE_SECONDS)
    except Error:
        operation.report(f"{host}: PostgreSQL does not stop in order; ending it by force")
        await seam.run("systemctl", "kill", "--signal=SIGKILL", manual.UNIT, check=False, timeout=TELL_SECONDS)
        await seam.run("systemctl", "stop", manual.UNIT, check=False, timeout=FENCE_SECONDS)
    found = await ask(seam)
    if found is None or found.runs:
        message = "its PostgreSQL could not be stopped"
        raise UnhealthyError(message, where=host, hint="turn the machine off, then run this again")


async def restart(operation: Operation, host: str) -> None:
    """Restart a host's server where it is; raises UnhealthyError when it does not come back."""
    try:
        await operation.hosts[host].run("systemctl", "restart", manual.UNIT, timeout=STOP_SECONDS + START_SECONDS)
    except CommandError as error:
        message = f"PostgreSQL was not restarted: {error.message.strip().splitlines()[-1]}"
        raise UnhealthyError(message, where=host, hint=f"pgbaton logs --host {host}") from None


async def reload(operation: Operation, host: str) -> None:
    """Have a host's running server read its settings again."""
    await operation.hosts[host].run("systemctl", "reload", manual.UNIT, timeout=TELL_SECONDS)
