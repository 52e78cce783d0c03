"""The audit: the same inputs to refgrad and to somebody else, and a verdict on every sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from refgrad.agreement import Answer, check_shapes
from refgrad.arrays import Array
from refgrad.auditing import truth
from refgrad.auditing.causes import name_causes
from refgrad.auditing.coverage import coverage
from refgrad.auditing.frameworks import FRAMEWORKS
from refgrad.auditing.frameworks.reference import Question, Reference
from refgrad.auditing.gaps import Numbers, numbers
from refgrad.auditing.provenance import gathered
from refgrad.auditing.report import Report
from refgrad.auditing.rows import rows
from refgrad.auditing.screening import value_floor
from refgrad.auditing.tiers import judge
from refgrad.auditing.verdicts import VERDICTS
from refgrad.ends import choose
from refgrad.errors import InputError
from refgrad.inputs import as_floats, as_inputs
from refgrad.network import Network, answer
from refgrad.options import Engine, check_count
from refgrad.rounding import AWAY

Function = Callable[[Any], tuple[Any, Any]]


def _from_function(against: Function, net: Network, inputs: list[Array]) -> Reference:
    """What a function gave, if that is a value and a Jacobian shaped as the network's own."""
    name = f"the function {getattr(against, '__name__', type(against).__name__)}"
    outputs, by = choose("outputs", None, net.output_names), choose("inputs", None, net.input_names)
    given = against(by.pack([x.copy() for x in inputs]))
    if not isinstance(given, tuple | list) or len(given) != 2:
        msg = f"{name} must give the pair (y, J), not {type(given).__name__}"
        raise InputError(msg)

    def floats(part: Any) -> Array:
        return as_floats(part, np.dtype(np.float64), f"what {name} gave")

    values = tuple(floats(part) for part in outputs.unpack(given[0], f"the value that {name} gave"))
    rows = [by.unpack(row, f"the Jacobian that {name} gave") for row in outputs.unpack(given[1], f"what {name} gave")]
    return Reference(Answer(values, tuple(tuple(floats(part) for part in row) for row in rows)), name)


def _ask(
    net: Network, inputs: list[Array], against: str | Function, model: Any, config: Any, weights: Any
) -> Reference:
    if callable(against):
        return _from_function(against, net, inputs)
    if not isinstance(against, str) or against not in FRAMEWORKS:
        msg = f"against={against!r} is none of {', '.join(map(repr, FRAMEWORKS))}, 'exact', nor a function x -> (y, J)"
        raise InputError(msg)
    return FRAMEWORKS[against](Question(model, config, weights, tuple(inputs), net.graph))


def _scale(given: Numbers) -> float:
    """max|J| over the set."""
    return float(np.max(np.abs(given.jacobian), initial=0, where=np.isfinite(given.jacobian)))


def _question(against: Any, model: Any, **options: Any) -> dict[str, Any]:
    """What was asked, as a report keeps it."""
    named = f"{model:.300}" if isinstance(model, str) else model if model is None else repr(model)[:300]
    return {"against": against, "model": named, **options}


def audit(
    net: Network,
    x: Any,
    against: str | Function = "tensorflow",
    *,
    model: Any = None,
    config: Any = None,
    weights: Any = None,
    engine: Engine = "auto",
    certify: int | Literal["auto", "all"] = "auto",
    seed: int = 0,
    workers: int = 1,
    progress: bool = False,
) -> Report:
    """Compare values and Jacobians at x with those of a framework, of any function x -> (y, J), or the truth.

    Several inputs or outputs come and go as they do in `net.value_and_jacobian`.

    `model` is the live Keras model or the path of its file (with `config=` or `weights=` as for `load`); where it is
    not given, the file that `net` was loaded from. Both answers are held to the network in float64, within 8 standard
    deviations of the rounding error of each number in the network's own dtype. Where that is not enough, and for
    `certify` samples drawn with `seed` ("auto": as many as cost little; "all"), they are held to the exact truth, if
    python-flint is there, computed by so many `workers`. Units near kinks are tried on either side, and on the kink by
    the rules of frameworks; each verdict is explained by `refgrad.auditing.verdicts`, and docs/audit.md.

    `against="exact"` holds refgrad alone to the truth, at every sample.
    """
    if not isinstance(net, Network):
        msg = f"audit() takes a Network, not a {type(net).__name__}"
        raise InputError(msg)
    if certify not in ("auto", "all"):
        check_count("certify", certify, least=0)
    check_count("workers", workers)
    inputs, _ = as_inputs(x, net.input_names, net.input_shapes, net.dtype)
    found = answer(net, inputs, engine=engine)
    given, how, error = {"ours": found}, truth.HOW, None
    if against == "exact":
        certify = "all"
    else:
        theirs = _ask(net, inputs, against, model, config, weights)
        check_shapes(found, theirs.answer)
        given["theirs"], how = theirs.answer, theirs.how
        error = None if theirs.error is None else numbers(theirs.error)
    answers, floor = {side: numbers(part) for side, part in given.items()}, value_floor(net.graph, found)
    with np.errstate(all="ignore"):  # infinities and NaN are what the comparison is about
        judged = judge(
            net, inputs, answers, floor, error=error, certify=certify, seed=seed, workers=workers, progress=progress
        )
        if error is None:
            name_causes(net.graph, inputs, judged, given)
    samples, origin = rows(net, judged, answers["ours"], answers.get("theirs")), net.graph.provenance
    told = judged.finite & ~np.isin(samples["verdict"], [name for name, verdict in VERDICTS.items() if verdict.open])
    share = float(told.mean()) if len(told) else 0.0
    asked = _question(against if isinstance(against, str) else how, model, engine=engine, certify=certify, seed=seed)
    return Report(
        samples=samples,
        against=how,
        model={"digest": net.digest, "dtype": net.dtype.name, "writer": origin.writer, "container": origin.container},
        scale=_scale(answers["ours"]),
        judged=share,
        vacuous=share < AWAY,
        coverage=coverage(net, inputs),
        provenance=gathered(net, inputs, asked),
    )
