"""The audit: the same inputs to refgrad and to somebody else, and a verdict on every sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from refgrad.agreement import Agreement, compare
from refgrad.arrays import Array, Shape
from refgrad.auditing.frameworks import FRAMEWORKS
from refgrad.auditing.frameworks.reference import Question, Reference
from refgrad.auditing.report import DISCREPANT, NEAR_KINK, OK, SAMPLE, Report
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
    if model is None:
        model, config, weights = origin.files.model, origin.files.config, origin.files.weights
    if model is None:
        msg = f"against={against!r} needs model= (on the command line --reference): the live model, or its file"
        raise InputError(msg)
    return FRAMEWORKS[against](Question(model, config, weights, x, net.output_shapes[0], net.dtype, origin))


def _index(entry: int, *shapes: Shape) -> list[str]:
    """A flat entry of the joined shapes as one text of indices for each shape."""
    indices = iter(np.unravel_index(entry, sum(shapes, ())))
    return [", ".join(str(next(indices)) for _ in shape) for shape in shapes]


def _where(net: Network, agreement: Agreement, sample: int) -> str:
    """The unit near a kink, or the entry furthest beyond its bound, of the value or of the Jacobian."""
    (out,), (features,) = net.output_shapes, net.input_shapes
    value_out = agreement.value_error[sample] > agreement.value_bound[sample]
    if agreement.kinks.near[sample] and agreement.agrees[sample]:
        node = net.graph.nodes[agreement.kinks.node[sample]]
        return f"{node.name}[{agreement.kinks.unit[sample]}]"
    if value_out and agreement.jacobian_error[sample] <= agreement.jacobian_bound:
        return f"y[{_index(agreement.value_entry[sample], out)[0]}]"
    row, column = _index(agreement.jacobian_entry[sample], out, features)
    return f"dy[{row}]/dx[{column}]"


def _verdicts(net: Network, agreement: Agreement) -> npt.NDArray[np.void]:
    rows = np.zeros(len(agreement.agrees), SAMPLE)
    rows["verdict"] = np.select(
        [~agreement.agrees, agreement.kinks.near], [DISCREPANT.name, NEAR_KINK.name], default=OK.name
    )
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
    not given, the file that `net` was loaded from. A sample is near a kink where a unit that moves with the input is
    within 8 standard deviations of its own rounding error from it; there the slope is a choice, so only the value is
    judged (near a jump, where the value is one too, that it is finite). Elsewhere |ΔJ| may be 1e-13 of max|J| over the
    set in float64, and 64·2⁻²⁴·√(Σ widths) of it in float32.
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
