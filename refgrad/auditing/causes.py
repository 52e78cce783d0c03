"""What fault each discrepancy of an audit is explained by, and which of them are no fault but reduced precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from refgrad.agreement import Answer
from refgrad.arrays import Array
from refgrad.auditing.explanations import Explanation
from refgrad.auditing.faults import precision
from refgrad.auditing.localise import explain
from refgrad.auditing.tiers import Judged
from refgrad.auditing.verdicts import REDUCED_PRECISION, VERDICTS
from refgrad.graph import Graph
from refgrad.rounding import NEAR, unit_roundoff

_FAILING = [name for name, verdict in VERDICTS.items() if verdict.fails]


_MOST = 0.75
"""The share of Jacobians that must be so near that kinks may be why others are not."""


def name_causes(graph: Graph, inputs: Sequence[Array], judged: Judged, given: Mapping[str, Answer]) -> None:
    """Give the discrepant samples of each side the fault that explains them.

    Products of fewer digits are told by their own rounding, which the values must show, and by size: 8 σ of a unit
    roundoff u′ instead of u is the bound of every number then, but of the Jacobian where a kink is as near. A sample
    that is further off stays discrepant.
    """
    for name, side in judged.sides.items():
        wrong = np.flatnonzero(np.isin(side.verdict, _FAILING))
        phrase = explain(graph, inputs, given[name], wrong) if len(wrong) else None
        if phrase is None:
            continue
        coarser = precision(phrase)
        within = np.zeros(len(wrong), bool)
        if coarser is not None:
            limit = NEAR * coarser / unit_roundoff(graph.dtype)
            sizes = (side.gaps.ratio, judged.distance, side.gaps.value_ratio)
            slopes, kinks, value = (size[wrong] <= limit for size in sizes)
            within = value & (slopes | (kinks if slopes.mean() >= _MOST else False))
        side.verdict[wrong[within]] = REDUCED_PRECISION.name
        for sample, verdict in zip(wrong.tolist(), side.verdict[wrong].tolist(), strict=True):
            side.explained[sample] = Explanation(verdict, (), phrase)
