"""What kernels run: a chain of layers, each an affine map and then functions of every unit by itself."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from refgrad.activations import ACTIVATIONS, Kink
from refgrad.arrays import Array

SCALE, PRELU = "scale", "prelu"
"""The functions with arrays of their own, beside the rows of the activation table."""

TAILS = ("none", "softmax", "log_softmax")
"""What a chain may end with, by the number that stands for each in a packed program."""


@dataclass(frozen=True, eq=False)
class Step:
    """A function of every unit by itself: a row of the activation table, or one of these.

    scale     (z − c) s + o     arrays c, s, o: Rescaling, Normalization and BatchNormalization, not folded into a
              neighbour, which would round
    prelu     z above 0, α z below     arrays α, and the slope at 0 by each of `lower.POLICIES`
    """

    name: str
    parameters: tuple[float, ...] = ()
    arrays: tuple[Array, ...] = ()
    kinks: tuple[Kink, ...] = ()


@dataclass(frozen=True, eq=False)
class Layer:
    """z = a W + b, then the steps; `kernel` W is (n_in, n_out). The input is a layer without W and b."""

    width: int
    kernel: Array | None
    bias: Array | None
    steps: tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class Program:
    """The input's steps, then layers one after the other, then one of `TAILS`."""

    layers: tuple[Layer, ...]
    tail: str

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """How many numbers each level holds, the input first."""
        return tuple(layer.width for layer in self.layers)

    @cached_property
    def names(self) -> frozenset[str]:
        """Every function of units that is in it."""
        return frozenset(step.name for layer in self.layers for step in layer.steps)

    @cached_property
    def multiply_adds(self) -> int:
        """Of a sample's value."""
        return sum(before * after for before, after in itertools.pairwise(self.widths))

    @cached_property
    def switches(self) -> bool:
        """Whether a unit may be switched off: a function's slope is 0 somewhere between −8 and 8, as a ReLU's is."""
        return any(_switches(step) for layer in self.layers for step in layer.steps)


def _switches(step: Step) -> bool:
    if step.name == PRELU:
        return bool((step.arrays[0] == 0).any())
    if step.name == SCALE:
        return False
    return bool((ACTIVATIONS[step.name].df(np.linspace(-8.0, 8.0, 17), *step.parameters) == 0).any())
