"""What every op answers: its shapes, its value, its derivative both ways, its rounding, its cost, its record.

Shapes: values are `(batch, *shape)`; tangents and cotangents carry one more leading axis k, `(k, batch, *shape)`, whose
batch axis may be 1 where they do not depend on the sample. A tangent of `None` is zero by structure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np

from refgrad.arrays import Array, Shape

KinkPolicy = Literal["keras", "left", "right", "mean"]
"""Which slope a unit has on a kink. An op knows nothing of generations of Keras: where they differ, `build` chooses
another row of the activation table."""


@dataclass(frozen=True, eq=False)
class Op(ABC):
    """A pure function of one or several tensors; frozen, and ignorant of its neighbours."""

    name: ClassVar[str]
    linear: ClassVar[bool]
    """Whether the derivative is the same at every input."""

    def __reduce__(self) -> tuple[type[Op], tuple[Any, ...]]:
        """Copy and pickle through the constructor, so that arrays come back read-only."""
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    @abstractmethod
    def shape(self, *shapes: Shape) -> Shape:
        """Shape of the output, without batch; `ValueError` says which input shapes would do."""

    @abstractmethod
    def forward(self, *inputs: Array) -> Array:
        """Value of the output, `(batch, *shape)`."""

    @abstractmethod
    def linearize(self, *inputs: Array, kink: KinkPolicy) -> tuple[Array, Any]:
        """Value of the output, and the tape: all that `jvp` and `vjp` need to know of the point."""

    @abstractmethod
    def jvp(self, tape: Any, *tangents: Any) -> Array:
        """Jacobian–vector product: tangents of the inputs (None is zero; never all are) to that of the output."""

    @abstractmethod
    def vjp(self, tape: Any, cotangent: Array) -> tuple[Array | None, ...]:
        """Vector–Jacobian product: cotangent of the output to the cotangents of the inputs (None is zero)."""

    @abstractmethod
    def variance(self, u: float, inputs: tuple[Array, ...], output: Array, variances: tuple[Array, ...]) -> Array:
        """Variance of the output's rounding error in arithmetic of unit roundoff `u`, given that of the inputs."""

    @abstractmethod
    def cost(self, k: int, *shapes: Shape) -> int:
        """Multiply–adds per sample of pushing k tangents, or pulling k cotangents, through, for inputs of `shapes`."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON: with `arrays()` it makes the op again."""

    @classmethod
    def restore(cls, config: dict[str, Any], arrays: dict[str, Array]) -> Op:
        """The op that `config()` and `arrays()` are the record of."""
        return cls(**config, **arrays)

    def arrays(self) -> dict[str, Array]:
        """The op's parameters by field name."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in held.items() if isinstance(value, np.ndarray)}

    def astype(self, dtype: np.dtype[Any]) -> Self:
        """The same op with its arrays in another dtype."""
        return replace(self, **{name: array.astype(dtype) for name, array in self.arrays().items()})

    @property
    def label(self) -> str:
        """What a summary calls it."""
        return self.name

    def jump_margins(self, inputs: tuple[Array, ...]) -> Array | None:
        """Distance of each unit to the nearest place where its value jumps; None where there are none."""
        del inputs
        return None

    def margins(self, inputs: tuple[Array, ...]) -> Array | None:
        """Distance of each unit to its nearest kink or jump, `(batch, *shape)`; None where there are none."""
        del inputs
        return None
