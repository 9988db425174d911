"""systemd drop-ins: restart, limits and hardening, the same way for every unit."""

from __future__ import annotations

from pgbaton.components.base import File, OnChange

HEADER = "# Written by pgbaton; changes made here are overwritten by the next apply.\n"

#: What no service of the stack needs; each unit adds to these or takes out what it cannot bear.
HARDENING = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service",
    "UMask": "0077",
}


def drop_in(unit: str, service: dict[str, str | list[str]], *, unit_section: dict[str, str] | None = None) -> File:
    """Return the drop-in of a unit: ``service`` is its [Service] section, a list repeats its key."""
    text = HEADER
    if unit_section:
        text += "[Unit]\n" + section(unit_section) + "\n"
    text += "[Service]\n" + section(service)
    return File(f"/etc/systemd/system/{unit}.d/pgbaton.conf", text, unit=unit, on_change=OnChange.RESTART)


def section(values: dict[str, str] | dict[str, str | list[str]]) -> str:
    """Return the lines of a unit file's section."""
    lines = []
    for key, value in values.items():
        lines += [f"{key}={item}" for item in (value if isinstance(value, list) else [value])]
    return "".join(f"{line}\n" for line in lines)
