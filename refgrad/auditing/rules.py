"""Which slope a rule takes on a kink: those of frameworks, as measured, and the policies of `net.jacobian`."""

from __future__ import annotations

from collections.abc import Iterator

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
    """The policy that gives the slope which a framework was seen to take on the first kink of an op."""
    known = conventions(framework)
    if isinstance(op, Elementwise):
        for (row, parameters), slopes in known.items():
            if row == op.activation:
                kinks = [kink for kink in type(op)(row, parameters).kinks if kink.where in slopes]
                if kinks:
                    (kink, *_), slope = kinks, slopes[kinks[0].where]
                    choices: dict[KinkPolicy, float] = {"keras": kink.keras, "left": kink.left, "right": kink.right}
                    choices["mean"] = (kink.left + kink.right) / 2
                    return next((name for name, number in choices.items() if abs(number - slope) < 1e-4), "keras")
        return "keras"
    shared = known.get(("prelu(0.25)" if isinstance(op, PReLU) else "maximum(x, 0)", ()), {}).get(0.0)
    return {0.5: "mean", 0.625: "mean", 0.25: "left"}.get(shared, "keras")  # type: ignore[return-value, arg-type]
