"""Time refgrad against every installed peer, in one run, and say by how much it wins or loses.

    python scripts/bench.py [--json FILE] [--plot FILE]     the table of docs/performance.md
    python scripts/bench.py --cold                          fresh processes: import, first Jacobian, peak memory
    python scripts/bench.py --scaling                       time against batch, width, depth and threads

needs the `bench` extra; TensorFlow and torch take part where they are installed. A row is a network and a batch of
float32 (`--dtype float64`) samples; everybody takes and gives NumPy arrays. Results must agree before they are timed.
Ratios are the peer's median time over refgrad's in the same process: above 1, refgrad is faster. TensorFlow and torch
cannot be in one process (each brings an LLVM, which aborts at the second), so torch gets one of its own, with refgrad.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import peers
from timing import gemm_rate, interleaved

import refgrad

NETWORKS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "seed": ((1, 64, 32, 32, 1), (1, 1_000, 100_000)),
    "small": ((16, 64, 64, 8), (1, 1_000, 100_000)),
    "mid": ((10, 256, 256, 256, 10), (1, 1_000, 10_000)),
    "emulator": ((6, 512, 512, 512, 512, 420), (1, 256)),
    "autoencoder": ((784, 256, 32, 256, 784), (1, 32)),
}
"""Name → widths, and batches."""

AGREE = {"float32": 2e-4, "float64": 1e-10}
"""Of the largest entry: the noise of float32 in five layers, and no more."""


def layers(widths: Sequence[int], activation: str, dtype: str, seed: int = 0) -> list[peers.Layer]:
    """He-random kernels and small biases, the last layer linear."""
    rng = np.random.default_rng(seed)
    pairs = list(itertools.pairwise(widths))
    return [
        (
            (rng.standard_normal(pair) * np.sqrt(2 / pair[0])).astype(dtype),
            (0.1 * rng.standard_normal(pair[1])).astype(dtype),
            activation if index < len(pairs) - 1 else "linear",
        )
        for index, pair in enumerate(pairs)
    ]


def share_that_agrees(found: Any, expected: Any, bound: float) -> float:
    """The share of samples whose value and Jacobian are within the bound of the largest entry.

    A sample on a kink to rounding may have another slope in each framework, so it is not asked that all agree.
    """
    good = np.ones(len(np.atleast_1d(expected[0])), bool)
    for mine, theirs in zip(found, expected, strict=True):
        error = np.abs(np.asarray(mine) - theirs).reshape(len(good), -1).max(axis=1)
        good &= error <= bound * np.abs(theirs).max()
    return float(good.mean())


def ways(
    chain: list[peers.Layer], x: Any, values: bool, wanted: Sequence[str]
) -> tuple[refgrad.Network, dict[str, Callable[[], Any]]]:
    """Everybody's call on this batch, refgrad's first."""
    net = refgrad.Network.sequential(chain)
    found: dict[str, Callable[[], Any]] = {"refgrad": (lambda: net(x)) if values else lambda: net.value_and_jacobian(x)}
    for name in wanted:
        for way, run in peers.PEERS[name][0](chain, values).items():
            found[way] = lambda run=run: run(x)  # type: ignore[misc]
    return net, found


def check(found: dict[str, Callable[[], Any]], x: Any, chain: list[peers.Layer], values: bool, bound: float) -> None:
    """Nobody is timed whose results are others than those of a plain chain rule in float64."""
    wide = [(kernel.astype("float64"), bias.astype("float64"), activation) for kernel, bias, activation in chain]
    part = slice(0, 2_000)
    expected = peers.plain_numpy(wide, values)["numpy"](x[part].astype("float64"))
    for name, run in found.items():
        result = run()
        pairs = ((result[part],), (expected,)) if values else (tuple(each[part] for each in result), expected)
        if (share := share_that_agrees(*pairs, bound)) < 0.99:
            sys.exit(f"{name} disagrees with the chain rule on {1 - share:.1%} of the samples: nothing is timed")


def rows(arguments: argparse.Namespace, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A row of the table for each network and batch."""
    rate = gemm_rate(arguments.dtype)
    for network in arguments.network or NETWORKS:
        widths, batches = NETWORKS[network]
        chain = layers(widths, arguments.activation, arguments.dtype)
        for batch in batches:
            x = np.random.default_rng(1).standard_normal((batch, widths[0])).astype(arguments.dtype)
            net, found = ways(chain, x, arguments.values, wanted)
            check(found, x, chain, arguments.values, AGREE[arguments.dtype])
            times = interleaved(found, arguments.seconds)
            mine = times.pop("refgrad")
            row = {
                "network": network,
                "widths": list(widths),
                "batch": batch,
                "seconds": mine,
                "ratios": {name: time / mine for name, time in times.items()},
            }
            if not arguments.values:
                plan = net.plan(batch)
                row |= {"plan": str(plan), "of GEMM": plan.multiply_adds * batch / mine / rate}
            yield row


