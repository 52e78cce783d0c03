"""What an op is written as: Keras layers, one after the other, and the few detours that several ops share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.keras.arguments import Slot
from refgrad.keras.rows import Arrays
from refgrad.ops import Op


@dataclass(frozen=True, eq=False)
class Step:
    """A layer: its class, what its config holds beside name and dtype, and its arrays by role.

    `takes` are the places of the steps before it that it is called with, the op's own inputs counted from −1 down;
    where it is empty, it takes what the step before gives, and the first all inputs. A bare operation has a `home`, the
    module of its class, and the `arguments` that it is called with, with slots for tensors.
    """

    class_name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)
    takes: tuple[int, ...] = ()
    home: str | None = None
    arguments: tuple[Any, ...] = ()


Recipe = Callable[[Any, tuple[Shape, ...], np.dtype[Any]], list[Step]]
"""From an op, the shapes it is called with and the network's dtype to layers; none where it changes nothing."""


def recipe_of(class_name: str, config: Callable[[Any, tuple[Shape, ...]], Mapping[str, Any]]) -> Recipe:
    """The recipe of an op that is one layer without arrays."""

    def recipe(op: Op, shapes: tuple[Shape, ...], dtype: np.dtype[Any]) -> list[Step]:
        del dtype
        return [Step(class_name, config(op, shapes))]

    return recipe


def operation(class_name: str, *arguments: Any, home: str = "numpy", takes: Sequence[int] = (), **config: Any) -> Step:
    """A bare operation of Keras 3 as it saves one itself; of one tensor where no arguments are said."""
    return Step(class_name, config, {}, tuple(takes), f"keras.src.ops.{home}", arguments or (Slot(0),))


def activation(called: str) -> Step:
    """What Keras 3 calls by a name."""
    return Step("Activation", {"activation": called})


def reshape(target: Shape) -> Step:
    """The same numbers in another shape."""
    return Step("Reshape", {"target_shape": list(target)})


def permute(order: Sequence[int]) -> Step:
    """Feature axes, counted from the end, in another order."""
    return Step("Permute", {"dims": [axis + len(order) + 1 for axis in order]})


def in_config(array: Array) -> bool:
    """Whether numbers in a config mean themselves: Keras makes float32 of them, and JSON has no NaN."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return bool(np.isfinite(array).all() and (array.astype(np.float32) == array).all())


def scaled(scale: Any, offset: Any, shape: Shape, dtype: np.dtype[Any]) -> list[Step]:
    """y = s x + o, exactly: by Rescaling, or where a config cannot hold the numbers as a batch normalisation's arrays.

    With mean 0, variance 1 and ε = 0 that is y = x γ + β.
    """
    s, o = (np.asarray(value, dtype) for value in (scale, offset))
    if in_config(s) and in_config(o):
        return [Step("Rescaling", {"scale": s.tolist(), "offset": o.tolist()})]
    along_last = max(s.ndim, o.ndim) < 2
    features = shape[-1:] if along_last else (math.prod(shape),)
    gamma, beta = (np.broadcast_to(array, shape[-1:] if along_last else shape).reshape(features) for array in (s, o))
    arrays = {
        "gamma": gamma,
        "beta": beta,
        "moving_mean": np.zeros(features, dtype),
        "moving_variance": np.ones(features, dtype),
    }
    step = Step("BatchNormalization", {"axis": -1, "epsilon": 0.0, "center": True, "scale": True}, arrays)
    return [step] if along_last else [reshape(features), step, reshape(shape)]


def gathered(steps: Sequence[Step], axes: Sequence[int], shape: Shape) -> list[Step]:
    """Steps on the last of two axes, done on some of several: those are moved last and made one, and put back.

    The legacy reader of Keras 3 loses a layer's axes where there is more than one.
    """
    rank = len(shape)
    if tuple(axes) == (-1,):
        return list(steps)
    order = [*(axis for axis in range(-rank, 0) if axis not in axes), *axes]
    moved = order != list(range(-rank, 0))
    sizes = tuple(shape[axis] for axis in order)
    kept = sizes[: rank - len(axes)]
    joined = len(axes) > 1
    back = [int(place) - rank for place in np.argsort(order)]
    return [
        *([permute(order)] if moved else []),
        *([reshape((*kept, math.prod(sizes[rank - len(axes) :])))] if joined else []),
        *steps,
        *([reshape(sizes)] if joined else []),
        *([permute(back)] if moved else []),
    ]
