"""Opening a model: what kind of file it is decides who reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refgrad import artifact, isolation
from refgrad.errors import InputError, naming, tidy
from refgrad.limits import Limits
from refgrad.network import Network
from refgrad.paths import Given, as_file, called, is_json_text
from refgrad.uncollected import uncollected

if TYPE_CHECKING:
    from refgrad.keras.custom import Builder


def read(
    file: Path | str | bytes,
    config: Any,
    weights: Any,
    verify: bool,
    limits: Limits,
    custom: Mapping[str, Builder] | None = None,
) -> Network:
    """The network of files that nobody has looked at yet, in this process."""
    file = as_file(file, "the model")
    if artifact.recognises(file, limits):
        if config is not None or weights is not None:
            msg = "a refgrad .npz is whole: give it no config or weights"
            raise InputError(msg)
        return artifact.load(file, verify=verify, limits=limits)
    # h5py is loaded only where a Keras file is read
    from refgrad.keras import archive, build
    from refgrad.keras.custom import check
    from refgrad.keras.rewriting import noting

    with noting(), archive.read(file, config, weights, limits) as raw:
        return Network(build.build(replace(raw, custom=check({} if custom is None else custom))))


def _given(given: Given | None, what: str) -> str | bytes | None:
    """A path, a text or the content, as another process can be told."""
    if given is None or (isinstance(given, str) and is_json_text(given)):
        return given
    file = as_file(given, what)
    return file if isinstance(file, bytes) else str(file)


def _isolated(file: Path | bytes, config: Any, weights: Any, verify: bool, limits: Limits) -> Network:
    """The same, in a process of its own."""
    files = {
        "file": file if isinstance(file, bytes) else str(file),
        "config": _given(config, "config="),
        "weights": _given(weights, "weights="),
    }
    net, keras, rewritings = isolation.read(isolation.Task(files, verify, limits))
    if not keras:
        return net
    from refgrad.keras.archive import files as named

    origin = replace(net.graph.provenance, files=named(file, config, weights), rewritings=rewritings)
    return Network(replace(net.graph, provenance=origin))


def load(
    path: Given,
    *,
    config: Given | None = None,
    weights: Given | None = None,
    verify: bool = True,
    limits: Limits | None = None,
    isolate: bool = False,
    custom: Mapping[str, Builder] | None = None,
) -> Network:
    """Read a trained network; nothing in the file is executed, and no file is opened but those named.

    `path` is a `.keras` or `.h5` file, a weights file (with `config=` its JSON, as a file or as text), a JSON config
    (with `weights=`), or a refgrad `.npz`; what it is, is seen from its content. For each file its path, its content
    as `bytes`, or a file opened as binary may be given, and for a `.keras` the folder that it was unpacked to.
    `verify` makes an `.npz` reproduce the values and Jacobians recorded in it. `limits` bound what reading may cost.
    `isolate` reads in a child process, so that a file that crashes or hangs libhdf5 is refused too. Every refusal is a
    `RefgradError` that names the file.

    `custom` says what layers of your own classes compute: the name of each class, and a function that is given a
    [CustomLayer][refgrad.keras.custom.CustomLayer] and gives a list of `refgrad.ops`, or of triples (kernel, bias or
    None, activation name), one after the other. It is called for layers of a class of that name, Keras's own too if
    that has the name, and for nothing else, and not in a child process: give it no `isolate`.
    """
    file = as_file(path, "the model")
    if limits is not None and not isinstance(limits, Limits):
        msg = f"limits={limits!r:.40}: a refgrad.Limits is expected"
        raise InputError(msg)
    if isolate and custom:
        msg = "custom= and isolate=True do not go together: functions are not handed to the child process"
        raise InputError(msg)
    with naming(called(file)), tidy(), uncollected():
        if isolate:
            return _isolated(file, config, weights, verify, limits or Limits())
        return read(file, config, weights, verify, limits or Limits(), custom)


def from_keras(model: Any) -> Network:
    """The network of a live Keras 3 (any backend) or tf_keras model: the same as that of its file, without a file.

    The model is asked for its config and its weights, once: what happens to it later changes nothing here. Sequential
    and Functional models that are built can be read. `audit` takes the model as `model=`.
    """
    from refgrad.keras import build, live
    from refgrad.keras.rewriting import noting

    name = getattr(model, "name", None)
    with naming("the live model" if name is None else f"the live model {name!r}"), noting():
        return Network(build.build(live.read(model)))
