"""The page of what a topology file may not say, from the rules themselves."""

from __future__ import annotations

from itertools import groupby

from pgbaton.topology.rules import RULES
from pgbaton.topology.rules.managed import INSTEAD, MANAGED
from pgbaton.topology.unknown import ELSEWHERE

HEAD = """# Refused topologies

A topology file is checked as a whole before anything happens; everything that is wrong with it is said at once, each
with the line, the key, the value, the reason and what to do. Nothing is guessed, and nothing is ignored.

## The file itself

- It is UTF-8 without a byte-order mark, valid TOML, and no larger than a topology can be.
- Every key is one that [the format](topology.md) has; the message names the nearest one. Every value has its type
  and is within its limits. Required keys are there, and `schema` is a version that this pgbaton knows.
- No key or value has a control character in it. Names consist of the characters that every program which gets to see
  them takes as a name; a letter of another alphabet that looks like one of them is pointed out.
"""

TITLES = {
    "hosts": "Hosts and roles",
    "network": "Network and VIP",
    "replication_network": "A network for replication",
    "sites": "Standbys apart, and other sites",
    "servers": "PostgreSQL, users, databases, replication",
    "directories": "Directories of data, WAL and tablespaces",
    "traffic": "Ports and balancing",
    "pooling": "Pools",
    "inside": "Roles, encodings and extensions",
    "reads": "Reads of standbys",
    "timings": "Timings",
    "agents": "Agents",
    "foreign": "An etcd that exists already",
    "hand": "Clusters that a person fails over",
    "access": "Security and SSH",
}


def page() -> str:
    """Return the page."""
    return "\n".join([HEAD, *rules(), managed(), elsewhere()])


def rules() -> list[str]:
    """Return a section for each group of rules; a rule's own first line says what it asks for."""
    groups = groupby(RULES, key=lambda rule: rule.check.__module__.rsplit(".", 1)[-1])
    return [f"## {TITLES[group]}\n\n" + "".join(f"- {rule.summary}\n" for rule in members) for group, members in groups]


def managed() -> str:
    """Return the section of the settings that are not the user's to make."""
    keys = "".join(f"| `{name}` | `{key}` |\n" for name, key in sorted(INSTEAD.items()))
    others = ", ".join(f"`{name}`" for name in sorted(MANAGED - set(INSTEAD)))
    return (
        "## Settings of PostgreSQL that the cluster depends on\n\n"
        "These have a key of their own, and are refused in `postgresql.settings`:\n\n"
        f"| setting | use |\n|---|---|\n{keys}\n"
        f"These are refused there without one: {others}.\n"
    )


def elsewhere() -> str:
    """Return the section of keys that people look for in vain."""
    entries = "".join(f"- {reason}: {fix}.\n" for _, reason, fix in ELSEWHERE)
    return f"## Keys that the format does not have, on purpose\n\n{entries}"
