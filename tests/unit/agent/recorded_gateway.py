"""What etcd's JSON gateway answered, as it was recorded: etcd 3.4.23 of Debian 12, and 3.5.16 of Debian 13.

The two differ in spaces, in the names of an error's parts, in the status of some errors, and in how those are framed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from canned_server import chunk, chunked, plain

#: Base64 of the keys and values below.
LEADER, SYNC = "L3NlcnZpY2Uvb3JkZXJzL2xlYWRlcg==", "L3NlcnZpY2Uvb3JkZXJzL3N5bmM="
PREFIX, PREFIX_END = "L3NlcnZpY2Uvb3JkZXJzLw==", "L3NlcnZpY2Uvb3JkZXJzMA=="
SYNC_VALUE = "eyJsZWFkZXIiOiJkYjEiLCJzeW5jX3N0YW5kYnkiOiJkYjIifQ=="
TRAILER = "Grpc-Trailer-Content-Type: application/grpc\r\n"


@dataclass(frozen=True)
class Recorded:
    """One version's answers."""

    version: str

    @property
    def is_old(self) -> bool:
        """Tell whether this is 3.4."""
        return self.version == "3.4.23"

    def answer(self, text: str) -> bytes:
        """Return an answer with a body as 3.4 writes it, or as 3.5 does."""
        return plain((text if self.is_old else spaced(text)).encode())

    def error(self, code: int, text: str, *, old: str, new: str) -> bytes:
        """Return an error; ``old`` and ``new`` are the statuses of either version."""
        if self.is_old:
            body = {"error": text, "message": text, "code": code}
            return chunked(json.dumps(body, separators=(",", ":")).encode(), status=old, trailer=TRAILER)
        return plain(json.dumps({"code": code, "message": text}, separators=(", ", ":")).encode(), status=new)

    @property
    def empty(self) -> bytes:
        return self.answer(f"{{{header(1)}}}")

    @property
    def keys(self) -> bytes:
        return self.answer(
            f'{{{header(3)},"kvs":[{{"key":"{LEADER}","create_revision":"2","mod_revision":"2","version":"1",'
            f'"value":"ZGIx","lease":"3437832039479394824"}},{{"key":"{SYNC}","create_revision":"3","mod_revision":"3",'
            f'"version":"1","value":"{SYNC_VALUE}"}}],"count":"2"}}'
        )

    @property
    def won(self) -> bytes:
        return self.answer(
            f'{{{header(4)},"succeeded":true,"responses":[{{"response_delete_range":{{"header":{{"revision":"4"}},'
            '"deleted":"1"}},{"response_put":{"header":{"revision":"4"}}}]}'
        )

    @property
    def lost(self) -> bytes:
        return self.answer(f"{{{header(4)}}}")

    @property
    def no_lease(self) -> bytes:
        return self.error(5, "etcdserver: requested lease not found", old="404 Not Found", new="404 Not Found")

    @property
    def timed_out(self) -> bytes:
        body = json.dumps({"error": "etcdserver: request timed out", "code": 14})
        return plain(body.encode(), status="503 Service Unavailable")

    @property
    def given_up(self) -> bytes:
        """The same a little later: 3.4 does not know its own error's kind, 3.5 does."""
        code, status = (2, "500 Internal Server Error") if self.is_old else (4, "504 Gateway Timeout")
        return self.error(code, "context deadline exceeded", old=status, new=status)

    @property
    def not_leader(self) -> bytes:
        return self.error(9, "etcdserver: not leader", old="412 Precondition Failed", new="400 Bad Request")

    def status(self, leader: int) -> bytes:
        """Return what a member says of itself; without a leader it names none."""
        known = f'"leader":"{leader}",' if leader else ""
        told = "" if leader else '"errors":["etcdserver: no leader"],'
        return self.answer(
            f'{{{header(1)},"version":"{self.version}","dbSize":"32768",{known}"raftIndex":"8","raftTerm":"2",'
            f'"raftAppliedIndex":"8",{told}"dbSizeInUse":"32768"}}'
        )

    def members(self, *endpoints: str) -> bytes:
        """Return a list of members m0, m1 and so on, with ids 100, 101 and so on."""
        entries = ",".join(
            f'{{"ID":"{100 + number}","name":"m{number}","peerURLs":["http://127.0.0.1:1"],"clientURLs":["http://{at}"]}}'
            for number, at in enumerate(endpoints)
        )
        return self.answer(f'{{{header(1)},"members":[{entries}]}}')


VERSIONS = [Recorded("3.4.23"), Recorded("3.5.16")]


def header(revision: int) -> str:
    """Return the header of an answer."""
    ids = '"cluster_id":"12353031445366419963","member_id":"10330772385792896949"'
    return f'"header":{{{ids},"revision":"{revision}","raft_term":"2"}}'


def spaced(text: str) -> str:
    """Return JSON as Debian's 3.5 writes it: with a space after each comma between members, none after a colon."""
    return json.dumps(json.loads(text), separators=(", ", ":"))


# A watch; both versions write the same.
CREATED = f'{{"result":{{{header(4)},"created":true}}}}\n'.encode()
CHANGES = (
    f'{{"result":{{{header(9)},"events":[{{"kv":{{"key":"{SYNC}","create_revision":"3","mod_revision":"3","version":"1",'
    f'"value":"{SYNC_VALUE}"}}}},{{"type":"DELETE","kv":{{"key":"{LEADER}","mod_revision":"4"}}}},{{"kv":{{"key":"{SYNC}",'
    f'"create_revision":"3","mod_revision":"4","version":"2","value":"eA=="}}}}]}}}}\n'
).encode()
COMPACTED = (
    b'{"result":{"header":{"cluster_id":"12353031445366419963","member_id":"10330772385792896949","raft_term":"2"},'
    b'"canceled":true,"compact_revision":"4"}}\n'
)
WATCH = chunked(CREATED)


def change(revision: int, value: str, *, key: str = SYNC) -> bytes:
    """Return a chunk of a watch that tells of one put; the value is base64 already."""
    entry = f'{{"key":"{key}","create_revision":"3","mod_revision":"{revision}","version":"2","value":"{value}"}}'
    return chunk(f'{{"result":{{{header(revision)},"events":[{{"kv":{entry}}}]}}}}\n'.encode())
