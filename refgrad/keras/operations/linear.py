"""Operations that are products of matrices, with a constant one or between two tensors."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Mapping
from typing import Any

from refgrad.arrays import Array
from refgrad.errors import FormatError, UnsupportedError
from refgrad.keras import values
from refgrad.keras.operations.arithmetic import Operand, combined
from refgrad.keras.operations.rows import Drawing, Operation, Traced, operand
from refgrad.keras.operations.shaping import permuted, reshaped
from refgrad.keras.rows import REQUIRED
from refgrad.ops import Affine, Dot, Multiply, Sum

_LETTERS, _OTHERS = string.ascii_lowercase, string.ascii_uppercase
_BATCH = "is not one product for each sample: the batch axis must be the first of every tensor, and of the result"


def _laid(drawing: Drawing, x: Operand, own: str, wanted: str) -> Operand:
    """An operand with its axes in the order of `wanted`, and axes of 1 for those that it lacks."""
    order = sorted(range(len(own)), key=lambda axis: wanted.index(own[axis]))
    if isinstance(x, Traced):
        moved = permuted(drawing, x, tuple(order))
        sizes = iter(moved.shape)
        return reshaped(drawing, moved, tuple(next(sizes) if letter in own else 1 for letter in wanted[1:]))
    array = x.transpose(order)
    lengths = iter(array.shape)
    return array.reshape(tuple(next(lengths) if letter in own else 1 for letter in wanted))


def _affine(drawing: Drawing, x: Traced, kernel: Array, own: str, of_kernel: str, result: str) -> Traced:
    """Σ over the letters of both that the result lacks: x as rows of those, times the kernel as a matrix."""
    inner = [letter for letter in own if letter in of_kernel]
    outer, units = ([letter for letter in of if letter not in inner] for of in (own, of_kernel))
    sizes = dict(zip(own[1:], x.shape, strict=True)) | dict(zip(of_kernel, kernel.shape, strict=True))
    rows = permuted(drawing, x, tuple(own.index(letter) for letter in (*outer, *inner)))
    rows = reshaped(drawing, rows, (*(sizes[c] for c in outer[1:]), math.prod(sizes[c] for c in inner)))
    matrix = kernel.transpose([of_kernel.index(letter) for letter in (*inner, *units)])
    width = math.prod(sizes[c] for c in units)
    product = drawing.add(Affine(matrix.reshape(rows.shape[-1], width)), rows)
    product = reshaped(drawing, product, tuple(sizes[c] for c in (*outer[1:], *units)))
    return permuted(drawing, product, tuple([*outer, *units].index(letter) for letter in result))


def _inner(drawing: Drawing, one: Traced, other: Traced, mine: str, theirs: str, result: str) -> Traced:
    """Inner products of two tensors along the one letter that both have, beside the batch's."""
    (letter,) = {c for c in mine[1:] if c in theirs}
    axes = mine.index(letter) - len(mine), theirs.index(letter) - len(theirs)
    outer = [c for c in mine + theirs[1:] if c != letter]
    sizes = dict(zip(mine[1:], one.shape, strict=True)) | dict(zip(theirs[1:], other.shape, strict=True))
    product = reshaped(drawing, drawing.add(Dot(axes), one, other), tuple(sizes[c] for c in outer[1:]))
    return permuted(drawing, product, tuple(outer.index(c) for c in result))


def _multiplied(drawing: Drawing, operands: list[Operand], letters: list[str], result: str) -> Traced:
    """The products of all entries that any result is a sum of, then the sum: for what is no plain matrix product."""
    inner = "".join(dict.fromkeys(c for own in letters for c in own if c not in result))
    wanted = result + inner
    laid = [_laid(drawing, x, own, wanted) for x, own in zip(operands, letters, strict=True)]
    product = combined(drawing, Multiply(), *laid) if len(laid) == 2 else laid[0]
    assert isinstance(product, Traced)
    axes = tuple(range(-len(inner), 0))
    return drawing.add(Sum(axes), product) if axes else product


def contracted(drawing: Drawing, operands: list[Operand], letters: list[str], result: str) -> Traced:
    """Einstein's sum, of tensors and constants whose axes have these letters, one of them the batch's."""
    for x, own in zip(operands, letters, strict=True):
        rank = len(x.shape) + 1 if isinstance(x, Traced) else x.ndim
        if len(own) != rank or len(set(own)) < len(own):
            msg = f"the letters {own!r} do not name each of {rank} axes by one of its own"
            raise UnsupportedError(msg)
    batches = {own[0] for x, own in zip(operands, letters, strict=True) if isinstance(x, Traced)}
    of_constants = {c for x, own in zip(operands, letters, strict=True) if not isinstance(x, Traced) for c in own}
    named = {c for own in letters for c in own}
    if len(set(result)) < len(result) or not set(result) <= named:
        msg = f"the result {result!r} does not name axes of {', '.join(letters)} once each"
        raise FormatError(msg)
    (batch, *others) = batches or {""}
    inside = any(batch in own[1:] for own in letters)
    if others or result[:1] != batch or batch in of_constants or inside:
        msg = f"{','.join(letters)}->{result} {_BATCH}"
        raise UnsupportedError(msg)
    sizes: dict[str, int] = {}
    for x, own in zip(operands, letters, strict=True):
        lengths = x.shape if not isinstance(x, Traced) else (-1, *x.shape)
        for letter, n in zip(own, lengths, strict=True):
            if sizes.setdefault(letter, n) != n:
                msg = f"axes of {sizes[letter]} and {n} entries meet in {','.join(letters)}->{result}"
                raise FormatError(msg)
    if len(operands) == 2:
        (one, other), (mine, theirs) = operands, letters
        if not isinstance(one, Traced):
            (one, other), (mine, theirs) = (other, one), (theirs, mine)
        inner = {c for c in mine if c in theirs} - {batch}
        plain = inner and not inner & set(result) and set(mine) ^ set(theirs) <= {batch, *result}
        if plain and isinstance(one, Traced) and not isinstance(other, Traced):
            return _affine(drawing, one, other, mine, theirs, result)
        if plain and len(inner) == 1 and isinstance(one, Traced) and isinstance(other, Traced):
            return _inner(drawing, one, other, mine, theirs, result)
    return _multiplied(drawing, operands, letters, result)


