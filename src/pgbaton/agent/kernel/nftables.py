"""Elements of nftables' named sets, put in, taken out and read in one transaction each, straight from the kernel.

Rules are loaded by ``nft`` from text, rarely; which hosts they concern changes in a moment and is a matter of elements.
The numbers are those of linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

from pgbaton.agent.kernel import netlink
from pgbaton.agent.kernel.netlink import ACKNOWLEDGE, CREATE, NETFILTER, REQUEST, Message, NetlinkError, attribute, nest

FAMILY_UNSPECIFIED = 0
FAMILY_INET = 1
SUBSYSTEM = 10

BATCH_BEGIN = 0x10
BATCH_END = 0x11
NEW_ELEMENT = SUBSYSTEM << 8 | 12
GET_ELEMENT = SUBSYSTEM << 8 | 13
DELETE_ELEMENT = SUBSYSTEM << 8 | 14

LIST_TABLE, LIST_SET, LIST_ELEMENTS = 1, 2, 3
LIST_ELEMENT = 1
ELEMENT_KEY, ELEMENT_USERDATA = 1, 6
DATA_VALUE = 1
COMMENT = 0

#: nft takes no longer comment from a file; the kernel would.
LONGEST_COMMENT = 127
FAMILY_HEADER = struct.Struct("!BBH")


@dataclass(frozen=True, slots=True, order=True)
class Element:
    """One element of a set: its key as the kernel has it (network byte order), and the comment on it."""

    key: bytes
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """Elements to be put into a set, or taken out of it."""

    set_name: str
    elements: tuple[Element, ...]
    delete: bool = False


def apply(table: str, *changes: Change) -> None:
    """Carry out all changes in one transaction: all of them hold when it returns, or none when it raises.

    What is put in twice is in once, with its first comment; taking out what is not in raises ENOENT.
    """
    requests = (request(table, change) for change in changes if change.elements)
    begin, end = (Message(kind, header(FAMILY_UNSPECIFIED, SUBSYSTEM)) for kind in (BATCH_BEGIN, BATCH_END))
    netlink.carry_out(NETFILTER, begin, *requests, end)


def renewed(set_name: str, elements: tuple[Element, ...]) -> tuple[Change, ...]:
    """Return what gives elements of a set that forgets them its whole time again, in one transaction.

    Put in once more, an element keeps the end that it had. So it is surely in, then out, then in for long.
    """
    there = Change(set_name, elements)
    return there, Change(set_name, elements, delete=True), there


def request(table: str, change: Change) -> Message:
    """Return the request for one change."""
    kind, flags = (DELETE_ELEMENT, 0) if change.delete else (NEW_ELEMENT, CREATE)
    listed = nest(LIST_ELEMENTS, *(nest(LIST_ELEMENT, packed(element)) for element in change.elements))
    return Message(kind, named(table, change.set_name) + listed, REQUEST | ACKNOWLEDGE | flags)


def elements(table: str, set_name: str) -> tuple[Element, ...]:
    """Return what is in a set, ordered by key; nothing when there is no such set or table."""
    try:
        answers = netlink.listing(NETFILTER, Message(GET_ELEMENT, named(table, set_name)))
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return ()
        raise
    found = (element for answer in answers for element in unpacked(answer[FAMILY_HEADER.size :]))
    return tuple(sorted(found))


def named(table: str, set_name: str) -> bytes:
    """Return what names a set."""
    names = attribute(LIST_TABLE, text(table)) + attribute(LIST_SET, text(set_name))
    return header(FAMILY_INET) + names


def header(family: int, resource: int = 0) -> bytes:
    """Return the header that all messages to netfilter begin with."""
    return FAMILY_HEADER.pack(family, 0, resource)


def text(value: str) -> bytes:
    """Return a string as the kernel wants it."""
    return value.encode("ascii") + b"\0"


def packed(element: Element) -> bytes:
    """Return an element's attributes; a comment as nft writes one, so that nft shows it."""
    key = nest(ELEMENT_KEY, attribute(DATA_VALUE, element.key))
    if not element.comment:
        return key
    comment = text(element.comment[:LONGEST_COMMENT])
    return key + attribute(ELEMENT_USERDATA, bytes((COMMENT, len(comment))) + comment)


def unpacked(listed: bytes) -> tuple[Element, ...]:
    """Return the elements of one answer."""
    lists = (value for kind, value in netlink.attributes(listed) if kind == LIST_ELEMENTS)
    return tuple(element(value) for items in lists for _, value in netlink.attributes(items))


def element(data: bytes) -> Element:
    """Return one element from its attributes."""
    parts = dict(netlink.attributes(data))
    key = dict(netlink.attributes(parts[ELEMENT_KEY]))[DATA_VALUE]
    return Element(key, comment_of(parts.get(ELEMENT_USERDATA, b"")))


def comment_of(userdata: bytes) -> str:
    """Return the comment among what a program noted with an element."""
    while len(userdata) > 1:
        kind, length = userdata[:2]
        if kind == COMMENT:
            return userdata[2 : 2 + length].rstrip(b"\0").decode("ascii", "replace")
        userdata = userdata[2 + length :]
    return ""
