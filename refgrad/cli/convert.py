"""`refgrad convert`: models as refgrad's or Keras's files, each read back before it gets its name."""

from __future__ import annotations

import os
import tempfile
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from refgrad import artifact
from refgrad.chunks import DELAY
from refgrad.cli.models import opened
from refgrad.cli.say import complain, say, say_json, shows_progress
from refgrad.errors import InputError, RefgradError, VerificationError, naming
from refgrad.limits import Limits
from refgrad.network import Network

FORMATS = ("npz", "keras", "h5")
"""What can be written, by the ending of its file."""

_ENDINGS = (".npz", ".keras", ".h5", ".hdf5")
_STATUS = {"converted": 0, "refused": 2, "failed": 1}
"""Exit status by outcome, the gravest last."""


@dataclass(frozen=True)
class Outcome:
    """What became of one model; `bytes` and `digest` of what was written, or the reason why nothing was."""

    model: str
    output: str
    result: str
    bytes: int | None = None
    digest: str | None = None
    reason: str | None = None


def _targets(arguments: Namespace) -> list[Path]:
    """Where each model goes, if no two go to the same place."""
    models, output = arguments.model, Path(arguments.output)
    if len(models) > 1 and (arguments.config or arguments.weights):
        msg = f"--config and --weights belong to one model, and here are {len(models)}"
        raise InputError(msg)
    if len(models) == 1 and not arguments.output.endswith(os.sep) and not output.is_dir():
        if output.suffix not in _ENDINGS:
            msg = f"--output {output}: the ending {output.suffix!r} is none of {', '.join(_ENDINGS)}"
            raise InputError(msg)
        if output.exists() and Path(models[0]).exists() and output.samefile(models[0]):
            msg = f"--output {output}: this is the model itself, which would be gone; write to another name"
            raise InputError(msg)
        if arguments.to not in (None, output.suffix[1:]):
            msg = f"--output {output}: its name says another format than --to {arguments.to}"
            raise InputError(msg)
        return [output]
    if output.suffix in _ENDINGS and not output.is_dir():
        msg = f"--output {output}: not a directory, which several models, or a name with {os.sep!r} at its end, ask for"
        raise InputError(msg)
    targets: dict[Path, str] = {}
    for model in models:
        target = output / f"{Path(model).stem}.{arguments.to or 'npz'}"
        if target in targets:
            msg = f"{targets[target]} and {model} would both be written to {target}; convert one of them by itself"
            raise InputError(msg)
        targets[target] = model
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"--output {output}: no directory can be made there ({error.strerror})"
        raise InputError(msg) from None
    return list(targets)


def _npz(net: Network, target: Path, golden: int | None) -> int:
    """Write a draft beside the target, read it back, and only then give it the target's name; its size."""
    place = target.resolve()
    try:
        folder = tempfile.TemporaryDirectory(prefix=".refgrad-", dir=place.parent)
    except OSError as error:
        msg = f"--output {target}: cannot be written ({error.strerror})"
        raise InputError(msg) from None
    with folder, naming(target):
        artifact.check_verifiable(net, golden, Limits())
        draft = Path(folder.name) / "draft.npz"
        artifact.save(net, draft, golden)
        if artifact.load(draft).digest != net.digest:
            msg = "read back, it is not the network that was written"
            raise VerificationError(msg)
        size = draft.stat().st_size
        draft.replace(place)
    return size


def _convert(model: str, target: Path, arguments: Namespace) -> Outcome:
    net, _ = opened(model, arguments)
    if target.suffix == ".npz":
        size = _npz(net, target, arguments.golden)
    else:
        # h5py is loaded only where a Keras file is written
        from refgrad.keras.write import written

        net = written(net, target)
        size = target.stat().st_size
    return Outcome(model, str(target), "converted", size, net.digest)


def _outcome(model: str, target: Path, arguments: Namespace) -> Outcome:
    try:
        return _convert(model, target, arguments)
    except RefgradError as error:
        result = "failed" if isinstance(error, VerificationError) else "refused"
        return Outcome(model, str(target), result, reason=" ".join(str(error).split()))


def _table(outcomes: list[Outcome]) -> str:
    rows = [("model", "result", "bytes", "digest")]
    rows += [
        (it.model, f"→ {it.output}", f"{it.bytes:,}", f"{it.digest:.16}…")
        if it.digest
        else (it.model, it.result, "", "")
        for it in outcomes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for place, it in enumerate(outcomes, 1):
        lines[place] += f": {it.reason.removeprefix(f'{it.model}: ')}" if it.reason else ""
    return "\n".join(lines)


def _tell(outcomes: list[Outcome], arguments: Namespace) -> None:
    """A table for several models, a line for one; why nothing was written goes to standard error if nowhere else."""
    refused = [it for it in outcomes if it.reason]
    if arguments.json:
        say_json([asdict(it) for it in outcomes])
    elif len(outcomes) > 1 and not arguments.quiet:
        say(_table(outcomes))
    elif not arguments.quiet and not refused:
        (it,) = outcomes
        say(f"{it.model} → {it.output}: {it.bytes:,} bytes, verified, digest {it.digest:.16}…")
    if len(outcomes) == 1 or arguments.quiet:
        for it in refused:
            complain(it.reason or "")
    elif refused:
        complain(f"{len(refused)} of {len(outcomes)} models could not be converted")


def convert(arguments: Namespace) -> int:
    """Convert every model that can be; the exit status is that of the gravest outcome."""
    pairs = list(zip(arguments.model, _targets(arguments), strict=True))
    hidden = len(pairs) == 1 or not shows_progress(arguments)
    bar = tqdm(pairs, desc="convert", unit=" models", disable=hidden, delay=DELAY, leave=False)
    outcomes = [_outcome(model, target, arguments) for model, target in bar]
    _tell(outcomes, arguments)
    results = {it.result for it in outcomes}
    return next(status for result, status in reversed(_STATUS.items()) if result in results)
