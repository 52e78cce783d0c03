"""Which units the samples of an audit have had on and off, and which weights they therefore say nothing about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array, flat
from refgrad.chunks import each, samples_within
from refgrad.derivatives.products import linearize, vjp
from refgrad.graph import Graph, Node
from refgrad.network import Network
from refgrad.ops import Affine, Elementwise, PReLU
from refgrad.options import MAX_BYTES
from refgrad.rounding import NEAR, deviations, unit_roundoff

SCALES = (1.0, 3.0, 0.3, 10.0)
"""Standard deviations of the normal inputs that `chosen` draws, one after the other."""

_BYTES_PER_NUMBER = 64
_OVERSHOOT = 1.5
"""How far beyond the kink, by its linear distance, a step aims: a step that lands on it turns nothing on."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LayerCoverage:
    """Units of a layer with kinks, by what they were in any of the samples.

    `on`: right of the lowest kink; `off`: on it, or left of it; `both`: one in some sample, the other in another;
    `near`: within 8 σ of a kink; `dead`: with the slope 0 in every sample. `weights` are those of the affine map before
    that lead to dead units only: as long as these stay dead, other numbers would give the same Jacobians.
    """

    layer: str
    units: int
    on: int
    off: int
    both: int
    near: int
    dead: int
    weights: int


@dataclass(frozen=True)
class Coverage:
    """What the samples of an audit have reached, layer by layer; maxima, norms and the like are not counted."""

    samples: int
    layers: tuple[LayerCoverage, ...]

    @property
    def units(self) -> int:
        """How many units there are that have kinks."""
        return sum(layer.units for layer in self.layers)

    @property
    def both(self) -> int:
        """How many of them were seen on both sides."""
        return sum(layer.both for layer in self.layers)

    @property
    def dead(self) -> int:
        """How many had the slope 0 in every sample."""
        return sum(layer.dead for layer in self.layers)

    @property
    def weights(self) -> int:
        """How many weights these samples cannot vouch for."""
        return sum(layer.weights for layer in self.layers)

    def summary(self) -> str:
        """The coverage in a line."""
        if not self.units:
            return "no unit has a kink"
        seen = f"{self.both:,} of {self.units:,} units with kinks seen on both sides"
        return (
            f"{seen}; {self.dead:,} dead in these samples: they cannot vouch for {self.weights:,} weights before them"
        )


def _lowest(node: Node) -> float | None:
    """The lowest kink of a node's units; None where they have none."""
    if isinstance(node.op, PReLU):
        return 0.0
    if isinstance(node.op, Elementwise) and node.op.kinks:
        return min(kink.where for kink in node.op.kinks)
    return None


@dataclass(eq=False)
class _Seen:
    """What each unit of a node was in any sample so far."""

    on: Mask
    off: Mask
    near: Mask
    alive: Mask


def _watched(graph: Graph) -> dict[int, float]:
    lowest = {index: _lowest(node) for index, node in enumerate(graph.nodes)}
    return {index: where for index, where in lowest.items() if where is not None}


def _look(graph: Graph, inputs: Sequence[Array]) -> dict[int, _Seen]:
    """What every unit with kinks was at inputs `(batch, *in)`, in pieces of the batch."""
    watched = _watched(graph)
    seen = {index: _Seen(*(np.zeros(math.prod(graph.shapes[index]), bool) for _ in range(4))) for index in watched}
    u = unit_roundoff(graph.dtype)

    def work(piece: slice) -> None:
        point = linearize(graph, [x[piece] for x in inputs], "keras")
        sigma = deviations(graph, point.values)
        for index, lowest in watched.items():
            node, unit = graph.nodes[index], seen[index]
            (source,) = node.inputs
            z = point.values[source]
            distance, noise = node.op.margins((z,)), node.op.noise(u, (z,), (sigma[source],))
            assert distance is not None
            rows = (len(z), unit.on.size)
            slope = np.broadcast_to(point.tapes[index], z.shape)
            unit.on |= (z > lowest).reshape(rows).any(axis=0)
            unit.off |= (z <= lowest).reshape(rows).any(axis=0)
            unit.near |= (distance <= NEAR * noise).reshape(rows).any(axis=0)
            unit.alive |= (slope != 0).reshape(rows).any(axis=0)

    numbers = sum(math.prod(shape) for shape in graph.shapes)
    each(work, len(inputs[0]), samples_within(MAX_BYTES, _BYTES_PER_NUMBER * numbers))
    return seen


