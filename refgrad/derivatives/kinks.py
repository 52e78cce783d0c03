"""Which units sit on or near a kink at a sample, in their own units: a report, where `margins` is a judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array
from refgrad.derivatives.margins import distances
from refgrad.derivatives.products import Linearization

UNIT = np.dtype([("sample", np.int64), ("layer", "U80"), ("unit", np.int64), ("distance", np.float64)])
"""A unit of a sample: layer, place in it, and its pre-activation's distance from a kink."""


@dataclass(frozen=True, eq=False, repr=False)
class Kinks:
    """Units near a kink.

    `units` has a row, of dtype `UNIT`, for each unit within the tolerance, by sample; `nearest` one for each sample:
    the unit nearest to a kink of all, with an empty layer and an infinite distance where nothing has kinks.
    """

    units: npt.NDArray[np.void]
    nearest: npt.NDArray[np.void]

    @property
    def margin(self) -> Array:
        """For each sample, the smallest distance of a unit from a kink."""
        margin: Array = self.nearest["distance"]
        return margin

    def __repr__(self) -> str:
        if not len(self.nearest):
            return "<refgrad Kinks: no samples>"
        least = self.nearest[self.margin.argmin()]
        at = f"sample {least['sample']}, {least['layer']}[{least['unit']}]"
        where = f"smallest margin {least['distance']:.3g} at {at}" if least["layer"] else "nothing has kinks"
        return f"<refgrad Kinks: {len(self.units)} units within reach in {len(self.nearest)} samples; {where}>"


def find_kinks(point: Linearization, tol: float, first: int) -> Kinks:
    """The units within `tol` of a kink or jump; `first` is the first sample's place in its batch."""
    samples = len(point.values[point.graph.inputs[0]])
    nearest = np.zeros(samples, UNIT)
    nearest["sample"], nearest["distance"] = first + np.arange(samples), np.inf
    rows = []
    for index, distance, _ in distances(point):
        layer = point.graph.nodes[index].name
        sample, unit = np.nonzero(distance <= tol)
        found = np.zeros(len(sample), UNIT)
        found["sample"], found["layer"], found["unit"] = first + sample, layer, unit
        found["distance"] = distance[sample, unit]
        rows.append(found)
        least = np.where(np.isnan(distance), np.inf, distance).argmin(axis=1)
        margin = distance[np.arange(samples), least]
        closer = margin < nearest["distance"]
        nearest["layer"][closer], nearest["unit"][closer] = layer, least[closer]
        nearest["distance"][closer] = margin[closer]
    units = np.concatenate([np.zeros(0, UNIT), *rows])
    return Kinks(units[np.argsort(units["sample"], kind="stable")], nearest)


def joined(parts: Sequence[Kinks]) -> Kinks:
    """The kinks of a whole batch from those of its pieces, in order."""
    return Kinks(np.concatenate([part.units for part in parts]), np.concatenate([part.nearest for part in parts]))
