r"""The staircase of a piecewise-linear network of one input: its slopes between the places where a unit switches.

On an interval without breakpoints every number z of the network is affine in the input t, z = c + a t. One layer after
the other, an interval is cut where a unit meets a kink p of its activation, at t = (p − c)/a; at the end each interval
has one slope and one offset, and the value and derivative at any t are a search and a multiplication. All is computed
in float64, for networks of float32 too.

Rounding decides on which side of a kink the network itself sees a t that is near a breakpoint. So the intervals are
narrowed by the zones in which |z − p| ≤ 8 σ(z), `rounding`'s meaning of "near a kink", for any unit that moves: what
lies in a zone, outside ±1024, or is NaN, is not for the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgrad.arrays import Array
from refgrad.derivatives.products import jvp, linearize, values
from refgrad.graph import Graph
from refgrad.ops import Elementwise
from refgrad.rounding import NEAR, deviations

PIECEWISE_LINEAR = frozenset(
    {"linear", "relu", "hard_sigmoid", "hard_sigmoid_keras2", "hard_tanh", "soft_shrink", "sparse_sigmoid", "abs"}
)
"""Rows whose slope is constant between their kinks."""

_POWERS = 2.0 ** np.arange(-6, 11)
_GRID = np.concatenate([-_POWERS[::-1], [0.0], _POWERS])
"""Where intervals end in any case, so that σ does not grow much within one."""

LARGEST = 8192
"""Intervals; a network with more switches too often for a table."""

AGREES = 1e-12
"""How exactly the table must give the network's own values in float64, of the largest number that is added."""


@dataclass(frozen=True, eq=False)
class Staircase:
    """Open intervals (start, end) in order, with y = offset + slope · t in each: `(m,)`, and `(m, n_out)` float64."""

    starts: Array
    ends: Array
    slopes: Array
    offsets: Array

    def look_up(self, t: Array, y: Array, jacobian: Array) -> Any:
        """Write y and jacobian `(batch, n_out)` where t `(batch,)` is in an interval; the places of the others."""
        wide = t.astype(np.float64)
        places, inside = self.places(wide)
        slopes = self.slopes[places]
        y[...] = self.offsets[places] + slopes * wide[:, None]
        jacobian[...] = slopes
        return np.flatnonzero(~inside)

    def places(self, t: Array) -> tuple[Any, Any]:
        """The interval of each t, and whether it is one: else the network itself must be asked."""
        places = np.searchsorted(self.starts, t, side="left") - 1
        return places, (places >= 0) & (t < self.ends[places])


@dataclass(eq=False)
class _Pieces:
    """Every node's number as c + a t on each interval: lists of `(m, *shape)` by node, and the m + 1 places between."""

    at: Array
    c: list[Array]
    a: list[Array]

    @property
    def middles(self) -> Array:
        return (self.at[:-1] + self.at[1:]) / 2

    def cut(self, more: Array) -> None:
        """Cut intervals at more places."""
        at = np.union1d(self.at, more)
        before = np.searchsorted(self.at, (at[:-1] + at[1:]) / 2) - 1
        self.at, self.c, self.a = at, [c[before] for c in self.c], [a[before] for a in self.a]


def _along(t: Any, like: Array) -> Array:
    """t `(m,)` with as many axes as the numbers it goes with."""
    shaped: Array = t.reshape(-1, *(1,) * (like.ndim - 1))
    return shaped


def obstacle(graph: Graph) -> str | None:
    """Why a graph has no staircase, or None if it may have one."""
    if len(graph.inputs) > 1 or len(graph.outputs) > 1 or np.prod(graph.shapes[graph.inputs[0]]) != 1:
        return "its input is not one number, or it has several outputs"
    for node in graph.nodes:
        if isinstance(node.op, Elementwise):
            if node.op.activation not in PIECEWISE_LINEAR or node.op.jumps:
                return f"{node.name} ({node.op.label}) is not continuous and piecewise linear"
        elif not node.op.linear:
            return f"{node.name} ({node.op.label}) is not piecewise linear"
    if not all(np.isfinite(array).all() for node in graph.nodes for array in node.op.arrays().values()):
        return "weights hold NaN or infinity"
    return None


def _pieces(graph: Graph) -> _Pieces | None:
    """The pieces of a graph in float64, or None if there are too many."""
    pieces = _Pieces(_GRID, [], [])
    for index, node in enumerate(graph.nodes):
        if index in graph.inputs:
            like = np.zeros((len(pieces.at) - 1, *graph.shapes[index]))
            pieces.c.append(like)
            pieces.a.append(like + 1)
            continue
        if isinstance(node.op, Elementwise):
            pieces.cut(_crossings(pieces, node.op, *node.inputs))
            if len(pieces.at) > LARGEST:
                return None
        c, a = ([held[source] for source in node.inputs] for held in (pieces.c, pieces.a))
        middles = pieces.middles
        z = [c_i + a_i * _along(middles, a_i) for c_i, a_i in zip(c, a, strict=True)]
        value, tape = node.op.linearize(*z, kink="keras")
        slope = node.op.jvp(tape, *(a_i[None] for a_i in a))[0]
        pieces.c.append(value - slope * _along(middles, slope))
        pieces.a.append(slope)
    return pieces


