"""An activation applied to every number by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from refgrad.activations import ACTIVATIONS, Activation, Kink
from refgrad.arrays import Array, Shape
from refgrad.errors import UnsupportedError
from refgrad.ops.op import KinkPolicy, Op

_SLOPE_AT_KINK = {
    "left": lambda kink: kink.left,
    "right": lambda kink: kink.right,
    "mean": lambda kink: (kink.left + kink.right) / 2,
}


def _distance(z: Array, places: tuple[float, ...]) -> Array | None:
    distances = [np.abs(z - z.dtype.type(place)) for place in places]
    return np.minimum.reduce(distances) if distances else None


@dataclass(frozen=True, eq=False)
class Elementwise(Op):
    """A row of the activation table, applied to each number.

    y = f(z)           shapes: (batch, *shape) → (batch, *shape)

    Its Jacobian is diagonal, ∂y_j/∂z_j = f′(z_j): the tape is f′(z). At a kink f′ is Keras's choice, or by `kink` one
    of the unit's two one-sided slopes or their mean.
    """

    name: ClassVar[str] = "elementwise"
    linear: ClassVar[bool] = False

    activation: str
    parameters: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check that there is such a row, and that it has as many parameters."""
        if self.activation not in ACTIVATIONS or len(self.parameters) != len(self.row.parameters):
            msg = f"no activation {self.activation!r} of {len(self.parameters)} parameters"
            raise UnsupportedError(msg)

    @classmethod
    def restore(cls, config: dict[str, Any], arrays: dict[str, Array]) -> Elementwise:
        """From the row's name and its parameters as text."""
        return cls(config["activation"], tuple(float(value) for value in config["parameters"]), **arrays)

    @cached_property
    def row(self) -> Activation:
        """The row of the table."""
        return ACTIVATIONS[self.activation]

    @cached_property
    def kinks(self) -> tuple[Kink, ...]:
        """The places where the slope changes."""
        return self.row.kinks(*self.parameters)

    @property
    def jumps(self) -> tuple[float, ...]:
        """The places where the value itself jumps."""
        return self.row.jumps(*self.parameters)

    def _in(self, dtype: np.dtype[Any]) -> list[Any]:
        return [dtype.type(parameter) for parameter in self.parameters]

    def shape(self, *shapes: Shape) -> Shape:
        """Unchanged."""
        (given,) = shapes
        return given

    def forward(self, *inputs: Array) -> Array:
        """f(z)."""
        (z,) = inputs
        value: Array = self.row.f(z, *self._in(z.dtype))
        return value

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Array]:
        """f(z) and f′(z)."""
        (z,) = inputs
        slope: Array = self.row.df(z, *self._in(z.dtype))
        if kink != "keras":
            for place in self.kinks:
                slope = np.where(z == z.dtype.type(place.where), z.dtype.type(_SLOPE_AT_KINK[kink](place)), slope)
        return self.forward(z), slope

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: ż ↦ f′(z) ż, shapes (k, batch, *shape) → the same."""
        (tangent,) = tangents
        product: Array = tape * tangent
        return product

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product: ȳ ↦ f′(z) ȳ; a diagonal matrix is its own transpose."""
        return (tape * cotangent,)

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """σ²(y) = f′(z)² σ²(z); the rounding of f itself is in the next affine map's first term."""
        (z,), (variance_of_z,) = inputs, variances
        slope = self.row.df(z.astype(np.float64), *self.parameters)
        # An exact input adds nothing, however steep the function is there.
        return np.where(variance_of_z == 0, 0, np.square(slope) * variance_of_z)

    def cost(self, k: int, *shapes: Shape) -> int:
        """k for each number: one multiplication."""
        (given,) = shapes
        return k * math.prod(given)

    def config(self) -> dict[str, Any]:
        """The row's name and its parameters; JSON has no infinity, so text stands for it."""
        return {"activation": self.activation, "parameters": [repr(float(value)) for value in self.parameters]}

    @property
    def label(self) -> str:
        """The activation, with the parameters that are not its defaults."""
        given = zip(self.row.parameters, self.parameters, strict=True)
        changed = ", ".join(f"{name}={value:g}" for (name, default), value in given if value != default)
        return f"{self.activation}({changed})" if changed else self.activation

    def jump_margins(self, inputs: tuple[Array, ...]) -> Array | None:
        """|z − jump| to the nearest jump."""
        return _distance(inputs[0], self.jumps)

    def margins(self, inputs: tuple[Array, ...]) -> Array | None:
        """|z − kink| to the nearest kink or jump."""
        return _distance(inputs[0], (*(kink.where for kink in self.kinks), *self.jumps))
