"""Install Debian packages on a host without anything of theirs starting."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgbaton.hosts.base import Host

#: Mirrors may be slow and disks slower; apt itself says when it fails.
SECONDS = 900

# Arguments: the root of the file system, then packages. Debian starts what it installs unless policy-rc.d forbids it,
# and makes a server called "main" unless told otherwise before the first server is installed.
INSTALL = r"""
set -eu
root=${1%/}; shift
export DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1
policy=$root/usr/sbin/policy-rc.d
mark='# pgbaton: nothing starts while packages are being installed'
if [ ! -e "$policy" ] || grep -qF "$mark" "$policy"; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 1' INT TERM HUP
  mkdir -p "${policy%/*}"
  printf '#!/bin/sh\n%s\nexit 101\n' "$mark" > "$policy"
  chmod 0755 "$policy"
fi
quietly() { if ! said=$("$@" 2>&1); then printf '%s\n' "$said" | tail -n 20 >&2; return 1; fi; }
get() { quietly apt-get -y -q -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confold "$@"; }
install() {
  get install --no-install-recommends "$@" 2> /dev/null || { get update; get install --no-install-recommends "$@"; }
}
[ -z "$(dpkg --audit)" ] || quietly dpkg --configure -a --force-confold
for package; do
  case $package in postgresql-[0-9]*)
    install postgresql-common
    settings=$root/etc/postgresql-common/createcluster.conf
    if ! grep -Eq '^create_main_cluster *= *false' "$settings"; then
      sed -i '/^#*create_main_cluster/d' "$settings"
      echo 'create_main_cluster = false' >> "$settings"
    fi
    break ;;
  esac
done
install "$@"
"""


async def install(host: Host, names: str) -> None:
    """Install packages, given as one text; raises CommandError with apt's own words."""
    await host.run("sh", "-c", INSTALL, "sh", "/", *names.split(), timeout=SECONDS)
