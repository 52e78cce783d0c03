"""What an audit found: a verdict for each sample, one for all, in words and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.auditing.coverage import Coverage
from refgrad.auditing.page import html
from refgrad.auditing.text import summary
from refgrad.auditing.verdicts import OK, SAMPLE, VERDICTS
from refgrad.outfile import replacing
from refgrad.paths import StrPath

SCHEMA = 1
"""The version of what `to_dict` gives, which docs/audit-report.schema.json describes."""


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
    coverage: Coverage | None = None
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
        return summary(self)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data; numbers that JSON has no word for become text."""
        rows = [{name: _plain(row[name]) for name in SAMPLE.names or ()} for row in self.samples]
        return {
            "schema": SCHEMA,
            "passed": self.passed,
            "against": self.against,
            "model": self.model,
            "counts": {name: self.counts[name] for name in VERDICTS},
            "jacobian_scale": _plain(self.scale),
            "judged": self.judged,
            "vacuous": self.vacuous,
            "worst": self.worst,
            "coverage": None if self.coverage is None else asdict(self.coverage),
            "provenance": self.provenance,
            "samples": rows,
        }

    def to_json(self, path: StrPath) -> None:
        """Write the report as JSON."""
        with replacing(path) as file:
            file.write(json.dumps(self.to_dict(), indent=1, allow_nan=False).encode())

    def to_html(self, path: StrPath) -> None:
        """Write the report as one HTML page that needs nothing else."""
        with replacing(path) as file:
            file.write(html(self).encode())


def _plain(value: Any) -> float | str:
    if isinstance(value, str):
        return str(value)
    number = float(value)
    return number if np.isfinite(number) else repr(number)
