"""A report in words: a sentence, a summary for a terminal, and how to do it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from refgrad.auditing.findings import fails, kind, reasons
from refgrad.auditing.verdicts import DISCREPANT_PROVED, OK, VERDICTS
from refgrad.errors import printable

if TYPE_CHECKING:
    from refgrad.auditing.report import Report

Paint = Callable[[str, str], str]
"""Text in the colour of what is "good", "bad", or "odd"."""

_COLOURS = {"good": 32, "bad": 31, "odd": 33}
_GROUPS = 5
"""The most groups of samples that are listed below a verdict."""


def plain(text: str, _: str) -> str:
    """Text as it is."""
    return text


def coloured(text: str, how: str) -> str:
    """Text in a terminal's colour."""
    return f"\x1b[{_COLOURS[how]}m{text}\x1b[0m"


def _few(report: Report) -> str:
    if not len(report.samples):
        return "no samples: too few to tell"
    return f"only {report.judged:.0%} of the samples are finite and could be judged: too few to tell"


def _fault(report: Report) -> list[str]:
    """What explains most of the discrepancies, if anything does."""
    found = Counter(
        (str(row["side"]), str(row["fault"])) for row in report.samples[fails(report.samples)] if row["fault"]
    )
    return [f"What explains it: in {side}, {fault}." for (side, fault), _ in found.most_common(1)]


def headline(report: Report) -> str:
    """The verdict in a sentence or two."""
    total, counts = len(report.samples), report.counts
    failing = sum(count for name, count in counts.items() if VERDICTS[name].fails)
    said = []
    if failing:
        said.append(f"{failing:,} of {total:,} samples differ by more than rounding explains.")
        if proved := counts.get(DISCREPANT_PROVED.name, 0):
            said.append(f"Of {proved:,} it is proved that no rounding can do that.")
        said += _fault(report)
    elif total:
        right = counts.get(OK.name, 0)
        said.append(f"{'All' if right == total else f'{right:,} of'} {total:,} samples agree to rounding.")
    if other := {name: count for name, count in counts.items() if count and kind(name) == "odd"}:
        said.append(f"Not counted against it: {', '.join(f'{n:,} {name}' for name, n in other.items())}.")
    if report.vacuous:
        few = _few(report)
        said.append(f"{few[0].upper()}{few[1:]}.")
    return " ".join(said)


def _details(report: Report, verdict: str) -> list[str]:
    """What the samples of a verdict have in common: side, layer, the units of the worst of them, fault."""
    groups = [group for group in reasons(report.samples) if group.key[0] == verdict and any(group.key[1:])]
    lines = []
    for group in groups[:_GROUPS]:
        _, side, layer, fault = map(printable, group.key)
        units = printable(str(report.samples[group.worst]["units"]))
        parts = (side, f"layer {layer}" if layer else "", fault, f"sample {group.worst}{': ' if units else ''}{units}")
        lines.append(f"  {group.count:>7,}   - {'; '.join(part for part in parts if part)}")
    if len(groups) > _GROUPS:
        lines.append(f"            - and {len(groups) - _GROUPS:,} more groups")
    return lines


def summary(report: Report, paint: Paint = plain) -> str:
    """The report, verdict by verdict, and its worst sample."""
    total = len(report.samples)
    passed = paint("PASSED", "good") if report.passed else paint("FAILED", "bad")
    lines = [f"{passed}: refgrad against {printable(report.against)}"]
    for name, count in report.counts.items():
        if count:
            lines.append(f"  {count:>7,} of {total:,}  {paint(name, kind(name))}: {VERDICTS[name].meaning}")
            lines += _details(report, name)
    if report.vacuous:
        lines.append(f"  {_few(report)}")
    if report.coverage is not None and report.coverage.units:
        lines.append(f"  {report.coverage.summary()}")
    if report.worst is not None:
        row = report.samples[report.worst]
        relative = row["error"] / report.scale if report.scale else row["error"]
        lines.append(
            f"  worst sample {report.worst} ({row['verdict']}) at {printable(str(row['where']))}: "
            f"|ΔJ| = {row['error']:.2e} ({relative:.1e} of max|J|), bound {row['bound']:.2e}; "
            f"|Δy| = {row['value_error']:.2e}, bound {row['value_bound']:.2e}"
        )
    return "\n".join(lines)


def reproduce(report: Report) -> list[str]:
    """Lines of a shell or of Python that make the report again."""
    origin = report.provenance
    if command := origin.get("command"):
        return [f"$ {command}"]
    options, digests = origin.get("options", {}), origin.get("digests", {})
    file = origin.get("files", {}).get("model")
    said = ", ".join(f"{name}={value!r}" for name, value in options.items() if value is not None)
    return [
        "import refgrad",
        f"net = refgrad.load({file!r})" if file else f"net = ...  # the network of digest {report.model.get('digest')}",
        f"report = refgrad.audit(net, x, {said})  # x: the inputs of digest {digests.get('inputs')}",
    ]
