"""What can run a graph: NumPy always, the kernels where it can be lowered and Numba is there; and which does."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from refgrad import breakpoints
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
from refgrad.kernels.run import COST_OF_A_LOOK, Runner
from refgrad.kernels.segments import Programs, is_joined, programs, segmented
from refgrad.options import ENGINES, Engine, Kink, Mode, Options, check
from refgrad.planning import JOINING, KERNEL_PAYS, joining_pays, plan, searched, work_of_values, worth_threads

PLAIN = Options()

Wanted = tuple[Graph, Ends, Ends, Block, Picked]
"""Of a job: a part of the graph, the ends that are asked for, and the Jacobians."""


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
        if kink == "raise":
            return "kernels have no kink='raise'"
        return self.program.reason if isinstance(self.program, NotLowered) else None

    def described(self) -> str:
        """What `engine="auto"` runs, and why where it is not Numba; Numba is not imported to find out."""
        obstacle = self.obstacle()
        if obstacle and self.has_chains("keras") and run.installed():
            chains = f"{len(self.programs)} chain{'s' * (len(self.programs) > 1)}"
            return f"numba for {chains} in it, numpy for the rest ({obstacle})"
        if obstacle:
            return f"numpy ({obstacle})"
        return "numba" if run.installed() else f"numpy ({run.NOT_INSTALLED})"

    def chosen(self, engine: Engine, kink: Kink = "keras") -> Runner | str:
        """What runs the program, or why NumPy must; `engine="numba"` takes no for an error."""
        check("engine", engine, ENGINES)
        if engine == "numpy":
            return "engine='numpy' was asked for"
        obstacle = self.obstacle(kink)
        none = obstacle is not None and not self.has_chains(kink)
        missing = None if none else run.unavailable()
        if engine == "numba" and none:
            msg = f"engine='numba' cannot run this: {obstacle}; use engine='numpy' or 'auto'"
            raise UnsupportedError(msg)
        if engine == "numba" and missing:
            msg = f"engine='numba': {missing}"
            raise MissingExtraError(msg)
        return obstacle or missing or self.runner

    def has_chains(self, kink: Kink) -> bool:
        """Whether the kernels can run parts of a graph that they cannot run as a whole."""
        return kink != "raise" and isinstance(self.program, NotLowered) and bool(self.programs)

    @cached_property
    def programs(self) -> Programs:
        """Of the chains in a graph that is none."""
        return programs(self.graph)

    def joins(self, engine: Engine, kink: Kink = "keras") -> bool:
        """Whether the graph is to be run with its chains by the kernels."""
        return engine != "numpy" and self.has_chains(kink) and run.unavailable() is None

    @cached_property
    def joined(self) -> Graph:
        """The graph with its chains for the kernels."""
        return segmented(self.graph, self.programs)

    def work_of_values(self, samples: int) -> float:
        """What the kernels do for values of so many samples: see `planning`."""
        if self.table(samples) is not None:
            return samples * COST_OF_A_LOOK
        return work_of_values(samples, self.graph.parameters, self.graph.dtype.itemsize)

    def for_products(
        self, engine: Engine, samples: int, threads: int | None, vectors: int = 0, kink: Kink = "keras"
    ) -> tuple[Graph, Runner | None, int]:
        """What runs values, or products with so many vectors: a graph, or its runner; and how many threads."""
        runner = self.chosen(engine, kink)
        parameters = self.graph.parameters
        cost = max(1, vectors) * parameters
        if isinstance(runner, Runner):
            work = (vectors + 1) * samples * parameters if vectors else self.work_of_values(samples)
            return self.graph, runner, worth_threads(work, threads)
        pays = engine == "numba" or vectors == 0 or joining_pays(parameters, samples, cost)
        if pays and self.joins(engine, kink):
            return self.joined, None, worth_threads(samples * cost / JOINING, threads)
        return self.graph, None, threads or 1

    def job(self, samples: int, options: Options) -> Job:
        """The Jacobians that options ask for, and the plan to make them."""
        runner = self.chosen(options.engine, options.kink)
        start = None if isinstance(runner, str) else self._cut(options.mode)
        joins = isinstance(runner, str) and self.joins(options.engine, options.kink)
        wanted = self._wanted(options, joins)
        joins = joins and is_joined(wanted[0])
        made = self._order(wanted, options.mode)
        if joins and options.engine == "auto":
            apart = self._wanted(options, joins=False)
            alone = self._order(apart, options.mode)
            pays = joining_pays(self.graph.parameters, samples, made.cost)
            if not pays or made.cost > KERNEL_PAYS * alone.cost:
                wanted, made, joins = apart, alone, False
        graph, outputs, inputs, _, picked = wanted
        planned = plan(samples, options, graph, made, start or str(runner), joins=joins)
        several = outputs.named or inputs.named or len(self.graph.outputs) > 1 or len(self.graph.inputs) > 1
        part = any(places is not None for places in picked.rows + picked.columns)
        table = self.table(samples, options, not several and not part)
        if table is not None:
            planned = searched(planned, len(table.starts), options.threads)
        runs = runner if isinstance(runner, Runner) and planned.engine == "numba" else None
        return Job(*wanted, made, runs, start, planned, options, table)

    def _wanted(self, options: Options, joins: bool) -> Wanted:
        """Which Jacobians of which part of the graph."""
        asked = options.outputs, options.inputs, options.output_index, options.input_index
        if all(part is None for part in asked):  # nothing takes longer than to find out the same again
            return self._all_joined if joins else self._all
        return self._found(options, joins)

    @cached_property
    def _all(self) -> Wanted:
        return self._found(PLAIN, joins=False)

    @cached_property
    def _all_joined(self) -> Wanted:
        return self._found(PLAIN, joins=True)

    def _found(self, options: Options, joins: bool) -> Wanted:
        outputs = choose("outputs", options.outputs, self.graph.output_names)
        inputs = choose("inputs", options.inputs, self.graph.input_names)
        graph = (self.joined if joins else self.graph).upto(outputs.places)
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

    def _order(self, wanted: Wanted, mode: Mode) -> Order:
        graph, outputs, _, block, _ = wanted
        key = (outputs.places, len(graph.nodes), block, mode)
        if key not in self._orders:
            self._orders[key] = order(graph, block, mode)
        return self._orders[key]

    def _cut(self, mode: Mode) -> Cut:
        assert isinstance(self.program, Program)
        return self.direct if mode == "auto" else cut(self.program, mode)
