"""Opening a model: what kind of file it is decides who reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from refgrad import artifact
from refgrad.errors import InputError, naming
from refgrad.network import Network
from refgrad.paths import Given, as_file, called

if TYPE_CHECKING:
    from refgrad.keras.custom import Builder


def load(
    path: Given,
    *,
    config: Given | None = None,
    weights: Given | None = None,
    verify: bool = True,
    custom: Mapping[str, Builder] | None = None,
) -> Network:
    """Read a trained network; nothing in the file is executed, and no file is opened but those named.

    `path` is a `.keras` or `.h5` file, a weights file (with `config=` its JSON, as a file or as text), a JSON config
    (with `weights=`), or a refgrad `.npz`; what it is, is seen from its content. For each file its path, its content
    as `bytes`, or a file opened as binary may be given, and for a `.keras` the folder that it was unpacked to.
    `verify` makes an `.npz` reproduce the values and Jacobians recorded in it. Every refusal is a `RefgradError` that
    names the file.

    `custom` says what layers of your own classes compute: the name of each class, and a function that is given a
    [CustomLayer][refgrad.keras.custom.CustomLayer] and gives a list of `refgrad.ops`, or of triples (kernel, bias or
    None, activation name), one after the other. It is called for layers of that class and for nothing else.
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
        from refgrad.keras.custom import check
        from refgrad.keras.rewriting import noting

        with noting():
            raw = archive.read(file, config, weights)
            return Network(build.build(replace(raw, custom=check({} if custom is None else custom))))
