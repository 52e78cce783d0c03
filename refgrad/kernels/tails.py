"""A softmax, or its logarithm, at the end of a chain.

    s_j = exp(z_j − max z) / Σ_k exp(z_k − max z)        y = s, or y_j = z_j − max z − log Σ_k exp(z_k − max z)

As Σ s = 1, a tangent may have any number subtracted from all its entries: that of the largest s, at place m, leaves no
cancellation where s_m is nearly 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refgrad.kernels.compiling import inline
from refgrad.kernels.packing import TAIL, WIDTH
from refgrad.kernels.program import TAILS
from refgrad.kernels.windows import window

NONE, SOFTMAX, LOG_SOFTMAX = range(len(TAILS))


@inline
def outputs(layers: Any, units: Any, lanes: Any, work: Any, at: Any) -> None:
    """z → y in place, for a tile (units, lanes)."""
    if layers[0, TAIL] == NONE:
        return
    for lane in range(at, at + lanes):
        most = work[lane]
        for i in range(lane, lane + units * lanes, lanes):
            # A NaN stays: nothing is above it.
            most = work[i] if work[i] > most or work[i] != work[i] else most
        total = work.dtype.type(0)
        for i in range(lane, lane + units * lanes, lanes):
            work[i] -= most
            total += np.exp(work[i])
        for i in range(lane, lane + units * lanes, lanes):
            work[i] = np.exp(work[i]) / total if layers[0, TAIL] == SOFTMAX else work[i] - np.log(total)


@inline
def shares(layers: Any, y: Any, units: Any, work: Any, at: Any) -> Any:
    """Write s of a sample's outputs; returns the place of the largest."""
    largest = 0
    for j in range(units):
        work[at + j] = y[j] if layers[0, TAIL] == SOFTMAX else np.exp(y[j])
        largest = j if work[at + j] > work[at + largest] else largest
    return largest


@inline
def pushed(
    layers: Any, y: Any, tangents: Any, start: Any, units: Any, columns: Any, step: Any, work: Any, at: Any
) -> None:
    """ẏ from ż in place: ẏ_j = s_j (d_j − Σ_k s_k d_k), d = ż − ż_m; of the logarithm ẏ = d − Σ_k s_k d_k.

    Tangent i has its entry j at tangents[start + j·step + i]: a Jacobian (units, columns), or one of several tangents.
    """
    if layers[0, TAIL] == NONE:
        return
    largest = shares(layers, y, units, work, at)
    for i in range(start, start + columns):
        base, mean = tangents[i + largest * step], work.dtype.type(0)
        for j in range(units):
            mean += work[at + j] * (tangents[i + j * step] - base)
        for j in range(units):
            factor = work[at + j] if layers[0, TAIL] == SOFTMAX else work.dtype.type(1)
            tangents[i + j * step] = factor * (tangents[i + j * step] - base - mean)


@inline
def past_tail(layers: Any, y: Any, jacobian: Any, sample: Any, work: Any, spare: Any) -> None:
    """A sample's Jacobian of what is before the tail, in its place, becomes that of the outputs."""
    n_out, n_in = layers[-1, WIDTH], layers[0, WIDTH]
    pushed(layers, window(y, sample * n_out, n_out), jacobian, sample * n_out * n_in, n_out, n_in, n_in, work, spare)


@inline
def pulled(layers: Any, y: Any, work: Any, start: Any, units: Any, at: Any) -> None:
    """z̄ from ȳ in place: z̄ = s (d − Σ s d), d = ȳ − ȳ_m; of the logarithm z̄ = p, p = ȳ − s Σ ȳ, less at m what Σ p is.

    Σ p is 0 but for what cancelled.
    """
    if layers[0, TAIL] == NONE:
        return
    largest = shares(layers, y, units, work, at)
    total = work.dtype.type(0)
    if layers[0, TAIL] == SOFTMAX:
        base = work[start + largest]
        for j in range(units):
            total += work[at + j] * (work[start + j] - base)
        for j in range(units):
            work[start + j] = work[at + j] * (work[start + j] - base - total)
        return
    for j in range(units):
        total += work[start + j]
    left = work.dtype.type(0)
    for j in range(units):
        work[start + j] -= work[at + j] * total
        left += work[start + j]
    work[start + largest] -= left
