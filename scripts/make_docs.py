"""Write the pages of the documentation that are tables: what is supported, the activations, the divergences.

    python scripts/make_docs.py

They are made from the code's own tables and from `docs/data/`, and committed; a test compares them.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from refgrad.activations import ACTIVATIONS, Activation  # noqa: E402
from refgrad.activations.names import NAMES  # noqa: E402
from refgrad.auditing.frameworks.conventions import measured  # noqa: E402
from refgrad.keras import layers  # noqa: E402
from refgrad.keras.operations import OPERATIONS  # noqa: E402
from refgrad.keras.operations.rows import Operation  # noqa: E402
from refgrad.keras.rows import REQUIRED, Row  # noqa: E402
from refgrad.sequential import AXISWISE  # noqa: E402

GENERATIONS = {2: "Keras 2, tf_keras", 3: "Keras 3"}
MADE = "<!-- Made by scripts/make_docs.py: change that, or the tables it reads, and run it. -->"

KINDS = {
    "affine": "Dense",
    "einsum": "Dense along any axes",
    "activating": "Activations",
    "merging": "Layers that merge",
    "shaping": "Layers that move numbers",
    "scaling": "Normalisation and scaling",
    "normalising": "Normalisation of every sample by its own numbers",
    "passing": "Layers that do nothing at inference",
}
"""The modules of `refgrad.keras.layers` in the order of the page, and what each holds."""


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar within a cell is escaped."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _data(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((ROOT / "docs" / "data" / name).read_text(encoding="utf-8"))
    return rows


def _said(row: str, parameters: Iterable[Any]) -> str:
    """A row with those of its parameters that are not its defaults: relu(max_value=6)."""
    pairs = zip(ACTIVATIONS[row].parameters, map(float, parameters), strict=True)
    changed = ", ".join(f"{name}={value:g}" for (name, default), value in pairs if value != default)
    return f"{row}({changed})" if changed else row


def _keys(row: Row) -> str:
    return ", ".join(
        f"`{key}`" if default is REQUIRED else f"`{key}` = {default!r}" for key, (_, default) in row.meaning.items()
    )


def _roles(row: Row) -> str:
    roles = row.roles({key: default for key, (_, default) in row.meaning.items()})
    return _codes(role for role in roles if role not in row.unused)


def _inert(row: Row) -> str:
    of_training = ("_initializer", "_regularizer", "_constraint")
    rest = sorted(key for key in row.inert if not key.endswith(of_training))
    return ", ".join(
        filter(None, (_codes(rest), "initializers, regularizers, constraints" * (len(rest) < len(row.inert))))
    )


def _layer(name: str, row: Row) -> list[str]:
    only = ", ".join(f"`{key}` = {value!r}" for key, value in sorted(row.only.items()))
    renamed = "; ".join(f"`{old}` is read as `{new}`" for old, new in row.renamed.items())
    return [f"`{name}`", _keys(row), _roles(row), _inert(row), "; ".join(filter(None, (only, renamed)))]


def _layers() -> str:
    rooms = {name: module for name, module in inspect.getmembers(layers, inspect.ismodule) if hasattr(module, "ROWS")}
    heads = ("class", "keys that mean something", "arrays", "keys that change nothing", "only so")
    unnamed = [name for name in rooms if name not in KINDS]
    return "\n\n".join(
        f"### {KINDS.get(name, name.capitalize())}\n\n"
        + _table(heads, (_layer(called, row) for called, row in rooms[name].ROWS.items()))
        for name in [*KINDS, *unnamed]
    )


def _operations() -> str:
    heads = ("operation", "parameters in their order", "named otherwise in the file", "only so")

    def line(name: str, row: Operation) -> list[str]:
        meaning = (
            f"`{key}`" if default is REQUIRED else f"`{key}` = {default!r}" for key, (_, default) in row.meaning.items()
        )
        renamed = ", ".join(f"`{old}` is `{new}`" for old, new in row.renamed.items() if old != new)
        only = ", ".join(f"`{key}` = {value!r}" for key, value in row.only.items())
        return [f"`{name}`", ", ".join(meaning), renamed, only]

    return "\n\n".join(
        f"### {GENERATIONS[generation]}\n\n"
        + _table(heads, (line(name, row) for name, row in OPERATIONS[generation].items()))
        for generation in (3, 2)
    )


def _activation_names() -> str:
    names = sorted({*NAMES[2], *NAMES[3], *AXISWISE[2], *AXISWISE[3]}, key=lambda name: (name.lower(), name))

    def cell(name: str, generation: int) -> str:
        if name in AXISWISE[generation]:
            return f"op `{AXISWISE[generation][name]().name}` along the last axis"  # type: ignore[abstract]
        row = NAMES[generation].get(name)
        return "—" if row is None else f"`{_said(*row)}`"

    heads = ("name in the file", *(f"in {title}" for title in GENERATIONS.values()))
    return _table(heads, ([f"`{name}`", *(cell(name, generation) for generation in GENERATIONS)] for name in names))


def _variants() -> list[tuple[Activation, tuple[float, ...]]]:
    """Every row with its defaults, and with the other parameters that some name gives it."""
    named = {called for names in NAMES.values() for called in names.values()}
    return [
        (row, parameters)
        for row in ACTIVATIONS.values()
        for parameters in [row.defaults, *sorted(p for name, p in named if name == row.name and p != row.defaults)]
    ]


def _formulas() -> str:
    rows = []
    for row in ACTIVATIONS.values():
        where, _, formula = row.source.partition(": ")
        parameters = ", ".join(f"`{name}` = {value:g}" for name, value in row.parameters)
        called, _, generation = where.partition(" ")
        rows.append([f"`{row.name}`", formula, parameters, f"`{called}` {generation}".strip()])
    return _table(("row", "f(z)", "parameters", "what it follows"), rows)


def _kinks() -> str:
    rows = []
    for row, parameters in _variants():
        jumps = row.jumps(*parameters)
        for kink in row.kinks(*parameters):
            slopes = (kink.left, kink.right, kink.keras)
            jump = "yes" if kink.where in jumps else ""
            rows.append([f"`{_said(row.name, parameters)}`", f"{kink.where:g}", *(f"{s:.6g}" for s in slopes), jump])
    heads = ("row", "z", "slope to the left", "slope to the right", "what Keras takes there", "f itself jumps")
    return _table(heads, rows)


def _conventions() -> str:
    """A line for each kink, a column for each framework."""
    found = measured()["rows"]

    def line(row: Mapping[str, Any]) -> list[str]:
        called = _said(row["row"], row["parameters"]) if row["row"] in ACTIVATIONS else row["row"]
        slopes = [f"{slope:g}" for slope in row["slopes"].values()]
        return [f"`{called}`", f"{row['z']:g}", *slopes, "" if len(set(slopes)) == 1 else "yes"]

    return _table(("function", "z", *found[0]["slopes"], "they differ"), map(line, found))


def _accuracy() -> str:
    """The worst of all measured parameters of a row, in either dtype."""
    measured = {name: list(rows) for name, rows in groupby(_data("accuracy.json"), key=lambda row: row["row"])}
    columns = [(f"{of} {kind}", dtype) for kind in ("absolute", "relative") for of in ("value", "slope")
               for dtype in ("float32", "float64")]  # fmt: skip

    def worst(name: str, column: str, dtype: str) -> str:
        return f"{max(row[column] for row in measured[name] if row['dtype'] == dtype):.2g}"

    rows = ([f"`{name}`", *(worst(name, *column) for column in columns)] for name in measured)
    return _table(("row", *(f"{column}, {dtype}" for column, dtype in columns)), rows)


def _cell(rows: Iterable[Mapping[str, str]]) -> str:
    """Where, what TensorFlow says, what refgrad says; entries of both dtypes that read alike are one."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(f"{row['z']}: {row['tensorflow']} / {row['refgrad']}", []).append(row["dtype"])
    both = {text: "" if len(dtypes) > 1 else f" ({dtypes[0]})" for text, dtypes in found.items()}
    return "<br>".join(text + dtype for text, dtype in both.items())


