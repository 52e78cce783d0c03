"""The largest and the smallest, of tensors and along axes, exactly: who wins is decided by comparing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from flint import arb

from refgrad.exact.local import Local, Site, lines, stretch
from refgrad.exact.maps import Terms
from refgrad.exact.tensors import UNKNOWN, Balls, Codes, Mask, Tensor, assembled, constant, joined, rational

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
        first = np.argmax(~loses, axis=0)
        best = np.arange(len(parts))[:, None, None] == first
        value = assembled(shape, [(mask, part[mask]) for mask, part in zip(best | unsure, parts, strict=True)])
        maps = [
            Terms(x.shape[-1], n, _share(winners, unsure, i), None, taken)
            for i, (x, taken) in enumerate(zip(inputs, sources, strict=True))
        ]
        return Local(value, maps, _pattern(loses, undecided))

    return rule


_lower = np.frompyfunc(arb.lower, 1, 1)
_larger = np.frompyfunc(lambda one, other: other if other > one else one, 2, 1)


def extreme(way: int) -> Callable[[Any, Sequence[Tensor], Site], Local]:
    """The rule of the largest (1) or the smallest (−1) number along axes."""

    def rule(op: Any, inputs: Sequence[Tensor], site: Site) -> Local:
        """y = x_w for the winner w, whose slope is 1; those that tie exactly share, to Keras too."""
        (x,), rows = inputs, lines(site.shapes[0], op.axes)
        held = rows.split(x)
        parts = held.like(np.moveaxis(held.numbers, -1, 0))
        ahead = parts.times(way).numbers
        # What is below the highest of the lower ends loses; what equals it is a point.
        top = _larger.reduce(_lower(ahead) if isinstance(parts, Balls) else ahead, axis=0)
        loses, equal = (ahead < top).astype(bool), (ahead == top).astype(bool)
        undecided = ((~loses).sum(axis=0) > 1) & (~loses & ~equal).any(axis=0)
        unsure = ~loses & undecided
        winners = _SHARES["mean" if site.kink == "keras" else site.kink](~loses & ~undecided)
        best = np.arange(len(ahead))[:, None, None] == np.argmax(~loses, axis=0)
        value = assembled(top.shape, [(mask, parts[i][mask]) for i, mask in enumerate(best | unsure)])
        shares = joined([_share(winners, unsure, i).reshape(*top.shape, 1) for i in range(len(ahead))])
        return Local(value, [rows.summed(rows.join(shares))], _pattern(loses, undecided))

    return rule


def _pattern(loses: Mask, undecided: Mask) -> Codes | None:
    """2 w of the winner w, one more where several tie, −1 where balls cannot tell."""
    if len(loses) == 1:
        return None
    first, ties = np.argmax(~loses, axis=0), (~loses).sum(axis=0) > 1
    codes: Codes = np.where(undecided, -1, 2 * first + ties).astype(np.int8 if len(loses) < 64 else np.intp)
    return codes


def _share(winners: npt.NDArray[Any], unsure: Mask, which: int) -> Tensor:
    """The slope by one input: its share among those that tie, or all from 0 to 1 where balls cannot tell."""
    count = winners.sum(axis=0)
    parts: list[tuple[Mask, Tensor]] = []
    for among in range(1, int(count.max(initial=0)) + 1):
        mask = winners[which] & (count == among)
        parts.append((mask, constant(rational(1) / among, (int(mask.sum()),))))
    for end in (0, 1):
        parts.append((unsure[which], constant(end, (int(unsure[which].sum()),))))
    rest = ~winners[which] & ~unsure[which]
    parts.append((rest, constant(0, (int(rest.sum()),))))
    return assembled(winners.shape[1:], parts)
