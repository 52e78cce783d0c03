"""How bare operations are drawn for `architectures.py`: x + y, slices, sums, in the words of each Keras.

`OPERATIONS` says of each how it is drawn, `d` being what draws, and how it is written: a new operation is one row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

MOST_NUMBERS = 12
"""What a tensor holds at most, without batch."""

EXACT = st.sampled_from([0.125, 0.25, 0.5, 1.5])
"""Parameters that every dtype holds."""

SIGNED = st.sampled_from([-1.5, -0.25, 0.125, 0.5, 2.0])


@dataclass(frozen=True)
class Row:
    """What is drawn for an operation: the tensors it takes, its options, the shape it gives; and how it is written.

    `write` takes a namespace, tensors and options. Where Keras 2 has no such spelling, `generations` leaves it out.
    """

    draw: Callable
    write: Callable
    generations: tuple[int, ...] = (2, 3)


def alike(d, shapes):
    """Two or three tensors of one shape, one of them perhaps twice."""
    shape = shapes[d(st.integers(0, len(shapes) - 1))]
    places = [place for place, other in enumerate(shapes) if other == shape]
    return d(st.lists(st.sampled_from(places), min_size=2, max_size=3)), shape


def an_axis(d, shape):
    """An axis from either end, with the batch as 0."""
    axis = d(st.integers(1, len(shape)))
    return axis - len(shape) - 1 if d.flag() else axis


def some_axes(d, shape):
    return d(st.lists(st.integers(1, len(shape)), min_size=1, unique=True).map(sorted))


def _like(constant, x):
    """A constant in a tensor's dtype."""
    return np.asarray(constant, str(getattr(x.dtype, "name", x.dtype)))


def _one(options=lambda d, shape: ({}, shape)):
    """An operation of one tensor; `options` says the rest, or None where the tensor does not fit."""

    def drawn(d, shapes):
        place = d(st.integers(0, len(shapes) - 1))
        found = options(d, shapes[place])
        return found and ((place,), *found)

    return drawn


def _two(d, shapes):
    (one, other, *_), shape = alike(d, shapes)
    return (one, other), {}, shape


def _stretched(d, shapes):
    """Two of one rank, of which one or both are stretched."""
    one = d(st.integers(0, len(shapes) - 1))
    fitting = [
        (place, tuple(map(max, shapes[one], other)))
        for place, other in enumerate(shapes)
        if len(other) == len(shapes[one])
        and all(n == m or 1 in (n, m) for n, m in zip(other, shapes[one], strict=True))
    ]
    place, given = d(st.sampled_from(fitting))
    return ((one, place), {}, given) if math.prod(given) <= MOST_NUMBERS else None


def _number(d, shape):
    return {"c": d(SIGNED)}, shape


def _array(d, shape):
    """A constant of the shape, of its last axis, or stretched; a batch of one before it, or none."""
    sizes = [n if d.flag() else 1 for n in shape]
    sizes = d(st.sampled_from([sizes, [*shape], [shape[-1]], [1, *shape]]))
    numbers = [d(SIGNED) for _ in range(math.prod(sizes))]
    return {"c": np.reshape(numbers, sizes).tolist()}, shape


def _added(d, shape):
    """No column to square matrices, which Keras 3 on TensorFlow takes for a bias of their columns."""
    found, given = _array(d, shape)
    column = np.shape(found["c"])[-2:] == (shape[0], 1) and len(shape) == 2
    return None if column and shape[0] == shape[1] > 1 else (found, given)


def _power(d, shape):
    return {"power": d(st.sampled_from([2, 2.0, 3]))}, shape


def _slice(d, n):
    start, step = d(st.integers(0, n - 1)), d(st.sampled_from([None, 1, 2, -1]))
    if step == -1:
        return slice(None, None, -1)
    stop = d(st.one_of(st.none(), st.integers(start + 1, n)))
    return slice(d(st.sampled_from([start, start - n])) if start else None, stop, step)


def _key(d, shape):
    """x[:, 1:3], x[..., ::2], x[:, 0], x[:, None]: at least one feature axis stays."""
    if d.flag():
        key = (slice(None), *(_slice(d, n) for n in shape[: d(st.integers(1, len(shape)))]))
    elif d.flag() and len(shape) > 1:
        key = (slice(None), d(st.integers(-shape[0], shape[0] - 1)))
    elif d.flag():
        key = (slice(None), None, _slice(d, shape[0]))
    else:
        # tf_keras cannot write an Ellipsis to a .keras.
        before = (...,) if d.generation == 3 else (slice(None),) * len(shape)
        key = (*before, _slice(d, shape[-1]))
    return {"key": key}, np.empty((1, *shape))[key].shape[1:]


def _reduced(d, shape):
    axes, keepdims = some_axes(d, shape), d.flag()
    if len(axes) == len(shape):
        keepdims = True
    given = np.empty((1, *shape)).sum(axis=tuple(axes), keepdims=keepdims).shape[1:]
    axis = axes[0] if len(axes) == 1 else tuple(axes)
    return {"axis": axis, "keepdims": keepdims}, given


