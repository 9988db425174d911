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


def ahead(nice: int) -> dict[str, str]:
    """Return what has a service go before others that want a processor, by ``nice`` below zero.

    A kernel with autogroups (sched(7); Debian's has them) shares processors out among sessions first, and a nice value
    counts within a session only: every service, and every process of a server, is a session. So the session gets the
    same, in a file of its own, once the service runs. It is good for all that the service starts and that begins no
    session. Where services are in control groups of processors there are no autogroups, and the first line is what
    counts; kernels without them have no such file.
    """
    return {"Nice": str(nice), "ExecStartPost": f"-+/bin/sh -c 'echo {nice} > /proc/${{MAINPID}}/autogroup'"}


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
