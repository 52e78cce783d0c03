"""What can be said on the command line, and which function each command is."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn, get_args

from refgrad import __version__
from refgrad.auditing.frameworks import FRAMEWORKS
from refgrad.cli import commands
from refgrad.options import Engine, Kink, Mode

_EXAMPLES = {
    "inspect": "refgrad inspect model.keras",
    "convert": "refgrad convert model.keras -o model.npz",
    "predict": "echo 0.5 | refgrad predict model.keras",
    "jacobian": "echo 0.5 | refgrad jacobian model.keras",
    "audit": "refgrad audit model.keras --samples 1000",
    "demo": "refgrad demo",
}


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, as all of refgrad's are."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"refgrad: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="refgrad", description="Trained Keras networks as plain NumPy, with exact derivatives that are checked."
    )
    parser.add_argument("--version", action="version", version=f"refgrad {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = subparsers.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"example:\n  {_EXAMPLES[name]}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(run=run)
        made.add_argument("--json", action="store_true", help="print JSON")
        made.add_argument("-q", "--quiet", action="store_true", help="print no progress and no remarks")
        return made

    def model(made: argparse.ArgumentParser) -> None:
        made.add_argument("model", metavar="MODEL", help=".keras, .h5, .json with --weights, or refgrad .npz")
        made.add_argument("--config", metavar="JSON", help="the config of a file that holds weights only")
        made.add_argument("--weights", metavar="H5", help="the weights of a JSON config")

    def arrays(made: argparse.ArgumentParser, result: str) -> None:
        made.add_argument(
            "--input",
            default="-",
            metavar="X",
            help=".npy, .npz or .csv, one sample a row; '-', the default: CSV from stdin, perhaps with a line of names",
        )
        made.add_argument(
            "-o",
            "--output",
            default="-",
            metavar="OUT",
            help=f"where {result} goes: .npy, .npz or .csv; '-', the default: CSV to standard output",
        )
        made.add_argument("--engine", choices=get_args(Engine), default="auto", help="what computes (default: auto)")

    made = command("inspect", commands.inspect, "show layers, shapes, parameters and the writer's version")
    model(made)

    made = command("convert", commands.convert, "write a model as a self-verifying .npz, and verify it")
    model(made)
    made.add_argument("-o", "--output", required=True, metavar="OUT.npz", help="the file to write")
    made.add_argument(
        "--golden", type=int, default=None, metavar="N", help="samples recorded to verify with (default: 16)"
    )
    made.add_argument("--dtype", choices=("float32", "float64"), help="compute in this dtype instead of the file's")

    made = command("predict", commands.predict, "compute outputs")
    model(made)
    arrays(made, "y (batch, n_out)")

    made = command("jacobian", commands.jacobian, "compute Jacobians, in CSV one row a sample: ∂y_0/∂x_0, ∂y_0/∂x_1, …")
    model(made)
    arrays(made, "J (batch, n_out, n_in)")
    made.add_argument(
        "--mode", choices=get_args(Mode), default="auto", help="which end to multiply from (default: auto)"
    )
    made.add_argument("--kink", choices=get_args(Kink), default="keras", help="slope on a kink (default: keras)")

    made = command("audit", commands.audit, "compare value and Jacobian with another framework, sample by sample")
    model(made)
    made.add_argument(
        "--against", choices=tuple(FRAMEWORKS), default="tensorflow", help="who to ask (default: tensorflow)"
    )
    made.add_argument("--reference", metavar="MODEL", help="the file the framework loads (default: MODEL)")
    given = made.add_mutually_exclusive_group()
    given.add_argument("--input", metavar="X", help=".npy, .npz or .csv; '-': CSV from standard input")
    given.add_argument("--samples", type=int, default=1000, metavar="N", help="standard normal inputs (default: 1000)")
    made.add_argument("--seed", type=int, default=0, metavar="S", help="seed of --samples (default: 0)")
    made.add_argument("--dtype", choices=("float32", "float64"), help="compare in this dtype instead of the file's")

    made = command("demo", commands.demo, "answer the question this project was born from")
    made.add_argument(
        "--plot", default="refgrad-demo.png", metavar="PNG", help="where the plot goes (default: %(default)s)"
    )
    return parser
