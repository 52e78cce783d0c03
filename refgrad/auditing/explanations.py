"""Why an answer that is off at a kink may be right all the same: other sides, limits beside the kink, rules for kinks.

Each is tried: the network is evaluated in float64 with units put elsewhere (`sides`), and what fits to the bounds of
tier 0 explains the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from refgrad.arrays import Array
from refgrad.auditing.flushing import flushed
from refgrad.auditing.gaps import Mask, Numbers
from refgrad.auditing.rules import rules
from refgrad.auditing.screening import noisy
from refgrad.auditing.sides import ON, OTHER, beside, read, sides
from refgrad.auditing.trials import MOST, Placing, Trial, Unit, Units, on_kinks
from refgrad.auditing.verdicts import CLARKE_ELEMENT, FLUSHED_SUBNORMAL, KINK_CONVENTION, KINK_FLIP
from refgrad.derivatives.products import linearize
from refgrad.graph import Graph

_DIRECTIONS = 24
"""How many random directions a kink is left in, and as many opposite ones, beside those of the first inputs."""
_STEP = 2.0**-24
"""How far, for numbers near 1: seen by float64, and below what another kink is away by all odds."""


@dataclass(frozen=True)
class Explanation:
    """A verdict, the units it is about, and the rule for kinks that it names."""

    verdict: str
    units: tuple[Unit, ...]
    rule: str = ""


def explain(trial: Trial, units: Units, samples: Iterable[int], off: Mask) -> dict[int, Explanation]:
    """What explains the answer at these samples: limits and rules for kinks, and what is `off` by more than those."""
    found: dict[int, Explanation] = {}
    for attempt in (_beside, _by_rule, _flipped, _flushed):
        left = [sample for sample in samples if sample not in found and (off[sample] or attempt in (_beside, _by_rule))]
        for sample, explanation in attempt(trial, units, left):
            found.setdefault(sample, explanation)
    return found


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
        node: sides(trial.twin.nodes[node].op, _repeated(read(point, node), len(moved)), read(there, node))
        for node in by_node
    }
    for way in range(len(moved)):
        placing = {(node, unit): int(codes[node][way, unit]) for node, unit in on}
        found[tuple(placing.values())] = placing
    return list(found.values())


def _repeated(arrays: Sequence[Array], times: int) -> list[Array]:
    return [np.broadcast_to(array, (times, *array.shape[1:])) for array in arrays]


def _by_rule(trial: Trial, units: Units, samples: Sequence[int]) -> Iterator[tuple[int, Explanation]]:
    """What a rule makes of units that are exactly on kinks, each for itself."""
    left = [sample for sample in samples if on_kinks(units, sample)]
    names: dict[int, list[str]] = {}
    for name, policy in rules():
        fits = trial.fits([(sample, units.near[sample]) for sample in left], policy)
        for sample in (sample for sample, fit in zip(left, fits, strict=True) if fit):
            names.setdefault(sample, []).append(name)
    for sample, those in names.items():
        yield sample, Explanation(KINK_CONVENTION.name, on_kinks(units, sample), f"the rule of {', '.join(those[:3])}")


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
                chosen = all(units.near[sample][unit] == ON for unit in flipped)
                mixed = Explanation(KINK_CONVENTION.name, flipped, "slopes of both sides, by no rule we know")
                found.setdefault(sample, mixed if chosen else Explanation(KINK_FLIP.name, flipped))
        yield from found.items()
        left = [sample for sample in left if sample not in found]


def _others(graph: Graph, unit: Unit, code: int) -> tuple[int, ...]:
    """The sides that a unit is not on."""
    return (OTHER[code],) if code in OTHER else beside(graph.nodes[unit[0]].op)


def _flushed(trial: Trial, units: Units, samples: Sequence[int]) -> Iterator[tuple[int, Explanation]]:
    """Numbers below the least normal one taken for zero: parameters, inputs, what nodes give, and Jacobians."""
    del units
    if not samples:
        return
    dtype, chosen = trial.graph.dtype, np.array(samples, np.intp)
    inputs = [x[chosen].astype(np.float64) for x in trial.inputs]
    point, lost = flushed(trial.twin, inputs, float(np.finfo(dtype).tiny))
    (some,) = np.nonzero(lost)
    if not len(some):
        return
    point, _ = flushed(trial.twin, [x[some] for x in inputs], float(np.finfo(dtype).tiny))
    reference, noise = noisy(trial.graph, point)
    small = np.abs(reference.jacobian) < np.finfo(dtype).tiny
    reference = Numbers(reference.value, np.where(small, 0.0, reference.jacobian))
    fits = trial.bounds[chosen[some]].gaps(trial.answer[chosen[some]], reference, noise.sigma).inside
    for sample in chosen[some[fits]].tolist():
        yield sample, Explanation(FLUSHED_SUBNORMAL.name, ())
