"""Cycles among transactions, by the names that Adya gave them ("Weak consistency"). Pure.

A cycle means that no order of the transactions explains what they saw. The names say how bad it is, the worst first:

=========  ===========================================================================================
G0         two transactions overwrote each other
G1c        each read, or overwrote, what the other had written
G-single   one read around the other: it missed a write of which it saw a consequence (read skew)
G2-item    both read what the other was about to change (write skew)
=========  ===========================================================================================

``-realtime`` is added where a cycle needs that one transaction had ended before another one began: a stale view.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from pgbaton.proof.checkers.transactions import Edge, Kinds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from networkx import DiGraph

    from pgbaton.proof.checkers.transactions import Transaction

#: Edges tried as the first of a cycle, of each sort: where so many are in no such cycle, the next sort is looked for.
TRIED_EDGES = 100


@dataclass(frozen=True)
class Sort:
    """A sort of cycles: an edge of the kind ``first``, and a way back over edges of the kinds ``along``."""

    name: str
    first: Kinds
    along: frozenset[Kinds]


_DEPENDENCIES = (
    Sort("G0", Kinds.WW, frozenset({Kinds.WW})),
    Sort("G1c", Kinds.WR, frozenset({Kinds.WW, Kinds.WR})),
    Sort("G-single", Kinds.RW, frozenset({Kinds.WW, Kinds.WR})),
    Sort("G2-item", Kinds.RW, frozenset({Kinds.WW, Kinds.WR, Kinds.RW})),
)
SORTS = (
    *_DEPENDENCIES,
    *(Sort(f"{sort.name}-realtime", sort.first, sort.along | {Kinds.REAL_TIME}) for sort in _DEPENDENCIES),
)


@dataclass(frozen=True)
class Cycle:
    """A cycle of edges, the first of which begins where the last one ends."""

    sort: str
    edges: tuple[Edge, ...]


def cycles(edges: Iterable[Edge]) -> list[Cycle]:
    """Return of every knot of transactions that no order explains one cycle, of the worst sort found in it."""
    edges = list(edges)
    knots = _components(edges)
    if not knots:
        return []
    knot_of = {node: number for number, knot in enumerate(knots) for node in knot}
    inside: list[list[Edge]] = [[] for _ in knots]
    for edge in edges:
        knot = knot_of.get(edge.source)
        if knot is not None and knot == knot_of.get(edge.target):
            inside[knot].append(edge)
    return [_worst(of_knot) for of_knot in inside]


def _components(edges: Iterable[Edge]) -> list[set[int]]:
    """Return the strongly connected components that are more than one node."""
    import networkx as nx  # noqa: PLC0415 - a third of a second that only a judgement of transactions is worth

    return [each for each in nx.strongly_connected_components(_graph(edges)) if len(each) > 1]


def _graph(edges: Iterable[Edge]) -> DiGraph[int]:
    import networkx as nx  # noqa: PLC0415 - likewise

    graph: DiGraph[int] = nx.DiGraph()
    graph.add_edges_from((edge.source, edge.target) for edge in edges)
    return graph


def _worst(edges: Sequence[Edge]) -> Cycle:
    found = next(filter(None, (_cycle(sort, edges) for sort in SORTS)), None)
    if found is None:  # pragma: no cover - a component of these edges always has a cycle of the last sorts
        message = "a strongly connected component without a cycle"
        raise AssertionError(message)
    return found


def _cycle(sort: Sort, edges: Sequence[Edge]) -> Cycle | None:
    """Return the shortest cycle of a sort among the first ones tried."""
    import networkx as nx  # noqa: PLC0415 - likewise

    allowed = [edge for edge in edges if edge.kind in sort.along]
    knot_of = {
        node: number
        for number, knot in enumerate(_components([*allowed, *(edge for edge in edges if edge.kind is sort.first)]))
        for node in knot
    }
    within = (
        edge
        for edge in edges
        if edge.kind is sort.first and edge.source in knot_of and knot_of[edge.source] == knot_of.get(edge.target)
    )
    graph = _graph(allowed)
    best: list[int] = []
    first = None
    for edge in islice(within, TRIED_EDGES):
        try:
            path = nx.shortest_path(graph, edge.target, edge.source)
        except (nx.NetworkXNoPath, nx.NodeNotFound):
            continue
        if not best or len(path) < len(best):
            best, first = path, edge
    return Cycle(sort.name, (first, *_along(best, allowed))) if first else None


def _along(path: Sequence[int], allowed: Iterable[Edge]) -> tuple[Edge, ...]:
    """Return the edges of a path, by way of barriers as one."""
    by_nodes: dict[tuple[int, int], Edge] = {}
    for edge in allowed:
        by_nodes.setdefault((edge.source, edge.target), edge)
    steps = [node for node in path if node >= 0]
    return tuple(by_nodes.get(pair, Edge(Kinds.REAL_TIME, *pair)) for pair in pairwise(steps))


def explain(cycle: Cycle, transactions: Mapping[int, Transaction]) -> str:
    """Tell a cycle in words."""
    names: dict[int, str] = {}

    def called(number: int) -> str:
        known = number in names
        label = names.setdefault(number, f"T{len(names) + 1}")
        return label if known else f"{label} ({transactions[number]})"

    return f"{cycle.sort}: " + "; ".join(_say(edge, called(edge.source), called(edge.target)) for edge in cycle.edges)


def _say(edge: Edge, source: str, target: str) -> str:
    match edge.kind:
        case Kinds.WW:
            return f"{source} appended {edge.left} to key {edge.key}, which {target} followed with {edge.right}"
        case Kinds.WR:
            return f"{source} appended {edge.left} to key {edge.key}, which {target} read"
        case Kinds.RW:
            return f"{source} read key {edge.key} without {edge.right}, which {target} appended"
        case Kinds.REAL_TIME:
            return f"{source} had ended before {target} began"
