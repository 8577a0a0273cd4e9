"""Change points: when somebody's traffic jumped for good, whose, and in which op.

For every user and op the events of each hour are counted.  At every hour what came before
is compared with what came from it on, a week on either side or as many days as there are,
by the likelihood ratio of one Poisson rate against two,

    G = 2 · (n1 · log(n1 / m1) + n2 · log(n2 / m2))

with ``n`` events and ``m`` expected ones on a side (Wilks, 1938), divided by how much more
than Poisson counts the days of the series vary (quasi-likelihood: Wedderburn, 1974).  What
hours of the day and days of the week usually have is in the expectation.  A change is where
G is largest within a week, is beyond what chance would bring among all hours of all series,
and where the rate at least doubled or halved.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.dialects import OPS
from meshlab.growth.series import Block, Series
from meshlab.tables.schema import TIME
from meshlab.tables.tabular import Tabular
from meshlab.times import HOUR, to_datetime
from meshlab.wording import counted, escape, size_text

if TYPE_CHECKING:
    from meshlab.plots.plot import Plot

CHANCE = 0.01
"""How likely one false change in all series together may be."""

LEAST_FACTOR = 2.0
"""What is less of a jump is growth, or weather."""

LEAST_EVENTS = 40
"""Events on both sides together below which nothing can be told."""

CHANGES_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("op", pa.string()),
        ("hour", TIME),
        ("factor", pa.float64()),
        ("events_per_day_before", pa.float64()),
        ("events_per_day_after", pa.float64()),
        ("bytes_per_day_added", pa.float64()),
        ("score", pa.float64()),
    ]
)
"""One row per change, the most bytes added first: from ``hour`` on the rate was ``factor`` times as high.

