"""Operations on numbers one by one: between two tensors, or between one and a constant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refgrad.activations import ACTIVATIONS
from refgrad.arrays import Array, Shape
from refgrad.errors import UnsupportedError
from refgrad.keras.operations.rows import Drawing, Operation, Traced, operand, tensor, tensors
from refgrad.keras.rows import REQUIRED
from refgrad.ops import Add, Divide, Elementwise, Maximum, Minimum, Multiply, Op, Partial, Power, Subtract

Operand = Traced | Array


def _constant(given: Array, shape: Shape) -> Array:
    """A constant without the batch axis that it may have, of length 1."""
    if given.ndim == len(shape) + 1 and len(given) == 1:
        return given.reshape(given.shape[1:])
    if given.ndim > len(shape):
        msg = (
            f"a constant of shape {given.shape} meets the batch axis of a tensor with features of shape {shape}: "
            "samples would depend on each other, or on their number"
        )
        raise UnsupportedError(msg)
    return given


def combined(drawing: Drawing, op: Op, one: Operand, other: Operand) -> Traced:
    """An op of two operands, at least one of which is a tensor."""
    if isinstance(one, Traced) and isinstance(other, Traced):
        if len(one.shape) != len(other.shape):
            msg = (
                f"its tensors have features of shapes {one.shape} and {other.shape}: the batch axis of one meets a "
                "feature axis of the other; give both as many axes, with expand_dims"
            )
            raise UnsupportedError(msg)
        return drawing.add(op, one, other)
    if isinstance(one, Traced):
        return drawing.add(Partial(op.name, _constant(np.asarray(other), one.shape), 1), one)
    if isinstance(other, Traced):
        return drawing.add(Partial(op.name, _constant(np.asarray(one), other.shape), 0), other)
    msg = "it is called with constants alone, which cannot be read"
    raise UnsupportedError(msg)


def _binary(op: Op) -> Operation:
    return Operation(
        lambda drawing, given: combined(drawing, op, given["x1"], given["x2"]),
        meaning={"x1": (operand, REQUIRED), "x2": (operand, REQUIRED)},
    )


def unary(op: Op) -> Operation:
    """An op of one tensor."""
    return Operation(lambda drawing, given: drawing.add(op, given["x"]), meaning={"x": (tensor, REQUIRED)})


def function(name: str) -> Operation:
    """A row of the activation table with its default parameters."""
    return unary(Elementwise(name, ACTIVATIONS[name].defaults))


def _with(op: Op, constant: float, place: int) -> Operation:
    return unary(Partial(op.name, np.array(constant), place))


def _clip(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """min(max(x, lowest), highest): on a bound the slope is 1, as TensorFlow has it."""
    raised = combined(drawing, Maximum(), given["x"], given["x_min"])
    return combined(drawing, Minimum(), raised, given["x_max"])


def _add_n(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    inputs: list[Traced] = given["inputs"]
    if len({one.shape for one in inputs}) > 1:
        msg = f"its tensors have features of shapes {', '.join(str(one.shape) for one in inputs)}; equal ones are added"
        raise UnsupportedError(msg)
    return drawing.add(Add(), *inputs)


def _same(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    found: Traced = given["x"]
    return found


def casts_to(value: Any) -> str:
    """The dtype that a cast is to."""
    if value not in ("float32", "float64"):
        msg = f"it casts to {value!r:.40}; float32 and float64 are supported, which the whole model is computed in"
        raise UnsupportedError(msg)
    return str(value)


ADD, SUBTRACT, MULTIPLY, DIVIDE = (_binary(op) for op in (Add(), Subtract(), Multiply(), Divide()))
POWER, MAXIMUM, MINIMUM = (_binary(op) for op in (Power(), Maximum(), Minimum()))
NEGATIVE, RECIPROCAL = _with(Multiply(), -1.0, 1), _with(Divide(), 1.0, 0)
IDENTITY = Operation(_same, meaning={"x": (tensor, REQUIRED)})
CAST = Operation(_same, meaning={"x": (tensor, REQUIRED), "dtype": (casts_to, REQUIRED)})
CLIP = Operation(_clip, meaning={"x": (tensor, REQUIRED), "x_min": (operand, REQUIRED), "x_max": (operand, REQUIRED)})
ADD_N = Operation(_add_n, meaning={"inputs": (tensors, REQUIRED)})

EXPONENTIAL = function("exponential")
