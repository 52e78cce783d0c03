"""A graph in words."""

from __future__ import annotations

from refgrad.graph import Graph


def summary(graph: Graph, engine: str) -> str:
    """A table of the layers, and what the network takes, gives and came from."""
    origin = graph.provenance
    rows = [("layer", "op", "output", "parameters", "takes")]
    for index, (node, shape) in enumerate(zip(graph.nodes, graph.shapes, strict=True)):
        size = sum(array.size for array in node.op.arrays().values())
        takes = ", ".join(graph.nodes[source].name for source in node.inputs if node.inputs != (index - 1,))
        rows.append((node.name, node.op.label, str(shape), f"{size:,}", takes))
    columns = 5 if any(row[4] for row in rows[1:]) else 4
    widths = [max(len(row[column]) for row in rows) for column in range(columns)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row[:columns], widths, strict=True)).rstrip() for row in rows
    ]
    writer = f", written by Keras {origin.writer}" if origin.writer else ""
    return "\n".join(
        [
            *lines,
            *_ends("input", graph.input_names),
            *_ends("output", graph.output_names),
            f"{graph.parameters:,} parameters, computed in {graph.dtype.name}",
            f"from {origin.container}{writer}; kink rules of Keras {origin.keras}",
            f"engine: {engine}",
        ]
    )


def _ends(what: str, names: tuple[str, ...]) -> list[str]:
    """Inputs or outputs by name, where there are several."""
    return [f"{what}s: {', '.join(names)}"] if len(names) > 1 else []
