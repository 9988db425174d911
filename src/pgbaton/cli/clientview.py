"""Clients as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from pgbaton.topology.addresses import at_port

if TYPE_CHECKING:
    from pgbaton.observe.clients import Client, Connected

COLUMNS = ("client", "entry", "balancer", "pooler", "user", "database", "application", "state", "server pid")


def table(found: Connected) -> Table:
    """Return a line for each client."""
    made = Table(*COLUMNS, box=None, pad_edge=False)
    for client in found.clients:
        made.add_row(*(Text(printable(word)) for word in row(client)))
    return made


def printable(word: str) -> str:
    """Return a word that a terminal takes for nothing but text: clients choose their application_name."""
    return "".join(letter if letter.isprintable() else "?" for letter in word)


def row(client: Client) -> tuple[str, ...]:
    """Return a client's line; what is not known is a question mark."""
    address = at_port(client.address, client.port or 0) if client.address else f"? ({client.seen_as})"
    pooler = f"{client.pooler} {client.instance}" if client.instance else client.pooler
    words = (client.balancer, pooler, client.user, client.database, client.application, client.state)
    return (address, client.entry, *(word if word is not None else "?" for word in words), str(client.server_pid or ""))
