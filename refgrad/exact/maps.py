"""Linear maps between the features of two tensors: what a Jacobian is made of, and how each is applied either way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from flint import arb, arb_mat, fmpz, fmpz_mat

from refgrad.exact.tensors import Balls, Integers, Tensor, objects

Places = npt.NDArray[np.intp]


class Map(ABC):
    """A linear map ẋ ↦ ẏ of vectors `(k, batch, n)`."""

    @abstractmethod
    def push(self, vector: Tensor) -> Tensor:
        """ẏ = M ẋ."""

    @abstractmethod
    def pull(self, vector: Tensor) -> Tensor:
        """x̄ = Mᵀ ȳ."""


@dataclass(frozen=True, eq=False)
class Kernel(Map):
    """ẏ = ẋ W on the last of the axes that the features are: W is `(n_in, n_out)`, the same for all samples."""

    matrix: Integers

    @cached_property
    def _forms(self) -> dict[tuple[bool, bool], Any]:
        return {}

    def _form(self, flipped: bool, exact: bool) -> Any:
        """W or Wᵀ as a matrix of FLINT, of integers or of balls, made when it is first needed."""
        if (flipped, exact) not in self._forms:
            held = self.matrix if exact else self.matrix.balls()
            numbers = held.numbers.T if flipped else held.numbers
            kind = fmpz_mat if exact else arb_mat
            self._forms[flipped, exact] = kind(*numbers.shape, numbers.ravel().tolist())
        return self._forms[flipped, exact]

    def _times(self, vector: Tensor, flipped: bool) -> Tensor:
        n_in, n_out = self.matrix.shape[::-1] if flipped else self.matrix.shape
        rows = vector.numbers.reshape(-1, n_in)
        shape = (*vector.shape[:-1], vector.shape[-1] // n_in * n_out)
        exact = isinstance(vector, Integers)
        left = (fmpz_mat if exact else arb_mat)(*rows.shape, rows.ravel().tolist())
        numbers = objects((left * self._form(flipped, exact)).entries(), shape)
        return Integers(numbers, vector.scale * self.matrix.scale) if isinstance(vector, Integers) else Balls(numbers)

    def push(self, vector: Tensor) -> Tensor:
        """ẋ W."""
        return self._times(vector, flipped=False)

    def pull(self, vector: Tensor) -> Tensor:
        """ȳ Wᵀ."""
        return self._times(vector, flipped=True)


@dataclass(frozen=True, eq=False)
class Terms(Map):
    """ẏ_t = Σ c ẋ_s over terms (t, s, c): sparse.

    `targets` and `sources` are the places t and s, None for each place once and in order; `coefficients` c are
    `(batch or 1, terms)`, None for 1. The map is to `n_out` numbers from `n_in`.
    """

    n_in: int
    n_out: int
    coefficients: Tensor | None = None
    targets: Places | None = None
    sources: Places | None = None

    def _moved(self, vector: Tensor, gather: Places | None, scatter: Places | None, n: int) -> Tensor:
        terms = vector if gather is None else vector[..., gather]
        if self.coefficients is not None:
            terms = self.coefficients * terms
        if scatter is None:
            return terms
        order = np.argsort(scatter, kind="stable")
        places, starts = np.unique(scatter[order], return_index=True)
        sums = terms[..., order]
        sums = sums if len(starts) == len(order) else sums.sums(starts)
        if len(places) == n:
            return sums
        numbers = np.full((*sums.shape[:-1], n), arb(0) if isinstance(sums, Balls) else fmpz(0), object)
        numbers[..., places] = sums.numbers
        return sums.like(numbers)

    def push(self, vector: Tensor) -> Tensor:
        """Gather at the sources, multiply, add up at the targets."""
        return self._moved(vector, self.sources, self.targets, self.n_out)

    def pull(self, vector: Tensor) -> Tensor:
        """Gather at the targets, multiply, add up at the sources."""
        return self._moved(vector, self.targets, self.sources, self.n_in)


@dataclass(frozen=True, eq=False)
class Chain(Map):
    """One map after the other."""

    maps: Sequence[Map]

    def push(self, vector: Tensor) -> Tensor:
        """From the first to the last."""
        for step in self.maps:
            vector = step.push(vector)
        return vector

    def pull(self, vector: Tensor) -> Tensor:
        """From the last to the first."""
        for step in reversed(self.maps):
            vector = step.pull(vector)
        return vector


@dataclass(frozen=True, eq=False)
class Sum(Map):
    """Several maps, added."""

    maps: Sequence[Map]

    def push(self, vector: Tensor) -> Tensor:
        """Σ M ẋ."""
        first, *others = (part.push(vector) for part in self.maps)
        return sum(others, start=first)

    def pull(self, vector: Tensor) -> Tensor:
        """Σ Mᵀ ȳ."""
        first, *others = (part.pull(vector) for part in self.maps)
        return sum(others, start=first)


def diagonal(slope: Tensor) -> Terms:
    """ẏ = s ẋ, number by number; s is `(batch or 1, n)`."""
    return Terms(slope.shape[-1], slope.shape[-1], slope)


def gather(sources: Places, n_in: int) -> Terms:
    """ẏ_j = ẋ_{s_j}."""
    return Terms(n_in, len(sources), None, None, sources)