def _crossings(pieces: _Pieces, op: Elementwise, source: int) -> Array:
    """Every place within an interval where a unit is on a kink: (p − c)/a."""
    c, a = pieces.c[source], pieces.a[source]
    low, high = _along(pieces.at[:-1], c), _along(pieces.at[1:], c)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        met = [(kink.where - c) / a for kink in op.kinks]
        return np.concatenate([np.empty(0), *(t[(low < t) & (t < high)] for t in met)])


def _zones(graph: Graph, pieces: _Pieces) -> Iterator[Array]:
    """Intervals `(n, 2)` in which a unit is near a kink, each as far as it reaches into one of the pieces."""
    at = values(graph.astype(np.dtype(np.float64)), [pieces.at.reshape(-1, *graph.shapes[graph.inputs[0]])])
    sigmas = deviations(graph, at)
    low, width = pieces.at[:-1], np.diff(pieces.at)
    for node in graph.nodes:
        if not isinstance(node.op, Elementwise):
            continue
        (source,) = node.inputs
        c, a = pieces.c[source], pieces.a[source]
        bound = NEAR * np.maximum(sigmas[source][:-1], sigmas[source][1:])
        start, step = c + a * _along(low, a), a * _along(width, a)
        for kink in node.op.kinks:
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                ends = np.stack([(kink.where - start - bound) / step, (kink.where - start + bound) / step])
            first, last = np.clip(ends.min(axis=0), 0, None), np.clip(ends.max(axis=0), None, 1)
            near = (a != 0) & ~(first > last)
            piece = np.broadcast_to(_along(np.arange(len(low)), a), a.shape)[near]
            reach = np.stack([np.nan_to_num(first[near]), np.nan_to_num(last[near], nan=1.0)], axis=1)
            yield low[piece, None] + reach * width[piece, None]


def _gaps(zones: Array, spacing: float) -> tuple[Array, Array]:
    """What lies between zones `(n, 2)` in the grid's range, if numbers of that relative spacing do: starts and ends."""
    ordered = zones[np.argsort(zones[:, 0])]
    reached = np.maximum.accumulate(np.concatenate([_GRID[:1], ordered[:, 1]]))
    until = np.concatenate([ordered[:, 0], _GRID[-1:]])
    held = until - reached > 4 * spacing * np.maximum(np.abs(reached), np.abs(until))
    return reached[held], until[held]


def staircase(graph: Graph) -> Staircase | None:
    """The table of a graph that `obstacle` allows; None if it has too many pieces or gives not what the graph gives."""
    wide = graph.astype(np.dtype(np.float64))
    pieces = _pieces(wide)
    if pieces is None:
        return None
    zones = np.concatenate([np.empty((0, 2)), *_zones(graph, pieces)])
    starts, ends = _gaps(zones, float(np.finfo(graph.dtype).eps))
    # Of the pieces of an interval, the one nearest to 0 has the most exact offset.
    nearest = np.where(starts >= 0, np.nextafter(starts, ends), np.minimum(np.nextafter(ends, starts), 0))
    place = np.searchsorted(pieces.at, nearest, side="left") - 1
    last = graph.outputs[0]
    found = Staircase(starts, ends, *(held[last][place].reshape(len(place), -1) for held in (pieces.a, pieces.c)))
    return found if _agrees(found, wide) else None


def _agrees(table: Staircase, graph: Graph) -> bool:
    """Whether the table gives the graph's values and slopes at three places of each interval."""
    features = graph.shapes[graph.inputs[0]]
    for share in (0.01, 0.5, 0.99):
        t = table.starts + share * (table.ends - table.starts)
        point = linearize(graph, [t.reshape(-1, *features)], "keras")
        (slopes,) = jvp(point, [np.ones((1, len(t), *features))])
        if slopes is None:
            return False
        products = table.slopes * t[:, None]
        size = np.abs(table.offsets) + np.abs(products) + np.finfo(float).tiny
        value = point.outputs[0].reshape(size.shape)
        steepest = np.abs(table.slopes).max(initial=np.finfo(float).tiny)
        if not (np.abs(table.offsets + products - value) <= AGREES * size.max()).all():
            return False
        if not (np.abs(table.slopes - slopes[0].reshape(size.shape)) <= AGREES * steepest).all():
            return False
    return True
