"""What can run a graph: NumPy always, the kernels where it can be lowered and Numba is there; and which does."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from refgrad.arrays import Array, Shape
from refgrad.chunks import threads_allowed
from refgrad.derivatives.jacobian import Picked
from refgrad.derivatives.order import Block, Direction, Order, from_an_end, order, whole
from refgrad.derivatives.spans import size
from refgrad.ends import choose, features
from refgrad.errors import MissingExtraError, UnsupportedError
from refgrad.evaluation import Job
from refgrad.graph import Graph
from refgrad.kernels import run
from refgrad.kernels.lower import NotLowered, lower
from refgrad.kernels.program import Program
from refgrad.options import Engine, Kink, Mode, Options, check
from refgrad.planning import WORTH_A_THREAD, plan


class Engines:
    """The engines of one graph, made from it when they are first asked for."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._orders: dict[Any, Order] = {}  # searching for one takes longer than a small network's Jacobian

    @cached_property
    def program(self) -> Program | NotLowered:
        """What the kernels run, or why they cannot."""
        return lower(self.graph)

    @cached_property
    def direct(self) -> Order:
        """The order that the kernels take: from either end."""
        return from_an_end(self.graph, whole(self.graph))

    @cached_property
    def kernels_pay(self) -> bool:
        """Whether plain Jacobians go to the kernels, finding out which imports Numba."""
        return self.job(1, Options()).program is not None

    def obstacle(self, kink: Kink = "keras", mode: Mode = "auto") -> str | None:
        """Why the kernels cannot compute this, or None if they can."""
        if isinstance(self.program, NotLowered):
            return self.program.reason
        if mode == "split":
            return "kernels have no mode='split'"
        return None if kink == "keras" else f"kernels have no kink={kink!r}"

    def described(self) -> str:
        """What `engine="auto"` runs, and why where it is not Numba; Numba is not imported to find out."""
        if obstacle := self.obstacle():
            return f"numpy ({obstacle})"
        return "numba" if run.installed() else f"numpy ({run.NOT_INSTALLED})"

    def chosen(self, engine: Engine, kink: Kink = "keras", mode: Mode = "auto") -> Program | str:
        """The program to run, or why NumPy must; `engine="numba"` takes no for an error."""
        check("engine", engine, Engine)
        if engine == "numpy":
            return "engine='numpy' was asked for"
        obstacle = self.obstacle(kink, mode)
        missing = None if obstacle else run.unavailable()
        if engine == "numba" and obstacle:
            msg = f"engine='numba' cannot run this: {obstacle}; use engine='numpy' or 'auto'"
            raise UnsupportedError(msg)
        if engine == "numba" and missing:
            msg = f"engine='numba': {missing}"
            raise MissingExtraError(msg)
        if reason := obstacle or missing:
            return reason
        assert isinstance(self.program, Program)
        return self.program

    def runs_briefly(self, samples: int) -> bool:
        """Whether the kernels do plain Jacobians in less than it takes to think about threads."""
        return samples * self.direct.cost <= WORTH_A_THREAD and self.kernels_pay

    def briefly(self, x: Array) -> tuple[Array, Array]:
        """Value and Jacobian of a few samples by the kernels, with nothing around them."""
        assert isinstance(self.program, Program)
        y, jacobian = np.empty((len(x), *self._shapes[0]), x.dtype), np.empty((len(x), *self._shapes[1]), x.dtype)
        run.value_and_jacobian(self.program, x, self._direction, y, jacobian)
        return y, jacobian

    @cached_property
    def _shapes(self) -> tuple[Shape, Shape]:
        out, features = self.graph.shapes[self.graph.outputs[0]], self.graph.shapes[self.graph.inputs[0]]
        return out, (*out, *features)

    @cached_property
    def _direction(self) -> Direction:
        return "forward" if self.direct.mode == "forward" else "reverse"

    def for_values(self, engine: Engine, samples: int, threads: int | None) -> tuple[Program | None, int]:
        """The program to run for values, or None for NumPy, and how many threads."""
        program = self.chosen(engine)
        if isinstance(program, str):
            return None, threads or 1
        worth = samples * self.graph.parameters // WORTH_A_THREAD
        return program, max(1, min(threads_allowed(threads), worth))

    def job(self, samples: int, options: Options) -> Job:
        """The Jacobians that options ask for, and the plan to make them."""
        outputs = choose("outputs", options.outputs, self.graph.output_names)
        inputs = choose("inputs", options.inputs, self.graph.input_names)
        graph = self.graph.upto(outputs.places)
        sources = tuple(graph.inputs[place] for place in inputs.places)
        rows = features("output_index", options.output_index, [graph.shapes[index] for index in graph.outputs])
        columns = features("input_index", options.input_index, [graph.shapes[index] for index in sources])
        block = Block(
            graph.outputs,
            sources,
            tuple(size(graph, index) if rows is None else rows.size for index in graph.outputs),
            tuple(size(graph, index) if columns is None else columns.size for index in sources),
        )
        made = self._order(graph, outputs.places, block, options.mode)
        program = self.chosen(options.engine, options.kink, options.mode)
        kernels = program if isinstance(program, str) else self._kernels_order(options.mode)
        planned = plan(samples, options, graph, made, kernels)
        picked = Picked((rows,) * len(graph.outputs), (columns,) * len(sources))
        runs = program if isinstance(program, Program) and planned.engine == "numba" else None
        return Job(graph, outputs, inputs, block, picked, made, runs, planned, options)

    def _order(self, graph: Graph, outputs: tuple[int, ...], block: Block, mode: Mode) -> Order:
        key = (outputs, block, mode)
        if key not in self._orders:
            self._orders[key] = order(graph, block, mode)
        return self._orders[key]

    def _kernels_order(self, mode: Mode) -> Order:
        return self.direct if mode == "auto" else self._order(self.graph, (0,), whole(self.graph), mode)
