"""What every op answers: its shapes, its value, its derivative both ways, its rounding, its cost, its record.

Shapes: values are `(batch, *shape)`; tangents and cotangents carry one more leading axis k, `(k, batch, *shape)`, whose
batch axis may be 1 where they do not depend on the sample. A tangent of `None` is zero by structure.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np

from refgrad.arrays import Array, Shape, frozen
from refgrad.errors import MismatchError, UnsupportedError
from refgrad.ops.broadcasting import lined

KinkPolicy = Literal["keras", "left", "right", "mean"]
"""Which slope a unit has on a kink. An op knows nothing of generations of Keras: where they differ, `build` chooses
another row of the activation table."""


def check_epsilon(epsilon: Any) -> None:
    """Refuse what cannot keep a denominator from zero."""
    if not isinstance(epsilon, int | float) or isinstance(epsilon, bool) or not 0 <= epsilon <= sys.float_info.max:
        msg = f"epsilon is {epsilon!r}; a finite number, zero or more, is needed"
        raise UnsupportedError(msg)


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

    def config(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON: with `arrays()` it makes the op again."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in held.items() if not isinstance(value, np.ndarray | None)}

    @classmethod
    def restore(cls, config: dict[str, Any], arrays: dict[str, Array]) -> Op:
        """The op that `config()` and `arrays()` are the record of; JSON's lists are tuples here."""
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
        return cls(**given, **arrays)

    def arrays(self) -> dict[str, Array]:
        """The op's parameters by field name."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in held.items() if isinstance(value, np.ndarray)}

    def astype(self, dtype: np.dtype[Any]) -> Self:
        """The same op with its arrays in another dtype."""
        with np.errstate(over="ignore", under="ignore"):
            return replace(self, **{name: array.astype(dtype) for name, array in self.arrays().items()})

    def freeze(self, *names: str) -> None:
        """Make the arrays so named immutable, while the op is being made; one whose default is None may be None."""
        optional = {field.name for field in fields(self) if field.default is None}
        for name in names:
            array = getattr(self, name)
            if array is None and name in optional:
                continue
            if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
                msg = f"{name} is {getattr(array, 'dtype', type(array).__name__)}; an array of floats is needed"
                raise MismatchError(msg)
            object.__setattr__(self, name, frozen(array))

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

    def noise(self, u: float, inputs: tuple[Array, ...], sigmas: tuple[Array, ...]) -> Array:
        """Deviation of the rounding error of `margins`, broadcastable to its shape, given those of the inputs.

        It is zero only where no input that matters has any: with u = 0, and 1 for each input that moves, it says
        which units move.
        """
        del u, inputs
        total: Array = sum(lined(sigmas, 1))  # type: ignore[assignment]
        return total
