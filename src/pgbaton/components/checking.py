"""How HAProxy finds out what the servers are where no Patroni says so.

It asks them, or starts a program that does. Both log in with a certificate in the name of a role that can ask one
question. What is asked, and how the answer is judged, is the same: the server's own word
(:mod:`pgbaton.components.standing`). Or it asks the agents on the servers' hosts, which know what other servers say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.components import standing
from pgbaton.components.base import AUTHORITY_FILE, TLS_DIRECTORY, Certificate, File, OnChange
from pgbaton.components.postgres import CHECK_ROLE
from pgbaton.components.units import HEADER
from pgbaton.topology.model import PrimaryCheck

if TYPE_CHECKING:
    from pgbaton.topology.model import HostSpec, Topology

#: The unprivileged user that HAProxy runs as; its programs run as it, too.
USER = "haproxy"
FILE = "check"
DATABASE = "postgres"
PROGRAM = "/usr/lib/pgbaton/ask-server"
#: HAProxy gives a check no longer than an interval to log in, or a program to end. A busy server that is taken for dead
#: costs all of its sessions, and here nobody takes over from a dead one by himself: so there is no haste.
USUAL_SECONDS = 1.0
#: For a server that is down, or in doubt, where HAProxy asks by itself: a new primary is to be seen soon.
IN_DOUBT_SECONDS = 0.5
#: Checks without an answer until a server is taken for down whose agent is asked: one that is started anew must not
#: cost its server's sessions. Of a server that has ended, agents tell at once.
AGENTS_FALL = 4

#: HAProxy gives the listener's address and port, then the server's; the rest is in the environment (external-check).
#: The server's port is where clients are led, which need not be the server that is asked.
SCRIPT = f"""#!/bin/sh
{HEADER}# Ask one server what it is, for HAProxy; the backend says which answers will do.
case $HAPROXY_PROXY_NAME in
  primary) wanted={standing.TAKES_WRITES} ;;
  standbys) wanted={standing.STREAMS} ;;
  *) wanted={standing.FIT} ;;
esac
export PGCONNECT_TIMEOUT=2 PGSSLMODE=verify-full PGSSLROOTCERT={AUTHORITY_FILE} \\
  PGSSLCERT={TLS_DIRECTORY}/{FILE}.pem PGSSLKEY={TLS_DIRECTORY}/{FILE}.pem PGAPPNAME=haproxy
said=$(@psql@ -XAtq -h "$3" -p @port@ -U {CHECK_ROLE} -d {DATABASE} -c '@question@' 2>/dev/null)
case $said in "$wanted"*) exit 0 ;; esac
exit 1
"""


@dataclass(frozen=True)
class Asked:
    """What HAProxy sends in its own checks, in hexadecimal, and the answers that it waits for."""

    startup: str
    ready: str
    question: str
    answers: dict[str, str]


def method(topology: Topology) -> str:
    """Return how HAProxy finds the primary, as its template knows it."""
    return str(topology.primary_check) if topology.is_manual else "patroni"


def asked(topology: Topology) -> Asked:
    """Return the words of HAProxy's own checks; the answer that each backend waits for."""
    return Asked(
        standing.startup(CHECK_ROLE, DATABASE),
        standing.READY,
        # The session ends with the answer: another one than is waited for counts at once then, not after a while.
        standing.query(question(topology)) + standing.TERMINATE,
        {"primary": standing.TAKES_WRITES, "standbys": standing.STREAMS, "stranded": standing.FIT},
    )


def question(topology: Topology) -> str:
    """Return the SQL that a check asks."""
    return standing.question(topology.balancing.max_lag_mb * 1024 * 1024)


def paths(topology: Topology) -> dict[str, str]:
    """Return what each backend asks an agent for."""
    lag = f"lag={topology.balancing.max_lag_mb * 1024 * 1024}"
    return {"primary": "/primary", "standbys": f"/replica?{lag}", "stranded": f"/stranded?{lag}"}


def interval(topology: Topology, key: str, seconds: float) -> float:
    """Return the time between two checks, in seconds; ``key`` is that of the timings which says it, where it is set.

    Programs never come more often than usual.
    """
    by_program = topology.primary_check is PrimaryCheck.SCRIPT
    is_set = key in topology.timings.model_fields_set
    return seconds if not topology.is_manual or (is_set and not by_program) else max(seconds, USUAL_SECONDS)


def in_doubt(topology: Topology) -> float:
    """Return the time between two checks of a server that is down or in doubt, in seconds."""
    return USUAL_SECONDS if topology.primary_check is PrimaryCheck.SCRIPT else IN_DOUBT_SECONDS


def files(topology: Topology) -> tuple[File, ...]:
    """Return the program that HAProxy starts, where it starts one."""
    if not topology.is_manual or topology.primary_check is not PrimaryCheck.SCRIPT:
        return ()
    psql = f"/usr/lib/postgresql/{topology.postgresql.version}/bin/psql"
    text = SCRIPT.replace("@psql@", psql).replace("@question@", question(topology))
    text = text.replace("@port@", str(topology.postgresql.port))
    return (File(PROGRAM, text, mode=0o755),)


def certificates(topology: Topology, host: HostSpec, *, unit: str) -> tuple[Certificate, ...]:
    """Return the certificate that is the role's login, where servers are asked; a program is run by HAProxy's user."""
    if topology.asks_agents:
        return ()
    owner = USER if topology.primary_check is PrimaryCheck.SCRIPT else "root"
    return (
        Certificate(
            f"check/{host.name}",
            file=FILE,
            owner=owner,
            common_name=CHECK_ROLE,
            client=True,
            bundle=True,
            unit=unit,
            on_change=OnChange.RELOAD,
        ),
    )
