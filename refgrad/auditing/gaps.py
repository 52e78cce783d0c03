"""How far the numbers of an answer are off, entry by entry, and what they may be off by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from refgrad.agreement import Answer
from refgrad.arrays import Array, flat
from refgrad.rounding import NEAR

Mask = npt.NDArray[np.bool_]
Samples = slice | npt.NDArray[np.intp] | Mask


def lined(blocks: Sequence[Array]) -> Array:
    """Arrays `(batch, …)` one after the other, `(batch, entries)`, in float64."""
    return np.concatenate([flat(block).astype(np.float64) for block in blocks], axis=1)


@dataclass(frozen=True, eq=False)
class Numbers:
    """Values `(batch, entries)` and Jacobians `(batch, entries)` of all outputs by all inputs."""

    value: Array
    jacobian: Array

    def __getitem__(self, samples: Samples) -> Numbers:
        return Numbers(self.value[samples], self.jacobian[samples])

    @classmethod
    def joined(cls, parts: Sequence[Numbers]) -> Numbers:
        """Those of a whole batch from those of its pieces."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("value", "jacobian")))


def numbers(answer: Answer) -> Numbers:
    """An answer's, in the order of outputs, and of inputs within."""
    return Numbers(lined(answer.values), lined([block for row in answer.jacobians for block in row]))


@dataclass(frozen=True, eq=False)
class Gaps:
    """How far an answer is off at each sample: at the entry of the Jacobian, and of the value, with the largest ratio.

    `ratio` is in deviations, the bound `NEAR` of them; `inside` says of both that all entries are within their bounds.
    """

    entry: npt.NDArray[np.intp]
    error: Array
    bound: Array
    ratio: Array
    value_entry: npt.NDArray[np.intp]
    value_error: Array
    value_bound: Array
    value_ratio: Array
    inside: Mask

    @classmethod
    def joined(cls, parts: Sequence[Gaps]) -> Gaps:
        """Those of a whole batch from those of its pieces."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def replace(self, samples: npt.NDArray[np.intp], newer: Gaps) -> None:
        """Put what is newer of some samples in the place of what was there."""
        for field in fields(self):
            getattr(self, field.name)[samples] = getattr(newer, field.name)

    @property
    def is_value(self) -> Mask:
        """Whether it is the value that is out, and the Jacobian is not."""
        found: Mask = (self.value_error > self.value_bound) & (self.error <= self.bound)
        return found


def difference(one: Array, other: Array) -> Array:
    """|one − other|; equal infinities and NaN against NaN count as equal, NaN against a number as infinitely far."""
    gap = np.abs(one - other)
    gap[(one == other) | (np.isnan(one) & np.isnan(other))] = 0
    gap[np.isnan(gap)] = np.inf
    return gap


def _worst(gap: Array, bound: Array) -> tuple[npt.NDArray[np.intp], Array, Array, Array]:
    """The entry of each sample with the largest share of its bound, the error there, the bound, and the ratio."""
    share = np.where(gap == 0, 0, gap / bound)
    entry = share.argmax(axis=1)
    samples = np.arange(len(gap))
    return entry, gap[samples, entry], bound[samples, entry], NEAR * share[samples, entry]


@dataclass(frozen=True, eq=False)
class Bounds:
    """What an answer is held to: `factor` times 8 σ, values to `floor` if that is more, and the method's own error.

    `factor` counts what the reference is off by; `least` is what numbers below the normal ones round by; `error` is of
    each number, where a method brings one.
    """

    factor: float
    floor: Array
    least: float = 0.0
    error: Numbers | None = None

    def __getitem__(self, samples: Samples) -> Bounds:
        return self if self.error is None else replace(self, error=self.error[samples])

    def gaps(self, answer: Numbers, truth: Numbers, sigma: Numbers) -> Gaps:
        """Compare an answer with the truth, or a reference."""

        def within(deviation: Array) -> Array:
            # What overflowed in the model says nothing of how far a number may be off.
            return NEAR * self.factor * np.where(np.isfinite(deviation), deviation, 0)

        limits = Numbers(np.fmax(within(sigma.value), self.floor), within(sigma.jacobian))
        limits = Numbers(limits.value + self.least, limits.jacobian + self.least)
        if self.error is not None:
            limits = Numbers(limits.value + self.error.value, limits.jacobian + self.error.jacobian)
        jacobian = _worst(difference(answer.jacobian, truth.jacobian), limits.jacobian)
        value = _worst(difference(answer.value, truth.value), limits.value)
        return Gaps(*jacobian, *value, inside=(jacobian[1] <= jacobian[2]) & (value[1] <= value[2]))
