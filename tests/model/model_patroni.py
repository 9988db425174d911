"""What Patroni does with ``/sync`` and ``synchronous_standby_names``, in its order.

After Patroni 4.0.7: ``ha.py`` (``_process_multisync_replication``, ``_process_quorum_replication``,
``process_sync_replication_prepromote``, ``_is_healthiest_node``) and ``quorum.py``.
A cycle of the leader is a plan, a tuple of operations, each of which is a step of its own:

- ``("sync", names, quorum)``: put ``/sync`` if it is as it was read, else the cycle is over;
- ``("ssn", number, names)``: set ``synchronous_standby_names``; ``*`` is whoever replicates;
- ``("confirm", names, common)``: look who of them has caught up since, and put those into ``/sync``;
- ``("again", active)``: let the quorum's rules decide once more;
- ``("off",)``: delete ``/sync``, and go on whether that worked or not.
"""

from functools import cache
from itertools import combinations

Names = frozenset[str]
Plan = tuple[tuple[object, ...], ...]

NOBODY: Names = frozenset()
ANYBODY: Names = frozenset({"*"})


@cache
def subsets(names: Names) -> list[Names]:
    """Return every subset, the small ones first."""
    return [frozenset(some) for size in range(len(names) + 1) for some in combinations(sorted(names), size)]


def multisync(*, voters: Names, ssn: tuple[int, Names], picked: Names, confirmed: Names, strict: bool) -> Plan:
    """Return what the leader does to have ``picked`` as its synchronous standbys, each of which has to confirm."""
    plan: list[tuple[object, ...]] = []
    if picked == voters and voters != confirmed:
        plan.append(("sync", confirmed, 0))
        voters = confirmed
    if picked == voters == ssn[1]:
        return tuple(plan)
    common = voters & confirmed
    if common != voters:
        plan.append(("sync", common, 0))
    plan.append(ssn_of(picked or (ANYBODY if strict else NOBODY)))
    if picked and confirmed != picked:
        plan.append(("confirm", picked, common))
    elif confirmed and confirmed != common:
        plan.append(("sync", confirmed, 0))
    return tuple(plan)


def ssn_of(names: Names) -> tuple[object, ...]:
    """Return the operation that has each of these confirm every commit."""
    return ("ssn", 1 if names == ANYBODY else len(names), names)


def quorum(*, voters: Names, lacking: int, ssn: tuple[int, Names], active: Names, confirmed: Names) -> Plan:
    """Return the leader's transitions in quorum mode, for the standbys S and T of which one is wanted."""
    swap = {"S": "T", "T": "S", "S T": "S T"}
    key = (_short(voters), str(lacking), str(ssn[0]), _short(ssn[1]), _short(active), "yes" if confirmed else "no")
    if key in _TRANSITIONS:
        return tuple(_operation(step, active, {}) for step in _TRANSITIONS[key])
    mirrored = tuple(_short(frozenset(swap[name] for name in part)) if isinstance(part, frozenset) else part
                     for part in (voters, key[1], key[2], ssn[1], active, key[5]))  # fmt: skip
    return tuple(_operation(step, active, swap) for step in _TRANSITIONS[mirrored])


def _operation(step: str, active: Names, swap: dict[str, str]) -> tuple[object, ...]:
    if step == "restart":
        return ("again", active)
    kind, number, short = step.split()
    names = frozenset(swap.get(name, name) for name in short.strip("-"))
    return ("sync", names, int(number)) if kind == "quorum" else ("ssn", int(number), names)


def _short(names: Names) -> str:
    return "".join(sorted(names)) or "-"


# What QuorumStateResolver of Patroni 4.0.7 answers with synchronous_node_count 1 and the standbys S and T, from every
# state that it can itself get into. The columns: voters and quorum of /sync, number and names of
# synchronous_standby_names, who is connected, and whether one of these was seen to have caught up. Rows that are
# others with S and T exchanged are left out.
_TABLE = """
-  0 0 -  -  no  |
-  0 0 -  S  no  | sync 1 S; restart
-  0 0 -  ST no  | sync 1 ST; restart
-  0 1 S  -  no  | sync 0 -
-  0 1 S  S  no  | restart
-  0 1 S  S  yes | quorum 0 S
-  0 1 S  ST no  | restart
-  0 1 S  ST yes | quorum 1 ST; sync 1 ST
-  0 1 S  T  no  | sync 1 T; restart
-  0 1 ST -  no  | sync 0 -
-  0 1 ST S  no  | sync 1 S; restart
-  0 1 ST S  yes | sync 1 S; quorum 0 S
-  0 1 ST ST no  | restart
-  0 1 ST ST yes | quorum 1 ST
S  0 1 S  -  no  | quorum 0 -; sync 0 -
S  0 1 S  S  no  |
S  0 1 S  S  yes |
S  0 1 S  ST no  | quorum 1 ST; sync 1 ST
S  0 1 S  ST yes | quorum 1 ST; sync 1 ST
S  0 1 S  T  no  | quorum 0 -; sync 1 T; restart
S  1 1 S  -  no  | quorum 0 -; sync 0 -
S  1 1 S  S  no  |
S  1 1 S  S  yes | quorum 0 S
S  1 1 S  ST no  | quorum 2 ST; sync 1 ST
S  1 1 S  ST yes | quorum 1 ST; sync 1 ST
S  1 1 S  T  no  | quorum 0 -; sync 1 T; restart
ST 1 1 S  -  no  | quorum 0 -; sync 0 -
ST 1 1 S  S  no  | quorum 0 S
ST 1 1 S  S  yes | quorum 0 S
ST 1 1 S  ST no  | sync 1 ST
ST 1 1 S  ST yes | sync 1 ST
ST 1 1 S  T  no  | sync 1 T; quorum 1 T
ST 1 1 ST -  no  | quorum 0 -; sync 0 -
ST 1 1 ST S  no  | sync 1 S; quorum 0 S
ST 1 1 ST S  yes | sync 1 S; quorum 0 S
ST 1 1 ST ST no  |
ST 1 1 ST ST yes |
ST 2 1 S  -  no  | quorum 0 -; sync 0 -
ST 2 1 S  S  no  | quorum 1 S
ST 2 1 S  S  yes | quorum 0 S
ST 2 1 S  ST no  | sync 1 ST
ST 2 1 S  ST yes | sync 1 ST; quorum 1 ST
ST 2 1 S  T  no  | sync 1 T; quorum 1 T
ST 2 1 ST -  no  | quorum 0 -; sync 0 -
ST 2 1 ST S  no  | sync 1 S; quorum 1 S
ST 2 1 ST S  yes | quorum 1 ST; sync 1 S; quorum 0 S
ST 2 1 ST ST no  |
ST 2 1 ST ST yes | quorum 1 ST
"""

_TRANSITIONS = {
    tuple(left.split()): tuple(step.strip() for step in right.split(";") if step.strip())
    for left, right in (line.split("|") for line in _TABLE.strip().splitlines())
}
