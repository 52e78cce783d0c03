"""The public face: a graph, and the choice of the engine that runs it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Unpack

import numpy as np
import numpy.typing as npt

from refgrad import evaluation, sequential
from refgrad.agreement import Answer
from refgrad.arrays import Array, Shape
from refgrad.brief import Brief
from refgrad.derivatives.kinks import Kinks
from refgrad.derivatives.order import Direction
from refgrad.ends import Ends, choose
from refgrad.engines import Engines
from refgrad.errors import InputError
from refgrad.graph import Graph
from refgrad.inputs import as_distance, as_dtype, as_inputs, as_vectors, by_name
from refgrad.options import (
    Engine,
    Kink,
    Options,
    Request,
    asked,
    check_product,
    check_samples,
    check_threads,
    takes_options,
)
from refgrad.planning import Plan
from refgrad.results import pair, room, rooms, unbatched
from refgrad.summary import summary

Results = Any
"""An array, or a dict of arrays by name for several outputs (of `vjp`: inputs)."""

Jacobians = Any
"""J, or dicts J[input], J[output], J[output][input] where there are several."""


@dataclass(frozen=True, eq=False, repr=False)
class Network:
    """A trained network: values and exact derivatives of its outputs with respect to its inputs, at inference.

    With features `in` and `out`: x is `(batch, *in)`, or `in` for one sample without the batch axis, which is then
    missing from every result too. Results are new arrays of the network's dtype, and `x` is cast to it once. Several
    inputs are given as a dict by name, or as a list in the order of `input_names`; several outputs are a dict by name.

    `kink` chooses a unit's slope exactly on a kink: Keras's own, one side's, the mean, or an error. One-sided slopes
    are those of the unit in its pre-activation, not directional derivatives of the network.
    """

    graph: Graph

    @classmethod
    def sequential(cls, layers: Iterable[sequential.Layer], *, keras: Literal[2, 3] = 3) -> Network:
        """The network of Dense layers given as (kernel (n_in, n_out), bias (n_out,) or None, activation name)."""
        return cls(sequential.graph(layers, keras))

    @cached_property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Feature shapes of the inputs, without batch."""
        return tuple(self.graph.shapes[index] for index in self.graph.inputs)

    @cached_property
    def output_shapes(self) -> tuple[Shape, ...]:
        """Feature shapes of the outputs, without batch."""
        return tuple(self.graph.shapes[index] for index in self.graph.outputs)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return self.graph.input_names

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return self.graph.output_names

    @property
    def dtype(self) -> np.dtype[Any]:
        """What everything is computed in: the widest dtype the weights are stored in."""
        return self.graph.dtype

    @property
    def digest(self) -> str:
        """SHA-256 that identifies the graph and its weights."""
        return self.graph.digest

    def astype(self, dtype: npt.DTypeLike) -> Network:
        """The same weights, computing in another dtype."""
        return Network(self.graph.astype(as_dtype(dtype)))

    def __call__(self, x: Any, *, engine: Engine = "auto", threads: int | None = None) -> Results:
        """Value y = f(x), `(batch, *out)`."""
        if engine == "auto" and threads is None and (brief := self._brief.fitting_value(x)) is not None:
            return brief
        inputs, single = self._inputs(x)
        if engine == "auto" and threads is None and self._brief.pays_values(len(inputs[0])):
            y = self._brief.value(inputs[0])
            return y[0] if single else y
        check_threads(threads)
        graph, runner, workers = self._engines.for_products(engine, len(inputs[0]), threads)
        values = [np.empty((len(inputs[0]), *shape), self.dtype) for shape in self.output_shapes]
        table = self._engines.table(len(inputs[0])) if engine != "numpy" else None
        start = self._engines.direct if table is not None and runner is not None else None
        evaluation.values(graph, runner, inputs, values, workers, table, start)
        return self._outputs.pack([unbatched(value) for value in values] if single else values)

    @takes_options
    def value_and_jacobian(self, x: Any, **options: Unpack[Request]) -> tuple[Results, Jacobians]:
        """Value, and Jacobian J[b, j, i] = ∂y_j/∂x_i of each sample: `(batch, *out)` and `(batch, *out, *in)`.

        Options: `outputs`, `inputs`, `output_index`, `input_index`, `mode`, `kink`, `engine`, `threads`, `max_bytes`,
        `out`, `progress`; `refgrad.Options` says what each means. `out` takes the pair (y, J).
        """
        if not options and (brief := self._brief.fitting(x)) is not None:
            return brief
        inputs, single = self._inputs(x)
        if not options and self._brief.pays(len(inputs[0])):
            y, jacobian = self._brief.value_and_jacobian(inputs[0])
            return (y[0], jacobian[0]) if single else (y, jacobian)
        chosen = asked(dict(options))
        return self._evaluate(inputs, single, chosen, pair(chosen.out))

    @takes_options
    def jacobian(self, x: Any, **options: Unpack[Request]) -> Jacobians:
        """Jacobian J[b, j, i] = ∂y_j/∂x_i of each sample, `(batch, *out, *in)`; options as `value_and_jacobian`.

        `J[input]`, `J[output]` or `J[output][input]` where there are several of either. `out` takes J.
        """
        if not options:
            return self.value_and_jacobian(x)[1]
        inputs, single = self._inputs(x)
        chosen = asked(dict(options))
        return self._evaluate(inputs, single, chosen, (None, chosen.out))[1]

    @takes_options
    def gradient(self, x: Any, **options: Unpack[Request]) -> Results:
        """Gradient ∂y/∂x where the output is one number per sample, `(batch, *in)`; options as `jacobian`.

        `out` takes the gradient.
        """
        inputs, single = self._inputs(x)
        if not options and self.output_shapes == ((1,),) and self._brief.pays(len(inputs[0])):
            found = self._brief.value_and_jacobian(inputs[0])[1].reshape(inputs[0].shape)
            return found[0] if single else found
        chosen = asked(dict(options))
        job = self._engines.job(len(inputs[0]), chosen)
        if job.outputs.named or job.block.rows != (1,):
            shapes = ", ".join(f"{name!r} {row}" for name, row in zip(job.outputs.names, job.rows, strict=True))
            msg = f"gradient() is for one output number per sample, here is {shapes}: choose one, or use jacobian()"
            raise InputError(msg)
        batch = () if single else (len(inputs[0]),)
        gradients = [
            room(out, batch + column, self.dtype, f"gradient by {name!r}")
            for out, column, name in zip(
                job.inputs.unpack(chosen.out, "out"), job.columns, job.inputs.names, strict=True
            )
        ]
        row = tuple(range(len(batch), len(batch) + len(job.rows[0])))
        blocks = [np.expand_dims(gradient, row) for gradient in gradients]
        self._evaluate(inputs, single, chosen, (None, job.inputs.pack(blocks)))
        return job.inputs.pack(gradients)

    def jvp(
        self, x: Any, tangent: Any, *, kink: Kink = "keras", engine: Engine = "auto", threads: int | None = None
    ) -> tuple[Results, Results]:
        """Value, and Jacobian–vector product ẏ = J ẋ: what an input moving by ẋ does to the output.

        `tangent` is shaped like x, or `(k, *x.shape)` for k at once; the product is shaped like y, or `(k, *y.shape)`.
        For several inputs it is a dict or list as x is; what a dict leaves out, or None, does not move.
        """
        inputs, single = self._inputs(x)
        likes = [
            # One feature: a number is a sample, a list of numbers a batch.
            np.shape(given) if features == (1,) else features if single else (len(inputs[0]), *features)
            for given, features in zip(by_name(x, self.input_names, "x"), self.input_shapes, strict=True)
        ]
        tangents, k = as_vectors(tangent, self.input_names, likes, self.dtype, "tangent")
        vectors = [None if t is None else t.reshape(len(t), *x.shape) for t, x in zip(tangents, inputs, strict=True)]
        check_product(kink, threads)
        values, results = self._product(inputs, vectors, "forward", kink, engine, threads)
        return self._given_back(values, single), self._outputs.pack(_products(results, single, k))

    def vjp(
        self, x: Any, cotangent: Any, *, kink: Kink = "keras", engine: Engine = "auto", threads: int | None = None
    ) -> tuple[Results, Results]:
        """Value, and vector–Jacobian product x̄ = Jᵀ ȳ: the gradient of ⟨ȳ, y⟩ with respect to the input.

        `cotangent` is shaped like y, or `(k, *y.shape)` for k at once; the product like x, or `(k, *x.shape)`. For
        several outputs it is a dict or list; what a dict leaves out, or None, counts as zero.
        """
        inputs, single = self._inputs(x)
        likes = [shape if single else (len(inputs[0]), *shape) for shape in self.output_shapes]
        cotangents, k = as_vectors(cotangent, self.output_names, likes, self.dtype, "cotangent")
        vectors = [
            None if c is None else c.reshape(len(c), len(inputs[0]), *shape)
            for c, shape in zip(cotangents, self.output_shapes, strict=True)
        ]
        check_product(kink, threads)
        values, results = self._product(inputs, vectors, "reverse", kink, engine, threads)
        return self._given_back(values, single), self._by_input.pack(_products(results, single, k))

    def kinks(self, x: Any, tol: float = 0.0) -> Kinks:
        """Which units are within `tol` of a kink at each sample, and how far the nearest one is.

        Distances are those of a unit's pre-activation; only units that move with the input count.
        """
        inputs, _ = self._inputs(x)
        return evaluation.kinks(self.graph, inputs, as_distance(tol))

    @takes_options
    def plan(self, samples: int, **options: Unpack[Request]) -> Plan:
        """Which algorithm `jacobian` would run for so many samples, its counted cost, and why."""
        check_samples(samples)
        return self._engines.job(int(samples), asked(dict(options))).plan

    def summary(self) -> str:
        """A table of the layers, and what the network takes, gives and came from."""
        return summary(self.graph, self.engine)

    def __repr__(self) -> str:
        takes, gives = (", ".join(map(str, shapes)) for shapes in (self.input_shapes, self.output_shapes))
        return f"<refgrad.Network {takes} → {gives}, {self.graph.parameters:,} parameters, {self.dtype.name}>"

    @property
    def engine(self) -> str:
        """What `engine="auto"` runs, and why where it is not Numba; Numba is not imported to find out."""
        return self._engines.described()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the graph alone: all else is made from it again."""
        return {"graph": self.graph}

    @cached_property
    def _engines(self) -> Engines:
        return Engines(self.graph)

    @cached_property
    def _brief(self) -> Brief:
        return Brief(self._engines)

    @cached_property
    def _outputs(self) -> Ends:
        return choose("outputs", None, self.output_names)

    @cached_property
    def _by_input(self) -> Ends:
        return choose("inputs", None, self.input_names)

    def _inputs(self, x: Any) -> tuple[list[Array], bool]:
        return as_inputs(x, self.input_names, self.input_shapes, self.dtype)

    def _evaluate(self, inputs: list[Array], single: bool, options: Options, outs: tuple[Any, Any]) -> tuple[Any, Any]:
        """Values and Jacobians that the options ask for, in new arrays or in `outs`."""
        job = self._engines.job(len(inputs[0]), options)
        values, blocks = rooms(job, () if single else (len(inputs[0]),), outs)
        for what, written in (("y", values), ("J", [block for row in blocks for block in row])):
            if any(np.may_share_memory(array, x) for array in written for x in inputs):
                msg = f"out for {what} overlaps the memory of x, which would change while it is still read; "
                msg += "use another array"
                raise InputError(msg)
        evaluation.jacobians(
            job,
            inputs,
            [value[None] if single else value for value in values],
            [[block[None] if single else block for block in row] for row in blocks],
        )
        return job.outputs.pack(values), job.outputs.pack([job.inputs.pack(row) for row in blocks])

    def _product(
        self,
        inputs: list[Array],
        vectors: list[Array | None],
        direction: Direction,
        kink: Kink,
        engine: Engine,
        threads: int | None,
    ) -> tuple[list[Array], list[Array]]:
        k = next(len(vector) for vector in vectors if vector is not None)
        graph, runner, workers = self._engines.for_products(engine, len(inputs[0]), threads, k, kink)
        return evaluation.product(graph, runner, inputs, vectors, direction, kink, workers)

    def _given_back(self, values: list[Array], single: bool) -> Results:
        return self._outputs.pack([unbatched(value) for value in values] if single else values)


def _products(vectors: list[Array], single: bool, k: int | None) -> list[Array]:
    """Products `(k, batch, *shape)` without the axes that the caller's vectors did not have."""
    return [vector.reshape(vector.shape[: k is not None] + vector.shape[1 + single :]) for vector in vectors]


def answer(net: Network, inputs: Sequence[Array], engine: Engine = "auto") -> Answer:
    """Values and Jacobians of all outputs by all inputs, whatever their number, for comparisons."""
    y, jacobian = net.value_and_jacobian(
        dict(zip(net.input_names, inputs, strict=True)),
        outputs=list(net.output_names),
        inputs=list(net.input_names),
        engine=engine,
    )
    return Answer(tuple(y.values()), tuple(tuple(row.values()) for row in jacobian.values()))
