"""The self-verifying file: a network as plain arrays and JSON in an `.npz`, with what it gave on the day it was saved.

Members: `refgrad.json`, and one `.npy` for each array. The JSON holds `format` ("refgrad") and `version` (1);
`content`, the SHA-256 of the JSON without this entry (keys sorted, no indent) and then of every other member in the
order of their names, each as name, a zero byte, and its bytes; `digest`, the network's own; `dtype`, `keras`, `writer`,
`container`; `ops`, each with the name of its kind, its `config` and the names of its `arrays` (stored as
`op<k>/<name>.npy`); `nodes`, each with the place of its op, its `inputs` and `name`; and `inputs`, `outputs`,
`input_names`, `output_names` of the graph. `golden/x/<i>.npy`, `golden/y/<o>.npy` and `golden/jacobian/<o>/<i>.npy`
are inputs and results recorded at saving, by the places of input and output. There are no time stamps: the same network
gives the same bytes. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import operator
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refgrad import npy, texts, zips
from refgrad.agreement import Answer, compare
from refgrad.arrays import Array
from refgrad.errors import FormatError, InputError, LimitError, RefgradError, UnsupportedError, VerificationError
from refgrad.graph import Graph, Node, Provenance
from refgrad.inputs import as_inputs
from refgrad.limits import Limits
from refgrad.network import Network, answer
from refgrad.ops import OPS
from refgrad.outfile import replacing
from refgrad.paths import StrPath, as_path, opened

VERSION = 1
HEADER = "refgrad.json"
_SAMPLES = 16
LARGEST_RECORD = 2**28
"""The most numbers in the values or Jacobians of all samples that are recorded."""
_LIMIT = "objects"
"""The limit of how many members there may be: one for each array."""
_FREELY = 2**28
"""The numbers that verifying may compute and multiply whatever a file holds."""


def _golden(net: Network, golden: Any) -> list[Array]:
    """Inputs to record: the given ones, or a number of normally distributed ones."""
    if isinstance(golden, bool):
        msg = f"golden={golden}: a number of samples or an array of inputs is expected"
        raise InputError(msg)
    if golden is None or isinstance(golden, int | np.integer):
        samples, rng = _SAMPLES if golden is None else max(int(golden), 0), np.random.default_rng(0)
        _check_room(net, samples)
        return [rng.normal(size=(samples, *shape)).astype(net.dtype) for shape in net.input_shapes]
    return as_inputs(golden, net.input_names, net.input_shapes, net.dtype)[0]


def _members_of(inputs: Sequence[Array], said: Answer) -> dict[str, Array]:
    """The golden samples by member name."""
    return {
        **{f"golden/x/{i}": x for i, x in enumerate(inputs)},
        **{f"golden/y/{o}": y for o, y in enumerate(said.values)},
        **{f"golden/jacobian/{o}/{i}": j for o, row in enumerate(said.jacobians) for i, j in enumerate(row)},
    }


def _header(net: Network) -> tuple[dict[str, Any], dict[str, Array]]:
    """The JSON part and the arrays by member name."""
    graph, origin = net.graph, net.graph.provenance
    ops = list({id(node.op): node.op for node in graph.nodes}.values())
    places = {id(op): place for place, op in enumerate(ops)}
    header = {
        "format": "refgrad",
        "version": VERSION,
        "digest": net.digest,
        "dtype": graph.dtype.name,
        "keras": origin.keras,
        "writer": origin.writer,
        "container": origin.container,
        "ops": [{"op": op.name, "config": op.config(), "arrays": sorted(op.arrays())} for op in ops],
        "nodes": [{"op": places[id(node.op)], "inputs": node.inputs, "name": node.name} for node in graph.nodes],
        "inputs": graph.inputs,
        "outputs": graph.outputs,
        "input_names": graph.input_names,
        "output_names": graph.output_names,
    }
    return header, {f"op{place}/{name}": array for place, op in enumerate(ops) for name, array in op.arrays().items()}


def _content(header: dict[str, Any], members: dict[str, bytes]) -> str:
    """The SHA-256 of all that a file says, as the module's docstring defines it."""
    said = {key: value for key, value in header.items() if key != "content"}
    sha = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name in sorted(members):
        sha.update(name.encode() + b"\0" + members[name])
    return sha.hexdigest()


