"""What a database host does itself where a person promotes. Runs there: Python 3.11 or later, standard library only.

It is run as the server's own user, by systemd before every start of the server and by pgbaton's operations. It decides
one thing: whether a server may start as a primary. Everything else it is told.

The state beside the data says whom the server follows, which standbys commits do not wait for, and in which boot of
the machine it was allowed to be primary. It stays out of the data directory, which cloning and rewinding replace.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SETTINGS = Path("/etc/pgbaton/postgresql/manual.json")
BOOT = Path("/proc/sys/kernel/random/boot_id")
#: systemd's words for a condition: go on; leave the server down; look again soon (systemd.service, ExecCondition=).
MAY_START, MUST_STAY_DOWN, UNDECIDED = 0, 1, 255
#: How long another host may take to say what it is.
PEER_SECONDS = 3
STATE_OF_PEER = "SELECT pgbaton.server_state()"
HISTORY = re.compile(r"^([0-9A-F]{8})\.history$")
CONTROL = {
    "Database system identifier": "system",
    "Database cluster state": "state",
    "Latest checkpoint location": "checkpoint",
    "Latest checkpoint's TimeLineID": "timeline",
}


class Server:
    """The server of this host, by its settings; ``root`` is put in front of every path."""

    def __init__(self, settings: dict[str, Any], root: Path = Path("/")) -> None:
        self.settings = settings
        self.me: str = settings["me"]
        self.data: Path = root / settings["data_directory"].lstrip("/")
        self.home: Path = root / settings["state_directory"].lstrip("/")
        self.binaries = f"/usr/lib/postgresql/{settings['version']}/bin"

    @property
    def has_data(self) -> bool:
        """Tell whether there is a server's data at all."""
        return (self.data / "PG_VERSION").exists()

    @property
    def is_standby(self) -> bool:
        """Tell whether the server would start as a standby."""
        return (self.data / "standby.signal").exists()

    @property
    def others(self) -> tuple[str, ...]:
        """Return the other database hosts, in the topology's order."""
        return tuple(name for name in self.settings["hosts"] if name != self.me)

    def state(self) -> dict[str, Any]:
        """Return what was told so far."""
        return {"upstream": None, "detached": [], "permitted": None, **load(self.home / "state.json")}

    def tell(self, **changes: Any) -> None:  # noqa: ANN401 - JSON
        """Remember what is told, and write the settings that follow from it."""
        save(self.home / "state.json", json.dumps({**self.state(), **changes}, indent=1) + "\n")
        self.render()

    def render(self) -> None:
        """Write the settings of replication: whom to follow, whose confirmation commits wait for."""
        state = self.state()
        conninfo = self.conninfo(state["upstream"], "replicator") if state["upstream"] else ""
        lines = {
            "primary_conninfo": conninfo,
            "primary_slot_name": slot(self.me) if state["upstream"] else "",
            "synchronous_standby_names": synchronous(self.settings, state["detached"]),
        }
        text = "".join(f"{name} = '{value}'\n" for name, value in lines.items())
        save(self.home / "replication.conf", f"# Written by pgbaton's operations.\n{text}")

    def addresses(self, host: str) -> tuple[str, ...]:
        """Return where another host's server can be reached: first in the network for replication, if there is one."""
        known = self.settings["hosts"][host]
        return tuple(known[key] for key in ("replication_address", "address") if key in known)

    def conninfo(self, host: str, role: str, address: str = "") -> str:
        """Return how to reach another host's server as a role; the password is in a file.

        Where no address is named, it is the one that replication takes.
        """
        tls = self.settings["tls_directory"]
        words = {
            "host": address or self.addresses(host)[0],
            "port": self.settings["port"],
            "user": role,
            "application_name": self.me,
            "sslmode": "verify-full",
            "sslrootcert": f"{tls}/ca.crt",
            "sslcert": f"{tls}/{role}.crt",
            "sslkey": f"{tls}/{role}.key",
            "passfile": self.settings["passfile"],
            "connect_timeout": PEER_SECONDS,
        }
        return " ".join(f"{name}={value}" for name, value in words.items())

    def control(self) -> dict[str, str]:
        """Return what the control file says; nothing where it cannot be read."""
        result = run(f"{self.binaries}/pg_controldata", "-D", str(self.data))
        rows = (line.partition(":") for line in result.stdout.splitlines())
        return {CONTROL[name]: value.strip() for name, _, value in rows if name in CONTROL}

    def timeline(self) -> int:
        """Return the timeline of the data: a promotion writes its history before the control file knows."""
        wal = self.data / "pg_wal"
        found = (HISTORY.match(path.name) for path in (wal.iterdir() if wal.is_dir() else ()))
        return max([int(self.control().get("timeline", 0)), *(int(each[1], 16) for each in found if each)])

    def look(self) -> dict[str, Any]:
        """Return everything that can be said without the server."""
        unit = run("systemctl", "show", "--value", "-p", "ActiveState", self.settings["unit"]).stdout.strip()
        state = self.state()
        found = {"data": self.has_data, "standby": self.is_standby, "unit": unit, "permitted": state["permitted"]}
        told = {"upstream": state["upstream"], "detached": state["detached"]}
        known = {"control": self.control(), "timeline": self.timeline()} if self.has_data else {}
        return {**found, **told, "control": {}, "timeline": 0, **known}

    def ask(self, host: str) -> dict[str, Any] | None:
        """Return what another host's server says it is; None when it gives no answer by any of its addresses.

        All are tried: where one network is cut, the other still tells of another primary.
        """
        answers = (self.ask_at(host, address) for address in self.addresses(host))
        return next((said for said in answers if said is not None), None)

    def ask_at(self, host: str, address: str) -> dict[str, Any] | None:
        """Return what another host's server says it is, asked at an address; None when it gives no answer there."""
        where = f"{self.conninfo(host, 'rewind', address)} dbname=postgres"
        answer = run(f"{self.binaries}/psql", "-XAtq", "-d", where, "-c", STATE_OF_PEER, seconds=2 * PEER_SECONDS)
        with contextlib.suppress(ValueError):
            said = json.loads(answer.stdout)
            return said if isinstance(said, dict) else None
        return None

    def condition(self) -> int:
        """Decide whether the server may start; say why when it may not."""
        if not self.has_data:
            return say(MUST_STAY_DOWN, f"there are no data in {self.data}: pgbaton apply, or pgbaton reinit {self.me}")
        if self.is_standby:
            return MAY_START
        with ThreadPoolExecutor(max_workers=max(1, len(self.others))) as pool:
            answers = dict(zip(self.others, pool.map(self.ask, self.others), strict=True))
        status, why = decide(self.timeline(), answers, permitted=self.state()["permitted"] == boot())
        if status != MAY_START:
            return say(status, f"{self.me} stays down: {why}")
        self.tell(permitted=boot())
        return MAY_START

    def follow(self, host: str) -> None:
        """Make this server a standby of another host's, from its next start on."""
        save(self.data / "standby.signal", "")
        self.tell(upstream=host, permitted=None)

    def initialise(self) -> None:
        """Make new data, and let the server be the cluster's first primary; refuses where there is anything."""
        if self.data.exists() and any(self.data.iterdir()):
            fail(f"{self.data} is not empty")
        options = ("--encoding=UTF8", "--locale=C.UTF-8", "--auth-local=peer", "--auth-host=scram-sha-256")
        must(f"{self.binaries}/initdb", "-D", str(self.data), "--data-checksums", *options)
        self.tell(upstream=None, permitted=boot())

    def clone(self, host: str) -> None:
        """Replace the data by a copy of another host's, which is followed then."""
        self.data.mkdir(mode=0o700, exist_ok=True)
        for path in self.data.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        source = ("-d", self.conninfo(host, "replicator"), "--slot", slot(self.me))
        must(
            f"{self.binaries}/pg_basebackup", "-D", str(self.data), *source, "--checkpoint=fast", "--wal-method=stream"
        )
        self.data.chmod(0o700)
        self.follow(host)

    def rewind(self, host: str) -> None:
        """Take back what the data have beyond another host's, which is followed then."""
        source = f"{self.conninfo(host, 'rewind')} dbname=postgres"
        config = f"--config-file={self.settings['config_file']}"
        # Data of a server that crashed are recovered first, in a mode that knows no standbys.
        (self.data / "standby.signal").unlink(missing_ok=True)
        try:
            must(f"{self.binaries}/pg_rewind", "-D", str(self.data), f"--source-server={source}", config)
        finally:
            self.follow(host)


