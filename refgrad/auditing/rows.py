"""The rows of a report: one verdict for each sample, of both answers, with the numbers that show it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Shape
from refgrad.auditing.gaps import Numbers
from refgrad.auditing.tiers import Judged, Side
from refgrad.auditing.trials import Unit
from refgrad.auditing.verdicts import OK, SAMPLE, VERDICTS
from refgrad.network import Network

_UNITS = 6
"""The most units that a row names."""


def _entry(entry: int, shapes: Sequence[Shape]) -> tuple[int, str]:
    """Which of several arrays an entry of all of them, one after the other, is in, and its index there as text."""
    for place, shape in enumerate(shapes):
        if entry < math.prod(shape):
            return place, ", ".join(map(str, np.unravel_index(entry, shape)))
        entry -= math.prod(shape)
    msg = "an entry beyond all arrays"
    raise IndexError(msg)


def _where(net: Network, is_value: bool, entry: int) -> str:
    """An entry of the value, y[j], or of the Jacobian, dy[j]/dx[i]."""
    outs, ins = net.output_shapes, net.input_shapes
    ys = net.output_names if len(outs) > 1 else ("y",)
    xs = net.input_names if len(ins) > 1 else ("x",)
    if is_value:
        place, index = _entry(entry, outs)
        return f"{ys[place]}[{index}]"
    place, both = _entry(entry, [out + features for out in outs for features in ins])
    o, i = divmod(place, len(ins))
    indices = both.split(", ")
    row, column = ", ".join(indices[: len(outs[o])]), ", ".join(indices[len(outs[o]) :])
    return f"d{ys[o]}[{row}]/d{xs[i]}[{column}]"


def _named(net: Network, units: Sequence[Unit]) -> tuple[str, str]:
    """The layer of the first unit, and all units by name, as many as there is room for."""
    names = [
        f"{net.graph.nodes[node].name}[{', '.join(map(str, np.unravel_index(unit, net.graph.shapes[node])))}]"
        for node, unit in units
    ]
    more = f" and {len(names) - _UNITS} more" if len(names) > _UNITS else ""
    return net.graph.nodes[units[0][0]].name if units else "", ", ".join(names[:_UNITS]) + more


def _gravest(judged: Judged) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.str_]]:
    """Which side each sample's verdict is of, the graver or the one further off, and whose it is in words."""
    names, sides = list(judged.sides), list(judged.sides.values())
    verdicts = list(VERDICTS)
    grave = np.array([[verdicts.index(str(verdict)) for verdict in side.verdict] for side in sides])
    ratio = np.array([np.fmax(side.gaps.ratio, side.gaps.value_ratio) for side in sides])
    worst = (grave == grave.max(axis=0)) & (ratio >= np.where(grave == grave.max(axis=0), ratio, 0).max(axis=0))
    chosen = worst.argmax(axis=0)
    alike = (grave == grave[0]).all(axis=0) & (len(sides) > 1)
    said = np.where(alike, "both", np.array(names)[chosen])
    return chosen, np.where(grave.max(axis=0) == verdicts.index(OK.name), "", said)


def rows(net: Network, judged: Judged, ours: Numbers, theirs: Numbers | None) -> npt.NDArray[np.void]:
    """A row for each sample; the numbers are those of the entry furthest beyond its bound."""
    found = np.zeros(len(judged.tier), SAMPLE)
    chosen, found["side"] = _gravest(judged)
    found["tier"], found["distance"] = judged.tier, judged.distance
    for place, side in enumerate(judged.sides.values()):
        mine = np.flatnonzero(chosen == place)
        _fill(net, found, side, mine, ours, theirs)
    return found


def _fill(
    net: Network,
    found: npt.NDArray[np.void],
    side: Side,
    samples: npt.NDArray[np.intp],
    ours: Numbers,
    theirs: Numbers | None,
) -> None:
    """The rows of samples whose verdict is about one side."""
    found["verdict"][samples] = side.verdict[samples]
    for name in ("error", "bound", "ratio", "value_error", "value_bound", "value_ratio"):
        found[name][samples] = getattr(side.gaps, name)[samples]
    is_value = side.gaps.is_value[samples]
    entry = np.where(is_value, side.gaps.value_entry[samples], side.gaps.entry[samples])
    found["truth"][samples] = np.where(is_value, side.truth.value[samples], side.truth.jacobian[samples])
    for name, given in (("ours", ours), ("theirs", theirs)):
        found[name][samples] = (
            found["truth"][samples]
            if given is None
            else [
                (given.value if value else given.jacobian)[sample, place]
                for sample, place, value in zip(samples, entry, is_value, strict=True)
            ]
        )
    found["where"][samples] = [_where(net, *pair) for pair in zip(is_value, entry, strict=True)]
    for sample, explanation in side.explained.items():
        if sample in samples:
            found["layer"][sample], found["units"][sample] = _named(net, explanation.units)
            found["fault"][sample] = explanation.rule
