"""The kernel that looks values and slopes up in a staircase: a search by halves for each sample."""

from __future__ import annotations

from typing import Any

import numpy as np

from refgrad.kernels.compiling import kernel

BESIDE = 16
"""Samples that are looked for side by side: each waits for one number after the other."""


@kernel
def look_up(starts: Any, ends: Any, slopes: Any, offsets: Any, t: Any, y: Any, jacobian: Any, left: Any) -> int:
    """y and jacobian (batch, n_out) for t (batch,), where t is in an interval; the others' places go to `left`.

    The search has no branches, nor comparisons that LLVM would make branches of: samples in no order would mispredict
    each of them. Gives how many are left over, of which there may not be room for all.
    """
    count, batch, intervals = 0, len(t), len(starts)
    places, wide, beyond = np.empty(BESIDE, np.int64), np.empty(BESIDE, np.float64), np.empty(BESIDE, np.float64)
    signs = beyond.view(np.int64)
    for first in range(0, batch, BESIDE):
        samples = min(BESIDE, batch - first)
        for i in range(BESIDE):
            places[i], wide[i] = 0, t[first + min(i, samples - 1)]
        among = intervals
        while among > 1:
            half = among >> 1
            for i in range(BESIDE):
                beyond[i] = starts[places[i] + half] - wide[i]
            for i in range(BESIDE):
                places[i] += half & (signs[i] >> 63)
            among -= half
        for i in range(samples):
            place, sample = places[i], first + i
            if intervals > 0 and starts[place] < wide[i] < ends[place]:
                for out in range(slopes.shape[1]):
                    slope = slopes[place, out]
                    y[sample, out] = offsets[place, out] + slope * wide[i]
                    jacobian[sample, out] = slope
            else:
                if count < len(left):
                    left[count] = sample
                count += 1
    return count
