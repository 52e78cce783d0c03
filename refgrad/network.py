"""The public face: a graph, and the choice of the engine that runs it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from refgrad import sequential
from refgrad.arrays import Array, Shape
from refgrad.derivatives import margins, order, products
from refgrad.derivatives.jacobian import jacobian
from refgrad.errors import InputError, KinkError, MissingExtraError, UnsupportedError
from refgrad.graph import Graph
from refgrad.inputs import as_batch, as_dtype, as_vectors
from refgrad.kernels import run
from refgrad.kernels.lower import NotLowered, lower
from refgrad.kernels.program import Program

Mode = Literal["auto", "forward", "reverse"]
Kink = Literal["keras", "left", "right", "mean", "raise"]
Engine = Literal["auto", "numpy", "numba"]


def _check(option: str, value: str, allowed: Any) -> None:
    if not isinstance(value, str) or value not in get_args(allowed):
        msg = f"{option}={value!r} is not one of {', '.join(map(repr, get_args(allowed)))}"
        raise InputError(msg)


def _fresh(array: Array) -> Array:
    """An array that is nobody else's: a graph's value may be its input itself, or a view of it."""
    return np.array(array, order="C")


def _check_products(engine: Engine) -> None:
    _check("engine", engine, Engine)
    if engine == "numba":
        msg = "engine='numba' has no kernels for jvp and vjp yet; use engine='numpy' or 'auto'"
        raise UnsupportedError(msg)


@dataclass(frozen=True, eq=False, repr=False)
class Network:
    """A trained network: values and exact derivatives of its output with respect to its input, at inference.

    With features `in` and `out`: x is `(batch, *in)`, or `in` for one sample without the batch axis, which is then
    missing from every result too. Results are new arrays of the network's dtype, and `x` is cast to it once.

    `kink` chooses a unit's slope exactly on a kink: Keras's own, one side's, the mean, or an error. One-sided slopes
    are those of the unit in its pre-activation, not directional derivatives of the network.
    """

    graph: Graph

    def __post_init__(self) -> None:
        """Refuse what the methods cannot give a meaning to yet."""
        if len(self.graph.inputs) != 1 or len(self.graph.outputs) != 1:
            names = f"inputs {self.input_names} and outputs {self.output_names}"
            msg = f"networks of one input and one output are supported so far; this graph has {names}"
            raise UnsupportedError(msg)

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

    def __call__(self, x: npt.ArrayLike, *, engine: Engine = "auto") -> Array:
        """Value y = f(x), `(batch, *out)`."""
        batch, single = self._batch(x)
        program = self._program_for(engine)
        if program is not None:
            y = run.value(program, batch)
        else:
            with np.errstate(all="ignore"):
                y = _fresh(products.values(self.graph, [batch])[self.graph.outputs[0]])
        return y[0] if single else y

    def value_and_jacobian(
        self, x: npt.ArrayLike, *, mode: Mode = "auto", kink: Kink = "keras", engine: Engine = "auto"
    ) -> tuple[Array, Array]:
        """Value, and Jacobian J[b, j, i] = ∂y_j/∂x_i of each sample: `(batch, *out)` and `(batch, *out, *in)`.

        `mode` is the end the chain is multiplied from: "forward" pushes the n_in unit tangents, "reverse" pulls the
        n_out unit cotangents, "auto" does what takes fewer multiply–adds.
        """
        _check("mode", mode, Mode)
        batch, single = self._batch(x)
        direction = self._direction if mode == "auto" else mode
        program = self._program_for(engine, kink)
        if program is not None:
            y, block = run.value_and_jacobian(program, batch, direction)
        else:
            with np.errstate(all="ignore"):
                point = self._linearize(batch, kink)
                block = jacobian(point, direction)
                y = _fresh(point.outputs[0])
        return (y[0], block[0]) if single else (y, block)

    def jacobian(
        self, x: npt.ArrayLike, *, mode: Mode = "auto", kink: Kink = "keras", engine: Engine = "auto"
    ) -> Array:
        """Jacobian J[b, j, i] = ∂y_j/∂x_i of each sample, `(batch, *out, *in)`."""
        return self.value_and_jacobian(x, mode=mode, kink=kink, engine=engine)[1]

    def gradient(
        self, x: npt.ArrayLike, *, mode: Mode = "auto", kink: Kink = "keras", engine: Engine = "auto"
    ) -> Array:
        """Gradient ∂y/∂x of a network whose output is one number per sample, `(batch, *in)`."""
        (out,) = self.output_shapes
        if math.prod(out) != 1:
            msg = (
                f"gradient() is for one output number per sample; this network's output has shape {out}: use jacobian()"
            )
            raise InputError(msg)
        block = self.jacobian(x, mode=mode, kink=kink, engine=engine)
        features = self.input_shapes[0]
        return block.reshape(block.shape[: block.ndim - len(out) - len(features)] + features)

    def jvp(
        self, x: npt.ArrayLike, tangent: npt.ArrayLike, *, kink: Kink = "keras", engine: Engine = "auto"
    ) -> tuple[Array, Array]:
        """Value, and Jacobian–vector product ẏ = J ẋ: what an input moving by ẋ does to the output.

        `tangent` is shaped like x, or `(k, *x.shape)` for k at once; the product is shaped like y, or `(k, *y.shape)`.
        """
        _check_products(engine)
        batch, single = self._batch(x)
        tangents, one = as_vectors(tangent, np.shape(x), self.dtype, "tangent")
        tangents = tangents.reshape(len(tangents), *batch.shape)
        with np.errstate(all="ignore"):
            point = self._linearize(batch, kink)
            (product,) = products.jvp(point, [tangents])
        return self._results(point.outputs[0], product, single, one)

    def vjp(
        self, x: npt.ArrayLike, cotangent: npt.ArrayLike, *, kink: Kink = "keras", engine: Engine = "auto"
    ) -> tuple[Array, Array]:
        """Value, and vector–Jacobian product x̄ = Jᵀ ȳ: the gradient of ⟨ȳ, y⟩ with respect to the input.

        `cotangent` is shaped like y, or `(k, *y.shape)` for k at once; the product like x, or `(k, *x.shape)`.
        """
        _check_products(engine)
        batch, single = self._batch(x)
        with np.errstate(all="ignore"):
            point = self._linearize(batch, kink)
            y = point.outputs[0]
            cotangents, one = as_vectors(cotangent, y.shape[1:] if single else y.shape, self.dtype, "cotangent")
            (product,) = products.vjp(point, [cotangents.reshape(len(cotangents), *y.shape)])
        return self._results(y, product, single, one)

    def summary(self) -> str:
        """A table of the layers, and what the network takes, gives and came from."""
        origin = self.graph.provenance
        rows = [("layer", "op", "output", "parameters")]
        for node, shape in zip(self.graph.nodes, self.graph.shapes, strict=True):
            size = sum(array.size for array in node.op.arrays().values())
            rows.append((node.name, node.op.label, str(shape), f"{size:,}"))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        writer = f", written by Keras {origin.writer}" if origin.writer else ""
        return "\n".join(
            [
                *lines,
                f"{self.graph.parameters:,} parameters, computed in {self.dtype.name}",
                f"from {origin.container}{writer}; kink rules of Keras {origin.keras}",
                f"engine: {self.engine}",
            ]
        )

    def __repr__(self) -> str:
        ends = f"{self.input_shapes[0]} → {self.output_shapes[0]}"
        return f"<refgrad.Network {ends}, {self.graph.parameters:,} parameters, {self.dtype.name}>"

    @property
    def engine(self) -> str:
        """What `engine="auto"` runs, and why where it is not Numba; Numba is not imported to find out."""
        if obstacle := self._obstacle():
            return f"numpy ({obstacle})"
        return "numba" if run.installed() else f"numpy ({run.NOT_INSTALLED})"

    @cached_property
    def _program(self) -> Program | NotLowered:
        return lower(self.graph)

    @cached_property
    def _direction(self) -> order.Direction:
        return order.direction(self.graph)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the graph alone: programs are made from it again."""
        return {"graph": self.graph}

    def _obstacle(self, kink: Kink = "keras") -> str | None:
        """Why the kernels cannot compute this network, or None if they can."""
        if isinstance(self._program, NotLowered):
            return self._program.reason
        return None if kink == "keras" else f"kernels have no kink={kink!r}"

    def _program_for(self, engine: Engine, kink: Kink = "keras") -> Program | None:
        """The program to run, or None for the NumPy path."""
        _check("engine", engine, Engine)
        _check("kink", kink, Kink)
        if engine == "numpy":
            return None
        obstacle = self._obstacle(kink)
        missing = None if obstacle else run.unavailable()
        if engine == "numba" and obstacle:
            msg = f"engine='numba' cannot run this: {obstacle}; use engine='numpy' or 'auto'"
            raise UnsupportedError(msg)
        if engine == "numba" and missing:
            msg = f"engine='numba': {missing}"
            raise MissingExtraError(msg)
        return None if obstacle or missing or isinstance(self._program, NotLowered) else self._program

    def _batch(self, x: npt.ArrayLike) -> tuple[Array, bool]:
        return as_batch(x, self.input_shapes[0], self.dtype, self.input_names[0])

    def _results(self, y: Array, product: Array | None, single: bool, one: bool) -> tuple[Array, Array]:
        assert product is not None, "a network's output depends on its input"
        if single:
            y, product = y[0], product[:, 0]
        return _fresh(y), _fresh(product[0] if one else product)

    def _linearize(self, batch: Array, kink: Kink) -> products.Linearization:
        _check("kink", kink, Kink)
        point = products.linearize(self.graph, [batch], "keras" if kink == "raise" else kink)
        hit = margins.on_kink(point) if kink == "raise" else None
        if hit is not None:
            msg = f"sample {hit[0]}: unit {hit[1]} is exactly on a kink, and kink='raise' was asked for"
            raise KinkError(msg)
        return point
