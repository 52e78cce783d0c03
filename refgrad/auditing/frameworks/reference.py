"""What a framework is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refgrad.agreement import Answer
from refgrad.arrays import Array, Shape
from refgrad.graph import Provenance


@dataclass(frozen=True, eq=False)
class Question:
    """A model, live or as files, inputs (batch, *in) in the network's order, its output shapes, and its dtype."""

    model: Any
    config: Any
    weights: Any
    inputs: tuple[Array, ...]
    outputs: tuple[Shape, ...]
    dtype: np.dtype[Any]
    provenance: Provenance


@dataclass(frozen=True, eq=False)
class Reference:
    """The answer, and in words who computed it and how."""

    answer: Answer
    how: str
