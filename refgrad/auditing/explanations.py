"""Why an answer that is off at a kink may be right all the same: other sides, limits beside the kink, rules for kinks.

Each is tried: the network is evaluated in float64 with units put elsewhere (`sides`), and what fits to the bounds of
tier 0 explains the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np

from refgrad.arrays import Array, flat
from refgrad.auditing.frameworks.conventions import conventions
from refgrad.auditing.gaps import Bounds, Numbers
from refgrad.auditing.screening import memory, noisy
from refgrad.auditing.sides import LEAVE, ON, OTHER, Codes, Mask, Policy, beside, can_be_put, put, read, sides
from refgrad.auditing.verdicts import CLARKE_ELEMENT, KINK_CONVENTION, KINK_FLIP
from refgrad.chunks import each, samples_within
from refgrad.derivatives.margins import closeness
from refgrad.derivatives.products import linearize
from refgrad.graph import Graph
from refgrad.ops import Elementwise, PReLU
from refgrad.ops.op import KinkPolicy, Op
from refgrad.options import MAX_BYTES
from refgrad.rounding import NEAR, deviations

MOST = 6
"""How many units of a sample, the nearest to their kinks, are tried on both sides."""

_DIRECTIONS = 24
"""How many random directions a kink is left in, and as many opposite ones, beside those of the first inputs."""
_STEP = 2.0**-24
"""How far, for numbers near 1: seen by float64, and below what another kink is away by all odds."""

Unit = tuple[int, int]
Placing = Mapping[Unit, int]


@dataclass(frozen=True)
class Explanation:
    """A verdict, the units it is about, and the rule for kinks that it names."""

    verdict: str
    units: tuple[Unit, ...]
    rule: str = ""


@dataclass(frozen=True, eq=False)
class Units:
    """The units of each sample that are near kinks, the nearest first, and the side that each is on.

    `more` are samples with units that will not be tried: there are too many, or their ops have no sides.
    """

    near: list[dict[Unit, int]]
    more: Mask


@dataclass(frozen=True, eq=False)
class Trial:
    """An answer at some samples, and what it is held to."""

    graph: Graph
    twin: Graph
    inputs: Sequence[Array]
    answer: Numbers
    bounds: Bounds

    def fits(self, rows: Sequence[tuple[int, Placing]], policy: Policy = lambda op: "keras") -> Mask:
        """For each sample and placing of its units, whether the answer is the network's so placed."""
        found = np.zeros(len(rows), bool)

        def work(piece: slice) -> None:
            these = rows[piece]
            samples = np.array([sample for sample, _ in these], np.intp)
            placed: dict[int, Codes] = {}
            for row, (_, placing) in enumerate(these):
                for (node, unit), code in placing.items():
                    shape = (len(these), *self.graph.shapes[node])
                    flat(placed.setdefault(node, np.full(shape, LEAVE, np.int8)))[row, unit] = code
            inputs = [x[samples].astype(np.float64) for x in self.inputs]
            reference, noise = noisy(self.graph, put(self.twin, inputs, placed, policy))
            found[piece] = self.bounds[samples].gaps(self.answer[samples], reference, noise.sigma).inside

        if rows:
            each(work, len(rows), samples_within(MAX_BYTES, memory(self.graph)))
        return found


def near_units(graph: Graph, twin: Graph, inputs: Sequence[Array], true: Mapping[int, Codes] | None = None) -> Units:
    """Those within 8 σ of a kink. `true` are the sides of all units by node, ON where truth is on the kink itself."""
    samples = len(inputs[0])
    found: list[list[tuple[float, Unit, int]]] = [[] for _ in range(samples)]
    more = np.zeros(samples, bool)
    if not samples:
        return Units([], more)
    point = linearize(twin, [x.astype(np.float64) for x in inputs], "keras")
    for index, ratio, _ in closeness(replace(point, graph=graph), deviations(graph, point.values)):
        op = twin.nodes[index].op
        if not can_be_put(op):
            more |= (ratio <= NEAR).any(axis=1)
            continue
        reads = read(point, index)
        codes = flat(sides(op, reads, reads) if true is None else true[index])
        if true is None:
            codes = np.where(ratio == 0, ON, codes)
        for sample, unit in np.argwhere((ratio <= NEAR) | ((codes == ON) & np.isfinite(ratio))):
            found[sample].append((float(ratio[sample, unit]), (index, int(unit)), int(codes[sample, unit])))
    nearest = [sorted(units) for units in found]
    more |= np.array([len(units) > MOST for units in nearest])
    return Units([{unit: code for _, unit, code in units} for units in nearest], more)


