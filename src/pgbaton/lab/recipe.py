"""What lab images are made of. Pure: tables, and the text they turn into."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from pgbaton.errors import UsageError


@dataclass(frozen=True)
class System:
    """An operating system that labs run: its Debian suite and the PostgreSQL it brings.

    ``extra`` are packages beyond what pgbaton deploys. Images are kept by ``name``, so a system with extra packages
    has a name of its own that begins with no other's.
    """

    name: str
    suite: str
    postgresql: int
    extra: tuple[str, ...] = ()


SYSTEMS = {
    system.name: system
    for system in (
        System("debian-13", "trixie", postgresql=17),
        System("debian-12", "bookworm", postgresql=15),
    )
}

#: What a freshly installed server has: all that a bare machine gets.
BASE = (
    "apt", "ca-certificates", "dbus", "iproute2", "iputils-ping", "libpam-systemd", "openssh-server", "procps", "sudo",
    "systemd", "systemd-sysv",
)  # fmt: skip

#: What the components ask for, and the parts that Debian leaves out of Patroni's dependencies.
SERVICES = (
    "etcd-client", "etcd-server", "haproxy", "keepalived", "nftables", "patroni", "pgbouncer",
    "postgresql-{postgresql}", "postgresql-client-{postgresql}",
    "python3", "python3-dateutil", "python3-dnspython", "python3-etcd",
)  # fmt: skip

#: For people and for fault injection.
TOOLS = ("e2fsprogs", "less", "libfaketime", "openssl")

#: Debian starts what it installs; in the lab, as on a real host, it is the deploy that decides what runs.
DISABLED = ("etcd", "haproxy", "keepalived", "nftables", "patroni", "pgbouncer", "postgresql")

#: Work of a machine that lives for years, and logins nobody can use; without it machines boot sooner.
MASKED = (
    "apt-daily-upgrade.timer", "apt-daily.timer", "console-getty.service", "container-getty@.service",
    "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "getty.target",
    "ldconfig.service", "logrotate.timer", "systemd-hwdb-update.service", "systemd-networkd.service",
    "systemd-pstore.service", "systemd-update-utmp.service",
)  # fmt: skip

#: Where a bare machine finds the packages, read-only.
PACKAGES = "/srv/packages"

#: PostgreSQL's packages make a cluster named main unless they are told before they are installed.
NO_MAIN_CLUSTER = (
    'mkdir -p "$1/etc/postgresql-common"'
    ' && echo "create_main_cluster = false" > "$1/etc/postgresql-common/createcluster.conf"'
)

#: Takes what must differ between machines out of the image, and keeps the journal of a machine that is off.
FINISH = """#!/bin/sh
set -eu
root=$1
for unit in {disabled}; do
  if [ -e "$root/usr/lib/systemd/system/$unit.service" ] || [ -e "$root/lib/systemd/system/$unit.service" ]; then
    chroot "$root" systemctl disable --quiet "$unit.service"
  fi
done
chroot "$root" systemctl mask --quiet {masked}
mkdir -p "$root/var/log/journal" "$root/etc/systemd/journald.conf.d" "$root{packages}"
printf '[Journal]\\nStorage=persistent\\nSystemMaxUse=128M\\nRateLimitIntervalSec=0\\n' \
  > "$root/etc/systemd/journald.conf.d/lab.conf"
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/machine-id" "$root/var/lib/dbus/machine-id"
: > "$root/etc/resolv.conf"
touch "$root/etc/.updated" "$root/var/.updated"
"""

#: Keeps the packages the image is made of: they are the repository of bare machines.
KEEP = 'mkdir -p {target} && mv "$1"/var/cache/apt/archives/*.deb {target}'

#: Makes a directory of packages a repository that apt understands.
INDEX = r"""
set -eu
cd "$1"
for deb in *.deb; do
  dpkg-deb --field "$deb"
  printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' \
    "$deb" "$(stat -c %s "$deb")" "$(sha256sum < "$deb" | cut -d' ' -f1)"
done > Packages.new
mv Packages.new Packages
"""

#: Points a bare machine's apt at its repository, and reads the index once: apt-get install works at once.
REPOSITORY = """#!/bin/sh
set -eu
echo 'deb [trusted=yes] file:{packages} ./' > "$1/etc/apt/sources.list"
mkdir -p "$1{packages}"
mount --bind {source} "$1{packages}"
chroot "$1" apt-get --quiet update
umount "$1{packages}"
"""


def system(name: str) -> System:
    """Return an operating system by name; raises UsageError for one that labs do not run."""
    if name not in SYSTEMS:
        message = f"labs do not run {name}"
        raise UsageError(message, hint=f"choose one of: {', '.join(SYSTEMS)}")
    return SYSTEMS[name]


def system_for(postgresql: int) -> System:
    """Return the operating system that brings a PostgreSQL major version."""
    return next(system for system in SYSTEMS.values() if system.postgresql == postgresql)


def packages(system: System) -> tuple[str, ...]:
    """Return the packages of the full image."""
    return tuple(sorted(name.format(postgresql=system.postgresql) for name in BASE + SERVICES + TOOLS + system.extra))


def finish() -> str:
    """Return the script that finishes a new root; its argument is the root."""
    return FINISH.format(disabled=" ".join(DISABLED), masked=" ".join(MASKED), packages=PACKAGES)


def repository(source: str) -> str:
    """Return the script that points a root, its argument, at the packages; ``source`` is where they are now."""
    return REPOSITORY.format(packages=PACKAGES, source=source)


def fingerprint(system: System) -> str:
    """Return a short hash of everything that decides what an image contains."""
    parts = [system.suite, packages(system), BASE, finish(), repository(""), NO_MAIN_CLUSTER, INDEX]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
