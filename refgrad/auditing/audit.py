"""The audit: the same inputs to refgrad and to somebody else, and a verdict on every sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.agreement import Agreement, compare
from refgrad.arrays import Array
from refgrad.auditing.frameworks import FRAMEWORKS, adapter
from refgrad.auditing.frameworks.reference import Question, Reference
from refgrad.auditing.report import SAMPLE, Report
from refgrad.errors import InputError
from refgrad.inputs import as_batch, as_floats
from refgrad.network import Engine, Network

Function = Callable[[Array], tuple[npt.ArrayLike, npt.ArrayLike]]


def _from_function(against: Function, x: Array) -> Reference:
    """What a function gave, if that is a pair of arrays of real numbers."""
    name = f"the function {getattr(against, '__name__', type(against).__name__)}"
    given = against(x.copy())
    if not isinstance(given, tuple | list) or len(given) != 2:
        msg = f"{name} must give the pair (y, J), not {type(given).__name__}"
        raise InputError(msg)
    value, jacobian = (as_floats(part, np.dtype(np.float64), f"what {name} gave") for part in given)
    return Reference(value, jacobian, name)


def _ask(net: Network, x: Array, against: str | Function, model: Any, config: Any, weights: Any) -> Reference:
    if callable(against):
        return _from_function(against, x)
    if against not in FRAMEWORKS:
        msg = f"against={against!r} is none of {', '.join(map(repr, FRAMEWORKS))}, nor a function x -> (y, J)"
        raise InputError(msg)
    origin = net.graph.provenance
    model = origin.source if model is None else model
    if model is None:
        msg = f"against={against!r} needs model= (on the command line --reference): the live model, or its file"
        raise InputError(msg)
    return adapter(against)(Question(model, config, weights, x, net.output_shapes[0], net.dtype, origin))


def _where(net: Network, agreement: Agreement, sample: int) -> str:
    """The Jacobian's worst entry, or the unit near a kink, by name."""
    if agreement.kinks.near[sample]:
        node = net.graph.nodes[agreement.kinks.node[sample]]
        return f"{node.name}[{agreement.kinks.unit[sample]}]"
    (out,), (features,) = net.output_shapes, net.input_shapes
    if not out + features:
        return "J"
    entry = np.unravel_index(agreement.entry[sample], out + features)
    rows, columns = (", ".join(map(str, part)) for part in (entry[: len(out)], entry[len(out) :]))
    return f"dy[{rows}]/dx[{columns}]"


def _verdicts(net: Network, agreement: Agreement) -> npt.NDArray[np.void]:
    rows = np.zeros(len(agreement.agrees), SAMPLE)
    rows["verdict"] = np.where(agreement.agrees, np.where(agreement.kinks.near, "near_kink", "ok"), "discrepant")
    rows["error"], rows["bound"] = agreement.jacobian_error, agreement.jacobian_bound
    rows["value_error"], rows["value_bound"] = agreement.value_error, agreement.value_bound
    rows["where"] = [_where(net, agreement, sample) for sample in range(len(rows))]
    return rows


def audit(
    net: Network,
    x: npt.ArrayLike,
    against: str | Function = "tensorflow",
    *,
    model: Any = None,
    config: Any = None,
    weights: Any = None,
    engine: Engine = "auto",
) -> Report:
    """Compare a network's values and Jacobians at x with those of a framework, or of any function x -> (y, J).

    `model` is the live Keras model or the path of its file (with `config=` or `weights=` as for `load`); where it is
    not given, the file that `net` was loaded from. A sample is near a kink where a unit is within 8 standard deviations
    of its own rounding error from it; there the derivative is a choice, so only the value is judged. Elsewhere |ΔJ| may
    be 1e-13 of max|J| over the set in float64, and 64·2⁻²⁴·√(Σ widths) of it in float32.
    """
    if not isinstance(net, Network):
        msg = f"audit() takes a Network, not a {type(net).__name__}"
        raise InputError(msg)
    batch, _ = as_batch(x, net.input_shapes[0], net.dtype, net.input_names[0])
    ours = net.value_and_jacobian(batch, engine=engine)
    theirs = _ask(net, batch, against, model, config, weights)
    agreement = compare(net.graph, batch, ours, (theirs.value, theirs.jacobian))
    origin = net.graph.provenance
    return Report(
        samples=_verdicts(net, agreement),
        against=theirs.how,
        model={"digest": net.digest, "dtype": net.dtype.name, "writer": origin.writer, "container": origin.container},
        scale=agreement.jacobian_scale,
        judged=agreement.share,
        vacuous=agreement.vacuous,
    )