def decide(timeline: int, answers: dict[str, dict[str, Any] | None], *, permitted: bool) -> tuple[int, str]:
    """Decide whether data of a primary, of a timeline, may become one again, by what the other hosts say. Pure.

    Any word of another primary, or of a newer timeline, is enough to stay down. Without a word of some host nobody
    knows: then only a server goes on that was allowed to be primary since the machine was booted, because it is one.
    """
    for host, said in answers.items():
        if said and not said["in_recovery"]:
            return MUST_STAY_DOWN, f"{host} is primary, on timeline {said['timeline']}; pgbaton reinit makes it follow"
        if said and said["timeline"] > timeline:
            newer = f"{host} is on timeline {said['timeline']}, this one's data on {timeline}"
            return MUST_STAY_DOWN, f"{newer}: another server was promoted; pgbaton reinit makes it follow"
    silent = [host for host, said in answers.items() if said is None]
    if silent and not permitted:
        who = ", ".join(silent)
        return UNDECIDED, f"{who} gives no answer, and might be primary; pgbaton failover when it is off for good"
    return MAY_START, ""


def synchronous(settings: dict[str, Any], detached: list[str]) -> str:
    """Return the standbys that commits wait for, as PostgreSQL writes them. Pure."""
    hosts = settings["hosts"]
    names = [name for name, host in hosts.items() if host["confirms"] and name not in {settings["me"], *detached}]
    if settings["mode"] == "asynchronous" or not names:
        return ""
    word = "ANY" if settings["mode"] == "quorum" else "FIRST"
    listed = ", ".join(f'"{name}"' for name in names)
    return f"{word} {min(settings['count'], len(names))} ({listed})"


