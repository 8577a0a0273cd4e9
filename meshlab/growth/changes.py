"""Change points: when somebody's traffic jumped for good, whose, and in which op.

For every user and op the events of each hour are counted.  At every hour the days before
and behind it are compared by the likelihood ratio of one Poisson rate against two,

    G = 2 · (n1 · log(n1 / m1) + n2 · log(n2 / m2))

with ``n`` events and ``m`` expected ones on either side (Wilks, 1938), divided by how much
more than a Poisson count the days of the series vary (quasi-likelihood: Wedderburn,
1974).  Both sides have the same number of whole days, so that the hours of the day cancel;
what days of the week differ in goes into the expectation.  A change is where G is largest
within such a distance, where it is beyond what chance would bring among all hours of all
series, and where the rate at least doubled or halved.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.dialects import OPS
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

LONGEST_SPAN = 24 * 3660
"""Hours that are looked at, the last: a clock that was far off must not fill the memory."""

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

_WINDOWS = (24 * 7, 24 * 3, 24)
"""Hours before and behind a change that are compared: the longest of which there are two."""

_ROWS = 256
"""Series in memory at once."""


class Changes(Tabular):
    """Changes: ``table`` is in ``CHANGES_SCHEMA``; ``notes`` say what could not be told."""

    def __init__(self, table: pa.Table, totals: pa.Table, notes: Sequence[str]) -> None:
        self.table = table
        self.totals = totals
        self.notes = tuple(notes)

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
    return (
        f"{escape(row['uid'])}: {row['op']} events {row['factor']:.3g} times as frequent "
        f"from {moment:%Y-%m-%d %H:%M} UTC on, "
        f"{size_text(abs(row['bytes_per_day_added']))} {verb} a day"
    )


def change_points(totals: pa.Table) -> Changes:
    """The changes in ``totals`` (``TOTALS_SCHEMA``), deleted segments included.

    Hours of which nothing is known, without effective time, play no part.  Near the
    beginning and the end shorter windows are compared, of a day at least.
    """
    events = totals.filter(pc.and_(pc.is_in(totals["op"], pa.array(OPS)), pc.is_valid(totals["hour"])))
    if not events.num_rows:
        return Changes(CHANGES_SCHEMA.empty_table(), totals, ["no event has a time"])
    series = _Series.of(events)
    if series.hours < 2 * _WINDOWS[-1]:
        series.notes.append(f"{counted(series.hours, 'hour')} of events are too few: two days are needed")
        return Changes(CHANGES_SCHEMA.empty_table(), totals, series.notes)
    rows = [row for block in series.blocks() for row in _changes(block, series)]
    rows.sort(key=lambda row: -abs(row["bytes_per_day_added"]))
    return Changes(pa.Table.from_pylist(rows, CHANGES_SCHEMA), totals, series.notes)


class _Block(NamedTuple):
    """Some of the series: their names, and events and bytes by series and hour."""

    names: list[tuple[str, str]]
    events: Any
    nbytes: Any


def _profile(total: Any, phase: Any, phases: int) -> Any:
    """The mean of each phase over that of all, held away from 0."""
    means = np.bincount(phase, total, phases) / np.maximum(np.bincount(phase, minlength=phases), 1)
    return np.maximum(means / max(float(means.mean()), 1e-12), 0.05)


class _Series:
    """Events and bytes of every user and op, hour by hour."""

    def __init__(self, names: list[tuple[str, str]], place: Any, hour: Any, events: Any, nbytes: Any) -> None:
        self.names, self._place, self._hour = names, place, hour
        self._events, self._nbytes = events, nbytes
        self.notes: list[str] = []
        last = int(hour.max())
        self.first = max(int(hour.min()), last - LONGEST_SPAN + 1)
        if early := int((hour < self.first).sum()):
            self.notes.append(f"{counted(early, 'row')} from more than ten years before the last event left out")
        self.hours = last - self.first + 1

    @classmethod
    def of(cls, table: pa.Table) -> _Series:
        keys = pc.binary_join_element_wise(table["op"], table["uid"], " ").combine_chunks().dictionary_encode()
        names = [tuple(reversed(key.split(" ", 1))) for key in keys.dictionary.to_pylist()]
        hour = table["hour"].cast(pa.int64()).to_numpy() // HOUR
        columns = (table[name].to_numpy() for name in ("events", "bytes"))
        return cls(names, keys.indices.to_numpy(), hour, *columns)  # type: ignore[arg-type]

    @cached_property
    def season(self) -> Any:
        """What share of all events an hour has for its hour of day and, from two weeks on, its day of week."""
        hour = np.arange(self.first, self.first + self.hours)
        kept = self._hour >= self.first
        total = np.bincount(self._hour[kept] - self.first, self._events[kept], self.hours)
        day = _profile(total, hour % 24, 24)
        if self.hours < 24 * 14:
            return day[hour % 24]
        week = _profile(total, (hour // 24 + 3) % 7, 7)
        return day[hour % 24] * week[(hour // 24 + 3) % 7]

    def blocks(self) -> Iterator[_Block]:
        """All series, some at a time."""
        order = np.argsort(self._place, kind="stable")
        for low in range(0, len(self.names), _ROWS):
            high = min(low + _ROWS, len(self.names))
            rows = order[slice(*np.searchsorted(self._place[order], [low, high]))]
            rows = rows[self._hour[rows] >= self.first]
            at = (self._place[rows] - low) * self.hours + self._hour[rows] - self.first
            size = (high - low) * self.hours
            grids = (
                np.bincount(at, weight[rows], size).reshape(-1, self.hours) for weight in (self._events, self._nbytes)
            )
            yield _Block(self.names[low:high], *grids)


def _changes(block: _Block, series: _Series) -> Iterator[dict[str, Any]]:
    """The changes in some series, as rows."""
    dispersion = _dispersion(block.events, series.season)
    bound = 2 * math.log(len(series.names) * series.hours / CHANCE)
    score, reach = np.zeros(block.events.shape), np.zeros(series.hours, np.int64)
    for window in _WINDOWS:
        told = (reach == 0) & _in_reach(series.hours, window)
        reach[told] = window
        score[:, told] = (_ratio(block.events, series.season, window) / dispersion[:, None])[:, told]
    for row in np.flatnonzero((score > bound).any(axis=1)).tolist():
        for hour in _peaks(score[row], reach, bound):
            change = _Change.of(block, series.season, row, hour, int(reach[hour]))
            if change.is_jump:
                yield change.row(block.names[row], series.first + hour, float(score[row, hour]))


class _Change(NamedTuple):
    """What stands on both sides of an hour: expected events, events and bytes, and pieces of the events."""

    expected: tuple[float, float]
    events: tuple[float, float]
    nbytes: tuple[float, float]
    usual: tuple[float, float]
    days: float

    @classmethod
    def of(cls, block: _Block, season: Any, row: int, hour: int, window: int) -> _Change:
        sides = slice(hour - window, hour), slice(hour, hour + window)
        sums = [
            tuple(float(values[side].sum()) for side in sides)
            for values in (season, block.events[row], block.nbytes[row])
        ]
        piece = 24 if window > 24 else 6
        usual = tuple(_usual(block.events[row][side], season[side], piece) for side in sides)
        return cls(*sums, usual, window / 24)  # type: ignore[arg-type]

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
            "events_per_day_before": self.events[0] / self.days,
            "events_per_day_after": self.events[1] / self.days,
            "bytes_per_day_added": (self.nbytes[1] - self.nbytes[0]) / self.days,
            "score": score,
        }


def _usual(events: Any, season: Any, piece: int) -> float:
    """The median rate of pieces of a window."""
    return float(np.median(events.reshape(-1, piece).sum(axis=1) / season.reshape(-1, piece).sum(axis=1)))


def _over(above: float, below: float) -> float:
    return above / below if below else math.inf if above else 1.0


def _in_reach(hours: int, window: int) -> Any:
    """The hours with a whole window on either side."""
    at = np.arange(hours)
    return (at >= window) & (at <= hours - window)


def _ratio(events: Any, season: Any, window: int) -> Any:
    """G of every series and hour, 0 where too few events tell of it; see above."""
    before, after = _sides(events, window)
    expected = _sides(season[None, :], window)
    both = before + after
    share = expected[0] / np.maximum(expected[0] + expected[1], 1e-12)
    parts = _times_log(before, both * share) + _times_log(after, both * (1 - share))
    return np.where(both >= LEAST_EVENTS, 2 * parts, 0.0)


def _times_log(count: Any, expected: Any) -> Any:
    return count * np.log(np.maximum(count, 1e-12) / np.maximum(expected, 1e-12))


def _sides(values: Any, window: int) -> tuple[Any, Any]:
    """Sums of the window before each hour and of the one from it on, 0 where they do not fit."""
    ends = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    at = np.arange(values.shape[1])
    fits = _in_reach(values.shape[1], window)
    low, high = np.where(fits, at - window, at), np.where(fits, at + window, at)
    return ends[:, at] - ends[:, low], ends[:, high] - ends[:, at]


def _dispersion(events: Any, season: Any) -> Any:
    """How much more the days of each series vary than Poisson counts would, 1 at least.

    Each day is held against the median of the week around it; the median of the squares
    over that of chi-squared with one degree of freedom is the estimate, so that jumps and
    bursts have no part in it.
    """
    count = events.shape[1] // 24
    days, usual = (_by_day(values, count) for values in (events, season[None, :]))
    rate = days / usual
    near = np.stack([rate[:, np.clip(np.arange(count) + step, 0, count - 1)] for step in range(-3, 4)])
    expected = np.maximum(np.median(near, axis=0) * usual, 0.5)
    squares = (days - expected) ** 2 / expected
    return np.maximum(1.0, np.median(squares, axis=1) / _MEDIAN_OF_SQUARE)


_MEDIAN_OF_SQUARE = 0.33
"""Of squares of standard normals it is 0.455; a day is one of the seven it is held against, which takes some."""


def _by_day(values: Any, count: int) -> Any:
    return values[:, values.shape[1] - 24 * count :].reshape(len(values), count, 24).sum(axis=2)


def _peaks(score: Any, reach: Any, bound: float) -> Iterator[int]:
    """The hours of largest score, none within the window of another."""
    left = np.where(score > bound, score, 0.0)
    while left.any():
        hour = int(np.argmax(left))
        yield hour
        left[max(0, hour - int(reach[hour])) : hour + int(reach[hour]) + 1] = 0.0
