"""`refgrad inspect`: what a model is."""

from __future__ import annotations

import math
from argparse import Namespace
from dataclasses import asdict
from typing import Any

import numpy as np

from refgrad.cli.models import opened
from refgrad.cli.say import say, say_json
from refgrad.graph import Graph
from refgrad.network import Network


def _kinks(graph: Graph) -> dict[str, int]:
    """How many units with a kink or jump each layer has; that an op has any shows without a single sample."""
    units: dict[str, int] = {}
    for node in graph.nodes:
        margins = node.op.margins(tuple(np.zeros((0, *graph.shapes[source]), graph.dtype) for source in node.inputs))
        if margins is not None:
            units[node.name] = units.get(node.name, 0) + math.prod(margins.shape[1:])
    return units


def _description(net: Network, warnings: list[str]) -> dict[str, Any]:
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
            {
                "name": node.name,
                "op": node.op.label,
                "shape": shape,
                "takes": [graph.nodes[source].name for source in node.inputs],
                "arrays": {name: array.shape for name, array in node.op.arrays().items()},
            }
            for node, shape in zip(graph.nodes, graph.shapes, strict=True)
        ],
        "kinks": _kinks(graph),
        "engine": net.engine,
        "digest": net.digest,
        "rewritings": [asdict(rewriting) for rewriting in origin.rewritings],
        "warnings": warnings,
    }


def _said(graph: Graph) -> str:
    units = _kinks(graph)
    if not units:
        return "kinks: none"
    layers = ", ".join(f"{name} ({count:,})" for name, count in units.items())
    return f"kinks: {sum(units.values()):,} units have one, in {layers}"


def _rewritten(graph: Graph) -> list[str]:
    """What was read as something else: each thing once, with the layers that it is of."""
    places: dict[tuple[str, str], list[str]] = {}
    for one in graph.provenance.rewritings:
        places.setdefault((one.rule, one.what), []).append(one.where)
    lines = []
    for (rule, what), where in places.items():
        more = f" and {len(where) - 3} more" if len(where) > 3 else ""
        lines.append(f"  {rule}: {what}" + (f" ({', '.join(where[:3])}{more})" if where[0] else ""))
    return ["rewritten:", *lines] if lines else []


def inspect(arguments: Namespace) -> int:
    """Show layers, shapes, parameters, the writer's version, where kinks are, and what was read as something else."""
    net, warnings = opened(arguments.model, arguments)
    if arguments.json:
        say_json(_description(net, warnings))
    else:
        remarks = ["warnings:", *(f"  {warning}" for warning in warnings)] if warnings else []
        say("\n".join([net.summary(), _said(net.graph), *_rewritten(net.graph), *remarks]))
    return 0
