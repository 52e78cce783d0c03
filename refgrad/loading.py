"""Opening a model: what kind of file it is decides who reads it."""

from __future__ import annotations

from typing import Any

from refgrad import artifact
from refgrad.errors import InputError, naming
from refgrad.network import Network
from refgrad.paths import Given, as_file, called


def load(path: Given, *, config: Given | None = None, weights: Given | None = None, verify: bool = True) -> Network:
    """Read a trained network; nothing in the file is executed, and no file is opened but those named.

    `path` is a `.keras` or `.h5` file, a weights file (with `config=` its JSON, as a file or as text), a JSON config
    (with `weights=`), or a refgrad `.npz`; what it is, is seen from its content. For each file its path, its content
    as `bytes`, or a file opened as binary may be given, and for a `.keras` the folder that it was unpacked to.
    `verify` makes an `.npz` reproduce the values and Jacobians recorded in it. Every refusal is a `RefgradError` that
    names the file.
    """
    file = as_file(path, "the model")
    with naming(called(file)):
        if artifact.recognises(file):
            if config is not None or weights is not None:
                msg = "a refgrad .npz is whole: give it no config or weights"
                raise InputError(msg)
            return artifact.load(file, verify=verify)
        # h5py is loaded only where a Keras file is read
        from refgrad.keras import archive, build

        return Network(build.build(archive.read(file, config, weights)))


def from_keras(model: Any) -> Network:
    """The network of a live Keras 3 (any backend) or tf_keras model: the same as that of its file, without a file.

    The model is asked for its config and its weights, once: what happens to it later changes nothing here. Sequential
    and Functional models that are built can be read. `audit` takes the model as `model=`.
    """
    from refgrad.keras import build, live

    with naming(f"the live model {getattr(model, 'name', '')!r}"):
        return Network(build.build(live.read(model)))
