"""What pgbaton remembers of each cluster on the operator's machine: one private directory a cluster."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgbaton.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


def home() -> Path:
    """Return the state directory: PGBATON_STATE_HOME, else pgbaton under XDG_STATE_HOME or ~/.local/state."""
    if own := os.environ.get("PGBATON_STATE_HOME"):
        return Path(own)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "pgbaton"


def cache() -> Path:
    """Return the cache directory, for lab images: PGBATON_CACHE_HOME, else /var/cache/pgbaton for root."""
    if own := os.environ.get("PGBATON_CACHE_HOME"):
        return Path(own)
    return Path("/var/cache/pgbaton") if os.geteuid() == 0 else Path.home() / ".cache" / "pgbaton"


@dataclass(frozen=True)
class ClusterState:
    """The files of one cluster; the directory is readable by its owner alone."""

    name: str
    directory: Path

    @property
    def topology_file(self) -> Path:
        """Return the copy of the topology that was applied last, or with which a lab was made."""
        return self.directory / "topology.toml"

    @property
    def vault_directory(self) -> Path:
        """Return where generated secrets are kept."""
        return self.directory / "secrets"

    @property
    def lab_file(self) -> Path:
        """Return the lab's description; it exists exactly for clusters that are labs."""
        return self.directory / "lab.json"

    @property
    def journal_directory(self) -> Path:
        """Return where applies write their journals."""
        return self.directory / "journal"

    @property
    def exists(self) -> bool:
        """Tell whether anything is known of the cluster."""
        return self.topology_file.exists()

    def create(self) -> None:
        """Make the directory, private to its owner."""
        for directory in (self.directory, self.vault_directory, self.journal_directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        """Hold the cluster for one command that changes it; raises RefusedError while another has it."""
        self.create()
        with (self.directory / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                message = f"another command is at work on cluster {self.name}: {file.read().strip() or 'unknown'}"
                raise RefusedError(message, hint="wait for it to end, then try again") from None
            file.truncate(0)
            file.write(f"{purpose} (process {os.getpid()})\n")
            file.flush()
            yield


def cluster(name: str) -> ClusterState:
    """Return the state of a cluster by name, whether it exists or not."""
    return ClusterState(name, home() / "clusters" / name)


def known() -> tuple[ClusterState, ...]:
    """Return all the clusters that this machine knows, by name."""
    directory = home() / "clusters"
    names = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
    return tuple(state for state in map(cluster, names) if state.exists)


def select(name: str | None) -> ClusterState:
    """Return the cluster a command is about: the one named, else PGBATON_CLUSTER, else the only one known.

    Raises UsageError when there is none, or several to choose from.
    """
    clusters = known()
    listing = ", ".join(state.name for state in clusters) or "none"
    wanted = name or os.environ.get("PGBATON_CLUSTER")
    if wanted is None and len(clusters) == 1:
        return clusters[0]
    found = [state for state in clusters if state.name == wanted]
    if found:
        return found[0]
    if wanted is not None:
        message = f"no cluster named {wanted} is known here (known: {listing})"
        raise UsageError(message, hint="pgbaton lab up --cluster NAME makes a lab; pgbaton apply TOPOLOGY a real one")
    if clusters:
        message = f"several clusters are known here: {listing}"
        raise UsageError(message, hint="choose with --cluster NAME or PGBATON_CLUSTER")
    message = "no cluster is known here"
    raise UsageError(message, hint="pgbaton lab up makes a lab; pgbaton apply TOPOLOGY deploys a real cluster")


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically, readable by its owner alone."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON has no static type
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
