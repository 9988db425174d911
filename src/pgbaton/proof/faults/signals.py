"""Signals to processes that are found by what they are: a unit's, or the server's in its data directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.components import patroni

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Act, Strike

# Arguments: data directory, signal, who is meant, and a pattern of children's titles where that is asked for.
# The pid file may be a stale one: only a process that works in the data directory is the postmaster. It is struck
# before its children, so that it neither makes new ones nor mourns the old.
SIGNAL_SERVER = """
set -eu
pid=$(head -n 1 "$1/postmaster.pid")
[ "$(readlink -f /proc/$pid/cwd)" = "$(readlink -f "$1")" ]
children() { pgrep "$@" -P "$pid" || { echo "no such process of the server" >&2; exit 1; }; }
case $3 in
postmaster) found=$pid ;;
everything) found="$pid $(children)" ;;
oldest) found=$(children -o -f "$4") ;;
all) found=$(children -f "$4") ;;
esac
kill -s "$2" $found
"""


async def signal_server(strike: Strike, signal: str, *whom: str) -> None:
    """Send a signal to processes of the server on the first host struck; raises CommandError when there are none.

    ``whom``: "postmaster"; "everything"; "oldest" or "all" of its children, followed by a pattern of their titles.
    """
    argv = ("sh", "-c", SIGNAL_SERVER, "sh", strike.topology.data_directory, signal, *whom)
    await strike.on(strike.host).run(*argv)


async def signal_unit(strike: Strike, unit: str, signal: str, *, whom: str = "all", check: bool = True) -> None:
    """Send a signal to a unit's processes on the first host struck; ``whom`` is "main" for its first one alone."""
    argv = ("systemctl", "kill", f"--kill-whom={whom}", f"--signal=SIG{signal}", unit)
    await strike.on(strike.host).run(*argv, check=check)


def to_server(signal: str, *whom: str) -> Act:
    """Return the act of sending a signal to processes of the server."""

    async def act(strike: Strike) -> None:
        await signal_server(strike, signal, *whom)

    return act


def to_unit(unit: str, signal: str, *, whom: str = "all") -> Act:
    """Return the act of sending a signal to a unit's processes."""

    async def act(strike: Strike) -> None:
        await signal_unit(strike, unit, signal, whom=whom)

    return act


def thaw(unit: str) -> Act:
    """Return the act of letting a unit's processes go on, those that were stopped and are still there."""

    async def act(strike: Strike) -> None:
        await signal_unit(strike, unit, "CONT", check=False)

    return act


#: Patroni's unit has the server's processes too.
thaw_server = thaw(patroni.UNIT)


def titled(strike: Strike, kind: str) -> str:
    """Return the pattern of the titles of one kind of the server's children."""
    return f"^postgres: {strike.topology.scope}: {kind} "


def of_clients(strike: Strike) -> str:
    """Return the pattern of the titles of backends that serve the application."""
    database = strike.topology.databases[0]
    return titled(strike, f"{database.owner} {database.name}")
