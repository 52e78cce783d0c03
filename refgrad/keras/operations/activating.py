"""Operations that are activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refgrad.activations import ACTIVATIONS
from refgrad.arrays import Shape
from refgrad.errors import UnsupportedError
from refgrad.keras import values
from refgrad.keras.operations.rows import Drawing, Operation, Traced, tensor
from refgrad.keras.rows import REQUIRED
from refgrad.ops import GLU, Elementwise, LogSoftmax, Op, Softmax, Sparsemax
from refgrad.sequential import activation


def called(name: str) -> Operation:
    """What a generation of Keras calls so, with the parameters that it then has."""

    def draw(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
        x: Traced = given["x"]
        for _, op in activation(name, name, drawing.generation):
            x = drawing.add(op, x)
        return x

    return Operation(draw, meaning={"x": (tensor, REQUIRED)})


def _with_parameters(name: str, *renamed: str) -> Operation:
    """A row of the table with its parameters, by their own names or others."""
    row = ACTIVATIONS[name]
    keys = renamed or tuple(key for key, _ in row.parameters)

    def draw(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
        return drawing.add(Elementwise(name, tuple(given[key] for key in keys)), given["x"])

    defaults = {key: (values.number, default) for key, default in zip(keys, row.defaults, strict=True)}
    return Operation(draw, meaning={"x": (tensor, REQUIRED), **defaults})


def _leaky_relu(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """TensorFlow's op holds its slope as a float32, whatever the dtype of its input."""
    return drawing.add(Elementwise("relu", (np.inf, float(np.float32(given["negative_slope"])), 0.0)), given["x"])


def _gelu(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    return drawing.add(Elementwise("gelu_tanh" if given["approximate"] else "gelu"), given["x"])


def _axes(value: Any, shape: Shape) -> int | tuple[int, ...]:
    if value is None:
        msg = "axis=None takes all samples together; name feature axes"
        raise UnsupportedError(msg)
    if isinstance(value, tuple):
        found = values.feature_axes(value, shape)
        return found[0] if len(found) == 1 else found
    return values.feature_axis(value, shape)


def _axis_or_none(value: Any) -> Any:
    return None if value is None else values.axis_or_axes(value)


def _axiswise(op: Callable[[Any], Op]) -> Operation:
    return Operation(
        lambda drawing, given: drawing.add(op(_axes(given["axis"], given["x"].shape)), given["x"]),
        meaning={"x": (tensor, REQUIRED), "axis": (_axis_or_none, -1)},
    )


def gelu(approximate: bool) -> Operation:
    """GELU, by its formula with tanh or not where that is not said."""
    return Operation(_gelu, meaning={"x": (tensor, REQUIRED), "approximate": (values.flag, approximate)})


LEAKY_RELU = Operation(_leaky_relu, meaning={"x": (tensor, REQUIRED), "negative_slope": (values.number, 0.2)})
SOFTMAX, LOG_SOFTMAX, SPARSEMAX, GATED = (_axiswise(op) for op in (Softmax, LogSoftmax, Sparsemax, GLU))
ELU, CELU, HARD_SHRINK, SOFT_SHRINK, SQUAREPLUS, THRESHOLD = map(
    _with_parameters, ("elu", "celu", "hard_shrink", "soft_shrink", "squareplus", "threshold")
)
