"""What a framework is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.arrays import Array, Shape
from refgrad.graph import Provenance


@dataclass(frozen=True, eq=False)
class Question:
    """A model, live or as files, the inputs (batch, *in), the shape of an output, and the dtype to compute in."""

    model: Any
    config: Any
    weights: Any
    x: Array
    out: Shape
    dtype: np.dtype[Any]
    provenance: Provenance


@dataclass(frozen=True, eq=False)
class Reference:
    """Value (batch, *out), Jacobian (batch, *out, *in), and in words who computed them and how."""

    value: npt.NDArray[Any]
    jacobian: npt.NDArray[Any]
    how: str
