"""What a framework is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refgrad.agreement import Answer
from refgrad.arrays import Array
from refgrad.graph import Graph


@dataclass(frozen=True, eq=False)
class Question:
    """A graph, inputs (batch, *in) in its order, and the model it is to be compared with, live or as files.

    Where `model` is None, that is the file the graph was read from, if a framework needs one.
    """

    model: Any
    config: Any
    weights: Any
    inputs: tuple[Array, ...]
    graph: Graph


@dataclass(frozen=True, eq=False)
class Reference:
    """The answer, and in words who computed it and how.

    `error` is how far each number may be off by the method alone, beyond rounding of the network in its dtype; None
    where the method has no error of its own.
    """

    answer: Answer
    how: str
    error: Answer | None = None
