"""etcd's keys, and what happens to them, as values and as its JSON gateway writes them. Pure.

In that JSON, keys and values are base64, numbers of 64 bits are text, and whatever is empty or 0 is left out.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Json: TypeAlias = "Mapping[str, Any]"


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as it stands: ``revision`` is the one that last changed it, ``lease`` is 0 without one."""

    key: str
    value: bytes
    revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a key at a revision: what was put, or None when it was deleted."""

    key: str
    revision: int
    put: KeyValue | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that came together, in order. All changes up to ``revision`` have come with it."""

    revision: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys under a prefix at one revision of the store.

    ``confirmed`` says that a majority of etcd's members stood behind it when it was given; ``endpoint`` gave it.
    """

    revision: int
    keys: Mapping[str, KeyValue]
    confirmed: bool = False
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class ModRevision:
    """A condition: the key was last changed at this revision; 0 means that there is no such key."""

    key: str
    revision: int

    def encoded(self) -> Json:
        """Return it as the gateway wants it."""
        return {
            "key": b64(self.key),
            "target": "MOD",
            "result": "EQUAL",
            "mod_revision": str(self.revision),
        }


@dataclass(frozen=True, slots=True)
class Put:
    """Put a key; with a lease it goes when the lease does."""

    key: str
    value: bytes
    lease: int = 0

    def encoded(self) -> Json:
        """Return it as the gateway wants it."""
        fields = {"key": b64(self.key), "value": b64(self.value)}
        return {"request_put": fields | ({"lease": str(self.lease)} if self.lease else {})}


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key, when there is one."""

    key: str

    def encoded(self) -> Json:
        """Return it as the gateway wants it."""
        return {"request_delete_range": {"key": b64(self.key)}}


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """Whether every condition held, and the store's revision after it; when one did not, nothing was done."""

    succeeded: bool
    revision: int


def transaction_request(compare: Iterable[ModRevision], success: Iterable[Put | Delete]) -> Json:
    """Return a transaction. Its changes reach those who watch in the order given here."""
    return {"compare": [one.encoded() for one in compare], "success": [one.encoded() for one in success]}


def range_request(prefix: str, *, serializable: bool) -> Json:
    """Return a question for all keys under a prefix."""
    return {**_prefix(prefix), "serializable": serializable}


def watch_request(prefix: str, from_revision: int) -> Json:
    """Return the wish to be told of every change under a prefix, from this revision on."""
    return {"create_request": {**_prefix(prefix), "start_revision": str(from_revision)}}


def transaction_result(answer: Json) -> TransactionResult:
    """Read the answer to a transaction."""
    return TransactionResult(bool(answer.get("succeeded")), revision_of(answer))


def snapshot(answer: Json, *, confirmed: bool, endpoint: str) -> Snapshot:
    """Read the answer to a question for keys."""
    found = (_key_value(entry) for entry in answer.get("kvs", ()))
    return Snapshot(revision_of(answer), {each.key: each for each in found}, confirmed=confirmed, endpoint=endpoint)


def batch(result: Json) -> Batch | None:
    """Read a message of a watch; None when it has no changes.

    The revision is that of its last change, not the one in its header: that may be ahead of what was sent.
    """
    events = tuple(_event(entry) for entry in result.get("events", ()))
    return Batch(max(event.revision for event in events), events) if events else None


def revision_of(answer: Json) -> int:
    """Return the store's revision when the answer was given."""
    return int(answer["header"]["revision"])


def applied(keys: Mapping[str, KeyValue], events: Iterable[Event]) -> dict[str, KeyValue]:
    """Return the keys after the events."""
    after = dict(keys)
    for event in events:
        if event.put is None:
            after.pop(event.key, None)
        else:
            after[event.key] = event.put
    return after


def b64(value: str | bytes) -> str:
    """Return a key or a value as the gateway writes it."""
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


def _prefix(prefix: str) -> dict[str, str]:
    """Return the range of all keys with a prefix: up to the next one of the same length."""
    raw = prefix.encode()
    return {"key": b64(raw), "range_end": b64(raw[:-1] + bytes([raw[-1] + 1]))}


def _event(entry: Json) -> Event:
    there = _key_value(entry["kv"])
    return Event(there.key, there.revision, None if entry.get("type") == "DELETE" else there)


def _key_value(entry: Json) -> KeyValue:
    return KeyValue(
        key=base64.b64decode(entry["key"]).decode(errors="replace"),
        value=base64.b64decode(entry.get("value", "")),
        revision=int(entry["mod_revision"]),
        lease=int(entry.get("lease", 0)),
    )
