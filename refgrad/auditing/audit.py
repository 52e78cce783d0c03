"""The audit: the same inputs to refgrad and to somebody else, and a verdict on every sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.agreement import Agreement, Answer, compare
from refgrad.arrays import Array, Shape
from refgrad.auditing import truth
from refgrad.auditing.coverage import coverage
from refgrad.auditing.frameworks import FRAMEWORKS
from refgrad.auditing.frameworks.reference import Question, Reference
from refgrad.auditing.provenance import gathered
from refgrad.auditing.report import Report
from refgrad.auditing.verdicts import DISCREPANT_SUSPECT, NEAR_KINK, OK, SAMPLE
from refgrad.ends import choose
from refgrad.errors import InputError
from refgrad.inputs import as_floats, as_inputs
from refgrad.network import Network, answer
from refgrad.options import Engine
from refgrad.rounding import NEAR

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


def _entry(entry: int, shapes: Sequence[Shape]) -> tuple[int, str]:
    """Which of several arrays an entry of all of them, one after the other, is in, and its index there as text."""
    for place, shape in enumerate(shapes):
        if entry < math.prod(shape):
            return place, ", ".join(map(str, np.unravel_index(entry, shape)))
        entry -= math.prod(shape)
    msg = "an entry beyond all arrays"
    raise IndexError(msg)


def _is_value(agreement: Agreement) -> npt.NDArray[np.bool_]:
    """Whether it is the value of a sample that is out, rather than the Jacobian, which may differ near a kink."""
    value_out = agreement.value_error > agreement.value_bound
    excused = agreement.kinks.near & np.isfinite(agreement.jacobian_error)
    found: npt.NDArray[np.bool_] = value_out & (excused | (agreement.jacobian_error <= agreement.jacobian_bound))
    return found


def _deviations(error: Array, bound: Array) -> Array:
    """Errors in deviations of rounding: bounds are taken as 8."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = np.where(error == 0, 0, NEAR * error / bound)
    return found


def _where(net: Network, agreement: Agreement, sample: int) -> str:
    """The unit near a kink, or the entry furthest beyond its bound, of the value or of the Jacobian."""
    outs, ins = net.output_shapes, net.input_shapes
    ys = net.output_names if len(outs) > 1 else ("y",)
    xs = net.input_names if len(ins) > 1 else ("x",)
    if agreement.kinks.near[sample] and agreement.agrees[sample]:
        node = net.graph.nodes[agreement.kinks.node[sample]]
        return f"{node.name}[{agreement.kinks.unit[sample]}]"
    if _is_value(agreement)[sample]:
        place, index = _entry(agreement.value_entry[sample], outs)
        return f"{ys[place]}[{index}]"
    place, both = _entry(agreement.jacobian_entry[sample], [out + features for out in outs for features in ins])
    o, i = divmod(place, len(ins))
    indices = both.split(", ")
    row, column = ", ".join(indices[: len(outs[o])]), ", ".join(indices[len(outs[o]) :])
    return f"d{ys[o]}[{row}]/d{xs[i]}[{column}]"


def _verdicts(net: Network, agreement: Agreement) -> npt.NDArray[np.void]:
    rows = np.zeros(len(agreement.agrees), SAMPLE)
    rows["verdict"] = np.select(
        [~agreement.agrees, agreement.kinks.near], [DISCREPANT_SUSPECT.name, NEAR_KINK.name], default=OK.name
    )
    rows["error"], rows["bound"] = agreement.jacobian_error, agreement.jacobian_bound
    rows["value_error"], rows["value_bound"] = agreement.value_error, agreement.value_bound
    rows["ratio"] = _deviations(agreement.jacobian_error, agreement.jacobian_bound)
    rows["value_ratio"] = _deviations(agreement.value_error, agreement.value_bound)
    numbers = np.where(_is_value(agreement)[:, None], agreement.value_numbers, agreement.jacobian_numbers)
    rows["ours"], rows["theirs"], rows["truth"] = *numbers.T, np.nan
    rows["distance"] = agreement.kinks.distance
    rows["where"] = [_where(net, agreement, sample) for sample in range(len(rows))]
    return rows


def audit(
    net: Network,
    x: Any,
    against: str | Function = "tensorflow",
    *,
    model: Any = None,
    config: Any = None,
    weights: Any = None,
    engine: Engine = "auto",
) -> Report:
    """Compare values and Jacobians at x with those of a framework, of any function x -> (y, J), or the truth.

    Several inputs or outputs come and go as they do in `net.value_and_jacobian`.

    `model` is the live Keras model or the path of its file (with `config=` or `weights=` as for `load`); where it is
    not given, the file that `net` was loaded from. A sample is near a kink where a unit that moves with the input is
    within 8 standard deviations of its own rounding error from it; there the slope is a choice, so only the value is
    judged (near a jump, where the value is one too, that it is finite). Elsewhere |ΔJ| may be 1e-13 of max|J| over the
    set in float64, and 64·2⁻²⁴·√(Σ widths) of it in float32.

    `against="exact"` asks `refgrad.exact`, which knows on which side of its kinks every unit is: a sample near a kink
    that is right all the same is judged as all others are, and where rounding flips units the report names them, as far
    as NumPy's own arithmetic shows: sums of other lengths of batch, or of kernels, round differently.
    """
    if not isinstance(net, Network):
        msg = f"audit() takes a Network, not a {type(net).__name__}"
        raise InputError(msg)
    inputs, _ = as_inputs(x, net.input_names, net.input_shapes, net.dtype)
    ours = answer(net, inputs, engine=engine)
    if against == "exact":
        known = truth.ask(net, inputs, ours)
        theirs = Reference(known.answer, truth.HOW)
        agreement = truth.settled(compare(net.graph, inputs, ours, known.answer))
        samples = truth.named(_verdicts(net, agreement), known)
    else:
        theirs = _ask(net, inputs, against, model, config, weights)
        agreement = compare(net.graph, inputs, ours, theirs.answer, theirs.error)
        samples = _verdicts(net, agreement)
    origin = net.graph.provenance
    chosen = {"model": model if model is None else f"{model:.300}" if isinstance(model, str) else repr(model)[:300]}
    chosen["engine"] = engine
    return Report(
        samples=samples,
        against=theirs.how,
        model={"digest": net.digest, "dtype": net.dtype.name, "writer": origin.writer, "container": origin.container},
        scale=agreement.jacobian_scale,
        judged=agreement.share,
        vacuous=agreement.vacuous,
        coverage=coverage(net, inputs),
        provenance=gathered(net, inputs, {"against": against if isinstance(against, str) else theirs.how, **chosen}),
    )
