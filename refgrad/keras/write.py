"""Writing a network as a Keras file, without Keras."""

from __future__ import annotations

import math
import warnings

import numpy as np

from refgrad.agreement import compare
from refgrad.errors import InputError, LimitError, RefgradError, RefgradWarning, VerificationError, naming
from refgrad.keras import archive, build
from refgrad.keras.encode import ENCODERS
from refgrad.keras.functional import functional
from refgrad.limits import TRUSTED
from refgrad.network import Network, answer
from refgrad.outfile import replacing
from refgrad.paths import StrPath, as_path

_SAMPLES = 4
LARGEST_SAMPLE = 2**26
"""How many numbers a sample may have in all nodes together: a network is computed once more to verify the file."""


def _verified(net: Network, content: bytes) -> Network:
    """What was written, read back; a difference beyond rounding is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RefgradWarning)  # the network was read, or made, with the same arrays
        try:
            with archive.read(content, limits=TRUSTED) as raw:
                again = Network(build.build(raw))
        except RefgradError as error:
            msg = f"what was written cannot be read back ({error})"
            raise VerificationError(msg) from None
    if (again.dtype, again.input_shapes, again.output_shapes) != (net.dtype, net.input_shapes, net.output_shapes):
        msg = f"read back it is {again!r}, not {net!r}"
        raise VerificationError(msg)
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(_SAMPLES, *shape)).astype(net.dtype) for shape in net.input_shapes]
    agreement = compare(net.graph, inputs, answer(net, inputs, engine="numpy"), answer(again, inputs, engine="numpy"))
    if not agreement.agrees.all():
        msg = "read back, its values or Jacobians differ from the network's beyond rounding"
        raise VerificationError(msg)
    return again


def encoded(net: Network, suffix: str) -> tuple[bytes, Network]:
    """The bytes of a file with that ending, and the network that they were read back as and compared with."""
    numbers = sum(math.prod(shape) for shape in net.graph.shapes)
    ends = [sum(math.prod(shape) for shape in shapes) for shapes in (net.input_shapes, net.output_shapes)]
    numbers = max(numbers, math.prod(ends))
    if numbers > LARGEST_SAMPLE:
        msg = f"one sample is {numbers:,} numbers in its nodes or its Jacobian; {LARGEST_SAMPLE:,} are computed at "
        msg += "most to verify it"
        raise LimitError(msg)
    content = ENCODERS[suffix](functional(net.graph))
    return content, _verified(net, content)


def written(net: Network, path: StrPath) -> Network:
    """Write a network as `to_keras` does; what it was read back as."""
    if not isinstance(net, Network):
        msg = f"to_keras() takes a Network, not a {type(net).__name__}"
        raise InputError(msg)
    suffix = as_path(path, "the output").suffix
    if suffix not in ENCODERS:
        msg = f"{path}: the ending {suffix!r} is none of a Keras file; these are: {', '.join(ENCODERS)}"
        raise InputError(msg)
    with naming(path):
        content, again = encoded(net, suffix)
    with replacing(path) as file:
        file.write(content)
    return again


def to_keras(net: Network, path: StrPath) -> None:
    """Write a network to a file that current Keras opens, with the same values.

    `path` ends in `.keras`, or in `.h5` or `.hdf5` for the older format. The model is a Functional one of Keras 3's own
    layers; inputs and outputs keep their names, and layers theirs where Keras takes them. Values are the same to
    rounding; slopes exactly at a kink are those of Keras 3. Neither Keras nor TensorFlow is needed. What was written is
    read back and compared before it gets its name; the same network gives the same bytes.
    """
    written(net, path)
