"""Whether two computations of a network's value and Jacobian agree to rounding, sample by sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array, flat
from refgrad.derivatives.margins import Mask, NearKinks, near_kinks
from refgrad.derivatives.products import linearize
from refgrad.errors import InputError
from refgrad.graph import Graph
from refgrad.rounding import AWAY, NEAR, deviations, tolerance

Pair = tuple[npt.NDArray[Any], npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Agreement:
    """Errors and bounds of each sample, absolute, at the entry furthest out; and which samples a kink is near to.

    The bound of a Jacobian is the project's tolerance times max|J| over the set; of a value the same of max|y|, or 8 σ
    of its rounding error where that is more. Near a kink the slope is a choice: any finite one will do, and only values
    are held to their bound; near a jump any finite value will do. `judged` are the samples held to all bounds:
    those away from kinks, with finite numbers and a finite rounding error.
    """

    value_error: Array
    value_bound: Array
    value_entry: npt.NDArray[np.intp]
    jacobian_error: Array
    jacobian_bound: float
    jacobian_scale: float
    jacobian_entry: npt.NDArray[np.intp]
    kinks: NearKinks
    agrees: Mask
    judged: Mask

    @property
    def share(self) -> float:
        """Share of the samples that were judged."""
        return float(self.judged.mean()) if len(self.judged) else 0.0

    @property
    def vacuous(self) -> bool:
        """Whether too few samples were judged for agreement to mean something."""
        return self.share < AWAY


def _difference(ours: Array, theirs: Array) -> Array:
    """|ours − theirs| as `(batch, entries)`; equal infinities and NaN against NaN count as equal."""
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(ours - theirs)
    gap[(ours == theirs) | (np.isnan(ours) & np.isnan(theirs))] = 0
    gap[np.isnan(gap)] = np.inf
    return gap


def _scale(array: Array) -> float:
    return float(np.max(np.abs(array), initial=0, where=np.isfinite(array)))


def _alike(ours: npt.NDArray[Any], theirs: npt.NDArray[Any], what: str) -> tuple[Array, Array]:
    """Both as float64 `(batch, entries)`; only the same shape means the same thing."""
    if theirs.shape != ours.shape:
        msg = f"the {what} to compare with has shape {theirs.shape}; {ours.shape} is expected"
        raise InputError(msg)
    return flat(ours).astype(np.float64), flat(theirs).astype(np.float64)


def compare(graph: Graph, x: Array, ours: Pair, theirs: Pair) -> Agreement:
    """Compare two pairs of value `(batch, *out)` and Jacobian `(batch, *out, *in)` of a graph at x `(batch, *in)`."""
    with np.errstate(all="ignore"):
        point = linearize(graph, [x], "keras")
        sigma = deviations(graph, point.values)
        kinks = near_kinks(point, sigma)
    y, y_other = _alike(ours[0], theirs[0], "value")
    j, j_other = _alike(ours[1], theirs[1], "Jacobian")

    relative = tolerance(graph)
    value_gap, jacobian_gap = _difference(y, y_other), _difference(j, j_other)
    value_bound = np.fmax(relative * _scale(y), NEAR * flat(sigma[graph.outputs[0]]))
    jacobian_bound = relative * _scale(j)
    worst = jacobian_gap.max(axis=1, initial=0)
    value_ok = (value_gap <= value_bound).all(axis=1) | (kinks.jump & np.isfinite(value_gap).all(axis=1))
    jacobian_ok = (worst <= jacobian_bound) | (kinks.near & np.isfinite(worst))
    finite = np.isfinite(np.concatenate([y, j, value_bound], axis=1)).all(axis=1)
    samples = np.arange(len(x))
    value_entry = (value_gap - value_bound).argmax(axis=1)
    return Agreement(
        value_error=value_gap[samples, value_entry],
        value_bound=value_bound[samples, value_entry],
        value_entry=value_entry,
        jacobian_error=worst,
        jacobian_bound=jacobian_bound,
        jacobian_scale=_scale(j),
        jacobian_entry=jacobian_gap.argmax(axis=1),
        kinks=kinks,
        agrees=value_ok & jacobian_ok,
        judged=finite & ~kinks.near,
    )
