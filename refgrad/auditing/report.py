"""What an audit found: a verdict for each sample, one for all, in words and as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.outfile import replacing
from refgrad.paths import StrPath


@dataclass(frozen=True)
class Verdict:
    """What can be said of a sample: its name, what it means, and whether the audit fails by it."""

    name: str
    meaning: str
    fails: bool


OK = Verdict("ok", "value and Jacobian agree to rounding", fails=False)
NEAR_KINK = Verdict(
    "near_kink", "so near a kink or jump that rounding decides the slope or the value; the rest agrees", fails=False
)
DISCREPANT = Verdict("discrepant", "value or Jacobian differ by more than rounding", fails=True)
KINK_FLIP = Verdict(
    "kink_flip", "rounding puts a unit on another side of its kink than the truth; the rest agrees", fails=False
)
VERDICTS = {verdict.name: verdict for verdict in (OK, NEAR_KINK, KINK_FLIP, DISCREPANT)}

SAMPLE = np.dtype(
    [
        ("verdict", "U20"),
        ("error", np.float64),
        ("bound", np.float64),
        ("value_error", np.float64),
        ("value_bound", np.float64),
        ("where", "U80"),
    ]
)
"""A row for each sample: largest absolute difference of the Jacobian and its bound, the same of the value, and where:
the entry furthest beyond its bound, y[j] or dy[j]/dx[i], or the unit near a kink, or those on another side of it."""


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """The outcome of an audit.

    `samples` is a structured array of dtype `SAMPLE`; `scale` is max|J| over the set; `judged` the share of the samples
    that are finite and away from kinks: below 90 % the comparison shows nothing, and the audit fails.
    """

    samples: npt.NDArray[np.void]
    against: str
    model: dict[str, Any]
    scale: float
    judged: float
    vacuous: bool

    def __repr__(self) -> str:
        return f"<refgrad.Report {'passed' if self.passed else 'failed'}: {self.counts}>"

    def __str__(self) -> str:
        return self.summary()

    @property
    def counts(self) -> dict[str, int]:
        """How many samples have each verdict; flips are known to an audit against the truth alone."""
        found = {verdict: int((self.samples["verdict"] == verdict).sum()) for verdict in VERDICTS}
        return {verdict: count for verdict, count in found.items() if count or verdict != KINK_FLIP.name}

    @property
    def passed(self) -> bool:
        """Whether no sample is discrepant, and enough were judged for that to mean something."""
        return not self.vacuous and not any(VERDICTS[name].fails for name, count in self.counts.items() if count)

    @property
    def worst(self) -> int | None:
        """The sample with the largest error for its bounds, away from kinks if any is; None without samples."""
        if not len(self.samples):
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = [self.samples[f"{part}error"] / self.samples[f"{part}bound"] for part in ("", "value_")]
        ratio = np.nan_to_num(np.fmax(*ratios), nan=0.0)
        judged = np.where(np.isin(self.samples["verdict"], [NEAR_KINK.name, KINK_FLIP.name]), -1.0, ratio)
        return int(judged.argmax())

    def summary(self) -> str:
        """The report in words."""
        total = len(self.samples)
        lines = [
            f"{'PASSED' if self.passed else 'FAILED'}: refgrad against {self.against}",
            *(
                f"  {count:>7,} of {total:,}  {name}: {VERDICTS[name].meaning}"
                for name, count in self.counts.items()
                if count
            ),
        ]
        if self.vacuous:
            few = f"only {self.judged:.0%} of the samples are finite and away from kinks" if total else "no samples"
            lines.append(f"  {few}: too few to tell")
        if self.worst is not None:
            row = self.samples[self.worst]
            relative = row["error"] / self.scale if self.scale else row["error"]
            lines.append(
                f"  worst sample {self.worst} ({row['verdict']}) at {row['where']}: |ΔJ| = {row['error']:.2e} "
                f"({relative:.1e} of max|J|), bound {row['bound']:.2e}; |Δy| = {row['value_error']:.2e}, "
                f"bound {row['value_bound']:.2e}"
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data; numbers that JSON has no word for become text."""
        rows = [{name: _plain(row[name]) for name in SAMPLE.names or ()} for row in self.samples]
        return {
            "passed": self.passed,
            "against": self.against,
            "model": self.model,
            "counts": self.counts,
            "jacobian_scale": _plain(self.scale),
            "judged": self.judged,
            "vacuous": self.vacuous,
            "worst": self.worst,
            "samples": rows,
        }

    def to_json(self, path: StrPath) -> None:
        """Write the report as JSON."""
        with replacing(path) as file:
            file.write(json.dumps(self.to_dict(), indent=1, allow_nan=False).encode())


def _plain(value: Any) -> float | str:
    if isinstance(value, str):
        return str(value)
    number = float(value)
    return number if np.isfinite(number) else repr(number)
