"""The mutants of a module: copies of its syntax tree that differ in one operator, constant, call or statement.

Docstrings, annotations, messages, `source=` texts and names of rows, parameters and ops are left alone: nothing
depends on them; and so are assertions, of which `strict=` is one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("activations", "ops", "derivatives")

SWAPPED: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
"""For each operator the others that are put in its place: its opposite, and for a comparison its neighbour as well."""

_PAIRS = ("min max", "minimum maximum", "exp expm1", "log log1p", "any all", "ones_like zeros_like", "argmin argmax")
_BOTH_WAYS = {one: other for pair in _PAIRS for one, other in (pair.split(), pair.split()[::-1])}
FUNCTIONS = {**_BOTH_WAYS, "sum": "max", "reversed": "list", "sorted": "list"}
METHODS = {
    **_BOTH_WAYS,
    **{"sum": "mean", "sqrt": "square", "square": "abs", "abs": "square", "prod": "fsum", "cumsum": "cumprod"},
    **{"tanh": "sin", "hypot": "maximum", "update": "difference_update"},
}
"""For each function or method another that takes the same arguments."""

_EITHER_WAY_ROUND = {"min", "max", "minimum", "maximum", "hypot", "swapaxes", "array_equal", "isdisjoint"}
_UNREAD = {"annotation", "returns", "type_comment", "ctx", "names"}


@dataclass(frozen=True)
class Mutant:
    """One change: the `place`-th that the file allows, in the statement `before`, which becomes `after`.

    `function` is the innermost function's name, and `code` its first line and name as its code object has them; both
    are empty where importing the module runs the statement.
    """

    path: str
    place: int
    line: int
    function: str
    code: tuple[int, str] | None
    before: str
    after: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What stays the same when other lines of the file change."""
        return self.path, self.function, self.before, self.after


@dataclass(frozen=True)
class _Scope:
    statement: ast.AST
    function: str = ""
    code: tuple[int, str] | None = None
    optional: bool = False


@dataclass(frozen=True)
class _Site:
    """A slot of a tree, what is to be put there, and where that is."""

    owner: ast.AST
    field: str
    index: int | None
    new: ast.AST
    scope: _Scope

    def exchange(self, new: ast.AST) -> ast.AST:
        """Put a node into the slot; gives back the one that was there."""
        slot = getattr(self.owner, self.field)
        old: ast.AST = slot if self.index is None else slot[self.index]
        if self.index is None:
            setattr(self.owner, self.field, new)
        else:
            slot[self.index] = new
        return old


def _constants(value: Any) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield value + 1
        if value == 1:
            yield 0
    elif isinstance(value, str):
        yield f"{value}_"


def _copy(node: Any, **changed: Any) -> Any:
    """The node with other fields, and its place in the file."""
    return ast.copy_location(type(node)(**{**dict(ast.iter_fields(node)), **changed}), node)


def _calls(node: ast.Call) -> Iterator[ast.expr]:
    match node.func:
        case ast.Name(id=name) if name in FUNCTIONS:
            yield _copy(node, func=_copy(node.func, id=FUNCTIONS[name]))
        case ast.Attribute(attr=name) if name in METHODS:
            yield _copy(node, func=_copy(node.func, attr=METHODS[name]))
    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
    starred = any(isinstance(argument, ast.Starred) for argument in node.args)
    if len(node.args) == 2 and not starred and called not in _EITHER_WAY_ROUND:
        yield _copy(node, args=node.args[::-1])
    for dropped in node.keywords:
        if dropped.arg not in (None, "source", "strict"):
            yield _copy(node, keywords=[keyword for keyword in node.keywords if keyword is not dropped])


