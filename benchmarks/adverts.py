#!/usr/bin/env python3
"""How evenly the VIP's holder says that it lives: the gaps between its VRRP adverts, seen on the lab's own switch.

Run as root from the repository while a lab is up and has something to do:
``.venv/bin/python benchmarks/adverts.py --cluster NAME --seconds 600``. Prints one JSON object: for each sender how
many adverts came, and the gaps between them in seconds (median, 999 of 1,000, 9,999 of 10,000, longest). A balancer
takes over when three adverts have failed to come: an ``advert_interval`` is sound when the longest gap is well below
three of them. When they came is the kernel's word, so that this program's own pauses do not count.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import itertools
import json
import os
import socket
import struct
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAMESPACES = Path("/run/netns")
CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
ETH_P_IP = 0x0800
VRRP = 112
#: Python has no names for these (socket(7), packet(7)); the filter is ``ip proto 112``, as tcpdump -dd prints it.
SO_ATTACH_FILTER = 26
SO_TIMESTAMPNS = 35
FILTER = (
    (0x28, 0, 0, 12),
    (0x15, 0, 3, ETH_P_IP),
    (0x30, 0, 0, 23),
    (0x15, 0, 1, VRRP),
    (0x6, 0, 0, 0x40000),
    (0x6, 0, 0, 0),
)
#: Where the sender's address is in a frame, and what a packet socket says of one that leaves by a link.
SENDER = slice(26, 30)
OUTGOING = 4
FRAME_BYTES = 128


def enter(namespace: str) -> None:
    """Move this program into a network namespace, which it does not leave."""
    there = os.open(NAMESPACES / namespace, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
    finally:
        os.close(there)


def opened() -> socket.socket:
    """Return a socket that gets adverts alone, each with the time at which the kernel had it."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    code = b"".join(struct.pack("HBBI", *each) for each in FILTER)
    kept = ctypes.create_string_buffer(code)
    made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(FILTER), ctypes.addressof(kept)))
    made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    with contextlib.suppress(BlockingIOError):
        made.setblocking(False)  # noqa: FBT003 - socket's own
        while made.recv(FRAME_BYTES):
            pass  # what came before there was a filter
    return made


def adverts(seconds: float) -> Iterator[tuple[str, float]]:
    """Yield each advert's sender and time for so long; a frame that crosses the switch is seen once, as it comes in."""
    end = time.monotonic() + seconds
    with opened() as wire:
        while (left := end - time.monotonic()) > 0:
            wire.settimeout(left)
            try:
                frame, further, _, (*_, kind, _, _) = wire.recvmsg(FRAME_BYTES, 64)
            except TimeoutError:
                return
            if kind != OUTGOING:
                whole, nanoseconds = struct.unpack("ll", further[0][2])
                yield socket.inet_ntoa(frame[SENDER]), whole + nanoseconds / 1e9


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value that so large a share of some sorted ones do not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def described(times: Sequence[float]) -> dict[str, float | int]:
    """Return how the gaps between some moments are spread, in seconds."""
    gaps = sorted(after - before for before, after in itertools.pairwise(times))
    if not gaps:
        return {"adverts": len(times)}
    shares = {"p999": 0.999, "p9999": 0.9999}
    quantiles = {name: round(quantile(gaps, share), 4) for name, share in shares.items()}
    return {"adverts": len(times), "median": round(median(gaps), 4), **quantiles, "longest": round(gaps[-1], 4)}


def main() -> None:
    """Listen, and print what was heard."""
    parser = argparse.ArgumentParser(description="How evenly the VIP's holder says that it lives.")
    parser.add_argument("--cluster", required=True, help="the lab's name")
    parser.add_argument("--seconds", type=float, default=600.0)
    asked = parser.parse_args()
    namespace = f"pgb-{asked.cluster}"
    if not (NAMESPACES / namespace).exists():
        parser.error(f"there is no lab named {asked.cluster}: pgbaton lab up --cluster {asked.cluster} makes one")
    enter(namespace)
    heard: dict[str, list[float]] = {}
    for sender, at in adverts(asked.seconds):
        heard.setdefault(sender, []).append(at)
    if not heard:
        sys.exit("no advert was heard: does the lab have a VIP and two balancers?")
    print(json.dumps({"seconds": asked.seconds, "senders": {name: described(heard[name]) for name in sorted(heard)}}))


if __name__ == "__main__":
    main()
