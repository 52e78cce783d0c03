"""`--of` and `--wrt`: which outputs or inputs are meant, and which of their features."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from refgrad.arrays import Shape
from refgrad.cli.tables import labels
from refgrad.ends import Ends, Positions, choose, features
from refgrad.errors import InputError, naming


@dataclass(frozen=True, eq=False)
class Selection:
    """Chosen ends: `asked` and `index` as the library takes them, and what that comes to."""

    asked: str | list[str] | None
    index: Any
    ends: Ends
    features: tuple[Shape, ...]
    picked: Positions | None

    @property
    def shapes(self) -> list[Shape]:
        """The shape of what was chosen of each end."""
        return [shape if self.picked is None else self.picked.shape for shape in self.features]

    def labels(self) -> list[list[str]]:
        """The name of every chosen feature of each end."""
        every = (labels(name, shape).ravel() for name, shape in zip(self.ends.names, self.features, strict=True))
        return [list(map(str, one if self.picked is None else one[self.picked.ravel()])) for one in every]


def _index(text: str) -> Any:
    """What stands between the brackets of an index: numbers, slices, lists, and commas between them."""

    def value(node: ast.expr | None) -> Any:
        match node:
            case None:
                return None
            case ast.Constant(int(number)):
                return number
            case ast.UnaryOp(ast.USub(), ast.Constant(int(number))):
                return -number
            case ast.Slice(lower, upper, step):
                return slice(value(lower), value(upper), value(step))
            case ast.List(items):
                return [value(item) for item in items]
            case ast.Tuple(items):
                return tuple(value(item) for item in items)
        raise ValueError

    try:
        parsed = ast.parse(f"_[{text}]", mode="eval").body
        if isinstance(parsed, ast.Subscript):
            return value(parsed.slice)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    msg = f"[{text}] is no index of features, such as [0], [2:5], [[0, 3]] or [:, 1]"
    raise InputError(msg)


def _end(text: str, names: Sequence[str]) -> tuple[str, Any]:
    """The name of an end, and an index or None, from `name`, its place, or either with an index behind."""
    if text in names:
        return text, None
    name, bracket, rest = text.partition("[")
    if bracket and text.endswith("]") and (not name or name in names or name.isdecimal()):
        index = _index(rest.removesuffix("]"))
    elif bracket:
        name, index = text, None
    else:
        index = None
    if not name and len(names) == 1:
        return names[0], index
    if name.isdecimal() and int(name) < len(names) and name not in names:
        name = names[int(name)]
    if name not in names:
        msg = f"there is no {name!r}; there are {', '.join(map(repr, names))}, or their places from 0"
        raise InputError(msg)
    return name, index


def select(option: str, given: list[str] | None, names: tuple[str, ...], shapes: tuple[Shape, ...]) -> Selection:
    """What an option, perhaps repeated, chooses: all ends where it is not given, one, or several."""
    with naming(f"{option} {f' {option} '.join(given or [])}"):
        ends = [_end(text, names) for text in given or []]
        asked: str | list[str] | None = [name for name, _ in ends] or None
        asked = ends[0][0] if len(ends) == 1 else asked
        index = next((index for _, index in ends if index is not None), None)
        if index is not None and len(ends) > 1:
            msg = "features can be chosen where it is given once"
            raise InputError(msg)
        chosen = choose(option, asked, names)
        of = tuple(shapes[place] for place in chosen.places)
        return Selection(asked, index, chosen, of, features("index", index, of))
