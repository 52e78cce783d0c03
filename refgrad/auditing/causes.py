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


def name_causes(graph: Graph, inputs: Sequence[Array], judged: Judged, given: Mapping[str, Answer]) -> None:
    """Give the discrepant samples of each side the fault that explains them.

    Products of fewer digits are told by their own rounding, which the values must show, and by size: 8 σ of a unit
    roundoff u′ instead of u is the bound of every number then. A sample that is further off stays discrepant.
    """
    for name, side in judged.sides.items():
        wrong = np.flatnonzero(np.isin(side.verdict, _FAILING))
        phrase = explain(graph, inputs, given[name], wrong) if len(wrong) else None
        if phrase is None:
            continue
        coarser = precision(phrase)
        ratio = np.fmax(side.gaps.ratio, side.gaps.value_ratio)[wrong]
        within = np.zeros(len(wrong), bool)
        if coarser is not None:
            within = ratio <= NEAR * coarser / unit_roundoff(graph.dtype)
        side.verdict[wrong[within]] = REDUCED_PRECISION.name
        for sample, verdict in zip(wrong.tolist(), side.verdict[wrong].tolist(), strict=True):
            side.explained[sample] = Explanation(verdict, (), phrase)
