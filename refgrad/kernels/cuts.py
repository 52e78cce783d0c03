"""From which level of a chain unit vectors start, and the multiply–adds it takes: matrix-chain order with one cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from refgrad.derivatives.order import SPLIT_PAYS
from refgrad.kernels.program import Program


@dataclass(frozen=True)
class Cut:
    """Jacobians from a level c: J = (∂y/∂c) (∂c/∂x), forward to the outputs and backward to the inputs.

    c is the input in mode "forward" and the output in mode "reverse"; `vectors` is how many numbers it holds.
    """

    level: int
    mode: Literal["forward", "reverse", "split"]
    vectors: int
    cost: int


def _cost(program: Program, cut: int) -> int:
    """Multiply–adds per sample.

    Σ n_c n_l n_{l+1} over the layers that do not touch the cut, n_c n_l for every level with slopes, and n_y n_c n_x if
    there are two parts to multiply. The cut's own layers need no product: unit vectors give their matrices.
    """
    widths, last = program.widths, len(program.widths) - 1
    # The input's slopes scale rows of either way, the cut's are counted once.
    sloped = [width if layer.steps else 0 for width, layer in zip(widths, program.layers, strict=True)]
    inner = sum(widths[level] * widths[level + 1] for level in range(last) if cut not in (level, level + 1))
    both = widths[0] * widths[-1] if 0 < cut < last else 0
    return widths[cut] * (inner + sum(sloped[:cut]) + sum(sloped[cut + 1 :]) + both)


def cut(program: Program, mode: str) -> Cut:
    """The level that a mode asks for; "split" takes the cheapest inside, "auto" that too if it pays."""
    last = len(program.widths) - 1
    ends = (
        Cut(0, "forward", program.widths[0], _cost(program, 0)),
        Cut(last, "reverse", program.widths[-1], _cost(program, last)),
    )
    inside = [Cut(level, "split", program.widths[level], _cost(program, level)) for level in range(1, last)]
    if mode in ("forward", "reverse"):
        return ends[mode == "reverse"]
    end = min(ends, key=lambda found: (found.cost, found.vectors))
    if not inside:
        return end
    split = min(inside, key=lambda found: (found.cost, found.vectors))
    return end if mode == "auto" and split.cost * SPLIT_PAYS > end.cost else split
