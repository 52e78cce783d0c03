"""`refgrad predict`: outputs of given inputs."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from refgrad.chunks import each
from refgrad.cli.engine import engine as chosen
from refgrad.cli.inputs import inputs
from refgrad.cli.models import model
from refgrad.cli.results import Results, check, give
from refgrad.cli.say import shows_progress
from refgrad.cli.selection import select

_AT_ONCE = 16384


def predict(arguments: Namespace) -> int:
    """Compute outputs."""
    net = model(arguments)
    of = select("--of", arguments.of, net.output_names, net.output_shapes)

    def shapes(samples: int) -> Any:
        return of.ends.pack([(samples, *shape) for shape in of.shapes])

    results = Results("y", shapes(0), net.dtype, lambda: [title for part in of.labels() for title in part])
    check(results, arguments.output)
    x = inputs(net, arguments.input)
    samples = len(next(iter(x.values())))
    engine = chosen(samples * net.graph.parameters, arguments)

    def compute(into: Any) -> None:
        def work(piece: slice) -> None:
            found = net({name: array[piece] for name, array in x.items()}, engine=engine, threads=arguments.threads)
            for name, target in zip(of.ends.names, of.ends.unpack(into, "results"), strict=True):
                value = found[name] if isinstance(found, dict) else found
                if of.picked is not None:
                    value = value.reshape(len(value), -1)[:, of.picked]
                target[piece] = value

        each(work, samples, _AT_ONCE, progress=shows_progress(arguments), what="predict")

    give(Results("y", shapes(samples), net.dtype, results.titles), compute, arguments)
    return 0
