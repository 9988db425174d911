"""Small looks at a host that several components' probes share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.errors import UnhealthyError

if TYPE_CHECKING:
    from pgbaton.hosts.base import Host


async def require_active(host: Host, unit: str) -> None:
    """Raise UnhealthyError unless systemd says the unit is active."""
    state = (await host.run("systemctl", "is-active", unit, check=False)).stdout.strip()
    if state != "active":
        message = f"{unit} is {state or 'unknown'}"
        raise UnhealthyError(message, where=host.name, hint=f"journalctl -u {unit} on {host.name} says why")


async def require_success(host: Host, *argv: str, what: str, input: str | None = None) -> str:  # noqa: A002
    """Run a program and return its output; raises UnhealthyError naming ``what`` when it fails."""
    result = await host.run(*argv, check=False, timeout=10, input=input)
    if not result.ok:
        said = (result.stderr.strip() or result.stdout.strip())[-400:]
        message = f"{what}: {said or f'exit status {result.exit_status}'}"
        raise UnhealthyError(message, where=host.name)
    return result.stdout
