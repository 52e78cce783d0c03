"""A network whose units are put on chosen sides of their kinks, as rounding, or a rule for kinks, may have put them.

What a unit's op reads is moved just beyond the kink, or onto it, and no further: slope and value are those of the other
side, and everything else stays as it is. Where the best of several numbers is taken, the side is which of the two
best wins; it is the other of these that moves, or where that is a constant, the winner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array, flat
from refgrad.derivatives.products import Linearization
from refgrad.graph import Graph
from refgrad.ops import Elementwise, PReLU
from refgrad.ops.broadcasting import lined
from refgrad.ops.extreme import Extreme
from refgrad.ops.extremum import Extremum
from refgrad.ops.op import KinkPolicy, Op
from refgrad.ops.partial import Partial

LEAVE, ON, LEFT, RIGHT, KEPT, CROSSED = range(6)
"""Where a unit is put: nowhere; on its kink; beside it to the left or the right; where the best of several is taken,
so that this, or the next, wins."""

OTHER = {LEFT: RIGHT, RIGHT: LEFT, KEPT: CROSSED, CROSSED: KEPT}
"""The other side."""

Codes = npt.NDArray[np.int8]
Mask = npt.NDArray[np.bool_]
Policy = Callable[[Op], KinkPolicy]


def _places(op: Op) -> tuple[float, ...]:
    """Where an activation has kinks or jumps."""
    if isinstance(op, Elementwise):
        return (*(kink.where for kink in op.kinks), *op.jumps)
    return (0.0,) if isinstance(op, PReLU) else ()


def _nearest(op: Op, z: Array) -> Array:
    """The kink or jump nearest to each number."""
    places = np.array(_places(op), z.dtype)
    found: Array = places[np.abs(z[..., None] - places).argmin(axis=-1)]
    return found


def _activation(op: Op, arguments: Sequence[Array], codes: Codes) -> list[Array]:
    """z, moved to the nearest place or beside it, if it is not on that side."""
    (z,) = arguments
    place = _nearest(op, z)
    below, above = (np.nextafter(place, z.dtype.type(way)) for way in (-np.inf, np.inf))
    return [np.choose(codes, [z, place, np.minimum(z, below), np.maximum(z, above)])]


def _candidates(op: Op, arguments: Sequence[Array]) -> tuple[Array, list[bool], bool]:
    """What the best is taken of, `(n, batch, *shape)`, which of that can be moved, and whether the largest wins."""
    if isinstance(op, Extreme):
        rows = np.moveaxis(op.rows(arguments[0]), -1, 0)
        return rows, [True] * len(rows), op.best is np.maximum
    if isinstance(op, Partial):
        constant = op.constant[None].astype(arguments[0].dtype)
        arguments = (constant, arguments[0]) if op.place == 0 else (arguments[0], constant)
    whole, fixed = (op.whole, op.place) if isinstance(op, Partial) else (op, -1)
    stack = np.stack(np.broadcast_arrays(*lined(arguments, 1)))
    movable = [x.shape == stack.shape[1:] and place != fixed for place, x in enumerate(arguments)]
    return stack, movable, whole.best is np.maximum  # type: ignore[attr-defined]


def _two_best(candidates: Array, largest: bool) -> npt.NDArray[np.intp]:
    """The places of the winner and of the next, `(2, batch, *shape)`; of equals the first wins."""
    return np.argsort(-candidates if largest else candidates, axis=0, kind="stable")[:2]


def _contest(op: Op, arguments: Sequence[Array], codes: Codes) -> list[Array]:
    """The arguments, with one of the two best moved to the other, or beyond it."""
    candidates, movable, largest = _candidates(op, arguments)
    best = _two_best(candidates, largest)
    winner, other = np.take_along_axis(candidates, best, axis=0)
    ahead, tied, follows = np.inf if largest else -np.inf, winner == other, np.array(movable)[best[1]]

    def moved(own: Array, rival: Array, ahead: float, wins: int, loses: int) -> Array:
        """The one that moves, for each code."""
        first = np.where(tied, np.nextafter(rival, ahead), own)
        choices = {LEAVE: own, ON: rival, wins: first, loses: np.nextafter(rival, -ahead)}
        return np.choose(codes.reshape(own.shape), [choices.get(code, own) for code in range(6)])

    pair = [
        np.where(follows, winner, moved(winner, other, ahead, KEPT, CROSSED)),
        np.where(follows, moved(other, winner, -ahead, KEPT, CROSSED), other),
    ]
    new = candidates.copy()
    np.put_along_axis(new, best, np.stack(pair), axis=0)
    if isinstance(op, Extreme):
        return [op.laid(np.moveaxis(new, 0, -1), arguments[0])]
    if isinstance(op, Partial):
        new, movable = new[[1 - op.place]], [movable[1 - op.place]]
    return [found if free else x for found, free, x in zip(new, movable, arguments, strict=True)]


def _is_contest(op: Op) -> bool:
    return isinstance(op, Extremum | Extreme) or (isinstance(op, Partial) and isinstance(op.whole, Extremum))


def can_be_put(op: Op) -> bool:
    """Whether units of an op can be put on sides of their kinks."""
    return bool(_places(op)) or _is_contest(op)


def beside(op: Op) -> tuple[int, int]:
    """The two sides of an op's kinks."""
    return (KEPT, CROSSED) if _is_contest(op) else (LEFT, RIGHT)


