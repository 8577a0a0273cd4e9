"""Sizes and spans of time as people write and read them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

from meshlab.cli.output import Row

_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")
_SPANS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII | re.IGNORECASE)


def size_text(count: float) -> str:
    """A number of bytes in at most four digits.

    >>> size_text(999), size_text(1_234_567), size_text(999_999), size_text(25_000_000_000)
    ('999 B', '1.2 MB', '1.0 MB', '25 GB')
    """
    value, unit = float(count), 0
    while abs(value) >= 999.5 and unit < len(_SIZES) - 1:
        value, unit = value / 1000, unit + 1
    digits = 1 if unit and abs(value) < 9.95 else 0
    return f"{value:.{digits}f} {_SIZES[unit]}"


def span_text(seconds: float) -> str:
    """Seconds in the largest unit that fits.

    >>> span_text(0.25), span_text(90), span_text(7_200), span_text(200_000)
    ('0.25 s', '1.5 m', '2 h', '2.3 d')
    """
    name, size = next((pair for pair in reversed(_SPANS.items()) if seconds >= pair[1]), ("s", 1.0))
    return f"{seconds / size:.2g} {name}" if seconds / size < 10 else f"{seconds / size:.0f} {name}"


def with_sizes(rows: Sequence[Row], names: Sequence[str]) -> list[dict[str, Any]]:
    """The rows with some columns as sizes, aligned on the right as a table would numbers."""
    texts = {name: [None if row.get(name) is None else size_text(row[name]) for row in rows] for name in names}
    widths = {name: max([len(name), *(len(text) for text in column if text)]) for name, column in texts.items()}
    return [{**row, **_aligned(texts, widths, at)} for at, row in enumerate(rows)]


def _aligned(texts: Mapping[str, list[str | None]], widths: Mapping[str, int], at: int) -> dict[str, str | None]:
    return {
        name: text.rjust(widths[name]) if (text := column[at]) is not None else None for name, column in texts.items()
    }


class Size(click.ParamType[float | None]):
    """A number of bytes, such as ``64MB``, ``1.5GiB`` or ``4096``; ``none`` for no limit."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """Bytes of a text.

        >>> [Size().convert(text, None, None) for text in ("4096", "64MB", "1.5 GiB", "none")]
        [4096.0, 64000000.0, 1610612736.0, None]
        """
        if not isinstance(value, str):
            return value
        if value.lower() == "none":
            return None
        match = _TEXT.fullmatch(value.strip())
        unit = match[2].lower().removesuffix("b") if match else None
        if match is None or unit not in ("", *_POWERS):
            self.fail(f"{value!r} is no size: use a number and kB, MB, GB or KiB, MiB, GiB", param, ctx)
        return float(match[1]) * _POWERS.get(unit or "", 1)


_POWERS = {
    **{letter: 1000 ** (at + 1) for at, letter in enumerate("kmgt")},
    **{f"{letter}i": 1024 ** (at + 1) for at, letter in enumerate("kmgt")},
}


class Span(click.ParamType[float | None]):
    """A span of time, such as ``90s``, ``10m``, ``6h``, ``1d`` or plain seconds; ``none`` for no limit."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """Seconds of a text.

        >>> [Span().convert(text, None, None) for text in ("90", "1.5h", "1d", "none")]
        [90.0, 5400.0, 86400.0, None]
        """
        if not isinstance(value, str):
            return value
        if value.lower() == "none":
            return None
        match = _TEXT.fullmatch(value.strip())
        if match is None or (match[2].lower() or "s") not in _SPANS:
            self.fail(f"{value!r} is no span of time: use a number and s, m, h or d", param, ctx)
        return float(match[1]) * _SPANS[match[2].lower() or "s"]