def slot(host: str) -> str:
    """Return the name of a host's replication slot."""
    return host.replace("-", "_")


def boot() -> str:
    """Return what tells this boot of the machine from every other."""
    return BOOT.read_text(encoding="ascii").strip()


def load(path: Path) -> dict[str, Any]:
    """Read a JSON object; one that is missing is empty."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def save(path: Path, text: str) -> None:
    """Replace a file in one act, and see it on the disk."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w", encoding="utf-8") as target:
        target.write(text)
        target.flush()
        os.fsync(target.fileno())
    beside.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def run(*argv: str, seconds: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; one that takes too long, or is not there, has said nothing."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(argv, 1, "", str(error))


def must(*argv: str) -> None:
    """Run a program that has to succeed; it ends this one with its own words otherwise."""
    result = run(*argv)
    if result.returncode:
        fail(result.stderr.strip() or f"{argv[0]} ended with status {result.returncode}")


def say(status: int, why: str) -> int:
    """Say why the server may not start; return the status."""
    sys.stderr.write(f"{why}\n")
    return status


def fail(why: str) -> None:
    """End with an error."""
    sys.exit(why)


def main(argv: list[str]) -> int:
    """Do what is asked: a command, then its host or hosts."""
    os.umask(0o077)
    server = Server(load(SETTINGS))
    command, *rest = argv
    if command == "condition":
        return server.condition()
    if command == "look":
        sys.stdout.write(json.dumps(server.look()) + "\n")
    elif command == "render":
        server.render()
    elif command == "lead":
        server.tell(upstream=None, detached=rest, permitted=boot())
    elif command == "detach":
        server.tell(detached=rest)
    elif command == "initialise":
        server.initialise()
    else:
        {"follow": server.follow, "clone": server.clone, "rewind": server.rewind}[command](*rest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
