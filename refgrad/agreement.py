"""Whether two computations of a network's value and Jacobian agree to rounding, sample by sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array
from refgrad.derivatives.margins import Mask, NearKinks, near_kinks
from refgrad.derivatives.products import values
from refgrad.errors import InputError
from refgrad.graph import Graph
from refgrad.ops import Elementwise
from refgrad.rounding import AWAY, NEAR, tolerance, variances

Pair = tuple[npt.NDArray[Any], npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Agreement:
    """Errors and bounds of each sample, absolute, and which samples a kink is near to.

    The bound of a Jacobian is the project's tolerance times max|J| over the set; of a value the same of max|y|, or 8 σ
    of its rounding error where that is more. Near a kink the slope is a choice: only values are held to their bound.
    """

    value_error: Array
    value_bound: Array
    jacobian_error: Array
    jacobian_bound: float
    jacobian_scale: float
    entry: npt.NDArray[np.intp]
    kinks: NearKinks
    agrees: Mask

    @property
    def away(self) -> float:
        """Share of the samples that are away from kinks."""
        return float(1 - self.kinks.near.mean()) if len(self.agrees) else 0.0

    @property
    def vacuous(self) -> bool:
        """Whether too few samples are away from kinks for agreement to mean something."""
        return self.away < AWAY


def _difference(ours: Array, theirs: Array) -> Array:
    """|ours − theirs| as `(batch, entries)`; equal infinities and NaN against NaN count as equal."""
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(ours - theirs)
    gap[(ours == theirs) | (np.isnan(ours) & np.isnan(theirs))] = 0
    gap[np.isnan(gap)] = np.inf
    return gap


def _scale(array: Array) -> float:
    return float(np.max(np.abs(array), initial=0, where=np.isfinite(array)))


def _flat(ours: npt.NDArray[Any], theirs: npt.NDArray[Any], what: str) -> tuple[Array, Array]:
    """Both as float64 `(batch, entries)`; only the same shape means the same thing."""
    if theirs.shape != ours.shape:
        msg = f"the {what} to compare with has shape {theirs.shape}; {ours.shape} is expected"
        raise InputError(msg)
    flat = (len(ours), math.prod(ours.shape[1:]))
    return ours.reshape(flat).astype(np.float64), theirs.reshape(flat).astype(np.float64)


def compare(graph: Graph, x: Array, ours: Pair, theirs: Pair) -> Agreement:
    """Compare two pairs of value `(batch, *out)` and Jacobian `(batch, *out, *in)` of a graph at x `(batch, *in)`."""
    with np.errstate(all="ignore"):
        found = values(graph, [x])
        kinks = near_kinks(graph, found)
        sigma = np.sqrt(variances(graph, found)[graph.outputs[0]])
    y, y_other = _flat(ours[0], theirs[0], "value")
    j, j_other = _flat(ours[1], theirs[1], "Jacobian")

    relative = tolerance(graph)
    value_gap, jacobian_gap = _difference(y, y_other), _difference(j, j_other)
    value_bound = np.fmax(relative * _scale(y), NEAR * sigma.reshape(y.shape))
    jacobian_scale = _scale(j)
    jumps = any(isinstance(node.op, Elementwise) and node.op.row.jumps(*node.op.parameters) for node in graph.nodes)
    value_ok = (value_gap <= value_bound).all(axis=1) | (kinks.near & jumps)
    entry = jacobian_gap.argmax(axis=1)
    worst = jacobian_gap.max(axis=1, initial=0)
    return Agreement(
        value_error=value_gap.max(axis=1, initial=0),
        value_bound=value_bound.max(axis=1, initial=0),
        jacobian_error=worst,
        jacobian_bound=relative * jacobian_scale,
        jacobian_scale=jacobian_scale,
        entry=entry,
        kinks=kinks,
        agrees=value_ok & ((worst <= relative * jacobian_scale) | kinks.near),
    )