def sides(op: Op, arguments: Sequence[Array], moved: Sequence[Array]) -> Codes:
    """The sides (batch, units) of units that read `moved`: of the kinks nearest to `arguments`, or of its best two."""
    if _is_contest(op):
        candidates, _, largest = _candidates(op, arguments)
        one, other = (_two_best(found, largest)[0] for found in (candidates, _candidates(op, moved)[0]))
        return flat(np.where(one == other, KEPT, CROSSED).astype(np.int8))
    return flat(np.where(moved[0] > _nearest(op, arguments[0]), RIGHT, LEFT).astype(np.int8))


def true_sides(op: Op, arguments: Sequence[Array], seen: Codes, truth: Codes) -> Codes:
    """The sides of units in truth; `seen` and `truth` are exact patterns (batch, units) of what they read and of it.

    Where the truth is −1, nobody knows it, and the side is that of what they read.
    """
    own = sides(op, arguments, arguments)
    if _is_contest(op):
        found = np.where(seen // 2 == truth // 2, KEPT, CROSSED)
        on = truth % 2 == 1
    else:
        z, place = flat(arguments[0]), flat(_nearest(op, arguments[0]))
        kink = seen + (z < place) - (z > place)
        found, on = np.where(truth > kink, RIGHT, LEFT), truth == kink
    return np.where(truth < 0, own, np.where(on, ON, found)).astype(np.int8)


def read(point: Linearization, index: int) -> tuple[Array, ...]:
    """What a node's op reads."""
    return tuple(point.values[source] for source in point.graph.nodes[index].inputs)


def put(
    graph: Graph, inputs: Sequence[Array], codes: Mapping[int, Codes], policy: Policy = lambda op: "keras"
) -> Linearization:
    """The graph at some samples with units put where `codes` `(batch, *shape)` of their nodes say.

    `policy` is what the slope of an op's unit is that is put ON its kink.
    """
    given = dict(zip(graph.inputs, inputs, strict=True))
    values: list[Array] = []
    tapes: list[Any] = []
    for index, node in enumerate(graph.nodes):
        arguments = [given[index]] if index in given else [values[source] for source in node.inputs]
        if index in codes:
            move = _contest if _is_contest(node.op) else _activation
            arguments = move(node.op, arguments, codes[index])
        value, tape = node.op.linearize(*arguments, kink=policy(node.op))
        values.append(value)
        tapes.append(tape)
    return Linearization(graph, tuple(values), tuple(tapes))
