"""The model's etcd: a few keys, one revision for all, guarded transactions carried out as they are written."""

from functools import cache
from typing import NamedTuple

from pgbaton.agent.decisions import terms
from pgbaton.agent.decisions.terms import Lock, Transaction


class Snapshot(NamedTuple):
    """The keys at one revision. ``half`` is one that only those can see who take changes in key by key.

    ``lease`` is the number of the leader's lease that its key hangs on; ``freed`` the revision at which nobody led.
    """

    revision: int
    leader: str | None
    leader_revision: int
    lease: int
    freed: int
    sync_leader: str
    sync: frozenset[str]
    quorum: int
    sync_revision: int
    config_revision: int
    synchronous: bool
    by_quorum: bool
    verdict_revision: int
    half: bool = False


@cache
def lock(snapshot: Snapshot) -> Lock:
    """Return what an agent makes of it."""
    return Lock(
        revision=snapshot.revision,
        leader=snapshot.leader,
        leader_revision=snapshot.leader_revision,
        sync_leader=snapshot.sync_leader,
        sync=snapshot.sync,
        sync_revision=snapshot.sync_revision,
        config_revision=snapshot.config_revision,
        verdict_revision=snapshot.verdict_revision,
        quorum=snapshot.quorum,
        synchronous=snapshot.synchronous,
        by_quorum=snapshot.by_quorum,
    )


def holds(transaction: Transaction, snapshot: Snapshot) -> bool:
    """Tell whether every comparison of a transaction holds."""
    revisions = {
        terms.LEADER: snapshot.leader_revision,
        terms.SYNC: snapshot.sync_revision,
        terms.CONFIG: snapshot.config_revision,
        terms.VERDICT: snapshot.verdict_revision,
    }
    return all(revisions[key] == revision for key, revision in transaction.compare)


def carried_out(
    transaction: Transaction, before: Snapshot, order: tuple[str, ...], known: Snapshot | None = None
) -> list[Snapshot]:
    """Return the store after each operation of a transaction that holds, all but the last as halves.

    What is put again is what was ``known`` of it.
    """
    now, steps = before._replace(revision=before.revision + 1), []
    for kind in order:
        for key in getattr(transaction, kind):
            now = _done(now, kind, key, known or before)
            steps.append(now)
    return [step._replace(half=True) for step in steps[:-1]] + [now]


def freed(before: Snapshot) -> Snapshot:
    """Return the store without the leader key."""
    revision = before.revision + 1
    return before._replace(revision=revision, leader=None, leader_revision=0, lease=0, freed=revision)


def led(before: Snapshot, host: str, lease: int) -> Snapshot:
    """Return the store with the leader key put."""
    revision = before.revision + 1
    return before._replace(revision=revision, leader=host, leader_revision=revision, lease=lease, freed=0)


def synced(before: Snapshot, leader: str, sync: frozenset[str], quorum: int) -> Snapshot:
    """Return the store with ``/sync`` put."""
    revision = before.revision + 1
    return before._replace(revision=revision, sync_leader=leader, sync=sync, quorum=quorum, sync_revision=revision)


def _done(now: Snapshot, kind: str, key: str, known: Snapshot) -> Snapshot:
    match kind, key:
        case "delete", terms.LEADER:
            return now._replace(leader=None, leader_revision=0, lease=0, freed=now.revision)
        case "keep", terms.SYNC:
            again = known.sync_leader, known.sync, known.quorum
            return now._replace(sync_leader=again[0], sync=again[1], quorum=again[2], sync_revision=now.revision)
        case "touch", terms.VERDICT:
            return now._replace(verdict_revision=now.revision)
    message = f"the model does not know how to {kind} {key}"
    raise NotImplementedError(message)
