"""Several tensors one after the other along an axis."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.ops.axes import check_axis, part, size
from refgrad.ops.op import KinkPolicy, Op


@dataclass(frozen=True, eq=False)
class Concatenate(Op):
    """A concatenation.

    y = [x_1, x_2, …]        shapes: (batch, …, n_i, …) … → (batch, …, Σ n_i, …)

    The tape is the inputs' feature shapes.
    """

    name: ClassVar[str] = "concatenate"
    linear: ClassVar[bool] = True

    axis: int = -1

    def __post_init__(self) -> None:
        """Check the axis."""
        check_axis(self.axis)

    def shape(self, *shapes: Shape) -> Shape:
        """Equal but on the axis, where sizes add."""
        if not shapes:
            msg = "it takes at least one input, none is given"
            raise ValueError(msg)
        total = sum(size(shape, self.axis) for shape in shapes)
        joined = [(*shape[: self.axis], total, *shape[len(shape) + self.axis + 1 :]) for shape in shapes]
        if len(set(joined)) != 1:
            msg = f"its inputs have shapes {', '.join(map(str, shapes))}; they may differ on axis {self.axis} only"
            raise ValueError(msg)
        return joined[0]

    def forward(self, *inputs: Array) -> Array:
        """[x_1, x_2, …]."""
        return np.concatenate(inputs, axis=self.axis)

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, tuple[Shape, ...]]:
        """The value, and the inputs' feature shapes."""
        del kink
        return self.forward(*inputs), tuple(x.shape[1:] for x in inputs)

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: ẏ = [ẋ_1, ẋ_2, …], of the samples that the tangent of most of them has."""
        given = [tangent for tangent in tangents if tangent is not None]
        lead = np.broadcast_shapes(*(tangent.shape[:2] for tangent in given))
        zero = np.zeros((), given[0].dtype)
        parts = [zero if tangent is None else tangent for tangent in tangents]
        return np.concatenate(
            [np.broadcast_to(tangent, (*lead, *shape)) for tangent, shape in zip(parts, tape, strict=True)],
            axis=self.axis,
        )

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product: x̄_i is the part of ȳ that x_i became."""
        stops = list(accumulate(shape[self.axis] for shape in tape))
        return tuple(
            cotangent[part(self.axis, start, stop)] for start, stop in zip([0, *stops[:-1]], stops, strict=True)
        )

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """The inputs' own: moving does not round."""
        return np.concatenate(variances, axis=self.axis)

    def cost(self, k: int, *shapes: Shape) -> int:
        """Nothing is multiplied."""
        del k, shapes
        return 0
