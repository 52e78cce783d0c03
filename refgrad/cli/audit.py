"""`refgrad audit`: a comparison with a framework, whose verdict is the exit status."""

from __future__ import annotations

import shlex
from argparse import Namespace
from dataclasses import replace

import numpy as np

from refgrad.arrays import Array
from refgrad.auditing.audit import audit as compare
from refgrad.auditing.coverage import chosen
from refgrad.auditing.text import coloured, plain, summary
from refgrad.cli.inputs import inputs
from refgrad.cli.models import model
from refgrad.cli.say import say, say_json, shows_colour
from refgrad.cli.silence import silenced
from refgrad.network import Network

_AUTO = 1000
"""How many inputs `--samples auto` chooses."""


def _drawn(net: Network, samples: int | str, seed: int) -> dict[str, Array]:
    """Standard normal inputs, or those that turn on what units they can."""
    if isinstance(samples, str):
        return dict(zip(net.input_names, chosen(net, _AUTO, seed), strict=True))
    rng = np.random.default_rng(seed)
    ends = zip(net.input_names, net.input_shapes, strict=True)
    return {name: rng.normal(size=(samples, *shape)).astype(net.dtype) for name, shape in ends}


def _command(arguments: Namespace) -> str:
    """The command line that asks the same again."""
    chosen = ("config", "weights", "against", "reference", "engine", "dtype", "certify")
    given = [(f"--{name}", getattr(arguments, name)) for name in chosen if getattr(arguments, name) not in (None, "")]
    drawn = [("--samples", arguments.samples), ("--seed", arguments.seed)]
    given += [("--input", name) for name in arguments.input] if arguments.input else drawn
    return shlex.join(["refgrad", "audit", arguments.model, *(str(word) for pair in given for word in pair)])


def audit(arguments: Namespace) -> int:
    """Compare sample by sample."""
    net = model(arguments)
    x = inputs(net, arguments.input) if arguments.input else _drawn(net, arguments.samples, arguments.seed)
    with silenced():
        report = compare(
            net,
            x,
            arguments.against,
            model=arguments.reference,
            engine=arguments.engine,
            certify=arguments.certify,
            seed=arguments.seed,
            workers=arguments.workers,
        )
    report = replace(report, provenance=report.provenance | {"command": _command(arguments)})
    if arguments.html:
        report.to_html(arguments.html)
    if arguments.json:
        say_json(report.to_dict())
    elif not arguments.quiet:
        say(summary(report, coloured if shows_colour() else plain))
    return 0 if report.passed else 1
