"""A graph at some samples: every value, every local Jacobian, and their products, at a precision that suffices."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from flint import ctx, fmpq, fmpz

from refgrad.arrays import Array, flat
from refgrad.derivatives.order import from_an_end, whole
from refgrad.derivatives.spans import between, size
from refgrad.errors import naming
from refgrad.exact.local import Local, Site
from refgrad.exact.nearest import Rounded, rounded
from refgrad.exact.rules import rule
from refgrad.exact.tensors import Codes, Integers, Tensor, constant, read
from refgrad.graph import Graph
from refgrad.ops.op import KinkPolicy

START = 96
"""Bits that balls start with: they nearly always suffice."""

PATTERNED = ("elementwise", "prelu", "maximum", "minimum", "max", "min", "partial", "sparsemax")
"""Ops that may have patterns."""

_lock = threading.Lock()
"""FLINT's precision is the whole process's."""


@contextmanager
def held(bits: int) -> Iterator[None]:
    """FLINT at a precision, for one thread at a time."""
    with _lock, ctx.workprec(bits):
        yield


@dataclass(frozen=True, eq=False)
class Pieces:
    """What was found of some samples: values by output, Jacobians `(batch, n_out, n_in)` by output and input.

    `precision` is the bits of the balls, 0 where integers were enough; `patterns` are those of nodes that have kinks.
    """

    values: list[Rounded]
    jacobians: list[list[Rounded]]
    patterns: dict[int, Codes]
    precision: Any


@dataclass(eq=False)
class Evaluator:
    """A graph ready to be evaluated: whose rules are there, and from which end its Jacobians are cheaper."""

    graph: Graph
    kink: KinkPolicy
    dtype: np.dtype[Any]
    most: int
    kept: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find every rule, or say whose is missing."""
        graph, self.rules = self.graph, []
        for node in graph.nodes:
            with naming(f"layer {node.name!r}"):
                self.rules.append(rule(type(node.op)))
        self.sites = [
            Site(tuple(graph.shapes[source] for source in node.inputs), shape, graph.dtype, self.kink, self.kept)
            for node, shape in zip(graph.nodes, graph.shapes, strict=True)
        ]
        self.forward = from_an_end(graph, whole(graph)).mode == "forward"

    def at_once(self) -> int:
        """How many samples are worked together: numbers here are objects of some hundred bytes."""
        ends = self.graph.inputs if self.forward else self.graph.outputs
        widest = max(size(self.graph, index) for index in range(len(self.graph.nodes)))
        return max(1, min(64, 500_000 // (widest * max(size(self.graph, end) for end in ends))))

    def _point(self, inputs: Sequence[Array]) -> list[Local]:
        """Every node at the samples."""
        graph = self.graph
        given = {index: read(flat(x)) for index, x in zip(graph.inputs, inputs, strict=True)}
        found: list[Local] = []
        for index, (node, of, site) in enumerate(zip(graph.nodes, self.rules, self.sites, strict=True)):
            taken = [given[index]] if index in given else [found[source].value for source in node.inputs]
            found.append(of(node.op, taken, site))
        return found

    def _unit(self, index: int) -> Integers:
        """All unit vectors of a node's features, `(n, 1, n)`."""
        n = size(self.graph, index)
        numbers = np.full((n, 1, n), fmpz(0), object)
        numbers[np.arange(n), 0, np.arange(n)] = fmpz(1)
        return Integers(numbers, fmpq(1))

    def _columns(self, point: list[Local], source: int) -> dict[int, Tensor]:
        """Tangents of every node for the unit tangents of an input, `(n_in, batch or 1, n)`."""
        found: dict[int, Tensor] = {source: self._unit(source)}
        for index in between(self.graph, [source], self.graph.outputs):
            node = self.graph.nodes[index]
            parts = [
                step.push(found[taken])
                for taken, step in zip(node.inputs, point[index].maps, strict=True)
                if taken in found
            ]
            found[index] = sum(parts[1:], start=parts[0])
        return found

    def _rows(self, point: list[Local], target: int) -> dict[int, Tensor]:
        """Cotangents of the inputs for the unit cotangents of an output, `(n_out, batch or 1, n)`."""
        pending: dict[int, Tensor] = {target: self._unit(target)}
        path = {*between(self.graph, self.graph.inputs, [target]), *self.graph.inputs}
        for index in sorted(path, reverse=True):
            node = self.graph.nodes[index]
            if not node.inputs or index not in pending:
                continue
            cotangent = pending.pop(index)
            for source, step in zip(node.inputs, point[index].maps, strict=True):
                if source in path:
                    part = step.pull(cotangent)
                    pending[source] = pending[source] + part if source in pending else part
        return pending

    def blocks(self, point: list[Local]) -> Iterator[tuple[int, int, Tensor]]:
        """The Jacobian of each output by each input, `(batch or 1, n_out, n_in)`."""
        graph = self.graph
        ends = graph.inputs if self.forward else graph.outputs
        found = [(self._columns if self.forward else self._rows)(point, end) for end in ends]
        for o, target in enumerate(graph.outputs):
            for i, source in enumerate(graph.inputs):
                place, other = (i, target) if self.forward else (o, source)
                if other not in found[place]:
                    yield o, i, constant(0, (1, size(graph, target), size(graph, source)))
                    continue
                tensor = found[place][other]
                yield o, i, tensor.like(np.moveaxis(tensor.numbers, 0, 2 if self.forward else 1))

    def _once(self, inputs: Sequence[Array], bits: int) -> Pieces:
        """Everything at one precision."""
        with held(bits):
            samples, point = len(inputs[0]), self._point(inputs)
            outputs = [point[index].value for index in self.graph.outputs]
            blocks = list(self.blocks(point))
            exact = all(isinstance(tensor, Integers) for tensor in [*outputs, *(block for *_, block in blocks)])
            patterns = {index: local.pattern for index, local in enumerate(point) if local.pattern is not None}
            values = [rounded(y, self.dtype) for y in outputs]
            jacobians: list[list[Rounded]] = [[] for _ in outputs]
            for o, _, block in blocks:
                jacobians[o].append(for_each(rounded(block, self.dtype), samples))
        return Pieces(values, jacobians, patterns, np.full(samples, 0 if exact else bits))

    def patterns(self, values: Sequence[Array]) -> dict[int, Codes]:
        """Which piece each unit of every node that has kinks is on, if the nodes' values are these finite floats."""
        with _lock:
            read_in = [read(flat(value)) for value in values]
            found = (
                (index, of(node.op, [read_in[source] for source in node.inputs], site).pattern)
                for index, (node, of, site) in enumerate(zip(self.graph.nodes, self.rules, self.sites, strict=True))
                if node.op.name in PATTERNED
            )
            return {index: codes for index, codes in found if codes is not None}

    def at(self, inputs: Sequence[Array]) -> Pieces:
        """Values and Jacobians at samples `(batch, *in)`, with ever more bits for those that do not round uniquely."""
        bits = START
        pieces = self._once(inputs, min(bits, self.most))
        while bits < self.most:
            (again,) = np.nonzero(_open(pieces))
            if not len(again):
                break
            bits = min(2 * bits, self.most)
            _replace(pieces, again, self._once([x[again] for x in inputs], bits))
        return pieces


def for_each(found: Rounded, samples: int) -> Rounded:
    """A Jacobian that is the same for all samples, for each of them."""

    def repeated(part: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.array(np.broadcast_to(part, (samples, *part.shape[1:])))

    return Rounded(*map(repeated, (found.value, found.lower, found.upper, found.proved)))


def _all(pieces: Pieces) -> list[Rounded]:
    return [*pieces.values, *(block for row in pieces.jacobians for block in row)]


def _open(pieces: Pieces) -> Any:
    """Samples that have an entry which is not proved."""
    masks = (part.proved for part in _all(pieces))
    return np.any([~mask.all(axis=tuple(range(1, mask.ndim))) for mask in masks], axis=0)


def _replace(pieces: Pieces, samples: Any, newer: Pieces) -> None:
    """Put what is newer of some samples in the place of what was there."""
    for old, new in zip(_all(pieces), _all(newer), strict=True):
        for name in ("value", "lower", "upper", "proved"):
            getattr(old, name)[samples] = getattr(new, name)
    for index, codes in newer.patterns.items():
        pieces.patterns[index][samples] = codes
    pieces.precision[samples] = newer.precision