def save(net: Network, path: StrPath, golden: Any = None) -> None:
    """Write a network to an `.npz` that proves itself when it is loaded.

    `golden` is how many samples, or which inputs, given as to a network, to record values and Jacobians of;
    16 standard normal ones if None.
    """
    if not isinstance(net, Network):
        msg = f"save() takes a Network, not a {type(net).__name__}"
        raise InputError(msg)
    if as_path(path, "the output").suffix != ".npz":
        msg = f"{path}: refgrad's files end in .npz"
        raise InputError(msg)
    inputs = _golden(net, golden)
    if not len(inputs[0]):
        msg = "golden holds no samples: at least one is needed for the file to verify itself"
        raise InputError(msg)
    _check_room(net, len(inputs[0]))
    golden_arrays = _members_of(inputs, answer(net, inputs, engine="numpy"))
    with replacing(path) as file:
        _write(file, net, golden_arrays)


def _check_room(net: Network, samples: int) -> None:
    """Refuse to record what would take all memory: a Jacobian has as many numbers as outputs times inputs."""
    numbers = samples * max(math.prod(_ends(net)), sum(math.prod(shape) for shape in net.graph.shapes))
    if numbers > LARGEST_RECORD:
        msg = f"values and Jacobians of {samples} samples take {numbers:,} numbers, {LARGEST_RECORD:,} are recorded at "
        msg += "most: fewer samples as golden=, or fewer outputs, are needed"
        raise LimitError(msg)


def _write(file: Any, net: Network, golden: dict[str, Array]) -> None:
    header, arrays = _header(net)
    members = {f"{name}.npy": npy.packed(array) for name, array in (arrays | golden).items()}
    header["content"] = _content(header, members)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(HEADER), json.dumps(header, indent=1))
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def pack(net: Network) -> bytes:
    """A network as such a file without golden samples, for another process of the same refgrad."""
    file = io.BytesIO()
    _write(file, net, {})
    return file.getvalue()


_DAMAGE = (*zips.DAMAGE, TypeError, AttributeError, ArithmeticError)
"""What zipfile, json and a header of the wrong shape raise."""


def recognises(file: Path | bytes, limits: Limits | None = None) -> bool:
    """Whether a file is a refgrad artifact, by its content."""
    try:
        with opened(file) as stream, zips.opened(stream, limits or Limits(), _LIMIT) as archive:
            return HEADER in archive.namelist()
    except RefgradError:
        return False


def _members(file: Path | bytes, limits: Limits) -> dict[str, bytes]:
    """Every member's bytes: stored as they are, so that together they are no larger than the file."""
    with opened(file) as stream, zips.opened(stream, limits, _LIMIT) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                msg = f"member {entry.filename!r} is compressed; refgrad stores each plainly"
                raise FormatError(msg)
            if entry.filename == HEADER:
                limits.check("json_bytes", entry.file_size, f"member {HEADER!r}, in bytes")
        return {entry.filename: zips.unpacked(archive, entry) for entry in archive.infolist()}


def _array(members: dict[str, bytes], name: str) -> Array:
    return npy.unpacked(members[f"{name}.npy"], name)


def _graph(header: dict[str, Any], members: dict[str, bytes]) -> Graph:
    ops = []
    for place, entry in enumerate(header["ops"]):
        if entry["op"] not in OPS:
            msg = f"op {entry['op']!r} is not known; these are: {', '.join(OPS)}"
            raise UnsupportedError(msg)
        arrays = {name: _array(members, f"op{place}/{name}") for name in entry["arrays"]}
        ops.append(OPS[entry["op"]].restore(entry["config"], arrays))
    nodes = tuple(Node(ops[node["op"]], tuple(node["inputs"]), str(node["name"])) for node in header["nodes"])
    return Graph(
        nodes,
        tuple(map(operator.index, header["inputs"])),
        tuple(map(operator.index, header["outputs"])),
        tuple(header["input_names"]),
        tuple(header["output_names"]),
        np.dtype(header["dtype"]),
        Provenance(int(header["keras"]), header["writer"] and str(header["writer"]), str(header["container"])),
    )


def _recorded(net: Network, members: dict[str, bytes]) -> tuple[list[Array], Answer]:
    """The inputs and results recorded at saving."""
    ins, outs = range(len(net.input_names)), range(len(net.output_names))
    blocks = tuple(tuple(_array(members, f"golden/jacobian/{o}/{i}") for i in ins) for o in outs)
    said = Answer(tuple(_array(members, f"golden/y/{o}") for o in outs), blocks)
    return [_array(members, f"golden/x/{i}") for i in ins], said


def _ends(net: Network) -> tuple[int, int]:
    """How many numbers a sample has in all inputs, and in all outputs."""
    into, out = (sum(math.prod(shape) for shape in shapes) for shapes in (net.input_shapes, net.output_shapes))
    return into, out


def _work(net: Network, samples: int) -> tuple[int, int]:
    """How many numbers a sample has in all nodes, and how many are computed and multiplied for J of some samples."""
    graph = net.graph
    ends = _ends(net)
    sizes = [math.prod(shape) for shape in graph.shapes]
    costs = [node.op.cost(1, *(graph.shapes[source] for source in node.inputs)) for node in graph.nodes]
    return sum(sizes), samples * min(ends) * sum(max(pair) for pair in zip(sizes, costs, strict=True))


