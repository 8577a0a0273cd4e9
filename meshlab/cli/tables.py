"""Rows as a table for a terminal.

Data never reaches the terminal raw: whatever is not printable is shown as an
escape, so a memory's content cannot move the cursor or recolour the screen.

>>> print(render([{"op": "insert", "events": 1200}, {"op": "delete", "events": 7}]))
op      events
------  ------
insert   1,200
delete       7
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import accumulate
from typing import Any, NamedTuple

from meshlab.wording import escape

GAP = "  "
MAX_CELL = 60
MIN_CELL = 16
"""Long text columns shrink to this many places before columns are left out."""

SHORT = 27
"""Text up to this many places, such as a time, is never cut."""


class Column(NamedTuple):
    """One column ready to print: its name, its cells as text, and whether they are numbers."""

    name: str
    cells: list[str]
    numeric: bool

    @property
    def width(self) -> int:
        """Places the widest cell or the name takes."""
        return max(map(places, [self.name, *self.cells]))


def render(rows: Sequence[Mapping[str, Any]], *, names: Sequence[str] | None = None, width: int | None = None) -> str:
    """A table of rows, at most ``width`` places wide (None: as wide as its cells).

    Numbers are right-aligned, with thousands separators; long text is cut in the
    middle, so that ids keep both ends; columns that still do not fit are left out
    and named in the last line.
    """
    names = list(names if names is not None else dict.fromkeys(name for row in rows for name in row))
    columns = [_column(name, [row.get(name) for row in rows]) for name in names]
    shown, widths = _fit(columns, width)
    lines = [[column.name for column in shown], ["-" * size for size in widths]]
    lines += [list(cells) for cells in zip(*(column.cells for column in shown), strict=True)]
    text = "\n".join(_line(line, shown, widths) for line in lines)
    left_out = ", ".join(escape(name) for name in names[len(shown) :])
    return f"{text}\n(too narrow for: {left_out}; --format json shows all)" if left_out else text


def places(text: str) -> int:
    """Places a printable text takes in a terminal: wide letters take two, combining marks none.

    >>> places("memory"), places("記憶")
    (6, 4)
    """
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def shorten(text: str, size: int) -> str:
    """The text in at most ``size`` places, cut in the middle.

    >>> shorten("15009280-3996-4b8e-ae6d-36c44a9ce5d9", 12)
    '15009280…5d9'
    """
    if places(text) <= size:
        return text
    head, tail = (size - 1) - (size - 1) // 3, (size - 1) // 3
    return _first(text, head) + "…" + _first(text[::-1], tail)[::-1]


def cell(value: Any) -> str:
    """One value as text: nothing for None, RFC 3339 for times, JSON for what is nested.

    >>> cell(1234567), cell(0.25), cell(None), cell(True), cell(["a"])
    ('1,234,567', '0.25', '', 'yes', '["a"]')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (float, Decimal)):
        return f"{value:,.6g}"
    if isinstance(value, (datetime, date)):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, (bytes, bytearray)):
        return escape(bytes(value).decode("utf-8", "backslashreplace"))
    if isinstance(value, (dict, list, tuple)):
        return escape(json.dumps(value, ensure_ascii=False, default=str))
    return escape(str(value))


def _column(name: str, values: list[Any]) -> Column:
    given = [value for value in values if value is not None]
    numeric = bool(given) and all(isinstance(v, (int, float, Decimal)) and not isinstance(v, bool) for v in given)
    return Column(escape(name), [shorten(cell(value), MAX_CELL) for value in values], numeric)


def _fit(columns: list[Column], width: int | None) -> tuple[list[Column], list[int]]:
    """The columns that fit, cut where they must be, and their widths."""
    widths = [column.width for column in columns]
    if width is None:
        return columns, widths
    least = [
        size if column.numeric or size <= SHORT else max(MIN_CELL, places(column.name))
        for column, size in zip(columns, widths)
    ]
    ends = accumulate(size + len(GAP) for size in least)
    count = max(1, sum(end - len(GAP) <= width for end in ends))
    shown, widths = columns[:count], _shrink(widths[:count], least[:count], width - len(GAP) * (count - 1))
    return [_cut(column, size) for column, size in zip(shown, widths)], widths


def _shrink(widths: list[int], least: list[int], room: int) -> list[int]:
    """Take places from the widest column that has some to give until all fit."""
    widths = list(widths)
    while sum(widths) > room:
        spare = [(size, at) for at, size in enumerate(widths) if size > least[at]]
        if not spare:
            break
        widths[max(spare)[1]] -= 1
    return widths


def _cut(column: Column, size: int) -> Column:
    return column if column.numeric else column._replace(cells=[shorten(text, size) for text in column.cells])


def _line(texts: list[str], columns: list[Column], widths: list[int]) -> str:
    padded = []
    for text, column, size in zip(texts, columns, widths):
        blank = " " * (size - places(text))
        padded.append(blank + text if column.numeric else text + blank)
    return GAP.join(padded).rstrip()


def _first(text: str, size: int) -> str:
    taken = ""
    for char in text:
        if places(taken + char) > size:
            break
        taken += char
    return taken
