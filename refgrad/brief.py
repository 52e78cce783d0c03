"""What is asked of a network most, with as little around it as there can be: some samples, and no options."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.engines import Engines
from refgrad.kernels.program import Program
from refgrad.kernels.run import COST_OF_A_LOOK
from refgrad.options import Options
from refgrad.planning import few, few_values, shared_at_once, worth_threads


def _nothing(_: Any) -> None:
    """Takes the place of a brief way where there is none."""


class Brief:
    """The short ways of one graph, for what the kernels do in less than it takes to think about threads."""

    def __init__(self, engines: Engines) -> None:
        self.engines, self.graph = engines, engines.graph

    @cached_property
    def kernels_pay(self) -> bool:
        """Whether plain Jacobians go to the kernels, finding out which imports Numba."""
        return isinstance(self.engines.program, Program) and self.engines.job(1, Options()).runner is not None

    def pays(self, samples: int) -> bool:
        """Whether plain Jacobians are the kernels', in less than it takes to think about threads, or a table's."""
        return self.kernels_pay and (samples <= few(self.engines.direct.cost) or self._looked_up(samples))

    def pays_values(self, samples: int) -> bool:
        """Whether values are."""
        return self.most_values >= 0 and (samples <= self.most_values or self._looked_up(samples))

    def _looked_up(self, samples: int) -> bool:
        return samples <= shared_at_once(COST_OF_A_LOOK, 1) and self.engines.table(samples) is not None

    @cached_property
    def most_values(self) -> float:
        """Up to how many samples the kernels give values in less than it takes to think about threads.

        Finding out imports Numba.
        """
        return -1 if isinstance(self.engines.chosen("auto"), str) else self._few_values

    @property
    def _few_values(self) -> float:
        return few_values(self.graph.parameters, self.graph.dtype.itemsize)

    def value(self, x: Array) -> Array:
        """Values of a few samples by the kernels, with nothing around them."""
        y, table = np.empty((len(x), *self._shapes[0]), x.dtype), self.engines.table(len(x))
        if table is None:
            self.engines.runner.value(x, y)
        else:
            self.engines.runner.look_up(table, x, self.engines.direct, "keras", y, None, self._threads_to_look(len(x)))
        return y

    @cached_property
    def fitting_value(self) -> Callable[[Any], Array | None]:
        """Values of what the kernels can take as it is, or None."""
        if self.most_values < 0 or not self._flat:
            return _nothing
        return self.engines.runner.brief_value(
            self._few_values, self._most(self.graph.parameters),
            lambda samples: worth_threads(self.engines.work_of_values(samples), None),
        )  # fmt: skip

    @cached_property
    def fitting(self) -> Callable[[Any], tuple[Array, Array] | None]:
        """Value and Jacobian of what the kernels can take as it is, or None."""
        if not self.kernels_pay or not self._flat:
            return _nothing
        cost = self.engines.direct.cost
        return self.engines.runner.brief(
            self.engines.direct, few(cost), self._most(cost), lambda samples: worth_threads(samples * cost, None)
        )

    def _most(self, cost: int) -> float:
        """How many samples of such a cost are for one piece of work, and no table."""
        return min(self.engines.worth_a_table - 1, shared_at_once(cost, 2))

    @property
    def _flat(self) -> bool:
        return all(len(self.graph.shapes[end]) == 1 for end in (*self.graph.inputs, *self.graph.outputs))

    def value_and_jacobian(self, x: Array) -> tuple[Array, Array]:
        """Value and Jacobian of a few samples by the kernels, with nothing around them."""
        y, jacobian = np.empty((len(x), *self._shapes[0]), x.dtype), np.empty((len(x), *self._shapes[1]), x.dtype)
        table, runner, start = self.engines.table(len(x)), self.engines.runner, self.engines.direct
        if table is None:
            runner.value_and_jacobian(x, start, "keras", y, jacobian)
        else:
            runner.look_up(table, x, start, "keras", y, jacobian, self._threads_to_look(len(x)))
        return y, jacobian

    @staticmethod
    def _threads_to_look(samples: int) -> int:
        return worth_threads(samples * COST_OF_A_LOOK, None)

    @cached_property
    def _shapes(self) -> tuple[Shape, Shape]:
        out, features = self.graph.shapes[self.graph.outputs[0]], self.graph.shapes[self.graph.inputs[0]]
        return out, (*out, *features)
