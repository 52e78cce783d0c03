"""Logarithmic axes of a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refgrad.arrays import Array

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis over decades, with a place of its own before it for 0 and after it for what is not finite.

    `start` and `stop` are where the decades `low` and `high` are in the picture, `beside` is how far from them 0 and
    what is not finite are.
    """

    low: int
    high: int
    start: float
    stop: float
    beside: float

    def at(self, values: Array) -> Array:
        """Where numbers are drawn."""
        share = (_log(values) - self.low) / (self.high - self.low)
        inside: Array = self.start + np.clip(share, 0, 1) * (self.stop - self.start)
        beside: Array = np.where(np.isfinite(values), self.start - self.beside, self.stop + self.beside)
        return np.where(np.isfinite(values) & (values > 0), inside, beside)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and names of at most nine decades."""
        every = -(-(self.high - self.low) // 8)
        decades = range(self.low, self.high + 1, every)
        return [(float(self.at(np.array(10.0**decade))), _power(decade)) for decade in decades]


def _power(decade: int) -> str:
    return {0: "1", 1: "10"}.get(decade, f"10{str(decade).translate(_SUPERSCRIPTS)}")


def _log(values: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = np.log10(values)
    return found


def axis_of(values: Array, low: int, high: int, start: float, stop: float, beside: float) -> Axis:
    """An axis with room for `low` to `high` and for all finite numbers."""
    logs = _log(values[np.isfinite(values) & (values > 0)])
    low = min(low, int(np.floor(logs.min(initial=low))))
    return Axis(max(low, -307), max(high, int(np.ceil(logs.max(initial=high)))), start, stop, beside)
