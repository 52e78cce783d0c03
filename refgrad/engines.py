"""What can run a graph: NumPy always, the kernels where it can be lowered and Numba is there; and which does."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from refgrad import breakpoints
from refgrad.arrays import Array, Shape
from refgrad.breakpoints import Staircase
from refgrad.derivatives.jacobian import Picked
from refgrad.derivatives.order import Block, Order, order
from refgrad.derivatives.spans import size
from refgrad.ends import Ends, choose, features
from refgrad.errors import MissingExtraError, UnsupportedError
from refgrad.evaluation import Job
from refgrad.graph import Graph
from refgrad.kernels import run
from refgrad.kernels.cuts import Cut, cut
from refgrad.kernels.lower import NotLowered, lower
from refgrad.kernels.program import Program
from refgrad.kernels.run import Runner
from refgrad.options import ENGINES, Engine, Kink, Mode, Options, check
from refgrad.planning import WORTH_A_LOOK, few, plan, searched, shared_at_once, worth_threads

PLAIN = Options()


def _nothing(_: Any) -> None:
    """Takes the place of a brief way where there is none."""


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
    def runner(self) -> Runner:
        """The program, compiled; making it imports Numba."""
        assert isinstance(self.program, Program)
        return Runner(self.program, self.graph.dtype)

    @cached_property
    def direct(self) -> Cut:
        """Where the kernels start for a plain Jacobian."""
        assert isinstance(self.program, Program)
        return cut(self.program, "auto")

    @cached_property
    def kernels_pay(self) -> bool:
        """Whether plain Jacobians go to the kernels, finding out which imports Numba."""
        return isinstance(self.program, Program) and self.job(1, Options()).runner is not None

    @cached_property
    def staircase(self) -> Staircase | str:
        """The table of values and slopes, or why there is none."""
        return (
            breakpoints.obstacle(self.graph)
            or breakpoints.staircase(self.graph)
            or f"it has more than {breakpoints.LARGEST:,} intervals, or rounding blurs them"
        )

    @cached_property
    def worth_a_table(self) -> float:
        """From how many samples on the table is made: there are about as many breakpoints as units."""
        if breakpoints.obstacle(self.graph):
            return np.inf
        return 2 * sum(size(self.graph, index) for index in range(len(self.graph.nodes)))

    def table(self, samples: int, options: Options = PLAIN, whole: bool = True) -> Staircase | None:
        """The table, if it is to be used; `algorithm="staircase"` takes no for an error."""
        wanted = options.algorithm == "staircase"
        if options.algorithm == "chain" or not (
            wanted or (options.engine != "numpy" and samples >= self.worth_a_table)
        ):
            return None
        found: Staircase | str
        if options.mode != "auto" or options.kink == "raise" or not whole:
            found = "it gives whole Jacobians, in no mode, and raises nothing"
        else:
            found = self.staircase
        if isinstance(found, str) and wanted:
            msg = f"algorithm='staircase' cannot run this: {found}; use algorithm='chain' or None"
            raise UnsupportedError(msg)
        return None if isinstance(found, str) else found

    def obstacle(self, kink: Kink = "keras") -> str | None:
        """Why the kernels cannot compute this, or None if they can."""
        if isinstance(self.program, NotLowered):
            return self.program.reason
        return "kernels have no kink='raise'" if kink == "raise" else None

    def described(self) -> str:
        """What `engine="auto"` runs, and why where it is not Numba; Numba is not imported to find out."""
        if obstacle := self.obstacle():
            return f"numpy ({obstacle})"
        return "numba" if run.installed() else f"numpy ({run.NOT_INSTALLED})"

    def chosen(self, engine: Engine, kink: Kink = "keras") -> Runner | str:
        """What runs the program, or why NumPy must; `engine="numba"` takes no for an error."""
        check("engine", engine, ENGINES)
        if engine == "numpy":
            return "engine='numpy' was asked for"
        obstacle = self.obstacle(kink)
        missing = None if obstacle else run.unavailable()
        if engine == "numba" and obstacle:
            msg = f"engine='numba' cannot run this: {obstacle}; use engine='numpy' or 'auto'"
            raise UnsupportedError(msg)
        if engine == "numba" and missing:
            msg = f"engine='numba': {missing}"
            raise MissingExtraError(msg)
        return obstacle or missing or self.runner

    def runs_briefly(self, samples: int) -> bool:
        """Whether the kernels do plain Jacobians in less than it takes to think about threads."""
        if not self.kernels_pay:
            return False
        return samples <= few(self.direct.cost) or (samples < WORTH_A_LOOK and self.table(samples) is not None)

    @cached_property
    def brief_values(self) -> float:
        """Up to how many samples the kernels give values in less than it takes to think about threads.

        Finding out imports Numba.
        """
        return -1 if isinstance(self.chosen("auto"), str) else few(self.graph.parameters)

    def value_briefly(self, x: Array) -> Array:
        """Values of a few samples by the kernels, with nothing around them."""
        if self.table(len(x)) is not None:
            return self.briefly(x)[0]
        y = np.empty((len(x), *self._shapes[0]), x.dtype)
        self.runner.value(x, y)
        return y

    @cached_property
    def brief_value(self) -> Callable[[Any], Array | None]:
        """Values of what the kernels can take as it is, or None."""
        if self.brief_values < 0 or not self._flat:
            return _nothing
        return self.runner.brief_value(*self._brief(self.graph.parameters))

    @cached_property
    def brief(self) -> Callable[[Any], tuple[Array, Array] | None]:
        """Value and Jacobian of what the kernels can take as it is, or None."""
        if not self.kernels_pay or not self._flat:
            return _nothing
        return self.runner.brief(self.direct, *self._brief(self.direct.cost))

    def _brief(self, cost: int) -> tuple[float, float, Callable[[int], int]]:
        """How many samples of such a cost are for one thread, and for one piece of work; and for how many threads."""
        most = min(self.worth_a_table - 1, shared_at_once(0, cost, 2))
        return few(cost), most, lambda samples: worth_threads(samples, cost, None)

    @property
    def _flat(self) -> bool:
        return all(len(self.graph.shapes[end]) == 1 for end in (*self.graph.inputs, *self.graph.outputs))

    def briefly(self, x: Array) -> tuple[Array, Array]:
        """Value and Jacobian of a few samples by the kernels, with nothing around them."""
        y, jacobian = np.empty((len(x), *self._shapes[0]), x.dtype), np.empty((len(x), *self._shapes[1]), x.dtype)
        table = self.table(len(x))
        if table is None:
            self.runner.value_and_jacobian(x, self.direct, "keras", y, jacobian)
            return y, jacobian
        rows = len(x), table.slopes.shape[1]
        left = run.look_up(table, x.reshape(-1), y.reshape(rows), jacobian.reshape(rows))
        if len(left):
            some, slopes = y[left], jacobian[left]
            self.runner.value_and_jacobian(x[left], self.direct, "keras", some, slopes)
            y[left], jacobian[left] = some, slopes
        return y, jacobian

    @cached_property
    def _shapes(self) -> tuple[Shape, Shape]:
        out, features = self.graph.shapes[self.graph.outputs[0]], self.graph.shapes[self.graph.inputs[0]]
        return out, (*out, *features)

    def for_products(
        self, engine: Engine, samples: int, threads: int | None, vectors: int = 1, kink: Kink = "keras"
    ) -> tuple[Runner | None, int]:
        """What runs values, or products with so many vectors; None for NumPy; and how many threads."""
        runner = self.chosen(engine, kink)
        if isinstance(runner, str):
            return None, threads or 1
        return runner, worth_threads(samples, vectors * self.graph.parameters, threads)

    def job(self, samples: int, options: Options) -> Job:
        """The Jacobians that options ask for, and the plan to make them."""
        asked = options.outputs, options.inputs, options.output_index, options.input_index
        unsaid = all(part is None for part in asked)
        graph, outputs, inputs, block, picked = self._all if unsaid else self._wanted(options)
        made = self._order(graph, outputs.places, block, options.mode)
        runner = self.chosen(options.engine, options.kink)
        start = None if isinstance(runner, str) else self._cut(options.mode)
        planned = plan(samples, options, graph, made, start or str(runner))
        several = outputs.named or inputs.named or len(self.graph.outputs) > 1 or len(self.graph.inputs) > 1
        part = any(places is not None for places in picked.rows + picked.columns)
        table = self.table(samples, options, not several and not part)
        if table is not None:
            # The place of each sample that is left over, and what the chain then gives for it.
            planned = searched(
                planned, len(table.starts), options, 8 + 3 * graph.dtype.itemsize * table.slopes.shape[1]
            )
        runs = runner if isinstance(runner, Runner) and planned.engine == "numba" else None
        return Job(graph, outputs, inputs, block, picked, made, runs, start, planned, options, table)

    @cached_property
    def _all(self) -> tuple[Graph, Ends, Ends, Block, Picked]:
        """What is wanted where nothing is said of it."""
        return self._wanted(PLAIN)

    def _wanted(self, options: Options) -> tuple[Graph, Ends, Ends, Block, Picked]:
        """Which Jacobians of which part of the graph."""
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
        return graph, outputs, inputs, block, Picked((rows,) * len(graph.outputs), (columns,) * len(sources))

    def _order(self, graph: Graph, outputs: tuple[int, ...], block: Block, mode: Mode) -> Order:
        key = (outputs, block, mode)
        if key not in self._orders:
            self._orders[key] = order(graph, block, mode)
        return self._orders[key]

    def _cut(self, mode: Mode) -> Cut:
        assert isinstance(self.program, Program)
        return self.direct if mode == "auto" else cut(self.program, mode)