def explain(trial: Trial, units: Units, samples: Iterable[int], off: Mask) -> dict[int, Explanation]:
    """What explains the answer at these samples, where something does: limits, then rules, then flips if it is off."""
    found: dict[int, Explanation] = {}
    for attempt in (_beside, _by_rule, _flipped):
        tried = (sample for sample in samples if off[sample] or attempt is not _flipped)
        left = [sample for sample in tried if sample not in found and units.near[sample]]
        for sample, explanation in attempt(trial, units, left):
            found.setdefault(sample, explanation)
    return found


def on_kinks(units: Units, sample: int) -> tuple[Unit, ...]:
    """The units of a sample that are exactly on kinks."""
    return tuple(unit for unit, code in units.near[sample].items() if code == ON)


def _beside(trial: Trial, units: Units, samples: Sequence[int]) -> Iterator[tuple[int, Explanation]]:
    """Derivatives that the network has beside its kinks: units go where a small step in some direction puts them."""
    rows: list[tuple[int, Placing]] = []
    for sample in samples:
        on = on_kinks(units, sample)
        if on:
            rows += [(sample, {**units.near[sample], **placing}) for placing in _limits(trial, sample, on)]
    for (sample, _), fits in zip(rows, trial.fits(rows), strict=True):
        if fits:
            yield sample, Explanation(CLARKE_ELEMENT.name, on_kinks(units, sample))


def _limits(trial: Trial, sample: int, on: Sequence[Unit]) -> list[Placing]:
    """The sides that units leave their kinks to, in directions that come first, and in random ones."""
    x = [given[sample : sample + 1].astype(np.float64) for given in trial.inputs]
    sizes = [part.size for part in x]
    whole = np.concatenate([part.ravel() for part in x])
    rng = np.random.default_rng(0)
    ways = np.concatenate([np.eye(len(whole))[:_DIRECTIONS], rng.normal(size=(_DIRECTIONS, len(whole)))])
    step = _STEP * max(1.0, float(np.abs(whole).max(initial=0)))
    moved = whole + step * np.concatenate([ways, -ways])
    parts = np.split(moved, np.cumsum(sizes)[:-1], axis=1)
    point = linearize(trial.twin, x, "keras")
    there = linearize(
        trial.twin, [part.reshape(-1, *given.shape[1:]) for part, given in zip(parts, x, strict=True)], "keras"
    )
    found: dict[tuple[int, ...], Placing] = {}
    by_node = {node for node, _ in on}
    codes = {
        node: flat(sides(trial.twin.nodes[node].op, _repeated(read(point, node), len(moved)), read(there, node)))
        for node in by_node
    }
    for way in range(len(moved)):
        placing = {(node, unit): int(codes[node][way, unit]) for node, unit in on}
        found[tuple(placing.values())] = placing
    return list(found.values())


def _repeated(arrays: Sequence[Array], times: int) -> list[Array]:
    return [np.broadcast_to(array, (times, *array.shape[1:])) for array in arrays]


def _rules() -> Iterator[tuple[str, Policy]]:
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


def _by_rule(trial: Trial, units: Units, samples: Sequence[int]) -> Iterator[tuple[int, Explanation]]:
    """What a rule makes of units that are exactly on kinks, each for itself."""
    left = [sample for sample in samples if on_kinks(units, sample)]
    names: dict[int, list[str]] = {}
    for name, policy in _rules():
        fits = trial.fits([(sample, units.near[sample]) for sample in left], policy)
        for sample in (sample for sample, fit in zip(left, fits, strict=True) if fit):
            names.setdefault(sample, []).append(name)
    for sample, rules in names.items():
        yield sample, Explanation(KINK_CONVENTION.name, on_kinks(units, sample), f"the rule of {', '.join(rules[:3])}")


def _flipped(trial: Trial, units: Units, samples: Sequence[int]) -> Iterator[tuple[int, Explanation]]:
    """Units near their kinks on the other side than they are: one of them, then any two, and so on."""
    left = list(samples)
    for count in range(1, MOST + 1):
        rows = [
            (sample, units.near[sample] | dict(zip(flipped, codes, strict=True)), flipped)
            for sample in left
            for flipped in combinations([*units.near[sample]][:MOST], count)
            for codes in product(*(_others(trial.graph, unit, units.near[sample][unit]) for unit in flipped))
        ]
        found: dict[int, Explanation] = {}
        for (sample, _, flipped), fit in zip(rows, trial.fits([row[:2] for row in rows]), strict=True):
            if fit:
                found.setdefault(sample, Explanation(KINK_FLIP.name, flipped))
        yield from found.items()
        left = [sample for sample in left if sample not in found]


def _others(graph: Graph, unit: Unit, code: int) -> tuple[int, ...]:
    """The sides that a unit is not on."""
    return (OTHER[code],) if code in OTHER else beside(graph.nodes[unit[0]].op)
