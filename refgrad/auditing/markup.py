"""HTML and SVG from nested elements: what was not made here is escaped, so a name can never become markup."""

from __future__ import annotations

import html
from collections.abc import Iterable

from refgrad.errors import printable

_VOID = frozenset({"meta", "br"})


class Markup(str):
    """Text that is HTML already; only this module makes it."""

    __slots__ = ()


def escaped(text: str) -> Markup:
    """Text as HTML that shows it; letters that cannot be seen, or that turn the direction of others, are spelt out."""
    return text if isinstance(text, Markup) else Markup(html.escape(printable(text)))


def element(name: str, /, *children: str, **attributes: object) -> Markup:
    """`<name …>children</name>`; an attribute that is None is left out, `class_` is `class`, and other `_` are `-`."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{said}>" if name in _VOID else f"<{name}{said}>{joined(children)}</{name}>")


def joined(children: Iterable[str]) -> Markup:
    """Elements one after the other."""
    return Markup("".join(map(escaped, children)))


def lines(texts: Iterable[str]) -> Markup:
    """Lines of code."""
    return element("pre", element("code", Markup("\n".join(map(escaped, texts)))), tabindex=0)


def style(css: str) -> Markup:
    """A style sheet of ours, whose `>` and quotes mean what they say."""
    return Markup(f"<style>{css}</style>")


def table(caption: str, heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Markup:
    """A table whose first column names its rows, in a region that scrolls where it is too wide."""
    body = [
        element(
            "tr",
            *(element("td", cell) if place else element("th", cell, scope="row") for place, cell in enumerate(row)),
        )
        for row in rows
    ]
    head = element("tr", *(element("th", cell, scope="col") for cell in heads))
    made = element("table", element("caption", caption), element("thead", head), element("tbody", *body))
    return element("div", made, class_="wide", role="region", tabindex=0, aria_label=caption)
