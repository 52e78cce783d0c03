"""Which slope a rule takes on a kink: those of frameworks, as measured, and the policies of `net.jacobian`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from refgrad.auditing.frameworks.conventions import conventions
from refgrad.auditing.sides import Policy
from refgrad.ops import Elementwise, PReLU
from refgrad.ops.op import KinkPolicy, Op


def rules() -> Iterator[tuple[str, Policy]]:
    """Rules for slopes on kinks: those of frameworks, and the policies."""

    def of(framework: str) -> Policy:
        def policy(op: Op) -> KinkPolicy:
            return rule_of(framework, op)

        return policy

    for framework in ("tensorflow", "jax", "torch"):
        yield framework, of(framework)
    policies: tuple[KinkPolicy, ...] = ("left", "right", "mean")
    for name in policies:
        yield f"{name} slopes", lambda op, name=name: name  # type: ignore[misc]


def rule_of(framework: str, op: Op) -> KinkPolicy:
    """The policy that gives the slope which a framework was seen to take on a kink of an op; Keras's if none was."""
    known = conventions(framework)
    if isinstance(op, Elementwise):
        rows = [key for key in known if key[0] == op.activation]
        row = max(rows, key=lambda key: _likeness(op.parameters, key[1]), default=None)
        return "keras" if row is None else _policy(Elementwise(*row), known[row])
    shared = known[_NAMES["prelu" if isinstance(op, PReLU) else "maximum"], ()][0.0]
    return _OF_OTHERS.get(shared, "keras")


_NAMES = {"prelu": "prelu(0.25)", "maximum": "maximum(x, 0)"}
_OF_OTHERS: Mapping[float, KinkPolicy] = {0.5: "mean", 0.625: "mean", 0.25: "left"}
"""The slopes that were measured of those two, and what they are."""


def _likeness(one: Sequence[float], other: Sequence[float]) -> int:
    """How many parameters are alike: zero, infinite, or neither."""
    return sum((a == 0) == (b == 0) and math.isinf(a) == math.isinf(b) for a, b in zip(one, other, strict=True))


def _policy(measured: Elementwise, slopes: Mapping[float, float]) -> KinkPolicy:
    """What the slope on the first kink that was measured is of that kink."""
    for kink in measured.kinks:
        if kink.where in slopes:
            mean = (kink.left + kink.right) / 2
            choices: dict[KinkPolicy, float] = {"keras": kink.keras, "left": kink.left, "right": kink.right}
            named = choices | {"mean": mean}
            return next((name for name, slope in named.items() if abs(slope - slopes[kink.where]) < 1e-4), "keras")
    return "keras"