def _rank(x: Operand) -> int:
    """With the batch axis of a tensor."""
    return len(x.shape) + isinstance(x, Traced)


def _matmul(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """Matrices are the last two axes, axes before them go together; a constant vector is a row or a column."""
    x1, x2 = given["x1"], given["x2"]
    ranks = _rank(x1), _rank(x2)
    if min(ranks) < 1:
        msg = "it multiplies a matrix with a number; multiply does that"
        raise FormatError(msg)
    n = max(*ranks, 2)
    before = _LETTERS[: n - 2]
    one = "K" if ranks[0] == 1 else before[n - ranks[0] :] + "IK"
    other = "K" if ranks[1] == 1 else before[n - ranks[1] :] + "KJ"
    if given["transpose_a"] or given["transpose_b"]:
        one = one[:-2] + "KI" if given["transpose_a"] else one
        other = other[:-2] + "JK" if given["transpose_b"] else other
    result = before + "I" * (ranks[0] > 1) + "J" * (ranks[1] > 1)
    return contracted(drawing, [x1, x2], [one, other], result)


def _dot(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """As matmul, but for the axes before the last two, which do not go together."""
    x1, x2 = given["x1"], given["x2"]
    one = _LETTERS[: _rank(x1) - 1] + "Z"
    if _rank(x1) < 1 or _rank(x2) < 1:
        return combined(drawing, Multiply(), x1, x2)
    last = _OTHERS[: _rank(x2) - 1]
    other = f"{last[:-1]}Z{last[-1:]}"
    return contracted(drawing, [x1, x2], [one, other], one[:-1] + last)


def _axes_pair(value: Any) -> list[list[int]] | int:
    """A number of axes, or the axes of both."""
    if isinstance(value, list) and len(value) == 2:
        return [list(values.axes(axes)) for axes in value]
    return values.axis(value)


def _tensordot(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """Sums over so many axes, the last of one and the first of the other, or over some of each."""
    x1, x2, axes = given["x1"], given["x2"], given["axes"]
    ranks = _rank(x1), _rank(x2)
    if isinstance(axes, int):
        axes = [list(range(ranks[0] - axes, ranks[0])), list(range(axes))]
    if len(axes[0]) != len(axes[1]) or any(not -n <= a < n for n, of in zip(ranks, axes, strict=True) for a in of):
        msg = f"axes={given['axes']!r:.60} are not pairs of axes of tensors of {ranks[0]} and {ranks[1]}"
        raise FormatError(msg)
    if max(ranks) > len(_LETTERS):
        msg = f"tensors of {max(ranks)} axes are not supported here"
        raise UnsupportedError(msg)
    one, other = [*_LETTERS[: ranks[0]]], [*_OTHERS[: ranks[1]]]
    for a, b in zip(*axes, strict=True):
        other[b] = one[a]
    result = [c for c in one if c not in other] + [c for c in other if c not in one]
    return contracted(drawing, [x1, x2], ["".join(one), "".join(other)], "".join(result))


def _einsum(drawing: Drawing, given: Mapping[str, Any]) -> Traced:
    """Of one or two operands, by letters alone."""
    subscripts = re.sub(r"\s", "", given["subscripts"]) if isinstance(given["subscripts"], str) else ""
    found = re.fullmatch(r"([A-Za-z]+)(?:,([A-Za-z]+))?->([A-Za-z]*)", subscripts)
    operands = [given[key] for key in ("x1", "x2") if given[key] is not None]
    if found is None or (found[2] is None) != (len(operands) == 1):
        msg = f"the equation {given['subscripts']!r:.60} is not supported; letters of one or two tensors and -> are"
        raise UnsupportedError(msg)
    return contracted(drawing, operands, [part for part in found.groups()[:2] if part], found[3])


def _operand_or_none(value: Any) -> Operand | None:
    return None if value is None else operand(value)


def _text(value: Any) -> Any:
    return value


_TWO = {"x1": (operand, REQUIRED), "x2": (operand, REQUIRED)}
MATMUL = Operation(_matmul, meaning={**_TWO, "transpose_a": (values.flag, False), "transpose_b": (values.flag, False)})
DOT = Operation(_dot, meaning=_TWO)
TENSORDOT = Operation(_tensordot, meaning={**_TWO, "axes": (_axes_pair, 2)})
EINSUM = Operation(
    _einsum, meaning={"x1": (operand, REQUIRED), "x2": (_operand_or_none, None), "subscripts": (_text, REQUIRED)}
)
