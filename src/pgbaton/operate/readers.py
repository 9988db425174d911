"""Lead readers away from a primary that is about to stop.

Pools open connections to the primary for readers when no standby is fit to be read, and keep them afterwards. A read
that is under way on one of them when the primary stops would be an error that nobody needed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgbaton.components import pgbouncer
from pgbaton.operate import poolers
from pgbaton.topology import placement
from pgbaton.topology.model import Placement

if TYPE_CHECKING:
    from pgbaton.operate.operation import Operation
    from pgbaton.topology.model import Topology

WRITES = "write"
#: A pool's connections are left as soon as what runs there ends; longer reads than this are not waited for.
PATIENCE_SECONDS = 3

# Arguments: seconds to wait, then psql's command line.
ANEW = """
set -u
patience=$1
shift
"$@" -c RECONNECT || exit 1
left=$((patience * 10))
while :; do
  servers=$("$@" -P tuples_only=off -P footer=off -c "SHOW SERVERS") || exit 1
  old=$(echo "$servers" | awk -F'|' '
    NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i }
    NR > 1 && $column["close_needed"] == 1 { old++ }
    END { print old + 0 }')
  [ "$old" -gt 0 ] || exit 0
  left=$((left - 1))
  [ "$left" -gt 0 ] || break
  sleep 0.1
done
echo "$old of its connections are still at work after $patience s" >&2
exit 1
"""


async def lead_away(operation: Operation) -> None:
    """Have pools for readers open their connections anew, each when it is free: they lead to standbys where one is fit.

    What does not work is told, and holds nobody up: it costs readers what a switchover costs without this.
    """
    asked = processes(operation.topology)
    patience = str(PATIENCE_SECONDS)
    reasons = await asyncio.gather(*(poolers.ask(operation, *each, ANEW, patience) for each in asked))
    for (name, instance), reason in zip(asked, reasons, strict=True):
        if reason is not None:
            operation.report(f"{name}: readers of pgbouncer@{instance} may be cut off: {reason}")


def processes(topology: Topology) -> tuple[tuple[str, str], ...]:
    """Return the PgBouncer processes whose readers a balancer leads, each by its host and instance. Pure.

    A pool beside its server has no other to lead them to.
    """
    if topology.pooling.placement is Placement.DATABASE:
        return ()
    instances = [name for name in pgbouncer.instances(topology) if pgbouncer.purpose_of(name) != WRITES]
    return tuple((host.name, instance) for host in placement.poolers(topology) for instance in instances)
