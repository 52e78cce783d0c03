"""Inner products of two tensors along an axis of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.errors import UnsupportedError
from refgrad.ops.axes import check_axis, size
from refgrad.ops.op import KinkPolicy, Op, check_epsilon

_SHARE_AT_KINK: dict[KinkPolicy, float] = {"keras": 1.0, "left": 0.0, "right": 1.0, "mean": 0.5}


def _rows(array: Array, axis: int, lead: int) -> Array:
    """An array as vectors along a feature axis, (*lead axes, vectors, n)."""
    moved = np.moveaxis(array, axis, -1)
    return moved.reshape(*moved.shape[:lead], math.prod(moved.shape[lead:-1]), moved.shape[-1])


def _placed(rows: Array, shape: Shape, axis: int) -> Array:
    """The inverse of `_rows` for tangents: (k, batch, vectors, n) as (k, batch, *shape)."""
    moved = (*shape[:axis], *shape[len(shape) + axis + 1 :], shape[axis])
    return np.moveaxis(rows.reshape(*rows.shape[:2], *moved), -1, axis)


def _norm(rows: Array) -> Array:
    """‖x‖ of every vector."""
    norm: Array = np.sqrt(np.square(rows).sum(axis=-1, keepdims=True))
    return norm


@dataclass(frozen=True, eq=False)
class Dot(Op):
    """Keras's Dot: inner products z = Σ_i x_i y_i of all vectors of one input with all of the other.

    Z = X Yᵀ        shapes: (batch, P, n), (batch, Q, n) → (batch, P, Q)

    X are the first input's vectors along `axes[0]`, Y the second's along `axes[1]`; the output's features are the
    other axes of the first, then those of the second, or (1,) if there are none. With `normalize` every vector is
    divided by its length first, x / max(‖x‖, ε), where `epsilon` is 1e-7 in Keras 3 and 1e-6 in Keras 2. A vector
    just as long as ε counts as longer ("keras" and "right"), shorter ("left", a constant divisor) or half ("mean").
    """

    name: ClassVar[str] = "dot"
    linear: ClassVar[bool] = False

    axes: tuple[int, int]
    normalize: bool = False
    epsilon: float = 1e-7

    def __post_init__(self) -> None:
        """Check the axes and options."""
        if not isinstance(self.axes, tuple) or len(self.axes) != 2:
            msg = f"axes {self.axes!r} are no pair: one axis of each input is needed"
            raise UnsupportedError(msg)
        for axis in self.axes:
            check_axis(axis)
        if not isinstance(self.normalize, bool):
            msg = f"normalize is {self.normalize!r}; True or False is needed"
            raise UnsupportedError(msg)
        check_epsilon(self.epsilon)

    def shape(self, *shapes: Shape) -> Shape:
        """The axes that are not summed over, (1,) if there are none."""
        if len(shapes) != 2:
            msg = f"it takes two inputs, {len(shapes)} are given"
            raise ValueError(msg)
        pairs = list(zip(shapes, self.axes, strict=True))
        if len({size(shape, axis) for shape, axis in pairs}) != 1:
            msg = f"axes {self.axes} of inputs of shapes {shapes[0]} and {shapes[1]} are not equally long"
            raise ValueError(msg)
        left = [kept for shape, axis in pairs for kept in (*shape[:axis], *shape[len(shape) + axis + 1 :])]
        return tuple(left) or (1,)

    def _unit(self, rows: Array, kink: KinkPolicy = "keras") -> tuple[Array, Array, Array]:
        """Normalised vectors e = x/max(‖x‖, ε), that divisor's inverse r, and whether the length counts, w."""
        if not self.normalize:
            return rows, np.ones((1,) * rows.ndim, rows.dtype), np.zeros((1,) * rows.ndim, rows.dtype)
        norm, least = _norm(rows), rows.dtype.type(self.epsilon)
        inverse = 1 / np.maximum(norm, least)
        counts = np.where(norm == least, _SHARE_AT_KINK[kink], norm > least).astype(rows.dtype)
        return rows * inverse, inverse, counts

    def _vectors(self, inputs: tuple[Array, ...]) -> list[Array]:
        return [_rows(x, axis, 1) for x, axis in zip(inputs, self.axes, strict=True)]

    def _features(self, product: Array, shapes: tuple[Shape, ...], lead: int) -> Array:
        return product.reshape(*product.shape[:lead], *self.shape(*shapes))

    def forward(self, *inputs: Array) -> Array:
        """Z of every sample."""
        one, other = (self._unit(rows)[0] for rows in self._vectors(inputs))
        return self._features(one @ other.swapaxes(-1, -2), tuple(x.shape[1:] for x in inputs), 1)

    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Any]:
        """The value; e, r and w of both inputs, and their feature shapes."""
        shapes = tuple(x.shape[1:] for x in inputs)
        units = [self._unit(rows, kink) for rows in self._vectors(inputs)]
        value = self._features(units[0][0] @ units[1][0].swapaxes(-1, -2), shapes, 1)
        return value, (units, shapes)

    def _projected(self, unit: tuple[Array, Array, Array], rows: Array) -> Array:
        """The Jacobian of normalisation, which is symmetric: r (ẋ − w e ⟨e, ẋ⟩)."""
        if not self.normalize:
            return rows
        e, inverse, counts = unit
        product: Array = inverse * (rows - counts * e * (e * rows).sum(axis=-1, keepdims=True))
        return product

    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: Ż = Ẋ Yᵀ + X Ẏᵀ, of normalised vectors if so."""
        units, shapes = tape
        one, other = (
            None if tangent is None else self._projected(unit, _rows(tangent, axis, 2))
            for unit, tangent, axis in zip(units, tangents, self.axes, strict=True)
        )
        total: Any = 0
        if one is not None:
            total = one @ units[1][0].swapaxes(-1, -2)
        if other is not None:
            total = total + units[0][0] @ other.swapaxes(-1, -2)
        return self._features(total, shapes, 2)

    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array, ...]:
        """Vector–Jacobian product: X̄ = Z̄ Y, Ȳ = Z̄ᵀ X, and back through the normalisation."""
        units, shapes = tape
        block = cotangent.reshape(*cotangent.shape[:2], units[0][0].shape[-2], units[1][0].shape[-2])
        pulled = (block @ units[1][0], block.swapaxes(-1, -2) @ units[0][0])
        return tuple(
            _placed(self._projected(unit, rows), shape, axis)
            for unit, rows, shape, axis in zip(units, pulled, shapes, self.axes, strict=True)
        )

    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """Random-walk model of a sum of n products.

        σ²(z) = Σ_i (x_i² σ²(y_i) + y_i² σ²(x_i) + u² max(1, n/6) x_i² y_i²) + u² z²

        of normalised vectors e if so: σ²(e_i) = r² (σ²(x_i) + w e_i² Σ_j e_j² σ²(x_j)), and 8 u² z² more.
        """
        units = [self._unit(rows) for rows in self._vectors(inputs)]
        spreads = []
        for (e, inverse, counts), rows in zip(units, self._vectors(variances), strict=True):
            common = (np.square(e) * rows).sum(axis=-1, keepdims=True) if self.normalize else 0.0
            spreads.append(np.square(inverse) * (rows + counts * np.square(e) * common))
        (one, other), n = (np.square(unit[0]) for unit in units), units[0][0].shape[-1]
        total = (spreads[0] + u**2 * max(1.0, n / 6) * one) @ other.swapaxes(-1, -2) + one @ spreads[1].swapaxes(-1, -2)
        own = u**2 * (9 if self.normalize else 1) * np.square(output)
        return self._features(total, tuple(x.shape[1:] for x in inputs), 1) + own

    def cost(self, k: int, *shapes: Shape) -> int:
        """2 k P Q n: one product for each input."""
        return 2 * k * math.prod(self.shape(*shapes)) * shapes[0][self.axes[0]]

    def _spread(self, one: Array, other: Array, shapes: tuple[Shape, ...], join: np.ufunc) -> Array:
        """Numbers of the vectors of each input, (batch, vectors, 1), joined for every pair of them."""
        return self._features(join(one, other.swapaxes(-1, -2)), shapes, 1)

    def margins(self, inputs: tuple[Array, ...]) -> Array | None:
        """|‖x‖ − ε| of the nearer of the two vectors, if they are normalised."""
        if not self.normalize:
            return None
        one, other = (np.abs(_norm(rows) - rows.dtype.type(self.epsilon)) for rows in self._vectors(inputs))
        return self._spread(one, other, tuple(x.shape[1:] for x in inputs), np.minimum)

    def noise(self, u: float, inputs: tuple[Array, ...], sigmas: tuple[Array, ...]) -> Array:
        """Of either length: the largest σ(x_i), and u ‖x‖."""
        pairs = zip(self._vectors(sigmas), self._vectors(inputs), strict=True)
        one, other = (sigma.max(axis=-1, keepdims=True) + u * _norm(rows) for sigma, rows in pairs)
        return self._spread(one, other, tuple(x.shape[1:] for x in inputs), np.add)
