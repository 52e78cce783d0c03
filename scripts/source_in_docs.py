"""A hook of MkDocs: puts pieces of the source into a page, so that the code beside an equation is the code that runs.

A line `<!-- code: refgrad/ops/affine.py Affine.forward Affine.jvp -->` becomes these definitions, or the whole file
where none is named; `<!-- docstring: refgrad/ops/affine.py Affine -->` becomes the docstring, in its own line breaks.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from textwrap import dedent
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DIRECTIVE = re.compile(r"^<!-- (code|docstring): (\S+)((?: [\w.]+)*) -->$", re.MULTILINE)


def _names(node: ast.stmt) -> list[str]:
    """What a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def definition(tree: ast.Module, dotted: str) -> ast.stmt:
    """The statement that defines `Class.method`, a function, a class or a constant; `LookupError` if none does."""
    node: Any = tree
    for name in dotted.split("."):
        found = [inner for inner in node.body if name in _names(inner)]
        if not found:
            msg = f"nothing defines {dotted}"
            raise LookupError(msg)
        node = found[0]
    statement: ast.stmt = node
    return statement


def _lines(source: str, node: ast.stmt) -> str:
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
    return dedent("\n".join(source.splitlines()[first - 1 : node.end_lineno]))


def shown(kind: str, path: str, names: list[str]) -> str:
    """A fenced block with the pieces of one file."""
    source = (ROOT / path).read_text(encoding="utf-8")
    tree = ast.parse(source)
    if kind == "docstring":
        nodes = [definition(tree, name) for name in names] or [tree]
        text = "\n\n".join(ast.get_docstring(node) or "" for node in nodes)  # type: ignore[arg-type]
        return f"```text\n{text}\n```"
    pieces = [_lines(source, definition(tree, name)) for name in names] or [source.strip()]
    return f'```python title="{path}"\n' + "\n\n".join(pieces) + "\n```"


def expanded(markdown: str) -> str:
    """A page with every directive replaced."""
    return DIRECTIVE.sub(lambda match: shown(match[1], match[2], match[3].split()), markdown)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What MkDocs calls for every page."""
    return expanded(markdown)
