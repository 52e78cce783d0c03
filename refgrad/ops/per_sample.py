"""Ops that normalise every sample by what its own numbers say."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.errors import UnsupportedError
from refgrad.ops.axes import check_axes, size
from refgrad.ops.broadcasting import fits, only
from refgrad.ops.op import KinkPolicy, Op, check_epsilon


@dataclass(frozen=True, eq=False)
class PerSample(Op):
    """An op y = γ e + β whose e is made of a sample's entries on `axes`, which ascend (-2, -1).

    The Jacobian P of e is symmetric, and β is a constant:

    ẏ = γ P ẋ,  x̄ = P (γ ȳ)        shapes: (k, batch, *shape) → (k, batch, *shape)

    γ and β, where an op has them, broadcast against the features; None is 1 and 0. The tape is e, what P needs, and γ.
    """

    linear: ClassVar[bool] = False

    @property
    @abstractmethod
    def over(self) -> tuple[int, ...]:
        """The axes."""

    @abstractmethod
    def _normalised(self, x: Array, kink: KinkPolicy) -> tuple[Array, Any]:
        """Every e, and what else P needs."""

    @abstractmethod
    def _projected(self, e: Array, needed: Any, vector: Array) -> Array:
        """P v."""

    def check(self, epsilon: float) -> None:
        """Freeze the arrays, and refuse axes and ε that cannot be."""
        self.freeze(*(field.name for field in fields(self) if field.name in ("gamma", "beta")))
        check_axes(self.over)
        check_epsilon(epsilon)
        if tuple(sorted(self.over)) != self.over:
            msg = f"axes {self.over} do not ascend"
            raise UnsupportedError(msg)

    def _laid(self, name: str, dtype: np.dtype[Any]) -> Array | None:
        """γ or β as it broadcasts."""
        array = self.arrays().get(name)
        return None if array is None else array.astype(dtype)

    def _mean(self, array: Array) -> Array:
        mean: Array = array.mean(axis=self.over, keepdims=True)
        return mean

    def shape(self, *shapes: Shape) -> Shape:
        """Unchanged."""
        given = only(shapes)
        for axis in self.over:
            size(given, axis)
        for name, array in self.arrays().items():
            laid = self._laid(name, array.dtype)
            if laid is not None and not fits(laid.shape, given):
                msg = f"its {name} has shape {array.shape}, which does not fit axes {self.over} of the input's {given}"
                raise ValueError(msg)
        return given

    def _value(self, e: Array) -> Array:
        gamma, beta = self._laid("gamma", e.dtype), self._laid("beta", e.dtype)
        scaled = e if gamma is None else gamma * e
        return scaled if beta is None else scaled + beta

    def forward(self, *inputs: Array) -> Array:
        """γ e + β."""
        return self._value(self._normalised(inputs[0], "keras")[0])

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Any]:
        """The value; e, what P needs, and γ."""
        e, needed = self._normalised(inputs[0], kink)
        return self._value(e), (e, needed, self._laid("gamma", e.dtype))

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: ẏ = γ P ẋ."""
        e, needed, gamma = tape
        product = self._projected(e, needed, tangents[0])
        return product if gamma is None else gamma * product

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product: x̄ = P (γ ȳ)."""
        e, needed, gamma = tape
        return (self._projected(e, needed, cotangent if gamma is None else gamma * cotangent),)

    def cost(self, k: int, *shapes: Shape) -> int:
        """Two sums over each axis: 2 k size."""
        return 2 * k * math.prod(shapes[0])
