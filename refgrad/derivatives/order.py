"""In which order to multiply a chain of Jacobians: multiply–adds, counted before any arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from refgrad.derivatives.spans import Span, cuts, node_cost, pull_cost, push_costs, size, span
from refgrad.graph import Graph

Direction = Literal["forward", "reverse"]

_CUTS = 12
"""How many cut nodes, the narrowest, are tried as places to split: the search takes the cube of them."""

SPLIT_PAYS = 1.5
"""How many times fewer multiply–adds make "auto" split: many small products run slower than a large one."""


@dataclass(frozen=True)
class Push:
    """Columns of ∂target/∂source: unit tangents, or the columns that `after` gives, pushed through a span."""

    span: Span
    vectors: int
    cost: int
    after: Step | None = None


@dataclass(frozen=True)
class Pull:
    """Rows of ∂target/∂source: unit cotangents, or the rows that `after` gives, pulled back through a span."""

    span: Span
    vectors: int
    cost: int
    after: Step | None = None


@dataclass(frozen=True)
class Multiply:
    """∂target/∂source = (∂target/∂cut) (∂cut/∂source), sample by sample; it holds so many `numbers`."""

    left: Step
    right: Step
    cost: int
    numbers: int


Step = Push | Pull | Multiply


@dataclass(frozen=True)
class Order:
    """How all Jacobians that are wanted come about, and the multiply–adds per sample it takes.

    `steps` make one Jacobian each where the mode is "split", by output and then by input; else each makes those of one
    input (forward) or one output (reverse).
    """

    mode: Literal["forward", "reverse", "split"]
    steps: tuple[Step, ...]

    @property
    def cost(self) -> int:
        """Multiply–adds per sample."""
        return sum(step.cost for step in self.steps)


@dataclass(frozen=True)
class Block:
    """The Jacobians that are wanted: of `targets` by `sources`, nodes of a graph; so many rows and columns of each."""

    targets: tuple[int, ...]
    sources: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]


def whole(graph: Graph) -> Block:
    """All outputs by all inputs, all features."""
    ends = (graph.outputs, graph.inputs)
    return Block(*ends, *(tuple(size(graph, index) for index in end) for end in ends))


def _forward(graph: Graph, block: Block) -> Order:
    steps = []
    for source, columns in zip(block.sources, block.columns, strict=True):
        path = span(graph, [source], block.targets)
        costs = push_costs(graph, path.nodes)
        steps.append(Push(path, columns, columns * max(costs.values(), default=0)))
    return Order("forward", tuple(steps))


def _reverse(graph: Graph, block: Block) -> Order:
    steps = []
    for target, rows in zip(block.targets, block.rows, strict=True):
        path = span(graph, block.sources, [target])
        steps.append(Pull(path, rows, rows * pull_cost(graph, path.nodes)))
    return Order("reverse", tuple(steps))


def _cheapest(steps: Sequence[Step]) -> Step:
    """The least multiply–adds; of equals no product, then the fewest vectors, whose uncounted part is smaller too."""

    def effort(step: Step) -> tuple[int, bool, int]:
        return (step.cost, True, 0) if isinstance(step, Multiply) else (step.cost, False, step.vectors)

    return min(steps, key=effort)


def _goes_one_way(step: Step | None, way: type[Push] | type[Pull]) -> bool:
    return step is None or (isinstance(step, way) and _goes_one_way(step.after, way))


class _Chain:
    """∂target/∂source as a product over cut nodes: the parts it may be made of, and what each costs."""

    def __init__(self, graph: Graph, source: int, target: int, columns: int, rows: int) -> None:
        self.graph = graph
        nodes = span(graph, [source], [target]).nodes
        narrow = sorted(cuts(graph, source, nodes), key=lambda index: size(graph, index))[:_CUTS]
        self.points = [source, *sorted(narrow), target]
        self.sizes = [columns, *(size(graph, index) for index in sorted(narrow)), rows]
        running = dict(zip(nodes, accumulate(node_cost(graph, index) for index in nodes), strict=True))
        self.running = [0, *(running.get(point, 0) for point in self.points[1:])]
        self._spans: dict[tuple[int, int], Span] = {}

    def span(self, i: int, j: int) -> Span:
        """Between two points; a long graph takes long to walk."""
        if (i, j) not in self._spans:
            self._spans[i, j] = span(self.graph, [self.points[i]], [self.points[j]])
        return self._spans[i, j]

    def whole(self, i: int, j: int) -> list[Step]:
        """Between two points by unit vectors."""
        path = self.span(i, j)
        push = push_costs(self.graph, path.nodes).get(self.points[j], 0)
        pull = pull_cost(self.graph, path.nodes)
        return [Push(path, self.sizes[i], self.sizes[i] * push), Pull(path, self.sizes[j], self.sizes[j] * pull)]

    def through(self, i: int, k: int, j: int, left: Step, right: Step) -> list[Step]:
        """From i to j by way of k, given the Jacobians from k to j and from i to k."""
        n_i, n_k, n_j = self.sizes[i], self.sizes[k], self.sizes[j]
        on, back = self.running[j] - self.running[k], self.running[k] - self.running[i]
        return [
            Push(self.span(k, j), n_i, right.cost + n_i * on, right),
            Pull(self.span(i, k), n_j, left.cost + n_j * back, left),
            Multiply(left, right, left.cost + right.cost + n_j * n_k * n_i, n_j * n_i),
        ]


def _pair(graph: Graph, source: int, target: int, columns: int, rows: int) -> Step:
    """The cheapest way to ∂target/∂source that goes both ways, if a cut node allows any.

    The matrix-chain problem, by dynamic programming: the Jacobian from point i to point j is made by unit vectors, or
    by pushing on, pulling back, or multiplying the Jacobians of its two parts.
    """
    chain = _Chain(graph, source, target, columns, rows)
    last = len(chain.points) - 1
    best: dict[tuple[int, int], Step] = {}
    ways: list[Step] = []
    for width in range(1, last + 1):
        for i in range(last + 1 - width):
            j = i + width
            ways = chain.whole(i, j)
            for k in range(i + 1, j):
                ways += chain.through(i, k, j, best[k, j], best[i, k])
            best[i, j] = _cheapest(ways)
    both = [way for way in ways if not _goes_one_way(way, Push) and not _goes_one_way(way, Pull)]
    return _cheapest(both or ways)


def _split(graph: Graph, block: Block) -> Order | None:
    """One step for each pair; None if none goes both ways."""
    pairs = [
        (_pair(graph, source, target, columns, rows))
        for target, rows in zip(block.targets, block.rows, strict=True)
        for source, columns in zip(block.sources, block.columns, strict=True)
    ]
    one_way = all(_goes_one_way(step, Push) or _goes_one_way(step, Pull) for step in pairs)
    return None if one_way else Order("split", tuple(pairs))


def from_an_end(graph: Graph, block: Block) -> Order:
    """The cheaper of forward and reverse; of equals the one with fewer vectors."""
    ways = (_forward(graph, block), sum(block.columns)), (_reverse(graph, block), sum(block.rows))
    return min(ways, key=lambda way: (way[0].cost, way[1]))[0]


def order(graph: Graph, block: Block, mode: str) -> Order:
    """The order that a mode asks for; "auto" is the cheapest, and "split" is that too where nothing can be split."""
    if mode == "forward":
        return _forward(graph, block)
    if mode == "reverse":
        return _reverse(graph, block)
    split, end = _split(graph, block), from_an_end(graph, block)
    if split is None or (mode == "auto" and split.cost * SPLIT_PAYS > end.cost):
        return end
    return split
