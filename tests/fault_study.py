"""The fault study: every fault in every test network, and clean networks at very many inputs, through the audit.

A fault is observable where the faulty Jacobian, in float64, is further than 100 deviations of rounding from the right
one at some entry of some sample; detected where the audit fails, or says that precision is reduced; localised where it
is named, or another is that makes the same network there.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from unittest.mock import patch

import numpy as np

import refgrad
from refgrad.agreement import Answer
from refgrad.auditing.faults import FAULTS, ONE_WEIGHT, one_weight
from refgrad.auditing.faulty import Rounded, Shifted, layers
from refgrad.auditing.frameworks.rebuild import RULES
from refgrad.auditing.localise import explain
from refgrad.auditing.misreadings import MISREADINGS
from refgrad.auditing.screening import in_double, noisy
from refgrad.auditing.verdicts import REDUCED_PRECISION, VERDICTS
from refgrad.derivatives.products import linearize
from refgrad.graph import Provenance, chain
from refgrad.network import Network, answer
from refgrad.ops import Affine, BatchNormalization, Elementwise
from tests.cases import GOLDEN

OBSERVABLE = 100
"""Deviations of rounding."""

MISREAD = "misread Jacobian"
CLASSES = (*FAULTS, MISREAD)


def _dense(widths, activations, seed=0, normalised=False):
    """He-random kernels, small biases, and after each but the last map an activation, and before it normalisation."""
    rng = np.random.default_rng(seed)
    steps = []
    for index, (n_in, n_out) in enumerate(pairwise(widths)):
        kernel = rng.normal(size=(n_in, n_out)) * np.sqrt(2 / n_in)
        steps.append((f"dense_{index}", Affine(kernel, 0.1 * rng.normal(size=n_out))))
        if index < len(widths) - 2:
            if normalised:
                moments = rng.normal(size=n_out), rng.uniform(0.5, 2, n_out)
                affine = rng.uniform(0.5, 1.5, n_out), 0.1 * rng.normal(size=n_out)
                steps.append((f"norm_{index}", BatchNormalization(*moments, *affine)))
            name = activations[index % len(activations)]
            row = refgrad.activations.ACTIVATIONS[name]
            steps.append((f"dense_{index}/{name}", Elementwise(name, row.defaults)))
    return Network(chain(widths[:1], steps, np.dtype("float32"), Provenance()))


def _golden(name):
    return refgrad.load(GOLDEN / f"{name}-keras3.keras")


NETWORKS: dict[str, Callable[[], Network]] = {
    "question 1-64-32-32-1": partial(_golden, "question"),
    "small 16-64-64-8": partial(_dense, (16, 64, 64, 8), ("relu",)),
    "mid 10-256-256-256-10": partial(_dense, (10, 256, 256, 256, 10), ("relu",)),
    "tanh 8-32-32-4": partial(_dense, (8, 32, 32, 4), ("tanh",)),
    "smooth 6-24-24-24-3": partial(_dense, (6, 24, 24, 24, 3), ("gelu", "mish", "softplus")),
    "normalised 5-32-32-3": partial(_dense, (5, 32, 32, 3), ("relu", "elu"), normalised=True),
    "branches (two in, two out)": partial(_golden, "branches"),
    "layers (two in, two out)": partial(_golden, "layers"),
}


@cache
def network(name):
    return NETWORKS[name]()


def normal(net, samples, seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(samples, *shape)).astype(net.dtype) for shape in net.input_shapes]


def _coarse(stop, f, op, x):
    """A product of factors rounded to fewer bits, by Dekker's splitting, in a framework's ops."""
    if not isinstance(op, Rounded):
        return PLAIN["affine"](f, op, x)

    def rounded(a):
        c = a * (2.0 ** (23 - op.bits) + 1)
        return a + stop(c - (c - a) - a)

    product = f.matmul(rounded(x), rounded(f.array(op.kernel)))
    return product if op.bias is None else product + f.array(op.bias)


def _shifted(stop, f, op, z):
    """f(z) with the slopes of the unit before: f is differentiated where that one is, and only that counts."""
    plain = partial(PLAIN["elementwise"], f, op)
    if not isinstance(op, Shifted):
        return plain(z)
    n = z.shape[-1]
    before = f.take(z, [(j - 1) % n for j in range(n)], len(z.shape) - 1)
    moved = plain(stop(before) + (z - stop(z)))
    return stop(plain(z)) + (moved - stop(moved))


PLAIN = {name: RULES[name] for name in ("affine", "elementwise")}
STOPS = {"tensorflow": ("tensorflow", "stop_gradient"), "jax": ("jax.lax", "stop_gradient")}
"""How each framework takes a number for a constant."""


def _framework(name, **options):
    """A framework's answer, by rules that know the ops that are wrong themselves."""

    def ask(graph, inputs):
        module, function = STOPS[name]
        stop = getattr(importlib.import_module(module), function)
        with patch.dict(RULES, affine=partial(_coarse, stop), elementwise=partial(_shifted, stop)):
            return importlib.import_module(f"refgrad.auditing.frameworks.{name}").answer(graph, inputs, **options)

    return ask


