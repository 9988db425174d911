"""pgbench's command line, and what its output says. Pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgbaton.measure.latency import Latencies, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.measure.plan import Case
    from pgbaton.measure.ways import Way

#: Every login is given so long.
LOGIN_SECONDS = 30
#: Logging every transaction for so long fills no memory; of a longer run a share is logged.
LOGGED_SECONDS = 30
#: How long a run may take beyond its time: to log all clients in, one after another where nothing is pooled.
SLACK_SECONDS = 60
SLACK_SECONDS_PER_CLIENT = 0.1
#: Files that pgbench has open beside its connections.
SPARE_FILES = 256
#: What stands before the counts of latencies in the standard output of a run.
BETWEEN = "-- latencies"
#: How many kinds of errors are told.
TOLD = 3

#: Work in a directory ($1), and count latencies, of whole logins where $2 is 1; the rest is pgbench's command line. It
#: lies in a file, since systemd would replace what looks like a variable. Of what pgbench complains of, the end is
#: enough: a thousand clients say the same.
RUN = f"""
cd "$1" || exit 1
connect=$2
shift 2
rm -f log.*
"$@" 2> complaints
status=$?
echo '{BETWEEN}'
cat log.* 2> /dev/null | awk -v connect="$connect" -f count.awk
tail -c 200000 complaints >&2
rm -f log.* complaints
exit $status
"""
#: Print the newest pgbench that Debian's packages brought, else the one in the search path.
FIND = """
for found in $(ls -1d /usr/lib/postgresql/*/bin/pgbench 2> /dev/null | sort -rV) $(command -v pgbench); do
  echo "$found"
  exit 0
done
exit 1
"""


@dataclass(frozen=True)
class Login:
    """How clients log in, whatever the way: names of files on their host, none of them a secret itself.

    ``sslmode`` is libpq's; the usual one is sure of whom it talks to.
    """

    user: str
    database: str
    directory: str
    sslmode: str = "verify-full"

    @property
    def authority(self) -> str:
        """Return the file of the authority's certificate."""
        return f"{self.directory}/ca.crt"

    @property
    def passfile(self) -> str:
        """Return the password file."""
        return f"{self.directory}/passfile"

    def script(self, name: str) -> str:
        """Return the file of a profile's script."""
        return f"{self.directory}/{name}.sql"

    def conninfo(self, way: Way) -> str:
        """Return how clients connect by a way: the same for all of them but for where to."""
        parts = {
            "host": way.address,
            "port": way.port,
            "dbname": self.database,
            "user": self.user,
            "sslmode": self.sslmode,
            "sslrootcert": self.authority,
            "passfile": self.passfile,
            "connect_timeout": LOGIN_SECONDS,
            "application_name": "pgbaton bench",
        }
        return " ".join(f"{key}='{escaped(str(value))}'" for key, value in parts.items())


@dataclass(frozen=True)
class Outcome:
    """What one run of pgbench came to.

    ``login_seconds`` is how long a login took on average, where each transaction has one; ``errors`` counts failed
    transactions and lost clients by what was said of them; ``latencies`` are those of single transactions.
    """

    transactions: int
    per_second: float
    login_seconds: float | None
    latencies: Latencies
    errors: Mapping[str, int] = field(default_factory=dict)


def escaped(value: str) -> str:
    """Return a value as it stands between quotes in a conninfo string."""
    return value.replace("\\", "\\\\").replace("'", "\\'")


def passfile(password: str) -> str:
    """Return a password file that is good for every way: who may read it may use it."""
    return "*:*:*:*:" + password.replace("\\", "\\\\").replace(":", "\\:") + "\n"


def argv(program: str, case: Case, login: Login, way: Way, *, seconds: int, cores: int) -> tuple[str, ...]:
    """Return the command line of a run.

    pgbench waits for a login before its thread does anything else, so clients that log in each time have a thread each.
    """
    jobs = case.clients if case.connect else max(1, min(case.clients, cores))
    sampled = seconds > LOGGED_SECONDS and not case.connect
    return (
        program, "--no-vacuum", f"--file={login.script(case.profile)}", f"--protocol={case.protocol}",
        f"--client={case.clients}", f"--jobs={jobs}", f"--time={seconds}", "--log", "--log-prefix=log",
        *((f"--sampling-rate={LOGGED_SECONDS / seconds:.3f}",) if sampled else ()),
        *(("--connect",) if case.connect else ()),
        login.conninfo(way),
    )  # fmt: skip


def longest(case: Case, seconds: int) -> float:
    """Return how long a run may take in all, in seconds."""
    return seconds + SLACK_SECONDS + SLACK_SECONDS_PER_CLIENT * case.clients


def read(stdout: str, stderr: str, exit_status: int) -> Outcome:
    """Read what RUN printed."""
    report, _, counts = stdout.partition(f"{BETWEEN}\n")
    errors = complaints(stderr)
    failed = int(number(r"number of failed transactions: (\d+)", report) or 0)
    if failed:
        errors["transactions failed"] = failed
    if exit_status and not errors:
        errors[f"pgbench ended with exit status {exit_status}"] = 1
    login = number(r"average connection time = ([\d.]+) ms", report)
    return Outcome(
        transactions=int(number(r"number of transactions actually processed: (\d+)", report) or 0),
        per_second=number(r"^tps = ([\d.]+)", report) or 0.0,
        login_seconds=None if login is None else login / 1000,
        latencies=parse(counts.splitlines()),
        errors=errors,
    )


def number(pattern: str, text: str) -> float | None:
    """Return the number that a pattern finds, None for none."""
    found = re.search(pattern, text, re.MULTILINE)
    return float(found[1]) if found else None


def complaints(stderr: str) -> dict[str, int]:
    """Return how many errors pgbench told of, by what it said, without the clients' numbers."""
    said = re.findall(r"^pgbench: error: (.*)$", stderr, re.MULTILINE)
    counts = Counter(re.sub(r"\bclient \d+\b", "a client", line).strip() for line in said)
    return dict(counts.most_common())


def told(errors: Mapping[str, int]) -> list[str]:
    """Return the commonest errors, a line each."""
    ordered = sorted(errors.items(), key=lambda each: -each[1])
    more = len(ordered) - TOLD
    return [f"{count:,} times: {what}" for what, count in ordered[:TOLD]] + (
        [f"and {more} other kinds"] if more > 0 else []
    )
