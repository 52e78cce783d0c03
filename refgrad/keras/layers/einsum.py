"""EinsumDense, where it is a dense map of some of a sample's axes, the same for all entries on the others."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.errors import FormatError, MismatchError, UnsupportedError
from refgrad.keras import values
from refgrad.keras.layers.activating import activated, activator
from refgrad.keras.rows import REQUIRED, Config, Given, Roles, Row, initialized
from refgrad.ops import Affine, Permute, Rescaling, Reshape
from refgrad.sequential import Steps


@dataclass(frozen=True)
class Equation:
    """An equation's letters: one for every feature axis of the input, of the kernel, and of the output."""

    inputs: str
    kernel: str
    outputs: str

    @property
    def kept(self) -> str:
        """Axes that go from input to output."""
        return "".join(letter for letter in self.inputs if letter in self.outputs)

    @property
    def summed(self) -> str:
        """Axes of input and kernel."""
        return "".join(letter for letter in self.inputs if letter not in self.outputs)

    @property
    def new(self) -> str:
        """Axes that the kernel brings."""
        return "".join(letter for letter in self.outputs if letter not in self.inputs)


def _equation(value: Any) -> str:
    """Input, kernel and output by letters; an ellipsis before both or after both stands for more of them."""
    plain = re.sub(r"\s", "", value) if isinstance(value, str) else ""
    if not re.fullmatch(r"(\.\.\.|)[a-zA-Z]+,[a-zA-Z]+->\1[a-zA-Z]+|[a-zA-Z]+\.\.\.,[a-zA-Z]+->[a-zA-Z]+\.\.\.", plain):
        msg = f"{value!r:.60} is none of the forms 'x,k->y', '...x,k->...y' and 'x...,k->y...'"
        raise FormatError(msg)
    return plain


def _letters(equation: str, rank: int) -> Equation:
    """The equation for an input of so many feature axes, its batch axis left out."""
    given, kernel, made = re.split(",|->", equation)
    spare = [letter for letter in string.ascii_letters if letter not in equation]
    more = rank + 1 - len(given.replace("...", ""))
    if more < 0 or (more and "..." not in equation) or more > len(spare):
        msg = f"{equation!r} takes another number of axes than the {rank + 1} of the input, its batch included"
        raise MismatchError(msg)
    given, made = (part.replace("...", "".join(spare[:more])) for part in (given, made))
    found = Equation(given[1:], kernel, made[1:])
    parts = (given, kernel, made)
    mixed = given[0] != made[0] or given[0] in kernel
    alone = (set(found.summed) | set(found.new)) ^ set(kernel)
    if mixed or alone or any(len(set(part)) < len(part) for part in parts):
        msg = f"{equation!r} is no dense map of one sample's axes: every letter must be of two of input, kernel, output"
        raise UnsupportedError(msg)
    return found


def _ordered(letters: str, wanted: str) -> tuple[int, ...] | None:
    """The axes of `letters`, counted from the end, in the order of `wanted`; None where they are in that order."""
    return None if letters == wanted else tuple(letters.index(letter) - len(letters) for letter in wanted)


def _bias(config: Config, bias: Array, letters: Equation, sizes: Mapping[str, int]) -> Array:
    """The bias, if its shape is what Keras gives it: from its first axis on, 1 on axes that it is the same for."""
    first = min(letters.outputs.find(axis) for axis in config["bias_axes"])
    wanted = tuple(sizes[axis] if axis in config["bias_axes"] else 1 for axis in letters.outputs[first:])
    if first < 0 or bias.shape != wanted:
        msg = f"bias has shape {bias.shape}; bias_axes={config['bias_axes']!r} of {config['equation']!r} need {wanted}"
        raise MismatchError(msg)
    return bias


def _check_output(stated: tuple[int | None, ...], shape: Shape, at_the_end: bool) -> None:
    found = shape[len(shape) - len(stated) :] if at_the_end else shape[: len(stated)]
    if len(stated) > len(shape) or any(n not in (None, m) for n, m in zip(stated, found, strict=True)):
        msg = f"output_shape={list(stated)} is stated, the kernel makes {shape}"
        raise MismatchError(msg)


def _einsum_dense(given: Given) -> Steps:
    """Kept axes first, the rest as one; the product; the new axes apart and in their places."""
    config, kernel = given.config, given.arrays["kernel"]
    letters = _letters(config["equation"], len(given.shape))
    sizes = dict(zip(letters.inputs, given.shape, strict=True))
    if kernel.ndim != len(letters.kernel) or any(
        size != sizes.setdefault(letter, size) for letter, size in zip(letters.kernel, kernel.shape, strict=False)
    ):
        msg = f"kernel has shape {kernel.shape}, which does not fit {config['equation']!r} and the input {given.shape}"
        raise MismatchError(msg)
    kept, made = (tuple(sizes[letter] for letter in part) for part in (letters.kept, letters.outputs))
    _check_output(config["output_shape"], made, config["equation"].startswith("..."))
    rows = math.prod(sizes[letter] for letter in letters.summed)
    order = [letters.kernel.index(letter) for letter in letters.summed + letters.new]
    steps: Steps = []
    if (before := _ordered(letters.inputs, letters.kept + letters.summed)) is not None:
        steps.append((given.name, Permute(before)))
    if len(letters.summed) != 1:
        steps.append((given.name, Reshape((*kept, rows))))
    steps.append((given.name, Affine(kernel.transpose(order).reshape(rows, -1))))
    if len(letters.new) != 1:
        steps.append((given.name, Reshape((*kept, *(sizes[letter] for letter in letters.new)) or (1,))))
    if (after := _ordered(letters.kept + letters.new, letters.outputs)) is not None:
        steps.append((given.name, Permute(after)))
    if config["bias_axes"]:
        bias = _bias(config, given.arrays["bias"], letters, sizes)
        steps.append((given.name, Rescaling(np.ones(()), bias)))
    return [*steps, *activated(given, f"{given.name}/{_called(config)}", made)]


def _called(config: Config) -> str:
    called = config["activation"]
    return called if isinstance(called, str) else str(called.class_name)


def _output_shape(value: Any) -> tuple[int | None, ...]:
    """Sizes of the output, as far as they are said."""
    given = value if isinstance(value, list) else [value]
    return tuple(None if size is None else values.whole_number(size) for size in given)


def _axes(value: Any) -> str:
    """Letters; null is none."""
    if value is not None and not (isinstance(value, str) and re.fullmatch("[a-zA-Z]*", value)):
        msg = f"{value!r:.40} are no letters of the equation"
        raise FormatError(msg)
    return value or ""


def _roles(config: Config) -> Roles:
    return ("kernel", "bias") if config["bias_axes"] else ("kernel",)


ROWS: Mapping[str, Row] = {
    "EinsumDense": Row(
        _einsum_dense,
        meaning={
            "equation": (_equation, REQUIRED),
            "output_shape": (_output_shape, REQUIRED),
            "activation": (activator, "linear"),
            "bias_axes": (_axes, None),
        },
        inert=initialized("kernel", "bias"),
        only={"quantization_config": None, "lora_rank": None, "lora_alpha": None},
        roles=_roles,
    ),
}
