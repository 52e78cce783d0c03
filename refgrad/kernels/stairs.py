"""The kernel that looks values and slopes up in a staircase: a search by halves for each sample."""

from __future__ import annotations

from typing import Any

from refgrad.kernels.compiling import kernel


@kernel
def look_up(starts: Any, ends: Any, slopes: Any, offsets: Any, t: Any, y: Any, jacobian: Any, left: Any) -> int:
    """y and jacobian (batch, n_out) for t (batch,), where t is in an interval; the others' places go to left (batch,).

    The search has no branches: samples in no order would mispredict each of them. Gives how many are left over.
    """
    count = 0
    for sample in range(len(t)):
        place, among = 0, len(starts)
        wide = starts.dtype.type(t[sample])
        while among > 1:
            half = among >> 1
            place += half if starts[place + half] < wide else 0
            among -= half
        if len(starts) > 0 and starts[place] < wide < ends[place]:
            for out in range(slopes.shape[1]):
                slope = slopes[place, out]
                y[sample, out] = offsets[place, out] + slope * wide
                jacobian[sample, out] = slope
        else:
            left[count] = sample
            count += 1
    return count
