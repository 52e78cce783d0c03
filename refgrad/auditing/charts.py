"""The pictures of a report as SVG: a histogram of errors, and errors against distances to the nearest kink."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array
from refgrad.auditing.axes import Axis, axis_of
from refgrad.auditing.findings import Rows, fails, kind, severity
from refgrad.auditing.markup import Markup, element, table
from refgrad.rounding import NEAR

_WIDTH, _HEIGHT = 760, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 750, 40, 280
_ACROSS = (_LEFT + 60, _RIGHT - 90, 48)
"""Where the decades of the axis below start and stop, and how far beside them 0 and what is not finite are."""
_CELLS = 40
"""Bins of the histogram, and cells of the scatter either way: at most so many squared marks are drawn."""


def _text(x: float, y: float, words: str, anchor: str = "middle", turn: bool = False) -> Markup:
    rotation = f"rotate(-90 {x:.1f} {y:.1f})" if turn else None
    return element("text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, transform=rotation)


def _line(class_: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return element("line", class_=class_, **{name: f"{place:.1f}" for name, place in ends.items()})


def _across(axis: Axis, title: str, last: str) -> list[Markup]:
    """The axis below a picture."""
    ends = [(axis.start - axis.beside, "0"), (axis.stop + axis.beside, last)]
    return [
        _line("axis", _LEFT, _BOTTOM, _RIGHT, _BOTTOM),
        *(_line("axis", x, _BOTTOM, x, _BOTTOM + 4) for x, _ in axis.ticks()),
        *(_text(x, _BOTTOM + 20, words) for x, words in (*axis.ticks(), *ends)),
        _text((_LEFT + _RIGHT) / 2, _HEIGHT - 16, title),
    ]


def _upward(ticks: Sequence[tuple[float, str]], title: str) -> list[Markup]:
    """The axis beside a picture."""
    return [
        _line("axis", _LEFT, _TOP, _LEFT, _BOTTOM),
        *(_line("grid", _LEFT, y, _RIGHT, y) for y, _ in ticks),
        *(_text(_LEFT - 8, y + 4, words, "end") for y, words in ticks),
        _text(16, (_TOP + _BOTTOM) / 2, title, turn=True),
    ]


def _limit(axis: Axis) -> list[Markup]:
    """The line at 8 σ, beyond which an error is no noise and a kink is not near."""
    x = float(axis.at(np.array(NEAR)))
    return [_line("limit", x, _TOP - 6, x, _BOTTOM), _text(x, _TOP - 12, f"{NEAR:g}")]


def _picture(name: str, title: str, text: str, drawn: Sequence[Markup]) -> Markup:
    return element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", text, id=f"{name}-text"),
        *drawn,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_labelledby=f"{name}-title {name}-text",
    )


def _figure(name: str, title: str, caption: str, drawn: Sequence[Markup], text: str, more: Markup) -> Markup:
    picture = _picture(name, title, text, drawn)
    return element(
        "figure",
        element("div", picture, class_="wide", role="region", tabindex=0, aria_label=title),
        element("figcaption", caption),
        element("details", element("summary", "The numbers of this picture"), more),
        id=name,
    )


def _span(edges: Array, place: int) -> str:
    """What a bin holds, in words."""
    if place == 0:
        return "0"
    return "not finite" if place > _CELLS else f"{edges[place - 1]:.2g} to {edges[place]:.2g}"


def _column(class_: str, x: float, width: float, y: float) -> Markup:
    return element(
        "rect",
        class_=class_,
        x=f"{x - width / 2:.1f}",
        y=f"{y:.1f}",
        width=f"{width:.1f}",
        height=f"{_BOTTOM - y:.1f}",
    )


def histogram(samples: Rows) -> Markup:
    """How many samples have which error ÷ noise, on two logarithmic axes; narrower bars are those that fail."""
    ratio, bad = severity(samples), fails(samples)
    ratio = np.where(ratio < 0, np.nan, ratio)
    axis = axis_of(ratio, -2, 2, *_ACROSS)
    edges = 10.0 ** np.linspace(axis.low, axis.high, _CELLS + 1)
    bins = np.where(ratio > 0, np.clip(np.searchsorted(edges, ratio, side="right"), 1, _CELLS), 0)
    bins = np.where(np.isfinite(ratio), bins, _CELLS + 1)
    counts = {class_: np.bincount(bins[of], minlength=_CELLS + 2) for class_, of in (("all", bad | ~bad), ("bad", bad))}
    top = int(np.ceil(np.log10(max(int(counts["all"].max()), 9) + 1)))

    def height(count: float) -> float:
        return float(_BOTTOM - np.log10(1 + count) / top * (_BOTTOM - _TOP))

    step = (axis.stop - axis.start) / _CELLS
    middles = axis.start + (np.arange(_CELLS + 2) - 0.5) * step
    middles[[0, -1]] = axis.start - axis.beside, axis.stop + axis.beside
    bars = [
        _column(class_, float(middles[place]), step * width, height(counts[class_][place]))
        for class_, width in (("all", 0.85), ("bad", 0.45))
        for place in np.flatnonzero(counts[class_])
    ]
    ticks = [(height(count), f"{count:,}") for count in (0, *(10**power for power in range(top)))]
    drawn = [*_upward(ticks, "samples"), *bars, *_limit(axis), *_across(axis, "error ÷ noise", "not finite")]
    beyond = int((~(ratio <= NEAR)).sum())
    text = (
        f"{len(samples):,} samples; {beyond:,} have an error beyond {NEAR:g} times the noise; {int(bad.sum()):,} fail."
    )
    rows = [
        (_span(edges, int(place)), f"{counts['all'][place]:,}", f"{counts['bad'][place]:,}")
        for place in np.flatnonzero(counts["all"])
    ]
    caption = (
        f"How large the errors are for what rounding may make of them: {NEAR:g}, the dashed line, is the bound itself. "
        "Beyond it an error is no noise. Both axes are logarithmic; the narrow bars in front are the samples that fail."
    )
    more = table("Samples by error ÷ noise", ("error ÷ noise", "samples", "of them fail"), rows)
    return _figure("histogram", "Histogram of error ÷ noise", caption, drawn, text, more)


def _dot(x: float, y: float, size: float) -> Markup:
    return element("circle", class_="good", cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{size:.1f}")


def _square(x: float, y: float, size: float) -> Markup:
    side = f"{1.8 * size:.1f}"
    return element("rect", class_="odd", x=f"{x - 0.9 * size:.1f}", y=f"{y - 0.9 * size:.1f}", width=side, height=side)


def _triangle(x: float, y: float, size: float) -> Markup:
    points = f"M{x:.1f} {y - 1.3 * size:.1f}l{1.3 * size:.1f} {2.3 * size:.1f}h{-2.6 * size:.1f}z"
    return element("path", class_="bad", d=points)


_MARKS: dict[str, tuple[str, Callable[[float, float, float], Markup]]] = {
    "good": ("agrees", _dot),
    "odd": ("differs for a reason", _square),
    "bad": ("fails", _triangle),
}
"""What each kind of verdict is called in a picture, and its mark: a shape, so that nobody needs the colour."""


def _legend() -> list[Markup]:
    places = [_LEFT + 330 + 90 * place + 70 * (place > 1) for place in range(len(_MARKS))]
    return [
        part
        for x, (words, mark) in zip(places, _MARKS.values(), strict=True)
        for part in (mark(x, 12, 5), _text(x + 10, 16, words, "start"))
    ]


def _thinned(*keys: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """One sample, the first, for each cell that is not empty, and how many samples there are in it."""
    cell = np.ravel_multi_index(keys, tuple(int(key.max(initial=0)) + 1 for key in keys))
    _, first, counts = np.unique(cell, return_index=True, return_counts=True)
    return first, counts


def scatter(samples: Rows, scale: float) -> Markup:
    """Each sample's error, relative to max|J|, over the distance of its nearest kink in σ of that unit's noise.

    Where samples lie densely one mark stands for all of a cell and a kind, and is larger.
    """
    relative = samples["error"] / scale if scale > 0 else np.array(samples["error"])
    distance = np.array(samples["distance"])
    across = axis_of(distance, 0, 4, *_ACROSS)
    upward = axis_of(relative, -8, 0, _BOTTOM - 34, _TOP + 32, -20)
    x, y = across.at(distance), upward.at(relative)
    names = list(_MARKS)
    verdicts, code = np.unique(samples["verdict"], return_inverse=True)
    kinds = np.array([names.index(kind(str(verdict))) for verdict in verdicts], np.intp)[code]
    size = 6.0
    first, counts = _thinned(kinds, *((place // (2 * size)).astype(np.intp) for place in (x, y)))
    marks = [
        _MARKS[names[kinds[place]]][1](float(x[place]), float(y[place]), 3 + min(float(np.log10(count)), 4))
        for place, count in zip(first, counts, strict=True)
    ]
    ends = [(upward.start - upward.beside, "0"), (upward.stop + upward.beside, "not finite")]
    drawn = [
        *_upward([*upward.ticks(), *ends], "|ΔJ| ÷ max|J|"),
        *marks,
        *_limit(across),
        *_across(across, "distance of the nearest kink ÷ noise of its unit", "no kink"),
        *_legend(),
    ]
    near = distance <= NEAR
    rows = [
        (words, *(f"{int((of & (kinds == place)).sum()):,}" for of in (near, ~near)))
        for place, (words, _) in enumerate(_MARKS.values())
    ]
    text = (
        f"{int(near.sum()):,} of {len(samples):,} samples have a kink within {NEAR:g} standard deviations of its noise."
    )
    caption = (
        f"Left of the dashed line at {NEAR:g} a kink is so near that rounding decides on which side of it a unit is: "
        "an error there may be a choice between two right slopes. Right of it no kink can excuse one. A larger mark "
        "stands for more samples."
    )
    more = table("Samples by the distance of a kink", ("", f"kink within {NEAR:g}", "no kink that near"), rows)
    return _figure("scatter", "Error against distance to the nearest kink", caption, drawn, text, more)