def _expressions(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of an expression or an operator."""
    for other in SWAPPED.get(type(node), ()):
        yield other()
    match node:
        case ast.Constant(value=value):
            for changed in _constants(value):
                yield ast.copy_location(ast.Constant(changed), node)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.IfExp(test=ast.Name() | ast.Attribute() | ast.Call()):
            yield _copy(node, body=node.orelse, orelse=node.body)
        case ast.Call():
            yield from _calls(node)


def _names(target: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}


def _statements(node: ast.stmt, scope: _Scope) -> Iterator[ast.stmt]:
    """What may stand in the place of a statement."""
    gone = ast.copy_location(ast.Pass(), node)
    match node:
        case ast.Raise() | ast.AugAssign() | ast.Continue() | ast.Expr(value=ast.Call()):
            yield gone
        case ast.Assign(targets=[ast.Name(id=name)]) if name in _names(node.value):
            yield gone
        case ast.Assign(targets=[ast.Subscript() | ast.Attribute()]):
            yield gone
        case ast.If(test=test):
            if not isinstance(node.body[-1], ast.Raise):
                yield _copy(node, body=[gone])
            if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp):
                yield _copy(node, test=ast.copy_location(ast.UnaryOp(ast.Not(), test), test))
        case ast.Return(value=ast.expr() as value) if scope.optional and ast.unparse(value) != "None":
            yield _copy(node, value=ast.copy_location(ast.Constant(None), value))


def _is_left_alone(node: ast.AST) -> bool:
    """Messages, names, imports, docstrings and what only a type checker reads."""
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Assert() | ast.JoinedStr() | ast.Delete():
            return True
        case ast.Assign(targets=[ast.Name(id="msg" | "__all__")]) | ast.AnnAssign(target=ast.Name(id="name")):
            return True
        case ast.Assign(value=ast.Subscript() | ast.BinOp(op=ast.BitOr())):
            return True  # the name of a type
        case ast.Tuple(elts=[ast.Constant(value=str()), ast.Constant() | ast.Attribute()]):
            return True  # a parameter and its default
        case ast.Expr(value=ast.Constant()) | ast.keyword(arg="source" | "strict"):
            return True
    return False


def _inside(node: ast.AST, scope: _Scope) -> _Scope:
    """The scope of a function's body."""
    name = f"{scope.function}.{getattr(node, 'name', 'lambda')}".strip(".")
    match node:
        case ast.ClassDef():
            return _Scope(node, name)
        case ast.Lambda():
            return _Scope(scope.statement, name, (node.lineno, "<lambda>"))
        case ast.FunctionDef():
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            optional = node.returns is not None and "None" in ast.unparse(node.returns).split(" | ")
            return _Scope(node, name, (first, node.name), optional)
    return scope


def _is_row(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "Activation"


def _sites(owner: ast.AST, scope: _Scope) -> Iterator[_Site]:
    for field, value in ast.iter_fields(owner):
        if field in _UNREAD:
            continue
        within = _inside(owner, scope) if field == "body" else scope
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or _is_left_alone(child):
                continue
            if field == "args" and index == 0 and _is_row(owner):
                continue  # its name
            here, found = within, _expressions(child)
            if _is_row(child):
                here = replace(within, statement=child)
            if isinstance(child, ast.stmt):
                here = replace(within, statement=child)
                found = _statements(child, here)
            for new in found:
                yield _Site(owner, field, index if isinstance(value, list) else None, new, here)
            if not isinstance(child, ast.Raise):
                yield from _sites(child, here)


def _text(statement: ast.AST) -> str:
    """A simple statement; of a compound one its head, and its body where that is gone."""
    lines = ast.unparse(statement).splitlines()
    if isinstance(statement, ast.If | ast.For | ast.While | ast.With | ast.FunctionDef | ast.ClassDef | ast.Try):
        return f"{lines[0]} pass" if isinstance(getattr(statement, "body", [None])[0], ast.Pass) else lines[0]
    return "\n".join(lines)


def mutants(path: str, source: str) -> list[Mutant]:
    """Every mutant of a file, in order; of those that read the same the first."""
    tree = ast.parse(source)
    found: dict[tuple[str, str, str, str], Mutant] = {}
    for place, site in enumerate(list(_sites(tree, _Scope(tree)))):
        statement = site.scope.statement
        before = _text(statement)
        old = site.exchange(site.new)
        after = _text(site.new if statement is old else statement)
        site.exchange(old)
        line = getattr(old, "lineno", getattr(site.owner, "lineno", getattr(statement, "lineno", 0)))
        mutant = Mutant(path, place, line, site.scope.function, site.scope.code, before, after)
        found.setdefault(mutant.key, mutant)
    return list(found.values())


def mutated(source: str, place: int | None) -> ast.Module:
    """The tree of a file with one change, or with none."""
    tree = ast.parse(source)
    if place is not None:
        site = list(_sites(tree, _Scope(tree)))[place]
        site.exchange(site.new)
    return ast.fix_missing_locations(tree)