def _weights(graph: Graph, seen: dict[int, _Seen]) -> dict[int, int]:
    """How many weights lead to dead units only, by the node that has these; a shared map counts once."""
    alive: dict[int, Any] = {}
    after: dict[int, int] = {}
    for source, node in enumerate(graph.nodes):
        if not isinstance(node.op, Affine):
            continue
        users = [index for index, user in enumerate(graph.nodes) if source in user.inputs]
        watched = source not in graph.outputs and bool(users) and all(index in seen for index in users)
        columns = np.full(node.op.kernel.shape[1], not watched)
        for index in users if watched else ():
            columns |= seen[index].alive.reshape(-1, len(columns)).any(axis=0)
            after.setdefault(id(node.op), index)
        alive[id(node.op)] = alive.get(id(node.op), False) | columns
    found = dict.fromkeys(seen, 0)
    for op in {id(node.op): node.op for node in graph.nodes if isinstance(node.op, Affine)}.values():
        if id(op) in after:
            each_column = len(op.kernel) + (op.bias is not None)
            found[after[id(op)]] += int((~alive[id(op)]).sum()) * each_column
    return found


def coverage(net: Network, inputs: Sequence[Array]) -> Coverage:
    """What inputs `(batch, *in)`, in the order of the network's own, reach of the units that have kinks."""
    graph = net.graph
    seen = _look(graph, inputs)
    weights = _weights(graph, seen)
    layers = (
        LayerCoverage(
            layer=graph.nodes[index].name,
            units=unit.on.size,
            on=int(unit.on.sum()),
            off=int(unit.off.sum()),
            both=int((unit.on & unit.off).sum()),
            near=int(unit.near.sum()),
            dead=int((~unit.alive).sum()),
            weights=weights[index],
        )
        for index, unit in seen.items()
    )
    return Coverage(len(inputs[0]), tuple(layers))


def _towards(graph: Graph, index: int, unit: int, inputs: Sequence[Array], lowest: float) -> list[Array] | None:
    """A sample, from the given one where a unit is nearest to its kink, that has it on; None if one step does not.

    x + 1.5 (k − z) g / ‖g‖²        g = ∂z/∂x at x, k the kink
    """
    (source,) = graph.nodes[index].inputs
    part = replace(graph, outputs=(source,), output_names=("z",))
    z = flat(linearize(part, inputs, "keras").outputs[0])[:, unit]
    best = int(np.nan_to_num(z, nan=-np.inf).argmax())
    start = [x[best : best + 1] for x in inputs]
    point = linearize(part, start, "keras")
    cotangent = np.zeros((1, 1, math.prod(graph.shapes[source])), graph.dtype)
    cotangent[..., unit] = 1
    rows = vjp(point, [cotangent.reshape(1, 1, *graph.shapes[source])])
    length = sum(float(np.square(row, dtype=np.float64).sum()) for row in rows if row is not None)
    if not 0 < length < np.inf:
        return None
    step = _OVERSHOOT * (lowest - float(z[best])) / length
    moved = [x if row is None else (x + step * row[0]).astype(x.dtype) for x, row in zip(start, rows, strict=True)]
    return moved if flat(linearize(part, moved, "keras").outputs[0])[0, unit] > lowest else None


def chosen(net: Network, samples: int, seed: int) -> list[Array]:
    """Inputs that turn units on: normal ones of several scales, and at most a quarter made for single units.

    For a unit that none of the normal ones turns on, one of the widest gives way to a step along the unit's gradient
    from where it is nearest to its kink, if that step turns it on. The same seed gives the same inputs.
    """
    rng, graph = np.random.default_rng(seed), net.graph
    scale = np.resize(SCALES, samples)
    drawn = [rng.normal(size=(samples, *shape)) for shape in net.input_shapes]
    inputs = [(x * scale.reshape(-1, *[1] * (x.ndim - 1))).astype(net.dtype) for x in drawn]
    free = [int(place) for place in np.flatnonzero(scale == max(SCALES))]
    tries = 4 * samples
    with np.errstate(all="ignore"):
        for index, unit in _never_on(graph, inputs)[:tries]:
            moved = _towards(graph, index, unit, inputs, _watched(graph)[index]) if free else None
            if moved is not None:
                place = free.pop()
                for x, one in zip(inputs, moved, strict=True):
                    x[place] = one[0]
    return inputs


def _never_on(graph: Graph, inputs: Sequence[Array]) -> list[tuple[int, int]]:
    seen = _look(graph, inputs)
    return [(index, int(unit)) for index, found in seen.items() for unit in np.flatnonzero(~found.on)]
