"""What a row of the table of bare operations is, and the drawing that a call's ops are put down on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.errors import FormatError, MismatchError, UnsupportedError, naming
from refgrad.keras import values
from refgrad.keras.arguments import Arguments, Slot
from refgrad.keras.rows import REQUIRED
from refgrad.limits import Budget
from refgrad.ops import Op


@dataclass(frozen=True)
class Traced:
    """A tensor of a drawing: one that the call is given, or one that an op on it makes."""

    index: int
    shape: Shape


@dataclass(frozen=True, eq=False)
class Recipe:
    """The ops of a call, each with the tensors it takes: those given come first, then one for each op."""

    steps: tuple[tuple[Op, tuple[int, ...]], ...]
    outputs: tuple[int, ...]

    def astype(self, dtype: np.dtype[Any]) -> Recipe:
        """The same ops with their arrays in a dtype."""
        return Recipe(tuple((op.astype(dtype), sources) for op, sources in self.steps), self.outputs)


class Drawing:
    """The ops of one call of an operation, put down one after the other."""

    def __init__(self, shapes: Sequence[Shape], generation: int, budget: Budget) -> None:
        self.generation = generation
        self.budget = budget
        self.limits = budget.limits
        self.given = [Traced(index, shape) for index, shape in enumerate(shapes)]
        self._steps: list[tuple[Op, tuple[int, ...]]] = []

    def add(self, op: Op, *tensors: Traced) -> Traced:
        """The tensor that an op makes of others."""
        try:
            shape = op.shape(*(tensor.shape for tensor in tensors))
        except ValueError as error:
            raise MismatchError(str(error)) from None
        self.budget.count("calls", 1, "calls of layers and ops of operations")
        self._steps.append((op, tuple(tensor.index for tensor in tensors)))
        return Traced(len(self.given) + len(self._steps) - 1, values.bounded(shape, self.limits))

    def listable(self, count: int, x: Traced, axis: int) -> None:
        """Refuse to list very many entries of an axis."""
        self.limits.check("picked", count, f"entries of axis {axis} of features of shape {x.shape!s:.60}")

    def recipe(self, outputs: Traced | Sequence[Traced]) -> Recipe:
        """All of it, with the outputs of the call."""
        several = [outputs] if isinstance(outputs, Traced) else outputs
        return Recipe(tuple(self._steps), tuple(tensor.index for tensor in several))


Meaning = Mapping[str, tuple[Callable[[Any], Any], Any]]


@dataclass(frozen=True)
class Operation:
    """A bare operation.

    `draw` puts down its ops, given the parameters as `meaning` reads them: parameter → (how its value is read, its
    default), in the order of the positional ones. `inert`: parameters that change nothing. `only`: those that are
    understood at one value. `renamed`: what another generation calls a parameter → the name in `meaning`.
    """

    draw: Callable[[Drawing, Mapping[str, Any]], Traced | Sequence[Traced]]
    meaning: Meaning
    inert: frozenset[str] = frozenset()
    only: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)

    def bound(self, options: Mapping[str, Any], arguments: Arguments, drawing: Drawing) -> dict[str, Any]:
        """Every parameter by its name, of the options in the config and the arguments of a call."""
        positional = dict(zip(self.meaning, arguments.positional, strict=False))
        if len(positional) < len(arguments.positional):
            msg = f"it is called with {len(arguments.positional)} arguments and takes {len(self.meaning)}"
            raise UnsupportedError(msg)
        given: dict[str, Any] = {}
        for source in (positional, options, arguments.named):
            for key, value in source.items():
                name = self.renamed.get(key, key)
                if name in given and value is not None:
                    msg = f"{name!r:.40} is given twice"
                    raise FormatError(msg)
                given.setdefault(name, value)
        for key, value in given.items():
            known = key in self.meaning or key in self.inert or self.only.get(key, REQUIRED) == value
            if not known and value is not None:
                only = f"; only {self.only[key]!r} is supported" if key in self.only else ""
                msg = f"it is called with {key}={value!r:.60}, which could change the output{only}"
                raise UnsupportedError(msg)
        found = {}
        for key, (read, default) in self.meaning.items():
            if key not in given and default is REQUIRED:
                msg = f"{key!r} is missing"
                raise FormatError(msg)
            with naming(key):
                found[key] = read(_filled(given.get(key, default), drawing))
        return found

    def recipe(
        self,
        options: Mapping[str, Any],
        arguments: Arguments,
        shapes: Sequence[Shape],
        generation: int,
        budget: Budget,
    ) -> Recipe:
        """The ops of a call on tensors of these shapes."""
        drawing = Drawing(shapes, generation, budget)
        return drawing.recipe(self.draw(drawing, self.bound(options, arguments, drawing)))


def _filled(value: Any, drawing: Drawing) -> Any:
    """An argument with tensors in their slots."""
    if isinstance(value, Slot):
        return drawing.given[value.place]
    return [_filled(entry, drawing) for entry in value] if isinstance(value, list) else value


def tensor(value: Any) -> Traced:
    """A tensor of the model."""
    if not isinstance(value, Traced):
        msg = f"{value!r:.40} is no tensor of the model; an operation on constants alone cannot be read"
        raise UnsupportedError(msg)
    return value


def tensors(value: Any) -> list[Traced]:
    """One tensor or a list of them."""
    return [tensor(entry) for entry in (value if isinstance(value, list) else [value])]


def operand(value: Any) -> Traced | Array:
    """A tensor of the model, or a constant."""
    if isinstance(value, Traced):
        return value
    if isinstance(value, list) and any(isinstance(entry, Traced) for entry in value):
        msg = "a list of tensors stands where one tensor or a constant is supported; stack them first"
        raise UnsupportedError(msg)
    return values.numbers(value)
