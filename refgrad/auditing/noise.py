r"""How far rounding moves a Jacobian: the standard deviation of the error of every entry, modelled.

An entry is a sum over paths, J_oi = Σ C_oj E_jk T_ki around every node: T are the tangents that reach it from input i,
C the cotangents that reach it from output o, E its own Jacobian. Errors of different nodes are independent:

    σ²(J_oi) = Σ_nodes Σ_j C_oj² q_ji        q: variance of what the node adds to the tangents E T

    affine       q_j = u² (max(1, n/6) Σ_k W_kj² T_k² + n/9 (Σ_k W_kj T_k)²)        a sum of n products
    activation   q_j = T_j² ((c u max(1, |f′|))² + f″² σ²(z_j) + u² f′²)

The first term of a sum is a random walk, the second what sequential addition of terms of one sign makes of it. A
framework that goes backwards sums over outputs instead: an affine map counts with whichever of the two is more. The
slope is computed to c u (`accuracy`), and at a preactivation that is itself off by σ(z), which is felt through f″.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from refgrad.arrays import Array
from refgrad.auditing.accuracy import slope_accuracy
from refgrad.derivatives.products import Linearization, push
from refgrad.derivatives.spans import between, size, span
from refgrad.graph import Graph
from refgrad.ops import Affine, Concatenate, Elementwise
from refgrad.ops.movement import Movement
from refgrad.ops.op import Op
from refgrad.ops.source import Source
from refgrad.rounding import unit_roundoff, variances

_EXACT = (Source, Movement, Concatenate)
"""Ops that only hand numbers on."""

_OTHERS = 2.0
"""How much further off a framework may be whose formula is another than ours."""

_ASIDE = 2.0**-10
"""How far off numbers are, relatively, whose last digits are others and which are otherwise the same."""

_SINGLE = np.dtype(np.float32)
_DRAWS = 16
"""How many random directions show how far an op's own Jacobian moves: a χ² of so few as 4 is near 0 now and then."""

Vectors = dict[int, Array]
"""Tangents or cotangents of nodes, `(k, batch or 1, *shape)`."""


def _units(graph: Graph, index: int) -> Array:
    n = size(graph, index)
    return np.eye(n).reshape(n, 1, *graph.shapes[index])


def _tangents(point: Linearization, source: int) -> Vectors:
    """Those of every node that an input leads to, for its unit tangents."""
    everywhere = range(len(point.graph.nodes))
    return push(point, span(point.graph, [source], everywhere), {source: _units(point.graph, source)})


def _cotangents(point: Linearization, target: int) -> tuple[Vectors, dict[tuple[int, int], Array]]:
    """Those of every node that leads to an output, for its unit cotangents; and what each node hands each source."""
    graph = point.graph
    found, handed = {target: _units(graph, target)}, {}
    for index in reversed(range(target + 1)):
        node = graph.nodes[index]
        if index not in found or not node.inputs:
            continue
        parts = node.op.vjp(point.tapes[index], found[index])
        for place, (source, part) in enumerate(zip(node.inputs, parts, strict=True)):
            if part is not None:
                handed[index, place] = part
                found[source] = found[source] + part if source in found else part
    return found, handed


def _rows(vectors: Array) -> Array:
    """`(k, batch or 1, *shape)` as `(batch or 1, k, numbers)`."""
    return np.moveaxis(vectors.reshape(*vectors.shape[:2], math.prod(vectors.shape[2:])), 0, 1)


def _through(cotangents: Array, tangents: Array) -> Array:
    """Σ_j C_oj² q_ji, `(batch or 1, n_out, n_in)`."""
    product: Array = _rows(cotangents) @ np.moveaxis(_rows(tangents), 1, 2)
    return product


def _sums(numbers: Array, squared: Array, kernel: Array, products: Array) -> Array:
    """max(1, n/6) Σ_k W_kj² t_k² + n/9 (Σ_k W_kj t_k)² for sums of n products."""
    n = len(kernel)
    walk = (np.square(numbers).reshape(-1, n) @ squared).reshape(products.shape)
    found: Array = max(1.0, n / 6) * walk + n / 9 * np.square(products)
    return found


