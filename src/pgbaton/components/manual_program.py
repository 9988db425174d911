"""What a database host does itself where a person promotes. Runs there: Python 3.11 or later, standard library only.

It is run as the server's own user, by systemd before every start of the server and by pgbaton's operations. It decides
one thing: whether a server may start as a primary. Everything else it is told.

The state beside the data says whom the server follows, which standbys commits do not wait for, in which boot of the
machine it was allowed to be primary, who was seen to be primary after it, and from which position on every commit has
waited for it as a standby. It stays out of the data directory, which cloning and rewinding replace.

That last word is what a failover trusts, so it is only ever given by the primary that the server follows, and is lost
with anything after which it might be wrong: a start, another primary, other settings, being detached.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SETTINGS = Path("/etc/pgbaton/postgresql/manual.json")
BOOT = Path("/proc/sys/kernel/random/boot_id")
#: systemd's words for a condition: go on; leave the server down; look again soon (systemd.service, ExecCondition=).
MAY_START, MUST_STAY_DOWN, UNDECIDED = 0, 1, 255
#: How long another host may take to say what it is.
PEER_SECONDS = 3
STATE_OF_PEER = "SELECT pgbaton.server_state()"
#: Whom a server's commits wait for, since how many seconds at least, and how far its WAL is, in bytes.
WAITS = """SELECT json_build_object('in_recovery', pg_is_in_recovery(),
  'names', current_setting('synchronous_standby_names'),
  'loaded', extract(epoch FROM clock_timestamp() - pg_conf_load_time()),
  'position', CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_flush_lsn() - '0/0')::bigint END)"""
#: How old settings have to be before all processes of a server are sure to go by them.
SETTLED_SECONDS = 2.0
#: What is said of another's claim.
UNDER_WAY = "is under way here"
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
        self.root = root
        self.home: Path = root / settings["state_directory"].lstrip("/")
        self.binaries = f"/usr/lib/postgresql/{settings['version']}/bin"

    @property
    def has_data(self) -> bool:
        """Tell whether there is a server's data at all; what was replaced in part is none."""
        return (self.data / "PG_VERSION").exists() and not self.state()["replacing"]

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
        nothing = dict.fromkeys(("upstream", "permitted", "superseded", "confirms", "replacing"))
        return {**nothing, "detached": [], **load(self.home / "state.json")}

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from changing what was told meanwhile."""
        with (self.home / "lock").open("w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def tell(self, **changes: Any) -> None:  # noqa: ANN401 - JSON
        """Remember what is told, and write the settings that follow from it."""
        with self.alone():
            self.write({**self.state(), **changes})
            self.render()

    def write(self, state: dict[str, Any]) -> None:
        """Save what was told."""
        save(self.home / "state.json", json.dumps(state, indent=1) + "\n")

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
        told = {name: state[name] for name in ("upstream", "detached", "superseded")}
        known = {"control": self.control(), "timeline": self.timeline()} if self.has_data else {}
        word = self.word(state)
        confirms = word["position"] if word else None
        return {**found, **told, "confirms": confirms, "control": {}, "timeline": 0, **known}

    def word(self, state: dict[str, Any]) -> dict[str, Any] | None:
        """Return from where on every commit has waited for this standby; None when that is not known.

        What was said under other settings counts no more.
        """
        word: dict[str, Any] | None = state["confirms"]
        same = word is not None and (word["mode"], word["count"]) == (self.settings["mode"], self.settings["count"])
        return word if same and self.is_standby and self.me not in state["detached"] else None

    def confirm(self, *, patient: bool = True) -> None:
        """Ask the server that is followed whether its commits wait for this one, and remember from where on.

        Everything acknowledged before that may be missing here, so the word holds from the answer's position on. A
        server that gives no answer takes nothing back: it may have died. ``patient``: wait for settings to settle.
        """
        state = self.state()
        if not self.is_standby or not state["upstream"]:
            return
        said = self.ask(state["upstream"], WAITS)
        if patient and said and not said["in_recovery"] and said["loaded"] < SETTLED_SECONDS and not self.word(state):
            time.sleep(SETTLED_SECONDS - said["loaded"])
            said = self.ask(state["upstream"], WAITS)
        word = self.renewed(state, said)
        with self.alone():
            # Whoever told it something meanwhile knows better.
            if word != state["confirms"] and self.state() == state:
                self.write({**state, "confirms": word})

    def renewed(self, state: dict[str, Any], said: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return the word that holds after the followed server's answer."""
        before = self.word(state)
        if said is None:
            return before
        listed = waits_for(self.me, said["names"], self.settings) and self.me not in state["detached"]
        if said["in_recovery"] or not listed:
            return None
        if before is None and said["loaded"] < SETTLED_SECONDS:
            return None
        now = {"position": said["position"], "mode": self.settings["mode"], "count": self.settings["count"]}
        return before or now

    def ask(self, host: str, question: str = STATE_OF_PEER) -> dict[str, Any] | None:
        """Return what another host's server says, by default of what it is; None when no address of it gives an answer.

        All are tried: where one network is cut, the other still tells of another primary.
        """
        answers = (self.ask_at(host, address, question) for address in self.addresses(host))
        return next((said for said in answers if said is not None), None)

    def ask_at(self, host: str, address: str, question: str) -> dict[str, Any] | None:
        """Return what another host's server says, asked at an address; None when it gives no answer there."""
        where = f"{self.conninfo(host, 'rewind', address)} dbname=postgres"
        answer = run(f"{self.binaries}/psql", "-XAtq", "-d", where, "-c", question, seconds=2 * PEER_SECONDS)
        with contextlib.suppress(ValueError):
            said = json.loads(answer.stdout)
            return said if isinstance(said, dict) else None
        return None

    def condition(self) -> int:
        """Decide whether the server may start; say why when it may not."""
        if not self.has_data:
            half = self.state()["replacing"]
            why = f"a {half} did not come to its end in" if half else "there are no data in"
            otherwise = "" if half else "pgbaton apply, or "
            return say(MUST_STAY_DOWN, f"{why} {self.data}: {otherwise}pgbaton reinit {self.me}")
        if self.is_standby:
            self.tell(confirms=None)
            self.confirm(patient=False)
            return MAY_START
        with ThreadPoolExecutor(max_workers=max(1, len(self.others))) as pool:
            answers = dict(zip(self.others, pool.map(self.ask, self.others), strict=True))
        timeline, state = self.timeline(), self.state()
        after = successor(timeline, answers)
        if after is not None:
            # Whoever saw it may be silent when the next one asks.
            self.tell(superseded=after, permitted=None)
        permitted = state["permitted"] == boot() and not state["superseded"]
        status, why = decide(timeline, answers, permitted=permitted)
        if status != MAY_START:
            return say(status, f"{self.me} stays down: {why}")
        self.tell(permitted=boot())
        return MAY_START

    def follow(self, host: str) -> None:
        """Make this server a standby of another host's, from its next start on."""
        # Nobody who asked for a promotion waits for it any more.
        (self.data / "promote.signal").unlink(missing_ok=True)
        save(self.data / "standby.signal", "")
        self.tell(upstream=host, permitted=None, superseded=None, confirms=None)

    def detach(self, hosts: list[str]) -> None:
        """Remember which standbys commits do not wait for; this one has no word to give when it is among them."""
        self.tell(detached=hosts, **({"confirms": None} if self.me in hosts else {}))

    def claim(self, token: str, seconds: str, what: str) -> None:
        """Keep others from changing who leads for some seconds; refuses while another one does."""
        if not self.home.is_dir():
            return
        with self.alone():
            path = self.home / "claim.json"
            held = load(path)
            if held and held["token"] != token and held["boot"] == boot() and held["until"] > time.monotonic():
                fail(f"{held['what']} {UNDER_WAY}")
            made = {"token": token, "what": what, "boot": boot(), "until": time.monotonic() + int(seconds)}
            save(path, json.dumps(made) + "\n")

    def release(self, token: str) -> None:
        """Take a claim back; another's stays."""
        if self.home.is_dir():
            with self.alone():
                path = self.home / "claim.json"
                if load(path).get("token") == token:
                    path.unlink()

    def refuse_to_replace(self) -> None:
        """End when the data are those of a server that runs, or that somebody made a primary."""
        unit = run("systemctl", "is-active", self.settings["unit"]).stdout.strip()
        if unit in {"active", "activating", "reloading"}:
            fail(f"the server on {self.me} runs: its data are not replaced")
        if self.has_data and not self.is_standby:
            fail(f"the data on {self.me} are those of a primary: nobody has made a standby of it")

    def initialise(self) -> None:
        """Make new data, and let the server be the cluster's first primary; refuses where there is anything."""
        if self.data.exists() and any(self.data.iterdir()):
            fail(f"{self.data} is not empty")
        access = ("--auth-local=peer", "--auth-host=scram-sha-256")
        wal = (f"--wal-segsize={self.settings['wal_segment_size_mb']}", *self.wal_options())
        kind = ("--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums")
        must(f"{self.binaries}/initdb", "-D", str(self.data), *kind, *access, *wal)
        self.tell(upstream=None, permitted=boot(), superseded=None, replacing=None)

    def clone(self, host: str) -> None:
        """Replace the data by a copy of another host's, which is followed then."""
        self.refuse_to_replace()
        self.tell(replacing="clone")
        self.empty()
        source = ("-d", self.conninfo(host, "replicator"), "--slot", slot(self.me))
        options = ("--checkpoint=fast", "--wal-method=stream", *self.wal_options())
        must(f"{self.binaries}/pg_basebackup", "-D", str(self.data), *source, *options)
        self.data.chmod(0o700)
        self.follow(host)
        self.tell(replacing=None)

    def empty(self) -> None:
        """Throw the data away, also what is elsewhere: a copy that was cut short leaves no link to that."""
        self.data.mkdir(mode=0o700, exist_ok=True)
        for path in self.data.iterdir():
            remove(path)
        for pattern in self.settings["leftovers"]:
            for path in self.root.glob(pattern.lstrip("/")):
                remove(path)

    def wal_options(self) -> tuple[str, ...]:
        """Return what has WAL put into a directory of its own, where it has one."""
        wal = self.settings["wal_directory"]
        return (f"--waldir={wal}",) if wal else ()

    def rewind(self, host: str) -> None:
        """Take back what the data have beyond another host's, which is followed then."""
        source = f"{self.conninfo(host, 'rewind')} dbname=postgres"
        config = f"--config-file={self.settings['config_file']}"
        self.tell(replacing="rewind")
        # Data of a server that crashed are recovered first, in a mode that knows no standbys.
        (self.data / "standby.signal").unlink(missing_ok=True)
        try:
            must(f"{self.binaries}/pg_rewind", "-D", str(self.data), f"--source-server={source}", config)
        finally:
            self.follow(host)
        self.tell(replacing=None)


