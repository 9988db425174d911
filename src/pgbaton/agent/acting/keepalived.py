"""Give up the VIP when HAProxy here is of no use, or leads nowhere: a value in a file that Keepalived tracks.

Keepalived (2.2 and 2.3, ``track_file.c``) watches the file's *directory* and reads the file when one of that name was
closed after writing or moved in. So:

- a new file is put in place by a rename: read while it is written in place, it would be empty, which counts as 0;
- a file that is missing counts as 0 too, so it is never removed before it is replaced;
- the directory must outlive the agent: a watch ends with its directory, so it must not be the agent's own runtime
  directory, which systemd removes with the unit. ``/run`` itself does;
- the file is the agent's alone. HAProxy's unit writes another (0 at its start), and Keepalived counts the reasons to
  give up, so each of several files is enough for it.

0 is well. -254 takes the balancer's Keepalived into the fault state, and it sends priority 0 for every VIP that it
holds: the peer takes them at once. A lower priority would not do it, since the peer has ``nopreempt``, or waits.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pgbaton.agent.decisions.hung import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from pgbaton.agent.complaints import Complaints

LOG = logging.getLogger(__name__)
WELL = 0
GIVE_UP = -254
#: Balancers find a new primary some time apart, by their own checks at the latest: no reason to move the VIP.
APART_SECONDS = 2.0
#: A balancer gives up the VIP for its broken path no more often than this: where too many clients are what breaks it,
#: they come along, and the balancer that they left is well at once.
REST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class View:
    """What an agent on a balancer sees: ``leads`` to the primary the way through it, ``peer_leads`` another's.

    ``cut_off``: HAProxy here leads there, and clients do not reach it all the same.
    """

    now_seconds: float
    haproxy: Verdict
    leads: bool
    peer_leads: bool
    cut_off: bool = False


@dataclass(frozen=True, slots=True)
class Advice:
    """What the file should say, and since when only the other balancer leads to the primary.

    ``cut_off_seconds`` is when the VIP was given up last for a broken path.
    """

    value: int = WELL
    apart_seconds: float | None = None
    cut_off_seconds: float = float("-inf")


def advise(before: Advice, view: View, *, patience_seconds: float = APART_SECONDS) -> Advice:
    """Return what the file should say now.

    A HAProxy that hangs or is gone is of no use to anybody. One that leads nowhere is no worse than the others while
    they lead nowhere either: the VIP stays where it is then, since otherwise all would give it up. While it is not
    certain whether HAProxy is well, nothing changes.
    """
    apart_seconds = first(before.apart_seconds, view.now_seconds) if view.peer_leads and not view.leads else None
    seen = replace(before, apart_seconds=apart_seconds)
    if view.haproxy in {Verdict.HUNG, Verdict.GONE}:
        return replace(seen, value=GIVE_UP)
    if view.haproxy == Verdict.SUSPECTED:
        return seen
    if apart_seconds is None or view.now_seconds - apart_seconds < patience_seconds:
        return replace(seen, value=WELL)
    return cut_off(seen, view) if view.cut_off else replace(seen, value=GIVE_UP)


def cut_off(seen: Advice, view: View) -> Advice:
    """Return what the file should say where clients reach the primary through another balancer alone."""
    if seen.value == GIVE_UP:
        return seen
    if view.now_seconds - seen.cut_off_seconds < REST_SECONDS:
        return seen
    return replace(seen, value=GIVE_UP, cut_off_seconds=view.now_seconds)


def first(before_seconds: float | None, now_seconds: float) -> float:
    """Return when something began that goes on now."""
    return now_seconds if before_seconds is None else before_seconds


class TrackFile:
    """The file that Keepalived watches."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> int:
        """Return the value as Keepalived reads it: 0 when there is none."""
        try:
            return int(self.path.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return WELL

    def write(self, value: int) -> bool:
        """Put a value in place, unless it is there; tell whether it was not. It need not outlive a reboot."""
        if self.path.exists() and self.read() == value:
            return False
        new = self.path.with_name(f".{self.path.name}.new")
        new.write_text(f"{value}\n", encoding="ascii")
        new.chmod(0o644)
        new.replace(self.path)
        return True


class Adviser:
    """Tells Keepalived what follows from what the agent sees, and remembers since when it does."""

    def __init__(self, path: Path, complaints: Complaints) -> None:
        self._advice = Advice()
        self._file = TrackFile(path)
        self._complaints = complaints

    def tell(self, view: View) -> None:
        """Give up the VIP, or take it back, when that is what follows now."""
        self._advice = advise(self._advice, view)
        try:
            if self._file.write(self._advice.value):
                led = "clients are led to the primary" if view.leads else "clients are led nowhere"
                LOG.warning("Keepalived is told %d: HAProxy here is %s, %s", self._advice.value, view.haproxy, led)
        except OSError as error:
            self._complaints.about("Keepalived", f"cannot be told: {error}")
        else:
            self._complaints.over("Keepalived")