def _affine(op: Affine, tangents: tuple[Array, Array], cotangents: tuple[Array, Array]) -> Array:
    """What an affine map adds, in units of u²: tangents before and after it, cotangents after and before it."""
    kernel = op.kernel.astype(np.float64)
    (before, after), (above, below) = tangents, cotangents
    forward = _through(np.square(above), _sums(before, np.square(kernel), kernel, after))
    backward = _through(_sums(above, np.square(kernel.T), kernel.T, below), np.square(before))
    return np.maximum(forward, backward)


def slope_variance(op: Elementwise, z: Array, variance: Array, dtype: np.dtype[np.floating]) -> Array:
    """Variance of the slope f′(z) as a framework computes it, with its own rounding as a factor.

    (c u max(1, |f′|))² + (f″ σ(z))² + u² f′²: f″ σ is seen by going σ further from the nearest kink.
    """
    u, step = unit_roundoff(dtype), _step(dtype)
    slope = op.row.df(z, *op.parameters)
    places = np.array([kink.where for kink in op.kinks] or [-np.inf])
    nearest = places[np.abs(z[..., None] - places).argmin(axis=-1)]
    away = np.where(z < nearest, -1.0, 1.0)
    further = op.row.df(z + away * step * np.sqrt(variance), *op.parameters)
    bend = np.where(variance == 0, 0, (further - slope) / step)
    own = slope_accuracy(op) * u * np.maximum(1, np.abs(slope))
    found: Array = np.square(own) + np.square(bend) + np.square(u * slope)
    return found


def _step(dtype: np.dtype[np.floating]) -> float:
    """How many deviations a difference takes: so many that float64 shows it."""
    return 2.0**-30 / unit_roundoff(dtype) if dtype == np.float64 else 1.0


def _probed(
    op: Op,
    inputs: tuple[Array, ...],
    spread: tuple[Array, ...],
    tangents: Sequence[Array | None],
    dtype: np.dtype[np.floating],
) -> Array:
    """What any other op adds to its tangents: by inputs and tangents that are a little off, and by what it does itself.

    What an op loses inside, where it subtracts what nearly cancels, its formula does not show. Float32 beside float64
    does, at points near by, whose last digits are others. Noise is proportional to u, so that of a dtype is scaled.
    """
    rng, single = np.random.default_rng(0), op.astype(_SINGLE)
    u = unit_roundoff(_SINGLE)
    scale = unit_roundoff(dtype) / u

    def pushed(by: Op, points: Sequence[Array], vectors: Sequence[Array | None]) -> Array:
        return by.jvp(by.linearize(*points, kink="keras")[1], *vectors)

    def off(x: Array, deviation: Array) -> Array:
        moved: Array = x + deviation * rng.normal(size=x.shape)
        return moved

    def squared(gap: Array) -> Array:
        found: Array = np.square(np.where(np.isfinite(gap), scale * gap, 0)) / _DRAWS
        return found

    after = pushed(op, inputs, tangents)
    total: Array = np.square(unit_roundoff(dtype) * after)
    for _ in range(_DRAWS):
        moved = [off(x, np.sqrt(v / scale**2 + np.square(2 * u * x))) for x, v in zip(inputs, spread, strict=True)]
        shaken = [None if t is None else off(t, 2 * u * t) for t in tangents]
        points = [off(x, _ASIDE * x).astype(_SINGLE) for x in inputs]
        vectors = [None if t is None else off(t, _ASIDE * t).astype(_SINGLE) for t in tangents]
        wide = [None if t is None else t.astype(np.float64) for t in vectors]
        inner = pushed(single, points, vectors) - pushed(op, [x.astype(np.float64) for x in points], wide)
        total = total + squared(pushed(op, moved, shaken) - after) + squared(_OTHERS * inner)
    return total


