"""Rows, verdicts, and the Markdown they become."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import Figure

TABLE_START = "<!-- benchmarks: start -->"
TABLE_END = "<!-- benchmarks: end -->"


class Bound(NamedTuple):
    """A limit on a measured number: at least this much, or at most."""

    limit: float
    most: bool = False

    def holds(self, value: float) -> bool:
        return value <= self.limit if self.most else value >= self.limit


@dataclass(frozen=True)
class Row:
    """One comparison.  ``value`` is what floor and aim are about, written by ``shape``."""

    work: str
    meshlab: str
    instead: str
    value: float
    shape: str
    floor: Bound | None = None
    aim: Bound | None = None

    @property
    def verdict(self) -> str:
        """What the number means; a row without floor is there for information.

        >>> Row("load", "1 s", "2 s", 2.0, "{:.1f}x", Bound(1.0), Bound(3.0)).verdict
        'met floor'
        """
        if self.floor is None:
            return "for information"
        if not self.floor.holds(self.value):
            return "**below floor**"
        return "met aim" if self.aim is not None and self.aim.holds(self.value) else "met floor"

    def cells(self) -> tuple[str, ...]:
        floor, aim = (self._bound(bound) for bound in (self.floor, self.aim))
        return self.work, self.meshlab, self.instead, self.shape.format(self.value), floor, aim, self.verdict

    def _bound(self, bound: Bound | None) -> str:
        if bound is None:
            return "-"
        return ("≤ " if bound.most else "≥ ") + self.shape.format(bound.limit)


SPEED = "{:.2f}x the speed"
TIME = "{:.2f}x the time"


def seconds(figure: Figure) -> str:
    """A figure in seconds, or a smaller unit that reads well.

    >>> seconds(Figure(0.00012, 0.0001, 0.0002))
    '120 µs (100-200)'
    """
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if figure.median * factor >= 1 or unit == "µs":
            median, low, high = (_three_digits(value * factor) for value in figure)
            return f"{median} {unit} ({low}-{high})"
    raise AssertionError


def rate(figure: Figure) -> str:
    """A figure in events per second.

    >>> rate(Figure(14_230.4, 13_000, 15_000))
    '14,230/s (13,000-15,000)'
    """
    return f"{figure.median:,.0f}/s ({figure.low:,.0f}-{figure.high:,.0f})"


def _three_digits(value: float) -> str:
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{decimals}f}"


HEAD = ("work", "meshlab", "instead", "ratio", "floor", "aim", "verdict")
CONTENDER_HEAD = ("contender", "what it delivers", "what it does not do")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def put_between_marks(path: Path, text: str) -> None:
    """Replace what stands between the two marks in a file.  Raises ``SystemExit`` when they are not there."""
    old = path.read_text(encoding="utf-8")
    before, start, rest = old.partition(TABLE_START)
    _, end, after = rest.partition(TABLE_END)
    if not start or not end:
        raise SystemExit(f"{path}: expected {TABLE_START} and {TABLE_END} around the table, did not find both")
    path.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")
