"""Whether this host may hand over to a standby while clients are held: pure.

What is lost when it goes wrong half-way is time, never a write: the standby is the one that ``/sync`` names, so it has
every acknowledged commit, and whoever is elected afterwards has them too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class View:
    """What this host knows when it is asked to hand over.

    ``holders`` are the hosts that hold clients, ``heard`` the hosts whose agents are heard. ``target_role``,
    ``target_following`` and ``target_timeline`` are the target's own word. ``requested``: Patroni has been asked for a
    hand-over.
    """

    me: str
    leader: str | None
    primary: bool
    timeline: int
    mode: str
    sync: frozenset[str]
    paused: bool
    stalled: bool
    fenced: frozenset[str]
    holders: frozenset[str]
    heard: frozenset[str]
    target_role: str
    target_following: bool
    target_timeline: int
    requested: bool = False


def objection(view: View, target: str) -> str | None:
    """Return why not, in words for a person; None when nothing speaks against it."""
    unheard = ", ".join(sorted(view.holders - view.heard))
    others = ", ".join(sorted(view.sync)) or "nobody"
    reasons = (
        (view.leader == view.me, f"the leader lock is held by {view.leader or 'nobody'}, not by {view.me}"),
        (view.primary, f"the server of {view.me} takes no writes"),
        (not view.paused, "Patroni is paused"),
        (not view.requested, "Patroni has been asked for a switchover or failover already"),
        (not view.stalled, f"the agent of {view.me} overslept, and does not know how the others are"),
        (view.mode == "on", "only with synchronous standbys that each confirm every commit is nothing lost by it"),
        (view.sync == frozenset({target}), f"/sync names {others}; only {target} must be named, or another may win"),
        (not view.fenced, f"{view.me} has fenced {', '.join(sorted(view.fenced))}"),
        (not unheard, f"nothing is heard of {unheard}, whose clients would not be held"),
        (view.target_role == "standby" and view.target_following, f"{target} does not follow"),
        (view.target_timeline == view.timeline, f"{target} is on timeline {view.target_timeline}, not {view.timeline}"),
    )
    return next((why for holds, why in reasons if not holds), None)
