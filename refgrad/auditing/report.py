"""What an audit found: a verdict for each sample, one for all, in words and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.auditing.verdicts import OK, SAMPLE, VERDICTS
from refgrad.outfile import replacing
from refgrad.paths import StrPath


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """The outcome of an audit.

    `samples` is a structured array of dtype `SAMPLE`; `scale` is max|J| over the set; `judged` the share of the samples
    that were held to all bounds: below 90 % the comparison shows nothing, and the audit fails. `coverage` says
    which units the samples reached, where that was asked; `provenance` what the audit was made with, and how.
    """

    samples: npt.NDArray[np.void]
    against: str
    model: dict[str, Any]
    scale: float
    judged: float
    vacuous: bool
    coverage: Any = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<refgrad.Report {'passed' if self.passed else 'failed'}: {dict(self.counts)}>"

    def __str__(self) -> str:
        return self.summary()

    @property
    def counts(self) -> Counter[str]:
        """How many samples have each verdict: those that there are, from the mildest on; all others count 0."""
        found = {verdict: int((self.samples["verdict"] == verdict).sum()) for verdict in VERDICTS}
        return Counter({verdict: count for verdict, count in found.items() if count})

    @property
    def passed(self) -> bool:
        """Whether no sample is discrepant, and enough were judged for that to mean something."""
        return not self.vacuous and not any(VERDICTS[name].fails for name in self.counts)

    @property
    def worst(self) -> int | None:
        """The sample with the largest error for its bounds: of those that fail, or else of those that agree."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = [self.samples[f"{part}error"] / self.samples[f"{part}bound"] for part in ("", "value_")]
        ratio = np.nan_to_num(np.fmax(*ratios), nan=0.0)
        failing = [name for name, verdict in VERDICTS.items() if verdict.fails]
        for names in (failing, [OK.name], list(VERDICTS)):
            group = np.isin(self.samples["verdict"], names)
            if group.any():
                return int(np.where(group, ratio, -1.0).argmax())
        return None

    def summary(self) -> str:
        """The report in words."""
        total = len(self.samples)
        lines = [
            f"{'PASSED' if self.passed else 'FAILED'}: refgrad against {self.against}",
            *(f"  {count:>7,} of {total:,}  {name}: {VERDICTS[name].meaning}" for name, count in self.counts.items()),
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
            "counts": {name: self.counts[name] for name in VERDICTS},
            "jacobian_scale": _plain(self.scale),
            "judged": self.judged,
            "vacuous": self.vacuous,
            "worst": self.worst,
            "provenance": self.provenance,
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
