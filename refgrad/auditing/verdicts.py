"""What can be said of a sample: the table of verdicts, and the row that holds one with its numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Verdict:
    """A verdict: its name, what it means, whether the audit fails by it, or it leaves open who is right."""

    name: str
    meaning: str
    fails: bool = False
    open: bool = False


OK = Verdict("ok", "value and Jacobian agree to rounding")
NEAR_KINK = Verdict(
    "near_kink", "so near kinks or jumps that rounding may explain it, which was not found out", open=True
)
CLARKE_ELEMENT = Verdict("clarke_element", "exactly on a kink, and a derivative that is right beside it")
KINK_CONVENTION = Verdict("kink_convention", "exactly on a kink, and what a rule for slopes on kinks makes of it")
KINK_FLIP = Verdict("kink_flip", "rounding puts units on another side of their kinks than the truth, which explains it")
FLUSHED_SUBNORMAL = Verdict("flushed_subnormal", "numbers too small to be normal were taken for zero", open=True)
REDUCED_PRECISION = Verdict("reduced_precision", "computed with fewer digits than the network's dtype has", open=True)
UNDECIDED = Verdict(
    "undecided", "rounding near kinks may explain it, but no choice of sides that was tried does", open=True
)
DISCREPANT_SUSPECT = Verdict("discrepant_suspect", "value or Jacobian differ by more than rounding", fails=True)
DISCREPANT_PROVED = Verdict(
    "discrepant_proved", "value or Jacobian differ by more than any rounding can explain, proved", fails=True
)

VERDICTS = {
    verdict.name: verdict
    for verdict in (
        OK,
        NEAR_KINK,
        CLARKE_ELEMENT,
        KINK_CONVENTION,
        KINK_FLIP,
        FLUSHED_SUBNORMAL,
        REDUCED_PRECISION,
        UNDECIDED,
        DISCREPANT_SUSPECT,
        DISCREPANT_PROVED,
    )
}
"""All verdicts, from the mildest to the gravest."""

SAMPLE = np.dtype(
    [
        ("verdict", "U24"),
        ("side", "U8"),
        ("tier", np.uint8),
        ("error", np.float64),
        ("bound", np.float64),
        ("ratio", np.float64),
        ("value_error", np.float64),
        ("value_bound", np.float64),
        ("value_ratio", np.float64),
        ("where", "U80"),
        ("ours", np.float64),
        ("theirs", np.float64),
        ("truth", np.float64),
        ("layer", "U80"),
        ("units", "U160"),
        ("distance", np.float64),
        ("fault", "U80"),
    ]
)
"""A row for each sample.

`side` is whose answer the verdict is about: "ours", "theirs", "both", or "" where nothing is off or nobody can tell;
`tier` is how it was found: 0 float64 and the noise model, 1 exact truth, 2 sides of kinks tried and rigorous bounds.
`error`, `bound` and `ratio` are of the entry of the Jacobian furthest beyond its bound: the absolute error, what it may
be, and how many deviations of rounding it is, if the bound is 8 of them; `value_…` the same of the value. `where` names
that entry, dy[j]/dx[i], or y[j] where it is the value that is off, and `ours`, `theirs` and `truth` are the numbers
there (truth is NaN where it was not asked for). `layer` and `units` are the units on another side of a kink, or on one,
and `distance` how many deviations the nearest kink is away (inf where there is none). `fault` is what explains a
discrepancy, where something was found that does.
"""
