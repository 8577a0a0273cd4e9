"""Sizes and spans of time as people write and read them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

from meshlab.cli.output import Row
from meshlab.wording import SPANS, size_text

_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII | re.IGNORECASE)


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
        if match is None or (match[2].lower() or "s") not in SPANS:
            self.fail(f"{value!r} is no span of time: use a number and s, m, h or d", param, ctx)
        return float(match[1]) * SPANS[match[2].lower() or "s"]
