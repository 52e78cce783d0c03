"""What an HDF5 file holds, in either of Keras's layouts: layers listed by name, or groups numbered by class."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py

from refgrad.arrays import Array
from refgrad.errors import FormatError, UnsupportedError
from refgrad.keras import hdf5
from refgrad.keras.hdf5 import Content, Folder, Opened
from refgrad.limits import Limits


@dataclass(frozen=True, eq=False)
class RawLayer:
    """The arrays stored for one layer, in the file's order, under the names the file gives them.

    `name` is the layer's name in the config where the file records it; `group` is where in the file the arrays are. A
    nested model has `layers` of its own, or (Keras 1–2) the arrays of them all, under names with the layers' in them. A
    wrapper has the layer in it as `inner`, or (Keras 1–2) that layer's arrays.
    """

    group: str
    name: str | None
    arrays: dict[str, Array]
    layers: tuple[RawLayer, ...] = ()
    inner: RawLayer | None = None

    @property
    def holds_any(self) -> bool:
        """Whether any arrays are in it."""
        return bool(self.arrays or self.layers) or (self.inner is not None and self.inner.holds_any)


@dataclass(frozen=True, eq=False)
class Stored:
    """An HDF5 file's content, and what it says beside its arrays."""

    content: Content
    container: str
    config: str | None = None
    writer: str | None = None


def _is_legacy(source: Opened) -> bool:
    """Whether the layout is that of Keras 1–2, which lists its layers by name."""
    return (
        source.texts(source.file, "layer_names") is not None or source.child(source.file, "model_weights") is not None
    )


def _legacy_root(source: Opened) -> h5py.Group:
    """The group that lists the layers: a layer may be called model_weights as well."""
    file = source.file
    root = file if source.texts(file, "layer_names") is not None else source.child(file, "model_weights")
    if not isinstance(root, h5py.Group):
        msg = "model_weights is an array where a group is expected"
        raise FormatError(msg)
    return root


def _legacy_layers(root: h5py.Group, source: Opened) -> Iterator[RawLayer]:
    """Keras 1–2 layout: the order is that of `layer_names`, and within a layer that of `weight_names`."""
    names = source.texts(root, "layer_names")
    if names is None:
        held = ", ".join(map(repr, sorted(source.names(root))[:4])) or "nothing"
        msg = f"the HDF5 file has neither 'layer_names' nor a 'layers' group but {held}: no layout that can be read yet"
        raise FormatError(msg)
    source.budget.see(len(names), "the layers in 'layer_names'")
    for name in names:
        group = source.descend(root, name)
        paths = source.texts(group, "weight_names") if isinstance(group, h5py.Group) else None
        if paths is None:
            msg = f"layer {name!r} is listed in 'layer_names' but has no group with 'weight_names'"
            raise FormatError(msg)
        source.budget.see(len(paths), f"the weights of layer {name!r}")
        arrays = {}
        for path in paths:
            dataset = source.descend(group, path)
            if dataset is None or path in arrays:
                msg = f"layer {name!r}: weight {path!r} is listed {'but missing' if dataset is None else 'twice'}"
                raise FormatError(msg)
            arrays[path] = source.array(dataset)
        yield RawLayer(name, name, arrays)


def _check_own(root: h5py.Group, source: Opened) -> None:
    """Refuse weights that a model has beside those of its layers: later tf.keras stores them under a name of theirs."""
    own = source.child(root, "top_level_model_weights")
    if own is not None and source.texts(own, "weight_names"):
        raise UnsupportedError(OWN)


OWN = "the model has weights of its own beside those of its layers: what they do is not in the file"

_LAYERS = ("layers", "_layer_checkpoint_dependencies")
"""Where a model's layers are; tf.keras 2.12 and 2.13 had a name of their own, where they count a layer twice."""


def _folder_of_layers(model: Folder) -> Folder:
    found = [name for name in _LAYERS if name in model]
    layers = model.folder(found[0]) if len(found) == 1 else None
    if layers is None:
        held = " and ".join(map(repr, found)) or ", ".join(map(repr, sorted(model)[:4])) or "nothing"
        msg = f"the weights have neither 'layer_names' nor one group 'layers' but {held}: no layout that can be read"
        raise FormatError(msg)
    return layers


def _numbered_layers(model: Folder, above: set[Any], depth: int = 0) -> Iterator[RawLayer]:
    """Keras 3 layout: `layers/<class>[_k]/vars/<i>`, with the layer's name on `vars` from newer writers.

    A nested model is a group with `layers` of its own; `above` are those met so far, none of which may come again.
    """
    layers = _folder_of_layers(model)
    model.source.budget.limits.check("models", depth, f"models one in the other, by {layers.parts[0][0].name:.80}")
    if not above.isdisjoint(layers.parts):
        msg = f"{layers.parts[0][0].name} is there twice, by links"
        raise FormatError(msg)
    above.update(layers.parts)
    for name in layers:
        yield _numbered_layer(name, layers.folder(name), above, depth)


def _numbered_layer(name: str, group: Folder | None, above: set[Any], depth: int) -> RawLayer:
    """One of them: its own arrays, those of the layers in it, and those of the layer that it wraps."""
    if group is None:
        return RawLayer(name, None, {})
    variables, wrapped = group.folder("vars"), group.folder("layer")
    nested = any(inner in group for inner in _LAYERS)
    if wrapped is not None:
        group.source.budget.limits.check("models", depth, f"layers one in the other in the group {name!r:.60}")
    return RawLayer(
        name,
        None if variables is None else variables.text("name"),
        {} if variables is None else variables.arrays(),
        tuple(_numbered_layers(group, above, depth + 1)) if nested else (),
        None if wrapped is None else _numbered_layer("layer", wrapped, above, depth + 1),
    )


def layers(content: Content, limits: Limits) -> tuple[RawLayer, ...]:
    """The arrays of every layer, in the file's order."""
    with hdf5.opened(content, limits) as source:
        if _is_legacy(source):
            legacy = _legacy_root(source)
            _check_own(legacy, source)
            return tuple(_legacy_layers(legacy, source))
        root = Folder(((source.file, ""),), source)
        own = root.folder("vars")
        if own is not None and list(own):
            raise UnsupportedError(OWN)
        return tuple(_numbered_layers(root, set()))


def version(recorded: object) -> str | None:
    """A version of Keras, if that is what was recorded."""
    return recorded if isinstance(recorded, str) and re.fullmatch(r"\d+\.\d+[\w.+-]{0,40}", recorded) else None


def stored(content: Content, limits: Limits) -> Stored:
    """What an HDF5 file of either layout says beside its arrays."""
    with hdf5.opened(content, limits) as source:
        if not _is_legacy(source):
            _folder_of_layers(Folder(((source.file, ""),), source))
            return Stored(content, "weights .h5 of Keras 3 layout")
        root = _legacy_root(source)
        config = source.text(source.file, "model_config")
        writer = source.text(source.file, "keras_version") or source.text(root, "keras_version")
        container = "legacy weights .h5" if config is None else "legacy .h5"
        return Stored(content, container, config, version(writer))
