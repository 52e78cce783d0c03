"""The ops a graph is made of: one file each, and the table that names them all."""

from __future__ import annotations

from refgrad.ops.affine import Affine
from refgrad.ops.elementwise import Elementwise
from refgrad.ops.op import Op
from refgrad.ops.source import Source

OPS: dict[str, type[Op]] = {"affine": Affine, "elementwise": Elementwise, "source": Source}

__all__ = ["OPS", "Affine", "Elementwise", "Op", "Source"]
