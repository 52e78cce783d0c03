"""Whether two computations of a network's value and Jacobian agree to rounding, sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array, flat
from refgrad.chunks import each, samples_within
from refgrad.derivatives.margins import Mask, NearKinks, joined, near_kinks
from refgrad.derivatives.products import linearize
from refgrad.derivatives.spans import size
from refgrad.errors import InputError
from refgrad.graph import Graph
from refgrad.options import MAX_BYTES
from refgrad.rounding import AWAY, NEAR, deviations, tolerance

_BYTES_PER_NUMBER = 48
"""What a number in a node takes here: itself, its tape, and in float64 itself, its variance and its deviation."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What is said of a network: values `(batch, *out)`, and Jacobians `(batch, *out, *in)` by each input."""

    values: tuple[npt.NDArray[Any], ...]
    jacobians: tuple[tuple[npt.NDArray[Any], ...], ...]


@dataclass(frozen=True, eq=False)
class Agreement:
    """Errors and bounds of each sample, absolute, at the entry furthest out; and which samples a kink is near to.

    The bound of a Jacobian is the project's tolerance times max|J| over the set, of one output by one input; of a value
    the same of max|y|, or 8 σ of its rounding error where that is more. Entries count through all outputs, and for the
    Jacobian through all outputs by all inputs; `…_numbers` (batch, 2) are ours and theirs there. Near a kink the slope
    is a choice: any finite one will do, and only values are held to their bound; near a jump any finite value will do.
    `judged` are the samples held to all bounds: those away from kinks, with finite numbers and a finite rounding error.
    """

    value_error: Array
    value_bound: Array
    value_entry: npt.NDArray[np.intp]
    value_numbers: Array
    jacobian_error: Array
    jacobian_bound: Array
    jacobian_scale: float
    jacobian_entry: npt.NDArray[np.intp]
    jacobian_numbers: Array
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


def _there(ours: Sequence[Array], theirs: Sequence[Array], entry: npt.NDArray[np.intp]) -> Array:
    """Both numbers at an entry of each sample, `(batch, 2)`."""
    pair = (np.concatenate([*side], axis=1)[np.arange(len(entry)), entry] for side in (ours, theirs))
    return np.stack([*pair], axis=1)


def check_shapes(ours: Answer, theirs: Answer) -> None:
    """Refuse an answer of other shapes: only the same shapes mean the same thing."""
    parts = ("value", ours.values, theirs.values), ("Jacobian", _joined(ours.jacobians), _joined(theirs.jacobians))
    for what, one, other in parts:
        wanted, found = ([array.shape for array in side] for side in (one, other))
        if found != wanted:
            shapes = [", ".join(map(str, shape)) for shape in (found, wanted)]
            msg = f"the {what} to compare with has shape {shapes[0]}; {shapes[1]} is expected"
            raise InputError(msg)


def _wide(ours: Sequence[Any], theirs: Sequence[Any]) -> tuple[list[Array], list[Array]]:
    """Both as float64 `(batch, entries)` each."""
    return tuple([flat(array).astype(np.float64) for array in arrays] for arrays in (ours, theirs))  # type: ignore[return-value]


def _joined(jacobians: Sequence[Sequence[Any]]) -> list[Any]:
    return [block for row in jacobians for block in row]


def _rounding(graph: Graph, inputs: Sequence[Array]) -> tuple[list[Array], NearKinks]:
    """The deviations of the outputs' rounding errors, and what is near a kink, in pieces of the batch."""
    parts: list[tuple[list[Array], NearKinks]] = []

    def work(piece: slice) -> None:
        point = linearize(graph, [x[piece] for x in inputs], "keras")
        sigma = deviations(graph, point.values)
        parts.append(([sigma[index] for index in graph.outputs], near_kinks(point, sigma)))

    numbers = sum(size(graph, index) for index in range(len(graph.nodes)))
    each(work, len(inputs[0]), samples_within(MAX_BYTES, _BYTES_PER_NUMBER * numbers))
    sigmas, kinks = zip(*parts, strict=True)
    return [np.concatenate(of_output) for of_output in zip(*sigmas, strict=True)], joined(kinks)


def compare(
    graph: Graph, inputs: Sequence[Array], ours: Answer, theirs: Answer, error: Answer | None = None
) -> Agreement:
    """Compare two answers about a graph at inputs `(batch, *in)`; `error` is what theirs may be off by its method."""
    sigma, kinks = _rounding(graph, inputs)
    check_shapes(ours, theirs)
    y, y_other = _wide(ours.values, theirs.values)
    j, j_other = _wide(_joined(ours.jacobians), _joined(theirs.jacobians))

    relative = tolerance(graph)
    noise = [NEAR * flat(deviation) for deviation in sigma]
    # What overflowed in the noise model says nothing of how far a value may be off.
    told = [np.where(np.isfinite(deviation), deviation, 0) for deviation in noise]
    value_bound = np.concatenate([np.fmax(relative * _scale(a), b) for a, b in zip(y, told, strict=True)], axis=1)
    jacobian_bound = np.concatenate([np.full_like(block, relative * _scale(block)) for block in j], axis=1)
    if error is not None:
        value_bound = value_bound + np.concatenate([flat(part) for part in error.values], axis=1)
        jacobian_bound = jacobian_bound + np.concatenate([flat(part) for part in _joined(error.jacobians)], axis=1)
    value_gap, jacobian_gap = (
        np.concatenate([_difference(a, b) for a, b in zip(*pair, strict=True)], axis=1)
        for pair in ((y, y_other), (j, j_other))
    )
    worst = (jacobian_gap - jacobian_bound).max(axis=1, initial=-np.inf)
    value_ok = (value_gap <= value_bound).all(axis=1) | (kinks.jump & np.isfinite(value_gap).all(axis=1))
    jacobian_ok = (worst <= 0) | (kinks.near & np.isfinite(worst))
    finite = np.isfinite(np.concatenate([*y, *j, *noise, jacobian_bound], axis=1)).all(axis=1)
    samples = np.arange(len(inputs[0]))
    value_entry = (value_gap - value_bound).argmax(axis=1)
    jacobian_entry = (jacobian_gap - jacobian_bound).argmax(axis=1)
    return Agreement(
        value_error=value_gap[samples, value_entry],
        value_bound=value_bound[samples, value_entry],
        value_entry=value_entry,
        value_numbers=_there(y, y_other, value_entry),
        jacobian_error=jacobian_gap[samples, jacobian_entry],
        jacobian_bound=jacobian_bound[samples, jacobian_entry],
        jacobian_scale=max(map(_scale, j)),
        jacobian_entry=jacobian_entry,
        jacobian_numbers=_there(j, j_other, jacobian_entry),
        kinks=kinks,
        agrees=value_ok & jacobian_ok,
        judged=finite & ~kinks.near,
    )