def _divergences() -> str:
    """A section for each reason, a line for each row of the table with its parameters, value and slope apart."""
    reasons: dict[str, dict[tuple[str, tuple[str, ...], str], list[dict[str, Any]]]] = {}
    for row in _data("divergences.json"):
        key = (row["row"], tuple(row["parameters"]), row["of"])
        reasons.setdefault(row["why"], {}).setdefault(key, []).append(row)
    parts = []
    for why, lines in sorted(reasons.items(), key=lambda reason: len(reason[1])):
        count = sum(map(len, lines.values()))
        table = _table(
            ("row", "of", "z: TensorFlow / refgrad"),
            ([f"`{_said(row, parameters)}`", of, _cell(found)] for (row, parameters, of), found in lines.items()),
        )
        parts.append(f"## {why[0].upper()}{why[1:]}\n\n{count} entries.\n\n{table}")
    return "\n\n".join(parts)


SUPPORTED = """# What is supported

{made}

Anything that is not listed here is refused in one line that names the file, the layer, what was found and what was
expected. Nothing is guessed at and nothing in a file is executed.

## Files

| file | what it holds | how to load it |
|---|---|---|
| `.keras` | config and weights, by Keras 3 or tf_keras | `load("model.keras")` |
| `.h5`, `.hdf5` | config and weights, the legacy format | `load("model.h5")` |
| `.json` with `.weights.h5` | config apart from weights | `load("model.json", weights="model.weights.h5")` |
| `.json` with legacy weights `.h5` | the same, older | as above |
| `.npz` | refgrad's own, which verifies itself | `load("model.npz")` |

Weights can be named first too: `load("model.weights.h5", config="model.json")`.

What a file is, is seen from its content and not from its name. Models are `Sequential` and Functional ones, nested in
each other too, with shared layers and several inputs and outputs.

Weights are computed with in the widest dtype that they are stored or declared in: float32 or float64; float16 is
computed in float32. `net.astype("float64")` gives more digits.

Written by Keras 1.0 to 3.15 and tf_keras: [by what evidence](writers.md).

Refused are custom classes (unless `load(…, custom=…)` says what they compute), Lambda layers, and operations that are
not listed below. A user's class of the name `Dense` cannot be told from Keras's own in a legacy `.h5`, since such
files do not say; in others it is refused.

## Layers

A key that changes nothing at inference is ignored. A key that is not listed is refused if it has a value. Under "only
so" are keys that are understood at one value.

{layers}

Parameters of a `ReLU` layer are float32 numbers, as Keras computes with them, in float64 too; so are the slopes of
`LeakyReLU`. With `negative_slope` and `threshold` both given, Keras 3 keeps the threshold exact in one of its two
places: a relative difference of 6e-8 in float64.

## Operations

What `x * 2`, `x[:, 1:3]` or `keras.ops.mean(x, axis=-1)` leave in a Functional model, as Keras 3 calls them and, since
2.4, Keras 2. Either operand may be a constant: a number or an array, which stretches to the features. Not supported is
what touches the batch axis: an index or a slice of it, a sum over it, a shape with a number for it, or tensors of
which one has fewer axes than the other. Constants are computed with in the dtype of the model.

{operations}

## Activations by name

The same name can mean different functions in different generations of Keras: which holds is seen from the file. "—": no
such name there, so it is refused. The rows are explained in [the table of activations](activations.md).

{names}
"""

