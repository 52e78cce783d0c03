"""What each command does: arguments in, text out, exit status back."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from refgrad import artifact
from refgrad.arrays import Array
from refgrad.auditing.audit import audit as run_audit
from refgrad.cli import arrays
from refgrad.cli.demo import demo
from refgrad.cli.silence import silenced
from refgrad.errors import InputError, VerificationError, naming
from refgrad.inputs import as_batch
from refgrad.loading import load
from refgrad.network import Network

__all__ = ["audit", "convert", "demo", "inspect", "jacobian", "predict"]


def _load(arguments: Namespace) -> Network:
    net = load(arguments.model, config=arguments.config, weights=arguments.weights)
    dtype = getattr(arguments, "dtype", None)
    return net if dtype is None else net.astype(dtype)


def _print_json(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data, indent=1) + "\n")


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _description(net: Network) -> dict[str, Any]:
    origin, graph = net.graph.provenance, net.graph
    return {
        "writer": origin.writer,
        "container": origin.container,
        "keras": origin.keras,
        "dtype": net.dtype.name,
        "parameters": graph.parameters,
        "inputs": dict(zip(net.input_names, net.input_shapes, strict=True)),
        "outputs": dict(zip(net.output_names, net.output_shapes, strict=True)),
        "layers": [
            {"name": node.name, "op": node.op.label, "shape": shape, "arrays": _shapes(node.op.arrays())}
            for node, shape in zip(graph.nodes, graph.shapes, strict=True)
        ],
        "engine": net.engine,
        "digest": net.digest,
    }


def _shapes(held: dict[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in held.items()}


def inspect(arguments: Namespace) -> int:
    """Show what a model is."""
    net = _load(arguments)
    if arguments.json:
        _print_json(_description(net))
    else:
        _print(net.summary())
    return 0


def convert(arguments: Namespace) -> int:
    """Write the artifact and load it back, which verifies it."""
    net = _load(arguments)
    artifact.save(net, arguments.output, arguments.golden)
    with naming(arguments.output):
        if artifact.load(Path(arguments.output)).digest != net.digest:
            msg = "read back, it is not the network that was written"
            raise VerificationError(msg)
    size = Path(arguments.output).stat().st_size
    if arguments.json:
        done = {"model": arguments.model, "output": arguments.output, "bytes": size}
        _print_json(done | {"digest": net.digest, "verified": True})
    elif not arguments.quiet:
        _print(f"{arguments.model} → {arguments.output}: {size:,} bytes, verified, digest {net.digest[:16]}…")
    return 0


def _inputs(net: Network, source: str) -> Array:
    return as_batch(arrays.read(source, net.input_shapes[0]), net.input_shapes[0], net.dtype, net.input_names[0])[0]


def _give(array: Array, name: str, arguments: Namespace) -> int:
    if arguments.output != "-":
        arrays.write(array, name, arguments.output)
        if arguments.json:
            _print_json({"output": arguments.output, "shape": array.shape, "dtype": array.dtype.name})
    elif arguments.json:
        _print_json({name: _jsonable(array), "shape": array.shape, "dtype": array.dtype.name})
    else:
        arrays.write(array, name, "-")
    return 0


def _jsonable(array: Array) -> Any:
    """Nested lists; JSON has no NaN and no infinity, so they become null."""
    return np.where(np.isfinite(array), array, np.array(None)).tolist()


def predict(arguments: Namespace) -> int:
    """Outputs of given inputs."""
    net = _load(arguments)
    x = _inputs(net, arguments.input)

    def value(piece: Array) -> Array:
        y: Array = net(piece, engine=arguments.engine)
        return y

    return _give(arrays.in_chunks(value, x, "predict", quiet=arguments.quiet), "y", arguments)


def jacobian(arguments: Namespace) -> int:
    """Jacobians at given inputs."""
    net = _load(arguments)
    x = _inputs(net, arguments.input)

    def block(piece: Array) -> Array:
        j: Array = net.jacobian(piece, mode=arguments.mode, kink=arguments.kink, engine=arguments.engine)
        return j

    return _give(arrays.in_chunks(block, x, "jacobian", quiet=arguments.quiet), "jacobian", arguments)


def audit(arguments: Namespace) -> int:
    """Compare with a framework; the exit status is the verdict."""
    net = _load(arguments)
    if arguments.input is not None:
        x = _inputs(net, arguments.input)
    else:
        if arguments.samples < 1 or arguments.seed < 0:
            msg = f"--samples {arguments.samples} --seed {arguments.seed}: at least 1 sample, a seed from 0 up"
            raise InputError(msg)
        x = (
            np.random.default_rng(arguments.seed)
            .normal(size=(arguments.samples, *net.input_shapes[0]))
            .astype(net.dtype)
        )
    reference = {"model": arguments.reference, "config": arguments.config, "weights": arguments.weights}
    with silenced():
        report = run_audit(net, x, arguments.against, **reference)
    if arguments.json:
        _print_json(report.to_dict())
    elif not arguments.quiet:
        _print(report.summary())
    return 0 if report.passed else 1