def jacobian_variances(graph: Graph, point: Linearization) -> list[list[Array]]:
    """σ² of every entry of the Jacobian of each output by each input, `(batch, n_out, n_in)`.

    `point` is the graph at the samples in float64; the arithmetic judged is that of `graph.dtype`.
    """
    u, spread = unit_roundoff(graph.dtype), variances(graph, point.values)
    samples = len(point.values[graph.inputs[0]])
    pushed = {source: _tangents(point, source) for source in dict.fromkeys(graph.inputs)}
    found: list[list[Array]] = []
    for target in graph.outputs:
        cotangents, handed = _cotangents(point, target)
        row: list[Array] = []
        for source in graph.inputs:
            total: Array = np.zeros((samples, size(graph, target), size(graph, source)))
            for index in between(graph, [source], [target]):
                node = graph.nodes[index]
                if isinstance(node.op, _EXACT) or index not in cotangents or index not in pushed[source]:
                    continue
                total += _added(point, index, pushed[source], cotangents[index], handed, spread, u, graph.dtype)
            row.append(total)
        found.append(row)
    return found


def least_variances(graph: Graph, point: Linearization) -> list[list[Array]]:
    """No more than `jacobian_variances`, for the cost of tangents: what the last ops add.

    Of each output that is its own node, and the affine map before it where that is an activation's: cotangents are
    unit vectors there, or slopes, so no others are needed.
    """
    u, spread = unit_roundoff(graph.dtype), variances(graph, point.values)
    pushed = {source: _tangents(point, source) for source in dict.fromkeys(graph.inputs)}
    shape = len(point.values[graph.inputs[0]])
    found: list[list[Array]] = []
    for target in graph.outputs:
        row = []
        for source in graph.inputs:
            total: Array = np.zeros((shape, size(graph, target), size(graph, source)))
            for index, slope in _last(point, target):
                own = _own(point, index, pushed[source], spread, u)
                if own is not None:
                    total += np.moveaxis(_rows(np.square(slope) * own), 1, 2)
            row.append(total)
        found.append(row)
    return found


def _last(point: Linearization, target: int) -> list[tuple[int, Array | float]]:
    """The nodes whose cotangents are known at an output, and these."""
    node = point.graph.nodes[target]
    before = [(node.inputs[0], point.tapes[target])] if isinstance(node.op, Elementwise) else []
    return [(target, 1.0), *before]


def _own(point: Linearization, index: int, tangents: Vectors, spread: Sequence[Array], u: float) -> Array | None:
    """The variance of what an affine map or an activation adds to its tangents; of other ops nothing is said."""
    graph = point.graph
    op, inputs = graph.nodes[index].op, graph.nodes[index].inputs
    if index not in tangents or not isinstance(op, Affine | Elementwise) or inputs[0] not in tangents:
        return None
    before = tangents[inputs[0]]
    if isinstance(op, Affine):
        kernel = op.kernel.astype(np.float64)
        return u**2 * _sums(before, np.square(kernel), kernel, tangents[index])
    (source,) = inputs
    return np.square(before) * slope_variance(op, point.values[source], spread[source], graph.dtype)


def _added(
    point: Linearization,
    index: int,
    tangents: Vectors,
    cotangent: Array,
    handed: Mapping[tuple[int, int], Array],
    spread: Sequence[Array],
    u: float,
    dtype: np.dtype[np.floating],
) -> Array:
    """What one node adds to σ², `(batch or 1, n_out, n_in)`."""
    node = point.graph.nodes[index]
    inputs = tuple(point.values[source] for source in node.inputs)
    before = [tangents.get(source) for source in node.inputs]
    first = before[0]
    if isinstance(node.op, Affine) and first is not None:
        return u**2 * _affine(node.op, (first, tangents[index]), (cotangent, handed[index, 0]))
    if isinstance(node.op, Elementwise) and first is not None:
        slopes = slope_variance(node.op, inputs[0], spread[node.inputs[0]], dtype)
        return _through(np.square(cotangent), np.square(first) * slopes)
    moved = _probed(node.op, inputs, tuple(spread[source] for source in node.inputs), before, dtype)
    return _through(np.square(cotangent), moved)
