"""A report as one HTML page that needs nothing else: no network, no script, no picture in another file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple
from importlib.resources import files
from typing import TYPE_CHECKING

from refgrad.auditing.charts import histogram, scatter
from refgrad.auditing.findings import Group, by_layer, by_output, kind, worst
from refgrad.auditing.markup import Markup, element, joined, lines, style, table
from refgrad.auditing.text import headline, reproduce
from refgrad.auditing.verdicts import VERDICTS

if TYPE_CHECKING:
    from refgrad.auditing.report import Report

_ROWS = 40
"""The most rows of a table of layers or outputs."""
_WORST = 20
"""The most samples that are shown with their numbers."""


def _hexadecimal(value: float) -> str:
    """A float's exact value, without the zeros at its end."""
    mantissa, p, exponent = value.hex().partition("p")
    return f"{mantissa.rstrip('0').rstrip('.') if p else mantissa}{p}{exponent}"


def _number(value: float) -> Markup:
    value = float(value)
    return element("span", repr(value), element("br"), _hexadecimal(value), class_="number")


def _word(verdict: str, side: str = "") -> Markup:
    said = element("span", verdict, class_=f"word {kind(verdict)}")
    return joined((said, f" ({side})")) if side else said


def _verdicts(report: Report) -> Markup:
    counts = [(name, count) for name, count in report.counts.items() if count]
    rows = [
        (_word(name), f"{count:,}", "yes" if VERDICTS[name].fails else "no", VERDICTS[name].meaning)
        for name, count in counts
    ]
    return table(f"Verdicts of {len(report.samples):,} samples", ("Verdict", "Samples", "Fails", "What it says"), rows)


def _described(facts: Iterable[tuple[str, object]]) -> Markup:
    pairs = (joined((element("dt", name), element("dd", str(said)))) for name, said in facts if said is not None)
    return element("dl", *pairs)


def _first(report: Report) -> Markup:
    """The verdict, in words."""
    title = f"Audit {'passed' if report.passed else 'failed'}"
    scale = f"{report.scale:.6g}"
    return joined(
        (
            element(
                "header",
                element("h1", title, class_="good" if report.passed else "bad"),
                element("p", headline(report), class_="lead"),
                element("p", f"refgrad against {report.against}"),
                class_="good" if report.passed else "bad",
            ),
            _described(
                (
                    ("network", report.model.get("digest")),
                    ("computed in", report.model.get("dtype")),
                    ("held to all bounds", f"{report.judged:.1%} of the samples"),
                    ("max|J| over the set", scale),
                )
            ),
            _verdicts(report),
        )
    )


def _grouped(caption: str, head: str, report: Report, groups: list[Group[str]]) -> Markup:
    rows = [
        (
            it.key,
            f"{it.count:,}",
            f"{it.failing:,}",
            ", ".join(f"{name} {count:,}" for name, count in it.verdicts.items()),
            f"{it.worst} (error ÷ noise {report.samples[it.worst]['ratio']:.3g})",
        )
        for it in groups[:_ROWS]
    ]
    made = table(caption, (head, "Samples", "Fail", "Verdicts", "Worst sample"), rows)
    left = len(groups) - _ROWS
    return joined((made, element("p", f"And {left:,} more.", class_="faint"))) if left > 0 else made


def _where(report: Report) -> Markup:
    layers, outputs = by_layer(report.samples), by_output(report.samples)
    none = element("p", "No verdict is about a layer of its own.")
    return joined(
        (
            element("h3", "By layer"),
            _grouped("Samples whose verdict names a layer", "Layer", report, layers) if layers else none,
            element("h3", "By output"),
            _grouped("Samples by the output of their worst entry", "Entry", report, outputs),
        )
    )


def _pictures(report: Report) -> Markup:
    return joined((histogram(report.samples), scatter(report.samples, report.scale)))


def _worst(report: Report) -> Markup:
    heads = (
        *("Sample", "Verdict", "Where", "Ours", "Theirs", "Truth", "|ΔJ|, its bound, ÷ noise"),
        *("|Δy|, its bound, ÷ noise", "Nearest kink, in σ", "Found by tier", "Layer, units, explanation"),
    )
    rows = []
    for place in worst(report.samples, _WORST):
        row = report.samples[place]
        errors = (
            element(
                "span",
                *_broken(f"{float(row[f'{part}{name}']):.3g}" for name in ("error", "bound", "ratio")),
                class_="measure",
            )
            for part in ("", "value_")
        )
        because = [str(row[name]) for name in ("layer", "units", "fault") if row[name]]
        rows.append(
            (
                str(place),
                _word(str(row["verdict"]), str(row["side"])),
                str(row["where"]),
                *(_number(row[name]) for name in ("ours", "theirs", "truth")),
                *errors,
                f"{float(row['distance']):.3g}",
                str(row["tier"]),
                joined(_broken(because)),
            )
        )
    caption = (
        f"The {len(rows)} samples to look at first, with the exact numbers, decimal and hexadecimal, of that entry"
    )
    return table(caption, heads, rows)


def _broken(parts: Iterable[str]) -> list[str]:
    """Lines in a cell."""
    found = [piece for part in parts for piece in (element("br"), part)]
    return found[1:]


def _coverage(report: Report) -> Markup:
    if report.coverage is None:
        return element("p", "It was not recorded which units these samples reached.")
    rows = [[str(cell) for cell in astuple(layer)] for layer in report.coverage.layers]
    heads = ("Layer", "Units", "On", "Off", "Both", "Near a kink", "Dead", "Weights not vouched for")
    said = element("p", f"{report.coverage.summary()}.")
    return (
        joined((said, table("Units that have kinks, by what they were in any sample", heads, rows))) if rows else said
    )


def _flat(prefix: str, value: object) -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return [pair for key, part in value.items() for pair in _flat(f"{prefix} {key}".strip(), part)]
    return [(prefix, value)]


def _provenance(report: Report) -> Markup:
    facts = _flat("", {key: value for key, value in report.provenance.items() if key != "command"})
    return _described(facts) if facts else element("p", "None was recorded.")


def _reproduce(report: Report) -> Markup:
    return lines(reproduce(report))


_SECTIONS = {
    "where": ("Where", _where),
    "errors": ("Errors", _pictures),
    "worst": ("Worst samples", _worst),
    "coverage": ("Coverage", _coverage),
    "provenance": ("Provenance", _provenance),
    "reproduce": ("How to reproduce", _reproduce),
}
"""What follows the verdict: by id, its heading and what makes it."""


def html(report: Report) -> str:
    """The whole page; however many samples there are, it shows no more than tables and pictures have room for."""
    samples = bool(len(report.samples))
    sections = [
        (name, title, make(report) if samples or name in ("coverage", "provenance", "reproduce") else None)
        for name, (title, make) in _SECTIONS.items()
    ]
    shown = [(name, title, content) for name, title, content in sections if content is not None]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"Audit {'passed' if report.passed else 'failed'}: refgrad against {report.against}"),
        style((files("refgrad") / "data" / "audit.css").read_text(encoding="utf-8")),
    )
    links = [element("li", element("a", title, href=f"#{name}")) for name, title, _ in shown]
    body = [
        element(
            "section", element("h2", title, id=f"{name}-heading"), content, id=name, aria_labelledby=f"{name}-heading"
        )
        for name, title, content in shown
    ]
    nav = element("nav", element("ul", *links), aria_label="On this page")
    page = element("html", head, element("body", element("main", _first(report), nav, *body)), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"
