"""What can be said on the command line: a table of options, and a table of commands that take them."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, get_args

from refgrad import __version__
from refgrad.auditing.frameworks import FRAMEWORKS
from refgrad.cli.audit import audit
from refgrad.cli.convert import FORMATS, convert
from refgrad.cli.demo import demo
from refgrad.cli.inspect import inspect
from refgrad.cli.jacobian import jacobian
from refgrad.cli.predict import predict
from refgrad.cli.warmup import warmup
from refgrad.options import MAX_BYTES, Engine, Kink, Mode


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        msg = f"{text!r} is not a whole number above 0"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _samples(text: str) -> int | str:
    return text if text == "auto" else _count(text)


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        msg = f"{text!r} is not a whole number from 0 up"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _share(text: str) -> int | str:
    return text if text in ("auto", "all") else _seed(text)


def _bytes(text: str) -> int:
    match = re.fullmatch(r"([0-9]+)([KMG]?)", text)
    if match is None or not int(match[1]):
        msg = f"{text!r} is not a number of bytes, such as 1000000 or 64M"
        raise argparse.ArgumentTypeError(msg)
    return int(match[1]) << 10 * " KMG".index(match[2] or " ")


def _option(*flags: str, help: str, **settings: Any) -> tuple[tuple[str, ...], dict[str, Any]]:  # noqa: A002
    return flags, {"help": help, **settings}


_MODEL = ".keras, .h5, .json with --weights, or refgrad .npz"
_INPUT = ".npy, .npz or .csv, one sample a row; several inputs: .npz by name, CSV columns in order, or NAME=X for each"
_OUTPUT = "{} to .npy, .npz or .csv; '-', the default: CSV to standard output"

_OPTIONS = {
    "model": _option("model", metavar="MODEL", help=_MODEL),
    "models": _option("model", metavar="MODEL", nargs="+", help=f"{_MODEL}; any number of them"),
    "config": _option("--config", metavar="JSON", help="the config of a file that holds weights only"),
    "weights": _option("--weights", metavar="H5", help="the weights of a JSON config"),
    "isolate": _option(
        "--isolate", action="store_true", help="read the model in a process of its own, limited in memory and time"
    ),
    "json": _option("--json", action="store_true", help="print JSON"),
    "quiet": _option("-q", "--quiet", action="store_true", help="print no progress and no remarks"),
    "input": _option(
        "--input", action="append", metavar="X", help=f"{_INPUT}; '-', the default: CSV from standard input"
    ),
    "y": _option("-o", "--output", default="-", metavar="Y", help=_OUTPUT.format("y (batch, n_out)")),
    "J": _option("-o", "--output", default="-", metavar="J", help=_OUTPUT.format("J (batch, n_out, n_in)")),
    "to": _option(
        *("-o", "--output"),
        required=True,
        metavar="OUT",
        help="OUT.npz, OUT.keras or OUT.h5; for several models a directory, made if need be",
    ),
    "format": _option("--to", choices=FORMATS, help="what to write into a directory (npz)"),
    "of": _option(
        "--of", action="append", metavar="OUTPUT", help="name or place, e.g. y, 0, y[0], y[2:5]; repeat it for several"
    ),
    "wrt": _option(
        "--wrt", action="append", metavar="INPUT", help="name or place, e.g. x, 0, x[0], x[2:5]; repeat it for several"
    ),
    "mode": _option("--mode", choices=get_args(Mode), default="auto", help="which end to multiply from (auto)"),
    "kink": _option("--kink", choices=get_args(Kink), default="keras", help="slope on a kink (keras)"),
    "engine": _option("--engine", choices=get_args(Engine), default="auto", help="what computes (auto)"),
    "threads": _option(
        "--threads", type=_count, metavar="N", help="how many at most (REFGRAD_NUM_THREADS, or all CPUs allowed)"
    ),
    "max-bytes": _option(
        "--max-bytes", type=_bytes, default=MAX_BYTES, metavar="N", help="memory for temporaries, e.g. 64M (256M)"
    ),
    "golden": _option("--golden", type=_count, metavar="N", help="samples recorded in an .npz to verify it with (16)"),
    "dtype": _option("--dtype", choices=("float32", "float64"), help="compute in this dtype instead of the file's"),
    "against": _option(
        "--against",
        choices=(*FRAMEWORKS, "exact"),
        default="tensorflow",
        help="who to ask (tensorflow); each needs the extra tf, jax, torch or exact, differences none",
    ),
    "reference": _option("--reference", metavar="FILE", help="the model file that the framework loads (MODEL)"),
    "at": _option("--input", action="append", metavar="X", help=f"{_INPUT}; '-': CSV from standard input"),
    "samples": _option(
        "--samples",
        type=_samples,
        default=1000,
        metavar="N",
        help="standard normal inputs (1000); auto: 1000 that turn on what units they can",
    ),
    "seed": _option("--seed", type=_seed, default=0, metavar="S", help="seed of --samples and --certify (0)"),
    "certify": _option(
        "--certify",
        type=_share,
        default="auto",
        metavar="N",
        help="samples that look right which the exact truth is asked of, too: as many as cost little (auto), or all",
    ),
    "workers": _option("--workers", type=_count, default=1, metavar="N", help="processes for the exact truth (1)"),
    "html": _option("--html", metavar="R", help="write the report as one HTML page, too"),
    "plot": _option("--plot", default="refgrad-demo.png", metavar="PNG", help="where the plot goes (%(default)s)"),
}


@dataclass(frozen=True)
class _Command:
    """A command: its function, what it does, its options, lines that show it at work, and what else to know."""

    run: Callable[[argparse.Namespace], int]
    text: str
    options: str
    examples: tuple[str, ...]
    more: str = ""


_COMMANDS = {
    "inspect": _Command(
        inspect,
        "show layers, shapes, parameters, the writer's version and kinks",
        "model config weights isolate",
        ("refgrad inspect model.keras", "refgrad inspect model.json --weights model.weights.h5 --json"),
    ),
    "convert": _Command(
        convert,
        "write models as self-verifying .npz or as Keras files, each read back before it gets its name",
        "models config weights isolate to format golden dtype",
        (
            "refgrad convert model.keras -o model.npz --golden 100",
            "refgrad convert model.h5 -o new.keras",
            "refgrad convert model.keras critic.npz -o converted/ --to keras",
        ),
        "Current Keras opens the .keras and .h5 files that are written, whichever Keras wrote the model.",
    ),
    "predict": _Command(
        predict,
        "compute outputs",
        "model config weights isolate input y of engine threads",
        (
            "echo 0.5 | refgrad predict model.keras",
            "refgrad predict model.keras --input x.csv -o y.npy",
            "refgrad predict critic.npz --input state=s.npy --input action=a.npy -o y.npz",
        ),
        "CSV has one row a sample. Several outputs go by their names: as arrays of an .npz, in CSV under a line of "
        "titles z[0],z[1],w. Titles like these over the columns of inputs are followed.",
    ),
    "jacobian": _Command(
        jacobian,
        "compute Jacobians",
        "model config weights isolate input J of wrt mode kink engine threads max-bytes",
        (
            "echo 0.5 | refgrad jacobian model.keras",
            "refgrad jacobian model.keras --input x.csv -o J.npy --max-bytes 64M",
            "refgrad jacobian critic.npz --input sa.npz --of q --wrt 'action[0]'",
        ),
        "CSV has one row a sample: ∂y_0/∂x_0, ∂y_0/∂x_1, …, ∂y_1/∂x_0, …. Several Jacobians go by name: OUTPUT for "
        "several outputs, INPUT for several inputs, OUTPUT/INPUT for both; in CSV under titles dz[0]/dx[0],…. An .npy "
        "may be larger than memory.",
    ),
    "audit": _Command(
        audit,
        "compare value and Jacobian with another framework, sample by sample",
        "model config weights isolate against reference at samples seed certify workers engine dtype html",
        (
            "refgrad audit model.keras --samples 1000 --html report.html",
            "refgrad audit model.keras --input x.csv --json",
        ),
    ),
    "warmup": _Command(
        warmup,
        "compile the kernels now",
        "dtype",
        ("refgrad warmup --dtype float32",),
        "They are kept beside the installed package, or in the folder that NUMBA_CACHE_DIR names, for all processes "
        "and models; without this, the first call does it. Without --dtype it is done for float32 and float64.",
    ),
    "demo": _Command(demo, "answer the question this project was born from", "plot", ("refgrad demo",)),
}
_ALONE = ("at", "samples")
"""Options of which one may be given."""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, as all of refgrad's are."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"refgrad: {' '.join(message.split())} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="refgrad", description="Trained Keras networks as plain NumPy, with exact derivatives that are checked."
    )
    parser.add_argument("--version", action="version", version=f"refgrad {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in _COMMANDS.items():
        made = subparsers.add_parser(
            name,
            help=command.text,
            description=textwrap.fill(f"{command.text[0].upper()}{command.text[1:]}. {command.more}", 100),
            epilog="\n  ".join(["examples:", *command.examples]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        made.set_defaults(run=command.run)
        options = (*command.options.split(), "json", "quiet")
        either = made.add_mutually_exclusive_group() if set(_ALONE) <= set(options) else made
        for option in options:
            flags, settings = _OPTIONS[option]
            (either if option in _ALONE else made).add_argument(*flags, **settings)
    return parser
