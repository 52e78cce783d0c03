"""`refgrad jacobian`: Jacobians at given inputs."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from refgrad.cli.engine import engine
from refgrad.cli.inputs import inputs
from refgrad.cli.models import model
from refgrad.cli.results import Results, check, give
from refgrad.cli.say import shows_progress
from refgrad.cli.selection import select


def jacobian(arguments: Namespace) -> int:
    """Compute Jacobians, straight into the file where that is an .npy."""
    net = model(arguments)
    of = select("--of", arguments.of, net.output_names, net.output_shapes)
    wrt = select("--wrt", arguments.wrt, net.input_names, net.input_shapes)

    def results(samples: int) -> Results:
        rows = [wrt.ends.pack([(samples, *row, *column) for column in wrt.shapes]) for row in of.shapes]
        return Results("jacobian", of.ends.pack(rows), net.dtype, titles)

    def titles() -> list[str]:
        blocks = ((rows, columns) for rows in of.labels() for columns in wrt.labels())
        return [f"d{y}/d{x}" for rows, columns in blocks for y in rows for x in columns]

    check(results(0), arguments.output)
    x = inputs(net, arguments.input)

    samples = len(next(iter(x.values())))
    work = samples * net.plan(samples, engine="numpy").multiply_adds

    def compute(into: Any) -> None:
        net.jacobian(
            x,
            outputs=of.asked,
            inputs=wrt.asked,
            output_index=of.index,
            input_index=wrt.index,
            mode=arguments.mode,
            kink=arguments.kink,
            engine=engine(work, arguments),
            threads=arguments.threads,
            max_bytes=arguments.max_bytes,
            out=into,
            progress=shows_progress(arguments),
        )

    give(results(samples), compute, arguments)
    return 0