ANSWERS: dict[str, Callable[[object, list], Answer]] = {
    "emulated": lambda graph, inputs: answer(Network(graph), inputs, engine="numpy"),
    "tensorflow": _framework("tensorflow", mode="eager"),
    "xla": _framework("tensorflow", mode="xla"),
    "jax": _framework("jax"),
}
"""(graph, inputs) → what is said of the graph, by refgrad itself or by a framework in its own ops."""


def installed(name):
    """Whether there is such a framework here."""
    package = {"tensorflow": "tensorflow", "xla": "tensorflow", "jax": "jax"}.get(name)
    return package is None or importlib.util.find_spec(package) is not None


def audited(net, inputs, given, **options):
    """The report on an answer, as a user of the audit gives it: a function of the inputs."""

    def function(x):
        y = dict(zip(net.output_names, given.values, strict=True))
        rows = [dict(zip(net.input_names, row, strict=True)) for row in given.jacobians]
        jacobians = {
            name: row if len(row) > 1 else row[net.input_names[0]]
            for name, row in zip(net.output_names, rows, strict=True)
        }
        return (y, jacobians) if len(y) > 1 else (given.values[0], jacobians[net.output_names[0]])

    return refgrad.audit(net, dict(zip(net.input_names, inputs, strict=True)), function, **options)


@dataclass(frozen=True)
class Numbers:
    """Values and Jacobians, `(batch, entries)`."""

    value: object
    jacobian: object


def numbers(given):
    def rows(arrays):
        return np.concatenate([array.reshape(len(array), -1).astype(float) for array in arrays], axis=1)

    return Numbers(rows(given.values), rows([block for row in given.jacobians for block in row]))


def in_float64(graph, inputs):
    """The graph as a real function."""
    return numbers(answer(Network(in_double(graph)), [x.astype(float) for x in inputs], engine="numpy"))


class Study:
    """A network, its inputs, and how far rounding can move its numbers there."""

    def __init__(self, name, samples=256, seed=1):
        self.name, self.net = name, network(name)
        self.inputs = normal(self.net, samples, seed)
        graph = self.net.graph
        point = linearize(in_double(graph), [x.astype(float) for x in self.inputs], "keras")
        self.right, noise = noisy(graph, point)
        self.sigma = noise.sigma

    def differs(self, one, other):
        """Whether the Jacobians of two answers are further apart than rounding, and whether the values are."""
        pairs = ((getattr(side, part) for side in (one, other, self.sigma)) for part in ("jacobian", "value"))
        with np.errstate(all="ignore"):
            return tuple(bool((np.abs(a - b) > OBSERVABLE * sigma).any()) for a, b, sigma in pairs)

    def same(self, phrase, truth):
        """Whether a fault, by its phrase, makes the network that the truth is of."""
        for fault in FAULTS.values():
            for other, graph in fault(self.net.graph, self.inputs):
                if other == phrase:
                    return not any(self.differs(in_float64(graph, self.inputs), truth))
        return False

    def faulty(self, fault, most):
        """At most so many faulty networks of a class, evenly of all there are; of the many weights drawn ones."""
        graph = self.net.graph
        if fault == ONE_WEIGHT:
            rng, maps = np.random.default_rng(0), list(layers(graph, Affine))
            for name, op, put in [maps[place] for place in rng.integers(len(maps), size=most)]:
                phrase, changed = one_weight(op, *(int(rng.integers(n)) for n in op.kernel.shape))
                yield phrase.format(name), put(changed)
            return
        every = list(FAULTS[fault](graph, self.inputs))
        for place in np.unique(np.linspace(0, len(every) - 1, most).astype(int)) if every else ():
            yield every[place]

    def cases(self, fault, against, most):
        """What is wrong, the truth about it, and the answer that has it: at most so many, evenly of all there are."""
        if fault == MISREAD:
            right = ANSWERS[against](self.net.graph, self.inputs)
            clean = ANSWERS["emulated"](in_double(self.net.graph), [x.astype(float) for x in self.inputs])
            for phrase, misreading in MISREADINGS.items():
                wrong = misreading(right)
                if wrong is not None:
                    yield phrase, numbers(misreading(clean)), wrong
            return
        for phrase, graph in self.faulty(fault, most):
            yield phrase, in_float64(graph, self.inputs), ANSWERS[against](graph, self.inputs)

    def row(self, fault, against, most=4):
        """The counts of a class of faults."""
        row = {"network": self.name, "fault": fault, "against": against}
        count = Counter(dict.fromkeys(("made", "observable", "in value only", "detected", "localised"), 0))
        missed, misnamed = [], []
        for phrase, truth, given in self.cases(fault, against, most):
            in_jacobian, in_value = self.differs(truth, self.right)
            count["made"] += 1
            if not (in_jacobian or in_value):
                continue
            count["observable" if in_jacobian else "in value only"] += 1
            verdicts = audited(self.net, self.inputs, given).samples["verdict"]
            found = np.isin(verdicts, [*FAILING, REDUCED_PRECISION.name])
            named = explain(self.net.graph, self.inputs, given, np.flatnonzero(found))
            count["detected"] += bool(found.any())
            right = named is not None and (named == phrase or self.same(named, truth))
            count["localised"] += right
            missed += [] if found.any() else [phrase]
            misnamed += [] if right else [[phrase, named]]
        return row | dict(count) | {"missed": missed, "misnamed": misnamed}