ACTIVATIONS_PAGE = """# The table of activations

{made}

Every elementwise activation is one row of a table in the code: a function, its derivative, its kinks. The code of each
is in [the mathematics of the activations](mathematics/activations.md). Names in files are
[mapped to these rows](supported.md#activations-by-name). The activations that look along an axis (softmax, log_softmax,
sparsemax, glu) are [ops](mathematics/ops.md).

## Formulas

{formulas}

## Kinks

Places where the slope changes, for the defaults and for the parameters that some name of Keras stands for. The slope
that Keras takes was measured with eager TensorFlow; it can be neither of the two beside it. `kink="left"`, `"right"`
and `"mean"` choose another: see [kinks](mathematics/kinks.md).

{kinks}

## Accuracy

Measured against mpmath over the finite normal numbers of each dtype, by `python scripts/measure_activations.py`; the
tests measure again. The unit is the roundoff u (2⁻²⁴ in float32, 2⁻⁵³ in float64). "Absolute" errors are relative to
max(1, |truth|), "relative" ones to |truth| itself. Each number is the worst over the parameters that were measured
([all of them](data/accuracy.json)).

A large relative error with a small absolute one means a number near zero that is the difference of two larger ones, or
the tail of a function: `tanh_shrink` near 0, `gelu` far to the left.

{accuracy}
"""

CONVENTIONS_PAGE = """# Slopes on kinks, by framework

{made}

On a kink every slope between the two sides is a right answer, and frameworks take different ones; some take none of
these. Measured in float32 on one CPU with {versions}, by `python scripts/measure_conventions.py`; a test measures again
where a framework of that version is installed. The first column of slopes is eager TensorFlow's, which is what
`kink="keras"` means; compiled TensorFlow (`tensorflow-function`, `xla`) may take others. JAX's and torch's are of the
functions that Keras 3 calls on them. One line is no kink: relu of 1e-39, whose slope is 0 where a framework flushes
subnormal numbers to zero and 1 where it does not.

{conventions}
"""

DIVERGENCES_PAGE = """# Where TensorFlow says something else

{made}

At special numbers (0, subnormal numbers, ±∞, NaN, the ends of the range), and at some others where its formula loses
digits, eager TensorFlow's activations do not give what the mathematics says. refgrad does: NaN in gives NaN out (only
the slope of `linear` is 1 there too), ±∞ gives the limit, subnormal numbers are numbers. Every difference that was
measured is listed here, {count} in all, by reason; the [list as JSON](data/divergences.json) also says by which names
of Keras each is reached. At all other numbers that were tried the two agree to rounding.

An entry reads "z: TensorFlow / refgrad", and names the dtype where it holds in one only.

{divergences}
"""