def _reshape(d, shape):
    size = math.prod(shape)
    first = d(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
    return {"shape": (-1, first, size // first)}, (first, size // first)


def _matmul(d, shape):
    n, m = shape[-1], d(st.integers(1, min(3, MOST_NUMBERS // math.prod(shape[:-1]))))
    return {"kernel": [[d(SIGNED) for _ in range(m)] for _ in range(n)]}, (*shape[:-1], m)


def _concatenated(d, shapes):
    taken, shape = alike(d, shapes)
    axis = an_axis(d, shape)
    longer = [*shape]
    longer[axis if axis < 0 else axis - 1] *= len(taken)
    return (taken, {"axis": axis}, tuple(longer)) if math.prod(longer) <= MOST_NUMBERS else None


def _stacked(d, shapes):
    taken, shape = alike(d, shapes)
    axis = d(st.integers(1, len(shape) + 1))
    given = (*shape[: axis - 1], len(taken), *shape[axis - 1 :])
    return (taken, {"axis": axis}, given) if math.prod(given) <= MOST_NUMBERS and len(given) < 4 else None


def _along(d, shape):
    return {"axis": an_axis(d, shape)}, shape


def _transposed(d, shape):
    order = tuple(d(st.permutations(range(1, len(shape) + 1))))
    return {"order": (0, *order)}, tuple(shape[axis - 1] for axis in order)


def _products(d, shapes):
    """Matrices by matrices, the second transposed."""
    taken, shape = alike(d, shapes)
    return (taken[:2], {}, (shape[0], shape[0])) if len(shape) == 2 else None


def _named(in_3, in_2=None):
    """A function by its name in keras.ops, and in TensorFlow if that is another."""
    return lambda o, *tensors, **options: getattr(
        o, in_3 if o.__name__.startswith("keras") else in_2 or in_3
    )(*tensors, **options)  # fmt: skip


def _listed(in_3, in_2=None):
    return lambda o, *tensors, **options: _named(in_3, in_2)(o, list(tensors), **options)


OPERATIONS = {
    "x + y": Row(_stretched, lambda o, x, y: x + y),
    "x - y": Row(_stretched, lambda o, x, y: x - y),
    "x * y": Row(_stretched, lambda o, x, y: x * y),
    "x / (y² + 1)": Row(_two, lambda o, x, y: x / (y * y + 1)),
    "x + c": Row(_one(_number), lambda o, x, c: x + c),
    "x - c": Row(_one(_number), lambda o, x, c: x - c),
    "x * c": Row(_one(_number), lambda o, x, c: x * c),
    "x / c": Row(_one(_number), lambda o, x, c: x / c),
    "c - x": Row(_one(_number), lambda o, x, c: c - x),
    "c * x": Row(_one(_number), lambda o, x, c: c * x),
    "c / (x² + 1)": Row(_one(_number), lambda o, x, c: c / (x**2 + 1)),
    "-x": Row(_one(), lambda o, x: -x),
    "|x|": Row(_one(), lambda o, x: abs(x)),
    "x ** c": Row(_one(_power), lambda o, x, power: x**power),
    "x + array": Row(_one(_added), lambda o, x, c: x + _like(c, x)),
    "x * array": Row(_one(_array), lambda o, x, c: x * _like(c, x)),
    "x / array": Row(_one(_array), lambda o, x, c: x / _like(c, x)),
    "array - x": Row(_one(_array), lambda o, x, c: o.subtract(_like(c, x), x)),
    "x @ array": Row(_one(_matmul), lambda o, x, kernel: o.matmul(x, _like(kernel, x))),
    "x @ yᵀ": Row(_products, lambda o, x, y: o.matmul(x, o.transpose(y, (0, 2, 1)))),
    "x[key]": Row(_one(_key), lambda o, x, key: x[key]),
    "exp": Row(_one(), lambda o, x: o.exp(x)),
    "tanh": Row(_one(), lambda o, x: o.tanh(x)),
    "square": Row(_one(), lambda o, x: o.square(x)),
    "sqrt of abs": Row(_one(), lambda o, x: o.sqrt(o.abs(x) + 0.125)),
    "log": Row(_one(), lambda o, x: getattr(o, "math", o).log(abs(x) + 0.25)),
    "maximum": Row(_two, lambda o, x, y: o.maximum(x, y)),
    "minimum": Row(_one(_number), lambda o, x, c: o.minimum(x, c)),
    "maximum with an array": Row(_one(_array), lambda o, x, c: o.maximum(_like(c, x), x)),
    "clip": Row(_one(_number), lambda o, x, c: _named("clip", "clip_by_value")(o, x, c - 0.5, c + 0.25)),
    "softmax": Row(_one(_along), lambda o, x, axis: o.nn.softmax(x, axis=axis)),
    "reshape": Row(_one(_reshape), lambda o, x, shape: o.reshape(x, shape)),
    "transpose": Row(_one(_transposed), lambda o, x, order: o.transpose(x, order)),
    "concatenate": Row(_concatenated, _listed("concatenate", "concat")),
    "stack": Row(_stacked, _listed("stack")),
    **{
        name: Row(_one(_reduced), _named(name, f"reduce_{name}"))
        for name in ("sum", "mean", "max", "min", "prod")
    },
    "variance": Row(_one(_reduced), _named("var"), (3,)),
    "logsumexp": Row(_one(_reduced), _named("logsumexp", "reduce_logsumexp")),
}  # fmt: skip
"""Name → how an operation is drawn and written."""
