"""An op of two tensors of which one is a constant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.errors import UnsupportedError
from refgrad.ops.broadcasting import only
from refgrad.ops.combination import Add, Subtract
from refgrad.ops.divide import Divide
from refgrad.ops.extremum import Maximum, Minimum
from refgrad.ops.multiply import Multiply
from refgrad.ops.op import KinkPolicy, Op
from refgrad.ops.power import Power

_WHOLE: Mapping[str, Op] = {
    op.name: op for op in (Add(), Subtract(), Multiply(), Divide(), Power(), Maximum(), Minimum())
}
_LINEAR = {("add", 0), ("add", 1), ("subtract", 0), ("subtract", 1), ("multiply", 0), ("multiply", 1), ("divide", 1)}


@dataclass(frozen=True, eq=False)
class Partial(Op):
    """An op of two tensors, called by its name, with a constant c in one place.

    y = f(c, x) for `place` 0,  y = f(x, c) for 1        shapes: (batch, *shape_x) → (batch, *shape)

    `constant` is c for every sample and has no batch axis; it and the features stretch to each other. Value,
    derivatives, kinks and rounding are those of `of`; c has no tangent, no cotangent and no error.
    """

    name: ClassVar[str] = "partial"

    of: str
    constant: Array
    place: int = 1

    def __post_init__(self) -> None:
        """Freeze the constant, if there is such an op and place."""
        if self.of not in _WHOLE:
            msg = f"no op of two tensors is called {self.of!r}; these are: {', '.join(_WHOLE)}"
            raise UnsupportedError(msg)
        if self.place not in (0, 1) or isinstance(self.place, bool):
            msg = f"place is {self.place!r}; 0 or 1 is needed"
            raise UnsupportedError(msg)
        self.freeze("constant")

    @property
    def whole(self) -> Op:
        """The op of two tensors."""
        return _WHOLE[self.of]

    @property
    def linear(self) -> bool:  # type: ignore[override]
        """Whether the op is, once one of its inputs is fixed."""
        return (self.of, self.place) in _LINEAR

    @property
    def label(self) -> str:
        """The op, and where the constant stands."""
        return f"{self.of}({'constant, x' if self.place == 0 else 'x, constant'})"

    def _both(self, given: Any, constant: Any) -> tuple[Any, Any]:
        """The input and what stands for the constant, in their places."""
        return (constant, given) if self.place == 0 else (given, constant)

    def _inputs(self, x: Array) -> tuple[Array, Array]:
        return self._both(x, self.constant[None].astype(x.dtype, copy=False))

    def shape(self, *shapes: Shape) -> Shape:
        """The shape that both stretch to."""
        return self.whole.shape(*self._both(only(shapes), self.constant.shape))

    def forward(self, *inputs: Array) -> Array:
        """f(c, x) or f(x, c)."""
        return self.whole.forward(*self._inputs(inputs[0]))

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Any]:
        """The value and the tape of the op."""
        return self.whole.linearize(*self._inputs(inputs[0]), kink=kink)

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: the op's, with no tangent of the constant."""
        return self.whole.jvp(tape, *self._both(tangents[0], None))

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array | None, ...]:
        """Vector–Jacobian product: the op's, but for the constant's part."""
        return (self.whole.vjp(tape, cotangent)[1 - self.place],)

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """The op's, with a constant that is exact."""
        both = self._inputs(inputs[0])
        exact = np.zeros_like(both[self.place])
        return self.whole.variance(u, both, output, self._both(variances[0], exact))

    def cost(self, k: int, *shapes: Shape) -> int:
        """The op's."""
        return self.whole.cost(k, *self._both(only(shapes), self.constant.shape))

    def jump_margins(self, inputs: tuple[Array, ...]) -> Array | None:
        """The op's."""
        return self.whole.jump_margins(self._inputs(inputs[0]))

    def margins(self, inputs: tuple[Array, ...]) -> Array | None:
        """The op's."""
        return self.whole.margins(self._inputs(inputs[0]))

    def noise(self, u: float, inputs: tuple[Array, ...], sigmas: tuple[Array, ...]) -> Array:
        """The op's, with a constant that is exact."""
        both = self._inputs(inputs[0])
        return self.whole.noise(u, both, self._both(sigmas[0], np.zeros_like(both[self.place])))
