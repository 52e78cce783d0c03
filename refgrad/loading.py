"""Opening a model: what kind of file it is decides who reads it."""

from __future__ import annotations

from pathlib import Path

from refgrad import artifact
from refgrad.errors import InputError, naming, tidy
from refgrad.limits import Limits
from refgrad.network import Network
from refgrad.paths import Given, as_file, called


def _load(file: Path | bytes, config: Given | None, weights: Given | None, verify: bool, limits: Limits) -> Network:
    if artifact.recognises(file, limits):
        if config is not None or weights is not None:
            msg = "a refgrad .npz is whole: give it no config or weights"
            raise InputError(msg)
        return artifact.load(file, verify=verify, limits=limits)
    # h5py is loaded only where a Keras file is read
    from refgrad.keras import archive, build

    with archive.read(file, config, weights, limits) as raw:
        return Network(build.build(raw))


def load(
    path: Given,
    *,
    config: Given | None = None,
    weights: Given | None = None,
    verify: bool = True,
    limits: Limits | None = None,
) -> Network:
    """Read a trained network; nothing in the file is executed, and no file is opened but those named.

    `path` is a `.keras` or `.h5` file, a weights file (with `config=` its JSON, as a file or as text), a JSON config
    (with `weights=`), or a refgrad `.npz`; what it is, is seen from its content. For each file its path, its content
    as `bytes`, or a file opened as binary may be given, and for a `.keras` the folder that it was unpacked to.
    `verify` makes an `.npz` reproduce the values and Jacobians recorded in it. `limits` bound what reading may cost.
    Every refusal is a `RefgradError` that names the file.
    """
    file = as_file(path, "the model")
    if limits is not None and not isinstance(limits, Limits):
        msg = f"limits={limits!r:.40}: a refgrad.Limits is expected"
        raise InputError(msg)
    with naming(called(file)), tidy():
        return _load(file, config, weights, verify, limits or Limits())
