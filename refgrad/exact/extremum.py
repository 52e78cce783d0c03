"""Maximum and minimum, exactly: who wins is decided by signs of differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.exact.local import Local, Site, stretch
from refgrad.exact.maps import Terms
from refgrad.exact.tensors import UNKNOWN, Mask, Tensor, assembled, constant, rational

_SHARES: Mapping[str, Callable[[Mask], npt.NDArray[Any]]] = {
    "keras": lambda tied: tied & (np.cumsum(tied, axis=0) == 1),
    "left": lambda tied: tied & (np.cumsum(tied, axis=0) == 1),
    "right": lambda tied: tied & (np.cumsum(tied[::-1], axis=0)[::-1] == 1),
    "mean": lambda tied: tied,
}
"""Which of those that tie, `(n, batch, size)`, take the slope, in equal shares."""


def extremum(way: int) -> Callable[[Any, Sequence[Tensor], Site], Local]:
    """The rule of the largest (1) or the smallest (−1) of several tensors."""

    def rule(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
        """y = x_w for the winner w, whose slope is 1; of those that tie exactly, as the kink policy says."""
        sources = [stretch(shape, site.shape) for shape in site.shapes]
        parts = [x[:, taken] for x, taken in zip(inputs, sources, strict=True)]
        shape, n = parts[0].shape, math.prod(site.shape)
        ahead = np.array([[(one - other).times(way).signs() for other in parts] for one in parts])
        for i, j in np.ndindex(*ahead.shape[:2]):
            if inputs[i] is inputs[j]:  # a ball is not known to equal itself
                ahead[i, j] = 0
        loses = (ahead == -1).any(axis=1)
        # Where balls cannot tell two apart that do not lose, each of those may win.
        undecided = ((ahead == UNKNOWN) & ~loses[None] & ~loses[:, None]).any(axis=(0, 1))
        unsure = ~loses & undecided
        winners = _SHARES[site.kink](~loses & ~undecided)
        first, ties = np.argmax(~loses, axis=0), (~loses).sum(axis=0) > 1
        best = np.arange(len(parts))[:, None, None] == first
        value = assembled(shape, [(mask, part[mask]) for mask, part in zip(best | unsure, parts, strict=True)])
        maps = [
            Terms(x.shape[-1], n, _share(winners, unsure, i), None, taken)
            for i, (x, taken) in enumerate(zip(inputs, sources, strict=True))
        ]
        on = np.where(undecided, -1, 2 * first + ties).astype(np.int8)
        return Local(value, maps, on if len(parts) > 1 else None)

    return rule


def _share(winners: npt.NDArray[Any], unsure: Mask, which: int) -> Tensor:
    """The slope by one input: its share among those that tie, or all from 0 to 1 where balls cannot tell."""
    count = winners.sum(axis=0)
    parts: list[tuple[Mask, Tensor]] = []
    for among in range(1, int(count.max()) + 1):
        mask = winners[which] & (count == among)
        parts.append((mask, constant(rational(1) / among, (int(mask.sum()),))))
    for end in (0, 1):
        parts.append((unsure[which], constant(end, (int(unsure[which].sum()),))))
    rest = ~winners[which] & ~unsure[which]
    parts.append((rest, constant(0, (int(rest.sum()),))))
    return assembled(winners.shape[1:], parts)
