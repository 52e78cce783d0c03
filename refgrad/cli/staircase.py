"""The demo's picture: a network's derivative beside the slope of the curve it was trained on, with matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from refgrad.errors import InputError, MissingExtraError
from refgrad.network import Network
from refgrad.outfile import replacing


def _figure() -> Any:
    """matplotlib's Figure, used without pyplot: no window system is needed and no global state is left behind."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        msg = "the picture needs matplotlib, which is not installed: pip install matplotlib, or refgrad's extra 'plot'"
        raise MissingExtraError(msg) from None
    return Figure


def staircase(net: Network, path: Path) -> Path:
    """Plot the question's network and its derivative over [−10, 20] with the curve it was trained on, to `path`."""
    x = np.linspace(-10, 20, 3001)[:, None]
    y, jacobian = net.value_and_jacobian(x)
    figure = _figure()(figsize=(8, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(x, (x - 5) ** 2 / 25, color="0.6", linewidth=3, label="trained on: (x − 5)²/25")
    above.plot(x, y, color="C0", label="the network")
    below.plot(x, 2 * (x - 5) / 25, color="0.6", linewidth=3, label="true slope: 2(x − 5)/25")
    below.plot(x, jacobian[:, 0], color="C3", label="the network's dy/dx: a staircase")
    at = net.gradient(0.5)[0]
    below.plot([0.5], [at], "o", color="C3")
    below.annotate(f"dy/dx at 0.5 = {at:.4f}", (0.5, at), textcoords="offset points", xytext=(12, -16))
    for axes, label in ((above, "y"), (below, "dy/dx")):
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend()
    below.set_xlabel("x")
    kind = path.suffix.removeprefix(".")
    if kind not in figure.canvas.get_supported_filetypes():
        msg = (
            f"{path}: matplotlib cannot draw {path.suffix or 'a file without an ending'}; it can draw .png, .pdf, .svg"
        )
        raise InputError(msg)
    with replacing(path) as file:
        figure.savefig(file, format=kind, dpi=120)
    return path