def successor(timeline: int, answers: dict[str, dict[str, Any] | None]) -> tuple[str, int] | None:
    """Return who became primary after data of a timeline, and its timeline; None when nobody is known to have. Pure."""
    later = [
        (said["timeline"], host)
        for host, said in answers.items()
        if said and (not said["in_recovery"] or said["timeline"] > timeline)
    ]
    return (max(later)[1], max(later)[0]) if later else None


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
    next_one = [host for host, said in answers.items() if said and said.get("prepared")]
    if next_one:
        return UNDECIDED, f"{', '.join(next_one)} is about to be promoted, or was to be; pgbaton failover ends that"
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


def waits_for(host: str, names: str, settings: dict[str, Any]) -> bool:
    """Tell whether commits wait for a host by a list of names, and in the way that settings say. Pure.

    A primary may go by older ones: it is the last to hear of new ones.
    """
    count = names.count('"') // 2
    kind = "ANY" if settings["mode"] == "quorum" else "FIRST"
    return f'"{host}"' in names and names.startswith(f"{kind} {min(settings['count'], count)} (")


def slot(host: str) -> str:
    """Return the name of a host's replication slot."""
    return host.replace("-", "_")


def remove(path: Path) -> None:
    """Remove a file, a link, or a directory with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def boot() -> str:
    """Return what tells this boot of the machine from every other.

    The unit says it to whom it starts: in a container, a sandbox of systemd 252 shows the outer machine's in its file.
    """
    said = os.environ.get("BOOT_ID") or BOOT.read_text(encoding="ascii")
    return said.strip().replace("-", "")


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
    if argv == ["look", "resign"]:
        # Another one may be promoted from now on: not even a crash is a reason to lead without asking all of them.
        server.tell(permitted=None)
    if command == "look":
        sys.stdout.write(json.dumps(server.look()) + "\n")
    elif command == "render":
        server.render()
    elif command == "lead":
        server.tell(upstream=None, detached=rest, permitted=boot(), superseded=None, confirms=None)
    elif command == "permit":
        server.tell(permitted=boot())
    elif command == "detach":
        server.detach(rest)
    elif command == "confirm":
        server.confirm()
    elif command == "initialise":
        server.initialise()
    else:
        acts: dict[str, Callable[..., None]] = {"follow": server.follow, "clone": server.clone, "rewind": server.rewind}
        acts |= {"claim": server.claim, "release": server.release}
        acts[command](*rest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