FAULTS_PAGE = """# What the audit finds

{made}

Networks with a fault were put before the audit as somebody else's answer, and right ones to see whether they raise an
alarm, by `scripts/fault_study.py`, on one {cpu} with {versions}.
"emulated" is refgrad's own NumPy arithmetic in float32; the others computed the faulty network in their own ops.
Every row and all verdicts are in [the data](data/fault_study.json).

## Faults

A fault is *observable* where the faulty Jacobian is further than 100 deviations of rounding from the right one, at one
entry of one sample at least, or its value is. *Found*: the audit fails, or says that precision is reduced. *Named*: the
audit says what the fault is, or names another that makes the same network at these samples. A cell is named / found /
observable, over all networks, {most}. Products in TF32 and bfloat16 are float32 products of rounded factors everywhere.

{faults}

| network | named / found / observable |
| --- | --- |
{by_network}

{left}

## Right answers

Normal inputs of scales from 0.1 to 10: {samples:,} Jacobians, {alarms} alarms.

{clean}

## Within 64 floats of a kink

One number of each input is within 64 float32 numbers of where a unit changes sign: rounding decides on which side it
is.

{kinks}
"""


def _study() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "docs" / "data" / "fault_study.json").read_text(encoding="utf-8"))
    return found


def _found(rows: Iterable[Mapping[str, Any]]) -> str:
    """Named / found / observable."""
    total = [(row["localised"], row["detected"], row["observable"] + row["in value only"]) for row in rows]
    sums = [sum(column) for column in zip(*total, strict=True)]
    return " / ".join(f"{number:,}" for number in sums) if total else "—"


def _column(rows: Iterable[Mapping[str, Any]], name: str) -> list[str]:
    return list(dict.fromkeys(row[name] for row in rows))


def _fault_table(rows: Sequence[Mapping[str, Any]]) -> str:
    sides = _column(rows, "against")
    lines = [
        [fault, *(_found(row for row in rows if (row["fault"], row["against"]) == (fault, side)) for side in sides)]
        for fault in _column(rows, "fault")
    ]
    everything = ["**all**", *(_found(row for row in rows if row["against"] == side) for side in sides)]
    return _table(["fault", *sides], [*lines, everything])


def _left(rows: Iterable[Mapping[str, Any]]) -> str:
    """What was not found or not named, one by one."""
    lines = []
    for row in rows:
        where = f"{row['network']}, {row['against']}"
        lines += [f"- not found: {phrase} ({where})" for phrase in row["missed"]]
        lines += [f"- {phrase} ({where}): named {named or 'nothing'}" for phrase, named in row["misnamed"]]
    return "\n".join(["Not found, or not named:", "", *lines]) if lines else "All were found and named."


def _alarms(rows: Iterable[Mapping[str, Any]]) -> str:
    heads = ("network", "against", "samples", "alarms", "verdicts")
    return _table(
        heads,
        (
            [
                *(row["network"], row["against"], f"{row['samples']:,}", str(row["alarms"])),
                ", ".join(f"`{name}` {count:,}" for name, count in row["verdicts"].items()),
            ]
            for row in rows
        ),
    )


def _faults_page() -> str:
    found = _study()
    about, rows = found["about"]["faults"], found["faults"]
    networks = ((name, _found(row for row in rows if row["network"] == name)) for name in _column(rows, "network"))
    return FAULTS_PAGE.format(
        made=MADE,
        most="each in two places at most, at 64 samples"
        if about["options"]["quick"]
        else "each in four at 256 samples",
        samples=sum(row["samples"] for row in found["clean"]),
        alarms=sum(row["alarms"] for row in found["clean"]),
        cpu=about["cpu"]["name"],
        versions=", ".join(f"{name} {version}" for name, version in about["versions"].items()),
        faults=_fault_table(rows),
        by_network="\n".join(f"| {name} | {cell} |" for name, cell in networks),
        left=_left(rows),
        clean=_alarms(found["clean"]),
        kinks=_alarms(found["kinks"]),
    )


def pages() -> dict[str, str]:
    """Path under `docs/` → text."""
    count = str(len(_data("divergences.json")))
    return {
        "supported.md": SUPPORTED.format(
            made=MADE, layers=_layers(), operations=_operations(), names=_activation_names()
        ),
        "activations.md": ACTIVATIONS_PAGE.format(
            made=MADE, formulas=_formulas(), kinks=_kinks(), accuracy=_accuracy()
        ),
        "conventions.md": CONVENTIONS_PAGE.format(
            made=MADE,
            versions=", ".join(f"{name} {version}" for name, version in measured()["versions"].items()),
            conventions=_conventions(),
        ),
        "faults.md": _faults_page(),
        "divergences.md": DIVERGENCES_PAGE.format(made=MADE, count=count, divergences=_divergences()),
    }


if __name__ == "__main__":
    for name, text in pages().items():
        (ROOT / "docs" / name).write_text(text, encoding="utf-8")