def _check_work(net: Network, samples: int, held: int, limits: Limits) -> None:
    """Refuse what verifying would cost beyond measure: a file may use one array in very many places."""
    crossed = len(net.graph.nodes) * len(net.input_names) * len(net.output_names)
    limits.check("crossed", crossed, "nodes that are crossed to verify it, once for each Jacobian")
    numbers, work = _work(net, samples)
    limits.check("verified", numbers, "numbers of one sample in all nodes, which are computed to verify it")
    what = f"numbers that are computed and multiplied to verify it, for each of the {held:,} that it holds"
    limits.check("verifying", max(work - _FREELY, 0) // max(held, 1), what)


def check_verifiable(net: Network, golden: int | None, limits: Limits) -> None:
    """Refuse, before anything is computed, to write a network that `load` would refuse to verify."""
    samples, (into, out) = _SAMPLES if golden is None else max(golden, 1), _ends(net)
    _check_room(net, samples)
    limits.check(_LIMIT, len(net.input_names) * len(net.output_names), "Jacobians, which are members of the zip")
    held = net.graph.parameters + samples * (into + out + into * out)
    _check_work(net, samples, held, limits)


def _check_recorded(net: Network, inputs: list[Array], said: Answer) -> None:
    """What was recorded must have the shapes of what is computed, before that is."""
    batch = (len(inputs[0]),)
    wanted = [batch + shape for shape in net.output_shapes]
    wanted += [batch + out + into for out in net.output_shapes for into in net.input_shapes]
    found = [array.shape for array in (*said.values, *(block for row in said.jacobians for block in row))]
    for shape, given in zip(wanted, found, strict=True):
        if shape != given:
            msg = f"its golden samples do not fit the network (one has shape {given}; {shape} is expected)"
            raise VerificationError(msg)


def _verify(net: Network, inputs: list[Array], said: Answer, limits: Limits) -> None:
    """Recompute what was recorded, and refuse a difference beyond rounding."""
    given = dict(zip(net.input_names, inputs, strict=True))
    try:
        inputs, _ = as_inputs(given, net.input_names, net.input_shapes, net.dtype)
        if not len(inputs[0]):
            msg = "it holds no golden samples to verify itself with"
            raise VerificationError(msg)
        _check_recorded(net, inputs, said)
        held = sum(array.size for array in (*inputs, *said.values, *(it for row in said.jacobians for it in row)))
        _check_work(net, len(inputs[0]), held + net.graph.parameters, limits)
        agreement = compare(net.graph, inputs, answer(net, inputs, engine="numpy"), said)
    except InputError as error:
        msg = f"its golden samples do not fit the network ({error})"
        raise VerificationError(msg) from None
    if not agreement.agrees.all():
        sample = int(np.flatnonzero(~agreement.agrees)[0])
        msg = f"golden sample {sample} is not reproduced: the recorded value or Jacobian differs beyond rounding"
        raise VerificationError(msg)


def _read(file: Path | bytes, limits: Limits, golden: bool, sealed: bool) -> tuple[Network, list[Array], Answer]:
    """The network, and what was recorded of it if that is wanted; `sealed`: whether the digest must be right."""
    try:
        members = _members(file, limits)
        header = texts.parse(members.pop(HEADER), HEADER, limits)
        if (header["format"], header["version"]) != ("refgrad", VERSION):
            msg = f"format {header['format']!r} version {header['version']!r}; this refgrad reads version {VERSION}"
            raise UnsupportedError(msg)
        content = _content(header, members)
        if sealed and content != header["content"]:
            msg = f"its content has the digest {content[:16]}…, it says {header['content']!s:.16}…: it was altered"
            raise VerificationError(msg)
        if isinstance(header["nodes"], list):
            limits.check("calls", len(header["nodes"]), "nodes")
        net = Network(_graph(header, members))
        return (net, *(_recorded(net, members) if golden else ([], Answer((), ()))))
    except _DAMAGE as error:
        msg = f"the refgrad file is damaged ({type(error).__name__}: {error})"
        raise FormatError(msg) from None


def unpack(content: bytes, limits: Limits) -> Network:
    """The network that `pack` made a file of."""
    return _read(content, limits, golden=False, sealed=True)[0]


def load(file: Path | bytes, *, verify: bool = True, limits: Limits | None = None) -> Network:
    """The network of an artifact; unless `verify` is off, one that has just reproduced what it recorded."""
    limits = limits or Limits()
    net, inputs, said = _read(file, limits, golden=True, sealed=verify)
    if verify:
        _verify(net, inputs, said, limits)
    return net