FAILING = [name for name, verdict in VERDICTS.items() if verdict.fails]


def clean(name, against, samples, seed, **options):
    """The verdicts on a right answer at normal inputs, of scales from 0.1 to 10."""
    net = network(name)
    inputs = normal(net, samples, seed)
    scale = 10 ** np.random.default_rng(seed).uniform(-1, 1, size=samples)
    inputs = [(x * scale.reshape(-1, *[1] * (x.ndim - 1))).astype(net.dtype) for x in inputs]
    return {"network": name, "against": against, **_counted(net, inputs, against, options)}


def at_kinks(name, against, samples, seed, **options):
    """The verdicts on a right answer within 64 floats of a kink."""
    net = network(name)
    return {"network": name, "against": against, **_counted(net, beside_kinks(net, samples, seed), against, options)}


def _counted(net, inputs, against, options):
    counts = audited(net, inputs, ANSWERS[against](net.graph, inputs), **options).counts
    alarms = sum(counts[name] for name in FAILING)
    return {
        "samples": len(inputs[0]),
        "alarms": alarms,
        "verdicts": {name: count for name, count in sorted(counts.items()) if count},
    }


FLOATS = 64


def beside_kinks(net, samples, seed):
    """Inputs one of whose numbers is within 64 floats of where a unit of the float64 network crosses zero.

    Bisection between two floats of the last axis of the first input, in the order of floats, to neighbours.
    """
    twin = in_double(net.graph)
    watched = [
        node.inputs[0]
        for node in net.graph.nodes
        if isinstance(node.op, Elementwise) and any(kink.where == 0 for kink in node.op.kinks)
    ]
    found = [[] for _ in net.input_names]
    while len(found[0]) < samples:
        seed += 1
        inputs, place = normal(net, samples, seed), np.random.default_rng(seed)
        at = (np.arange(samples), *(place.integers(0, n, samples) for n in inputs[0].shape[1:]))

        def signs(floats, inputs=inputs, at=at):
            inputs[0][at] = floats
            values = linearize(twin, [x.astype(float) for x in inputs], "keras").values
            return np.concatenate([values[index].reshape(samples, -1) for index in watched], axis=1) > 0

        low, high = np.full(samples, -3, "float32"), np.full(samples, 3, "float32")
        before, after = signs(low), signs(high)
        crossing = before != after
        unit = np.array([place.choice(np.flatnonzero(row)) if row.any() else 0 for row in crossing])
        some, side = crossing.any(axis=1), before[np.arange(samples), unit]
        low, high = ordered(low), ordered(high)
        while (high - low > 1).any():
            middle = (low + high) // 2
            stays = signs(floats_of(middle))[np.arange(samples), unit] == side
            low, high = np.where(stays, middle, low), np.where(stays, high, middle)
        inputs[0][at] = floats_of(low + place.integers(-FLOATS, FLOATS + 1, samples))
        for kept, x in zip(found, inputs, strict=True):
            kept += list(x[some])
    return [np.array(kept[:samples]) for kept in found]


def ordered(floats):
    """float32 as integers in their order."""
    word = floats.view(np.int32).astype(np.int64)
    return np.where(word < 0, -(word & 0x7FFFFFFF), word)


def floats_of(order):
    word = np.where(order < 0, -order | 0x80000000, order).astype(np.uint32)
    return word.view(np.float32)