``score`` is G over the dispersion; ``bytes_per_day_added`` is negative when it fell.
"""

_WEEK = 24 * 7
"""Hours before and behind a change that are compared, at most."""


@dataclass(frozen=True, repr=False, eq=False)
class Changes(Tabular):
    """Changes: ``table`` is in ``CHANGES_SCHEMA``; ``notes`` say what could not be told."""

    table: pa.Table
    totals: pa.Table
    notes: tuple[str, ...] = ()

    def to_arrow(self) -> pa.Table:
        """The table."""
        return self.table

    def plot(self) -> Plot:
        """Events per hour around the largest changes: see ``plots.change_points``."""
        from meshlab.plots.change_points import plot_change_points

        return plot_change_points(self)

    def __repr__(self) -> str:
        told = "; ".join(sentence(row) for row in self.table.slice(0, 1).to_pylist())
        more = f" and {self.table.num_rows - 1} more" if self.table.num_rows > 1 else ""
        return f"<Changes: {told or 'none'}{more}{''.join(f'; {note}' for note in self.notes)}>"

    def _repr_html_(self) -> str:
        shown = [sentence(row) for row in self.table.slice(0, 20).to_pylist()] or ["No change was found."]
        return "".join(f"<p>{html.escape(text)}</p>" for text in (*shown, *self.notes))


def sentence(row: dict[str, Any]) -> str:
    """A row of ``CHANGES_SCHEMA`` in words."""
    moment: datetime = row["hour"]
    verb = "more" if row["bytes_per_day_added"] > 0 else "less"
    jump = f"{row['factor']:.3g} times as frequent from {moment:%Y-%m-%d %H:%M} UTC on"
    if not row["events_per_day_before"] or not row["events_per_day_after"]:
        jump = f"{'ended' if row['events_per_day_before'] else 'began'} at {moment:%Y-%m-%d %H:%M} UTC"
    return f"{escape(row['uid'])}: {row['op']} events {jump}, {size_text(abs(row['bytes_per_day_added']))} {verb} a day"


def change_points(totals: pa.Table) -> Changes:
    """The changes in ``totals`` (``TOTALS_SCHEMA``), deleted segments included.

    Events without an effective time play no part.  Within a day of the beginning and of the
    end nothing can be told.
    """
    events = totals.filter(pc.and_(pc.is_in(totals["op"], pa.array(OPS)), pc.is_valid(totals["hour"])))
    if not events.num_rows:
        return Changes(CHANGES_SCHEMA.empty_table(), totals, ("no event has a time",))
    series = Series(events)
    if series.hours < 48:
        series.notes.append(f"{counted(series.hours, 'hour')} of events: two days are needed")
        return Changes(CHANGES_SCHEMA.empty_table(), totals, tuple(series.notes))
    rows = [row for block in series.blocks() for row in _changes(block, series)]
    rows.sort(key=lambda row: -abs(row["bytes_per_day_added"]))
    return Changes(pa.Table.from_pylist(rows, CHANGES_SCHEMA), totals, tuple(series.notes))


def _changes(block: Block, series: Series) -> Iterator[dict[str, Any]]:
    """The changes in some series, as rows."""
    sides = _Sides.of(series.hours)
    score = _ratio(block.events, series.season, sides) / _dispersion(block.events, series.season)[:, None]
    bound = 2 * math.log(len(series.names) * series.hours / CHANCE)
    for row in np.flatnonzero((score > bound).any(axis=1)).tolist():
        for hour in _peaks(score[row], bound):
            change = _Change.of(block, series.season, row, sides.around(hour))
            if change.is_jump:
                yield change.row(block.names[row], series.first + hour, float(score[row, hour]))


def _reach(hours: Any) -> Any:
    """How much is compared of the hours there are: whole days, where a part of one would weigh much."""
    return np.minimum(np.where(hours < _WHOLE_DAYS, hours // 24 * 24, hours), _WEEK)


_WHOLE_DAYS = 72


class _Sides(NamedTuple):
    """For every hour, where the days before it begin and those from it on end."""

    low: Any
    high: Any

    @classmethod
    def of(cls, hours: int) -> _Sides:
        at = np.arange(hours)
        return cls(at - _reach(at), at + _reach(hours - at))

    def around(self, hour: int) -> tuple[slice, slice]:
        """Both sides of one hour."""
        return slice(int(self.low[hour]), hour), slice(hour, int(self.high[hour]))

    def sums(self, values: Any) -> tuple[Any, Any]:
        """The sums of both sides, for every row and hour."""
        ends = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
        here = ends[:, :-1]
        return here - ends[:, self.low], ends[:, self.high] - here


class _Change(NamedTuple):
    """What stands on both sides of an hour: expected events, events and bytes, and pieces of the events."""

    expected: tuple[float, float]
    events: tuple[float, float]
    nbytes: tuple[float, float]
    usual: tuple[float, float]
    days: tuple[float, float]

    @classmethod
    def of(cls, block: Block, season: Any, row: int, sides: tuple[slice, slice]) -> _Change:
        expected, events, nbytes = (
            (float(values[sides[0]].sum()), float(values[sides[1]].sum()))
            for values in (season, block.events[row], block.nbytes[row])
        )
        usual = (_usual(block.events[row], season, sides[0]), _usual(block.events[row], season, sides[1]))
        days = ((sides[0].stop - sides[0].start) / 24, (sides[1].stop - sides[1].start) / 24)
        return cls(expected, events, nbytes, usual, days)

    @property
    def factor(self) -> float:
        """The rate behind over the rate before."""
        return _over((self.events[1]) * self.expected[0], self.events[0] * self.expected[1])

    @property
    def is_jump(self) -> bool:
        """Whether the rate at least doubled or halved, and not by one burst alone: the usual piece did too."""
        both = (self.factor, _over(self.usual[1], self.usual[0]))
        return all(one >= LEAST_FACTOR for one in both) or all(one <= 1 / LEAST_FACTOR for one in both)

    def row(self, name: tuple[str, str], hour: int, score: float) -> dict[str, Any]:
        """As a row of ``CHANGES_SCHEMA``."""
        return {
            "uid": name[0],
            "op": name[1],
            "hour": to_datetime(hour * HOUR),
            "factor": self.factor,
            "events_per_day_before": self.events[0] / self.days[0],
            "events_per_day_after": self.events[1] / self.days[1],
            "bytes_per_day_added": self.nbytes[1] / self.days[1] - self.nbytes[0] / self.days[0],
            "score": score,
        }


def _usual(events: Any, season: Any, side: slice) -> float:
    """The median rate of the days of a side, of quarters of days when it is short."""
    hours = side.stop - side.start
    piece = 24 if hours > 48 else 6
    whole = slice(side.start, side.start + hours // piece * piece)
    sums = (values[whole].reshape(-1, piece).sum(axis=1) for values in (events, season))
    return float(np.median(np.divide(*sums)))


def _over(above: float, below: float) -> float:
    return above / below if below else math.inf if above else 1.0


def _ratio(events: Any, season: Any, sides: _Sides) -> Any:
    """G of every series and hour, 0 where too few events tell of it or a side has no day."""
    before, after = sides.sums(events)
    expected = sides.sums(season[None, :])
    both = before + after
    share = expected[0] / np.maximum(expected[0] + expected[1], 1e-12)
    parts = _times_log(before, both * share) + _times_log(after, both * (1 - share))
    told = (both >= LEAST_EVENTS) & (expected[0] > 0) & (expected[1] > 0)
    return np.where(told, 2 * parts, 0.0)


def _times_log(count: Any, expected: Any) -> Any:
    return count * np.log(np.maximum(count, 1e-12) / np.maximum(expected, 1e-12))


def _dispersion(events: Any, season: Any) -> Any:
    """How much more the days of each series vary than Poisson counts would, 1 at least.

    Each day is held against the median of the week around it.  The largest squares are
    left out, so that jumps and bursts have no part in it; what the rest comes to for
    Poisson counts is divided out.  A few days say little, so they are taken for more.
    """
    count = events.shape[1] // 24
    days, usual = (_by_day(values, count) for values in (events, season[None, :]))
    rate = days / usual
    near = np.stack([rate[:, np.clip(np.arange(count) + step, 0, count - 1)] for step in range(-3, 4)])
    expected = np.maximum(np.median(near, axis=0) * usual, 0.5)
    squares = np.sort((days - expected) ** 2 / expected, axis=1)
    kept = squares[:, : max(1, math.ceil(_KEPT * count))]
    return np.maximum(1.0, kept.mean(axis=1) / _OF_POISSON) * (1 + _FEW_DAYS / count)


_KEPT = 0.85
_OF_POISSON = 0.45
"""The mean of the lower 85 % of squares of standard normals is 0.52; a day is one of those it is held against."""

_FEW_DAYS = 6


def _by_day(values: Any, count: int) -> Any:
    return values[:, values.shape[1] - 24 * count :].reshape(len(values), count, 24).sum(axis=2)


def _peaks(score: Any, bound: float) -> Iterator[int]:
    """The hours of largest score, none within a week of another."""
    left = np.where(score > bound, score, 0.0)
    while left.any():
        hour = int(np.argmax(left))
        yield hour
        left[max(0, hour - _WEEK) : hour + _WEEK + 1] = 0.0
