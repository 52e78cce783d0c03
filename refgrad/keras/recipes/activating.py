"""How activations are written: by the name that Keras 3 has for them, or as layers that compute the same.

f(z; a) = c f(z / c; a′) leads from parameters that Keras has no name for to those it has one for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refgrad.activations import mathematical
from refgrad.activations.names import NAMES
from refgrad.arrays import Shape
from refgrad.errors import UnsupportedError
from refgrad.keras.recipes.step import Recipe, Step, activation, gathered, in_config, operation, scaled
from refgrad.ops import GLU, Elementwise, LogSoftmax, Op, PReLU, Softmax, Sparsemax
from refgrad.ops.axes import as_axes

_NAMES = {row: name for name, row in reversed(tuple(NAMES[3].items()))}
"""Row and parameters → the first name that Keras 3 has for them."""

_ROOT_TWO_OVER_PI = math.sqrt(2 / math.pi)
_CUBIC = 0.044715


def _within(c: float, steps: list[Step], shape: Shape, dtype: np.dtype[Any]) -> list[Step]:
    """c f(z / c)."""
    return [*scaled(1 / c, 0.0, shape, dtype), *steps, *scaled(c, 0.0, shape, dtype)]


def _refused(op: Elementwise) -> UnsupportedError:
    msg = f"the activation {op.label} is none that Keras 3's own layers can compute"
    return UnsupportedError(msg)


def _relu(op: Elementwise, shape: Shape, dtype: np.dtype[Any]) -> list[Step]:
    """A ReLU layer; Keras takes its maximum, or its slope where there is nothing else, in float32."""
    most, slope, start = map(float, op.parameters)
    if most == np.inf and start == 0 and (slope < 0 or not in_config(np.asarray(slope, dtype))):
        shared = list(range(1, len(shape) + 1))
        return [Step("PReLU", {"shared_axes": shared}, {"alpha": np.full((1,) * len(shape), slope, dtype)})]
    if min(most, slope, start) < 0:
        raise _refused(op)
    config = {"max_value": None if most == np.inf else most, "negative_slope": slope, "threshold": start}
    if most == np.inf or in_config(np.asarray(most, dtype)):
        return [Step("ReLU", config)]
    return _within(most, [Step("ReLU", {**config, "max_value": 1.0, "threshold": start / most})], shape, dtype)


def _hard_sigmoid_keras2(op: Elementwise, shape: Shape, dtype: np.dtype[Any]) -> list[Step]:
    """min(max(0.2 z + 0.5, 0), 1)."""
    del op
    step = Step("ReLU", {"max_value": 1.0, "negative_slope": 0.0, "threshold": 0.0})
    return [*scaled(0.2, 0.5, shape, dtype), step]


def _elu(op: Elementwise, shape: Shape, dtype: np.dtype[Any]) -> list[Step]:
    del shape, dtype
    return [Step("ELU", {"alpha": float(op.parameters[0])})]


def _celu(op: Elementwise, shape: Shape, dtype: np.dtype[Any]) -> list[Step]:
    """α elu(z / α)."""
    (alpha,) = map(float, op.parameters)
    if alpha <= 0:
        raise _refused(op)
    return _within(alpha, [activation("elu")], shape, dtype)


def _shrink(op: Elementwise, shape: Shape, dtype: np.dtype[Any]) -> list[Step]:
    """2 λ f(z / (2 λ); ½); nothing is shrunk where λ is 0, nor by hard_shrink where it is less."""
    (threshold,) = map(float, op.parameters)
    if threshold < 0 and op.activation == "soft_shrink":
        raise _refused(op)
    return _within(2 * threshold, [activation(op.activation)], shape, dtype) if threshold > 0 else []


def _squareplus(op: Elementwise, shape: Shape, dtype: np.dtype[Any]) -> list[Step]:
    """c f(z / c; 4), c = √b / 2."""
    (b,) = map(float, op.parameters)
    if b <= 0:
        raise _refused(op)
    return _within(math.sqrt(b) / 2, [activation("squareplus")], shape, dtype)


def _threshold(op: Elementwise, shape: Shape, dtype: np.dtype[Any]) -> list[Step]:
    del shape, dtype
    start, default = map(float, op.parameters)
    if default != 0 or start < 0:
        return [operation("Threshold", home="nn", threshold=start, default_value=default)]
    return [Step("ReLU", {"max_value": None, "negative_slope": 0.0, "threshold": start})]


def _gelu_tanh(op: Elementwise, shape: Shape, dtype: np.dtype[Any]) -> list[Step]:
    """z sigmoid(z (k c z² + k)), k = 2 √(2/π), c = 0.044715."""
    del op
    k = 2 * _ROOT_TWO_OVER_PI
    factor = scaled(k * _CUBIC, k, shape, dtype)
    gate = len(factor) + 1
    return [
        Step("Multiply", takes=(-1, -1)),
        *factor,
        Step("Multiply", takes=(-1, gate - 1)),
        activation("sigmoid"),
        Step("Multiply", takes=(-1, gate + 1)),
    ]


_OPERATIONS = {
    **{row.name: ("numpy", row.name.capitalize()) for row in mathematical.ROWS},
    "abs": ("numpy", "Absolute"),
    "rsqrt": ("math", "Rsqrt"),
    "erf": ("math", "Erf"),
}
"""Activations that Keras 3 has as bare operations alone: where, and by what name."""


def _operation(op: Elementwise, shape: Shape, dtype: np.dtype[Any]) -> list[Step]:
    del shape, dtype
    home, class_name = _OPERATIONS[op.activation]
    return [operation(class_name, home=home)]


_ROWS: Mapping[str, Callable[[Elementwise, Shape, np.dtype[Any]], list[Step]]] = {
    "linear": lambda op, shape, dtype: [],
    "relu": _relu,
    "hard_sigmoid_keras2": _hard_sigmoid_keras2,
    "elu": _elu,
    "celu": _celu,
    "hard_shrink": _shrink,
    "soft_shrink": _shrink,
    "squareplus": _squareplus,
    "threshold": _threshold,
    "gelu_tanh": _gelu_tanh,
    **dict.fromkeys(_OPERATIONS, _operation),
}
"""Activations that have no name in Keras 3, or none with some of their parameters."""


def name_of(op: Op) -> str | None:
    """What Keras 3 calls an op as an activation; None where it has no name for it."""
    if isinstance(op, Elementwise):
        return _NAMES.get((op.activation, op.parameters))
    return op.name if isinstance(op, Softmax | LogSoftmax | Sparsemax) and op.axis == -1 else None


def _elementwise(op: Elementwise, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    called = name_of(op)
    # A slope that has a name is written as a number, which says more.
    if (called is not None and op.activation not in ("linear", "relu")) or called == "relu":
        return [activation(str(called))]
    return _ROWS[op.activation](op, shapes[0], dtype)


def _prelu(op: PReLU, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    del dtype
    (shape,) = shapes
    alpha = op.alpha.reshape((1,) * (len(shape) - op.alpha.ndim) + op.alpha.shape)
    shared = [axis for axis, (n, m) in enumerate(zip(alpha.shape, shape, strict=True), 1) if n < m]
    return [Step("PReLU", {"shared_axes": shared or None}, {"alpha": alpha})]


def _on_last(op: LogSoftmax | Sparsemax, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    del dtype
    return gathered([activation(op.name)], as_axes(op.axis), shapes[0])


def _softmax(op: Softmax, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    del dtype
    if isinstance(op.axis, int):
        return [Step("Softmax", {"axis": op.axis})]
    return gathered([Step("Softmax", {"axis": -1})], op.axis, shapes[0])


def _glu(op: GLU, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
    """Both halves are taken by kernels of ones and zeros: Keras 3 mistakes the shape after its own glu."""
    (shape,) = shapes
    n = shape[op.axis]
    whole = np.eye(n, dtype=dtype)
    config = {"units": n // 2, "activation": "linear", "use_bias": False}
    before, after = (part for part in _around(op.axis, shape))
    first = len(before)
    source = first - 1 if before else -1
    return [
        *before,
        Step("Dense", config, {"kernel": whole[:, : n // 2]}, takes=(source,)),
        Step("Dense", {**config, "activation": "sigmoid"}, {"kernel": whole[:, n // 2 :]}, takes=(source,)),
        Step("Multiply", takes=(first, first + 1)),
        *after,
    ]


def _around(axis: int, shape: Shape) -> tuple[list[Step], list[Step]]:
    """What moves an axis last, and what puts it back."""
    mark = Step("")
    steps = gathered([mark], (axis,), shape)
    place = steps.index(mark)
    return steps[:place], steps[place + 1 :]


RECIPES: Mapping[str, Recipe] = {
    "elementwise": _elementwise,
    "prelu": _prelu,
    "glu": _glu,
    "softmax": _softmax,
    "log_softmax": _on_last,
    "sparsemax": _on_last,
}
