"""Small HTML for notebooks: everything escaped, everything short, colours those of Lab's theme.

Texts come from logs and old files, so nothing in them is markup here, nothing
unprintable is raw, and a megabyte of content is a line.

>>> table(["id"], [["<script>"]]).count("&lt;script&gt;")
1
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from meshlab.wording import escape

SHOWN = 20
"""Rows of a table in a notebook."""

LONGEST = 200
"""Characters of a text in a notebook."""

LONGEST_CELL = 80
"""Characters of a cell of a table."""

GOOD = "var(--jp-success-color1, #1b7f3b)"
BAD = "var(--jp-error-color1, #b00020)"
ACCENT = "var(--jp-brand-color1, #0072b2)"
_LINE = "var(--jp-border-color2, #bbb)"

_AMOUNT = re.compile(r"(?<=\d) (?=(?:[kMGTP]?B|s|m|h|d)\b)")
_MATH = re.compile(r"\$|\\(?=[(\[]|begin)")
"""What Lab would begin a formula with; a formula does not reach into another element."""

_LEFT = "style='text-align:left'"
_FRAME = f"cellpadding='3' style='border-top:1px solid {_LINE};border-collapse:collapse;margin:.3em 0;line-height:1.4'"


class Marked(str):
    """A text that stands out in a table: bold, and in another colour."""

    colour = ACCENT


class Wrong(Marked):
    """A text that tells of something bad."""

    colour = BAD


def safe(text: str) -> str:
    r"""A text as HTML in which nothing is markup, nothing unprintable is raw, and no number is cut off from its unit.

    >>> print(safe("<b> \x1b in 5 s"))
    &lt;b&gt; \x1b in 5&nbsp;s
    """
    return _MATH.sub(r"<span>\g<0></span>", _AMOUNT.sub("&nbsp;", html.escape(escape(text))))


def short(text: str, most: int = LONGEST) -> str:
    """A text of at most so many characters.

    >>> short("a long story", 7)
    'a long…'
    """
    return text if len(text) <= most else text[: most - 1] + "…"


def headline(what: str, name: str = "", told: str = "", *, good: bool | None = None) -> str:
    """One line: what it is, whose, and what there is to say; green when it is ``good``, red when it is not."""
    style = "" if good is None else f" style='color:{GOOD if good else BAD};font-weight:600'"
    named = f" <code>{safe(short(name, 80))}</code>" if name else ""
    more = f": <span{style}>{safe(short(told))}</span>" if told else ""
    return f"<div style='line-height:1.4'><b>{safe(what)}</b>{named}{more}</div>"


def bullets(texts: Sequence[str], count: int) -> str:
    """The first of ``count`` texts as a list; nothing when there is none."""
    if not texts:
        return ""
    items = "".join(f"<li>{safe(short(text))}</li>" for text in texts)
    more = f"<li>and {count - len(texts):,} more</li>" if count > len(texts) else ""
    return f"<ul style='margin:.3em 0;line-height:1.4'>{items}{more}</ul>"


def table(names: Sequence[str], rows: Iterable[Sequence[object]], count: int = 0) -> str:
    """The first of ``count`` rows as a table; None is an empty cell.  Nothing when there is no row."""
    body = [f"<tr valign='top'>{''.join(map(_cell, row))}</tr>" for row in rows]
    if not body:
        return ""
    head = "".join(f"<th {_LEFT}>{safe(name)}</th>" for name in names)
    more = f"<p>and {count - len(body):,} more</p>" if count > len(body) else ""
    return f"<table {_FRAME}><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>{more}"


def _cell(value: object) -> str:
    text = "" if value is None else safe(short(str(value), LONGEST_CELL))
    if isinstance(value, Marked):
        text = f"<b style='color:{value.colour}'>{text}</b>"
    return f"<td {_LEFT}>{text}</td>"
