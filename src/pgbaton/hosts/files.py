"""Read and write files on a host, with nothing there but a POSIX shell and coreutils."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.hosts.base import Host

# One line a file: path, mode, owner, group, base64 of the content; nothing for a file that is missing.
READ = r"""
while IFS= read -r path; do
  [ -f "$path" ] || continue
  printf '%s\t%s\t%s\n' "$path" "$(stat -c '%a %U %G' "$path" | tr ' ' '\t')" "$(base64 -w0 < "$path")"
done
"""

# Arguments: path, mode, owner, group; the content comes over standard input and is never in argv.
WRITE = r"""
set -eu
umask 077
mkdir -p -m 0755 "$(dirname "$1")"
temporary=$(mktemp "$1.XXXXXX")
trap 'rm -f "$temporary"' EXIT
cat > "$temporary"
chown "$3:$4" "$temporary"
chmod "$2" "$temporary"
sync "$temporary"
mv -f "$temporary" "$1"
trap - EXIT
"""


@dataclass(frozen=True)
class FileState:
    """A file as it is on a host."""

    path: str
    content: bytes
    mode: int
    owner: str
    group: str


async def read_files(host: Host, paths: Iterable[str]) -> dict[str, FileState]:
    """Return the named files that exist, by path, in one round trip."""
    listing = "".join(f"{path}\n" for path in paths)
    if not listing:
        return {}
    result = await host.run("sh", "-c", READ, input=listing)
    return {state.path: state for state in map(parse_line, result.stdout.splitlines())}


def parse_line(line: str) -> FileState:
    """Read one line of the READ script's output."""
    path, mode, owner, group, *content = line.split("\t")
    return FileState(path, base64.b64decode(content[0] if content else ""), int(mode, 8), owner, group)


async def write_file(
    host: Host, path: str, content: str | bytes, *, mode: int = 0o644, owner: str = "root", group: str = "root"
) -> None:
    """Replace a file atomically: written beside it, given its owner and mode, synced, renamed."""
    data = content.encode() if isinstance(content, str) else content
    await host.run("sh", "-c", WRITE, "sh", path, f"{mode:04o}", owner, group, input=data)


async def remove_file(host: Host, path: str) -> None:
    """Remove a file; a missing one is fine."""
    await host.run("rm", "-f", "--", path)