def together(arguments: argparse.Namespace, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows with all peers: measured here if they bear each other, else in a process for each company."""
    companies = [company for company in ([name for name in wanted if name != "torch"], ["torch"]) if company]
    if len(companies) == 1 or "torch" not in wanted:
        yield from rows(arguments, wanted)
        return
    for network in arguments.network or NETWORKS:
        yield from map(_merged, zip(*(_alone(arguments, network, company) for company in companies), strict=True))


def _merged(same: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return same[0] | {"ratios": {name: ratio for row in same for name, ratio in row["ratios"].items()}}


def _alone(arguments: argparse.Namespace, network: str, company: Sequence[str]) -> list[dict[str, Any]]:
    """A network's rows with some of the peers, measured in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        result = str(Path(folder, "rows.json"))
        options = ["--network", network, "--json", result, "--seconds", str(arguments.seconds)]
        options += ["--dtype", arguments.dtype, "--activation", arguments.activation]
        options += ["--values"] * arguments.values + [part for name in company for part in ("--peer", name)]
        done = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr[-2_000:])
        found: list[dict[str, Any]] = json.loads(Path(result).read_text())["rows"]
    return found


def shown(row: dict[str, Any]) -> str:
    """A row as a line of the table."""
    ratios = ", ".join(f"{name} {ratio:.2f}" for name, ratio in row["ratios"].items())
    share = f"{row['of GEMM']:.0%} of GEMM" if "of GEMM" in row else ""
    best = min(row["ratios"].values())
    return f"{row['network']:<12}{row['batch']:>8,}{row['seconds'] * 1e6:>12,.1f} µs{best:>8.2f}  {share:<13} {ratios}"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    flags = next((line.split(":")[1].split() for line in _lines("/proc/cpuinfo") if line.startswith("flags")), [])
    vector = next((name for name in ("avx512f", "avx2") if name in flags), "unknown")
    found = {"cpu": cpu, "vectors": vector, "threads": peers.threads(), "python": platform.python_version()}
    return found | {"refgrad": refgrad.__version__} | peers.installed()


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def plot(found: list[dict[str, Any]], path: str) -> None:
    """Ratios as bars, on a logarithmic axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.35 * len(found) + 1.5), layout="constrained")
    axes = figure.subplots()
    best = [min((ratio, name) for name, ratio in row["ratios"].items()) for row in found]
    names = [f"{row['network']}, {row['batch']:,} ({name})" for row, (_, name) in zip(found, best, strict=True)]
    axes.barh(names, [ratio for ratio, _ in best], color=["C0" if ratio >= 1 else "C3" for ratio, _ in best])
    axes.axvline(1, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="time of the best peer ÷ time of refgrad")
    axes.invert_yaxis()
    figure.savefig(path)


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--network", action="append", choices=NETWORKS, help="only this one; can be repeated")
    made.add_argument("--peer", action="append", choices=peers.PEERS, help="only this one; can be repeated")
    made.add_argument("--values", action="store_true", help="values without Jacobians")
    made.add_argument("--activation", choices=peers.HIDDEN, default="relu")
    made.add_argument("--dtype", choices=AGREE, default="float32")
    made.add_argument("--seconds", type=float, default=3.0, help="how long each row is measured")
    made.add_argument("--json", metavar="FILE")
    made.add_argument("--plot", metavar="FILE")
    made.add_argument("--cold", action="store_true", help="fresh processes instead of the table")
    made.add_argument("--scaling", action="store_true", help="growth of the time instead of the table")
    return made


def main() -> None:
    """Measure what is asked for, and print it."""
    arguments = parser().parse_args()
    about = machine()
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    if arguments.cold:
        from cold import rows as measured
        from cold import shown as line
    elif arguments.scaling:
        from scaling import rows as measured
        from scaling import shown as line
    else:
        wanted = arguments.peer or list(peers.installed())
        line = shown

        def measured() -> Iterator[dict[str, Any]]:
            return together(arguments, wanted)

        print(f"{'network':<12}{'batch':>8}{'refgrad':>15}{'least':>8}  {'':13} each peer ÷ refgrad")
    found = []
    for row in measured():
        print(line(row), flush=True)
        found.append(row)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"machine": about, "rows": found}, indent=1) + "\n")
    if arguments.plot and found and "ratios" in found[0]:
        plot(found, arguments.plot)


if __name__ == "__main__":
    main()
