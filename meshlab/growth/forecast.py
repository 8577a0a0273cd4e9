"""Forecast: bytes of the coming days, between bounds that were tried on the past.

A day's bytes are a line in time, times what its day of the week usually makes of it, times
chance.  The line is the median of the slopes between all pairs of days (Theil, 1950; Sen,
1968), so that single odd days do not turn it; the factors are medians too.  What each week
was off by is held against a line drawn without it (jackknife: Barber and others, 2021).
Such days are drawn again in short runs (moving blocks: Kuensch, 1989), the line is drawn
anew through each past they make, and continued with more of them: the bounds are quantiles
of these futures.  Of a past with many empty days, that no line goes through, the line is its
mean.

How good the bounds are is not believed but tried: the same is done at days of the past as
if nothing behind them were known, and how many of the days that came lie within is told.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.errors import MeshlabError
from meshlab.growth.past import Past
from meshlab.tables.tabular import Tabular
from meshlab.times import DAY, to_datetime
from meshlab.wording import counted, size_text

if TYPE_CHECKING:
    from meshlab.plots.plot import Plot

LIMIT = 2_000_000_000
"""Bytes that the question "until when" is about: the size of the one file there used to be."""

LEVEL = 0.8
"""The share of futures between the bounds."""

FARTHEST = 730
"""Days after which a forecast says no more than "not within"."""

SHOWN = 28
"""Days of the forecast in its table, unless told otherwise."""

_FUTURES = 400
_LEAST_TREND = 7
"""Whole days below which no trend is drawn: the line is level."""

_LEAST_WEEKS = 21
"""Whole days from which on days of the week are told apart."""

_SEED = 20250707

FORECAST_SCHEMA = pa.schema(
    [
        ("day", pa.date32()),
        ("kind", pa.string()),
        ("bytes", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("size", pa.float64()),
        ("size_low", pa.float64()),
        ("size_high", pa.float64()),
    ]
)
"""One row per day.  ``kind`` is ``past`` (bytes as they came), ``partial`` (the last day, as
far as it went) or ``forecast``.  ``bytes`` are those of the day, of a forecast the median;
``size`` is that of all logs at its end, if nothing is deleted.  Bounds are null for the past.
"""


class Reach(NamedTuple):
    """Days from now until a size is reached, 0 when it was; None: not within ``FARTHEST`` days.

    ``low`` is when it may be reached at the earliest, ``high`` at the latest, between the
    same share of futures.
    """

    low: float | None
    median: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None:
            return f"not within {FARTHEST:,} days"
        if self.high == 0:
            return "passed already"
        ends = [f"{value:.0f}" if value is not None else f"over {FARTHEST:,}" for value in self]
        return f"in {ends[1]} {'day' if ends[1] == '1' else 'days'} ({ends[0]} to {ends[2]})"


@dataclass(frozen=True, repr=False, eq=False)
class Forecast(Tabular):
    """The bytes of past and coming days: ``table`` is in ``FORECAST_SCHEMA``.

    ``size`` are the bytes on disk now; ``days`` says when ``limit`` bytes are reached and
    ``per_day`` how many a day brings, None when nobody can know; ``coverage`` is which
    share of ``tried`` past days lay between the bounds they would have been given, None
    when there are too few to try; ``notes`` say what could not be known.
    """

    table: pa.Table
    size: int
    limit: int
    days: Reach | None = None
    per_day: float | None = None
    coverage: float | None = None
    tried: int = 0
    notes: tuple[str, ...] = ()

    def to_arrow(self) -> pa.Table:
        """The table."""
        return self.table

    def plot(self) -> Plot:
        """Past days and the fan of the coming ones: see ``plots.forecast``."""
        from meshlab.plots.forecast import plot_forecast

        return plot_forecast(self)

    @property
    def answer(self) -> dict[str, Any]:
        """What the forecast says, in numbers: days until the limit are null when nobody knows."""
        ends = self.days._asdict() if self.days is not None else dict.fromkeys(Reach._fields)
        return {
            "size": self.size,
            "limit": self.limit,
            **{f"days_{name}": value for name, value in ends.items()},
            "bytes_per_day": self.per_day,
            "coverage": self.coverage,
            "days_tried": self.tried,
            "notes": list(self.notes),
        }

    @property
    def sentences(self) -> list[str]:
        """What the forecast says, in words."""
        told = [f"{size_text(self.size)} on disk now"]
        if self.per_day is not None:
            told.append(f"about {size_text(self.per_day)} more a day")
        if self.days is not None:
            told.append(f"{size_text(self.limit)} {self.days}")
        if self.coverage is not None:
            tried = f"{self.tried:,} past days tried"
            told.append(f"{self.coverage:.0%} of {tried} lay between the bounds of {LEVEL:.0%}".replace("%", " %"))
        return [*told, *self.notes]

    def __repr__(self) -> str:
        return f"<Forecast: {'; '.join(self.sentences)}>"

    def _repr_html_(self) -> str:
        return "".join(f"<p>{html.escape(text)}</p>" for text in self.sentences)


def forecast(totals: pa.Table, *, limit: int = LIMIT, days: int = SHOWN) -> Forecast:
    """What ``totals`` (``TOTALS_SCHEMA``) lead to: the next ``days`` days, and when ``limit`` bytes are reached.

    Growth is what was written, deleted since or not; the size counts what is on disk.
    Raises ``MeshlabError`` for a limit or a number of days below 1.
    """
    if limit < 1 or not 1 <= days <= FARTHEST:
        raise MeshlabError(
            f"there is no forecast of {days} days up to {limit} bytes",
            hint=f"give 1 byte or more, 1 to {FARTHEST} days",
        )
    size = _size(totals)
    past = Past.of(totals)
    if past is None:
        return _nothing(size, limit, ["nothing was written on a known day: no forecast"])
    if len(past.whole) < 2:
        note = f"{counted(len(past.whole), 'whole day')} of history: two are needed for a forecast"
        return _nothing(size, limit, [note, *past.gaps], _past_rows(past, size))
    coming, sizes = _coming(past, size)
    covered, tried = _try_on_the_past(past)
    rows = _past_rows(past, size) + _coming_rows(past, coming[:, :days], sizes[:, :days])
    return Forecast(
        pa.Table.from_pylist(rows, FORECAST_SCHEMA),
        size=size,
        limit=limit,
        days=_reach(sizes, limit, size),
        coverage=covered / tried if tried else None,
        tried=tried,
        per_day=float(np.median(coming[:, 1:8].mean(axis=1))),
        notes=tuple(_notes(past, tried)),
    )


def reach(totals: pa.Table, *, limit: int) -> Reach | None:
    """When ``limit`` bytes are reached, as ``forecast`` has it; None when nobody knows.  Tries no past days."""
    past = Past.of(totals)
    if past is None or len(past.whole) < 2:
        return None
    size = _size(totals)
    return _reach(_coming(past, size)[1], limit, size)


def _size(totals: pa.Table) -> int:
    """Bytes on disk."""
    return pc.sum(totals["bytes"].filter(pc.invert(totals["deleted"]))).as_py() or 0


def _coming(past: Past, size: int) -> tuple[Any, Any]:
    """Bytes of each coming day and the size at its end, a row per future."""
    coming = _Futures(past.whole, past.weekday).draw(FARTHEST)
    coming[:, 0] *= 1 - past.share  # the rest of a day that has begun: the size holds what came of it
    sizes = size + np.cumsum(coming, axis=1)
    coming[:, 0] += past.partial
    return coming, sizes


def _nothing(size: int, limit: int, notes: list[str], rows: Sequence[dict[str, Any]] = ()) -> Forecast:
    table = pa.Table.from_pylist(list(rows), FORECAST_SCHEMA)
    return Forecast(table, size, limit, notes=tuple(notes))


def _notes(past: Past, tried: int) -> list[str]:
    count, notes = len(past.whole), []
    if count < _LEAST_TREND:
        notes.append(f"{counted(count, 'whole day')} of history: too few for a trend, taken as level")
    if count < _LEAST_WEEKS:
        notes.append(f"days of the week are told apart from {_LEAST_WEEKS} days of history on")
    if _is_patchy(past.whole, past.weekday):
        notes.append("many days without bytes: the rest is taken as level")
    if not tried:
        notes.append("the bounds could not be tried on the past")
    return notes + past.gaps


# The futures


class _Futures:
    """Pasts like the one there was, and what follows each."""

    def __init__(self, whole: Any, weekday: int, futures: int = _FUTURES) -> None:
        self._count, self._weekday, self._futures = len(whole), weekday, futures
        self._random = np.random.default_rng(_SEED)
        self._at = np.arange(len(whole))
        self._least = whole.mean() * 0.01 + 1e-9
        self._patchy = _is_patchy(whole, weekday)
        self._fit = self._told(whole, self._at, self._at)
        self._off = np.empty(len(whole))
        for week in np.array_split(self._at, max(2, len(whole) // 7)):
            others = np.setdiff1d(self._at, week)
            self._off[week] = whole[week] / self._told(whole[others], others, week)
        middle = float(np.median(self._off))
        if middle > 0 and len(whole) < _LEAST_TREND:  # of few days the lines are off to one side, which is not chance
            self._off /= middle

    def draw(self, days: int) -> Any:
        """Bytes of each coming day, a row per future."""
        model = self._model(self._fit * self._chance(self._count), self._at)
        coming = model.at(self._count + np.arange(days), self._weekday)
        return np.maximum(coming, 0.0) * self._chance(days)

    def _told(self, whole: Any, at: Any, days: Any) -> Any:
        """What some of the past says of some days of it."""
        return np.maximum(self._model(whole[None, :], at).at(days, self._weekday)[0], self._least)

    def _model(self, rows: Any, at: Any) -> _Model:
        """The line and the days of the week of each row, which has a value for each day of ``at``."""
        factors = np.ones((len(rows), 7))
        if self._patchy:
            return _Model(rows.mean(axis=1), np.zeros(len(rows)), factors)
        level, slope = _line(rows, at)
        if self._count >= _LEAST_WEEKS:
            day = (at + self._weekday) % 7
            for _ in range(2):
                factors = _weekdays(rows / np.maximum(level[:, None] + slope[:, None] * at, self._least), day)
                level, slope = _line(rows / factors[:, day], at)
        return _Model(level, slope, factors)

    def _chance(self, days: int) -> Any:
        """What days are off by, drawn in runs."""
        run = _RUN if self._count >= _LEAST_TREND else 1
        starts = self._random.integers(0, self._count - run + 1, (self._futures, -(-days // run)))
        return self._off[starts[:, :, None] + np.arange(run)].reshape(self._futures, -1)[:, :days]


_RUN = 3
"""Days drawn together: one that follows a busy day is often busy itself.  Of few days each is drawn alone."""


def _is_patchy(whole: Any, weekday: int) -> bool:
    """Whether many days are empty, or are not, unlike most others of their day of the week: medians say little then."""
    day, empty = (np.arange(len(whole)) + weekday) % (7 if len(whole) >= _LEAST_WEEKS else 1), whole == 0
    mostly = np.bincount(day, empty, 7) * 2 > np.bincount(day, minlength=7)
    return bool((empty != mostly[day]).mean() > _PATCHY)


_PATCHY = 0.15


class _Model(NamedTuple):
    """Lines, and what each makes of the days of the week."""

    level: Any
    slope: Any
    factors: Any

    def at(self, days: Any, weekday: int) -> Any:
        """The bytes of some days, counted from one that was this day of the week."""
        line = self.level[:, None] + self.slope[:, None] * days
        return line * self.factors[:, (days + weekday) % 7]


def _line(rows: Any, at: Any) -> tuple[Any, Any]:
    """Level and slope of each row by Theil and Sen; level lines for short pasts."""
    if len(at) < _LEAST_TREND:
        return np.median(rows, axis=1), np.zeros(len(rows))
    first, second = np.triu_indices(len(at), 1)
    slope = np.empty(len(rows))
    for low in range(0, len(rows), _ROWS):
        some = rows[low : low + _ROWS]
        slope[low : low + _ROWS] = np.median((some[:, second] - some[:, first]) / (at[second] - at[first]), axis=1)
    return np.median(rows - slope[:, None] * at, axis=1), slope


def _weekdays(off: Any, day: Any) -> Any:
    """What each day of the week usually makes of the line."""
    factors = np.stack([np.median(off[:, day == number], axis=1) for number in range(7)], axis=1)
    return np.maximum(factors / np.maximum(factors.mean(axis=1, keepdims=True), 1e-9), 0.01)


_ROWS = 64


def _try_on_the_past(past: Past) -> tuple[int, int]:
    """How many days of the last weeks lie between the bounds drawn a week before, and how many were tried."""
    covered = tried = 0
    for origin in range(len(past.whole) - 7, _LEAST_WEEKS - 1, -7)[:_TRIES]:
        coming = _Futures(past.whole[:origin], past.weekday, _FUTURES // 2).draw(7)
        low, high = _bounds(coming)
        found = past.whole[origin : origin + 7]
        covered += int(((found >= low) & (found <= high)).sum())
        tried += 7
    return covered, tried


_TRIES = 8


def _bounds(rows: Any) -> tuple[Any, Any]:
    return tuple(np.quantile(rows, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0))  # type: ignore[return-value]


def _reach(sizes: Any, limit: int, size: int) -> Reach:
    """When the futures reach a limit: quantiles of the days."""
    if size >= limit:
        return Reach(0.0, 0.0, 0.0)
    reached = sizes >= limit
    when = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, np.inf)
    marks = np.quantile(when, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], method="nearest")
    return Reach(*(None if mark > FARTHEST else float(mark) for mark in marks.tolist()))


# Rows


_CALENDAR_END = date.max.toordinal() - date(1970, 1, 1).toordinal()


def _date(number: int) -> date:
    return to_datetime(number * DAY).date()


def _past_rows(past: Past, size: int) -> list[dict[str, Any]]:
    """The past, and the size at the end of each day had nothing been deleted."""
    days = [*past.whole.tolist(), *([past.partial] if past.share else [])]
    sizes = size - np.concatenate([np.cumsum(days[::-1])[::-1][1:], [0]])
    kinds = ["past"] * len(past.whole) + ["partial"]
    return [
        {"day": _date(past.first + at), "kind": kind, "bytes": nbytes, "size": max(0.0, float(held))}
        for at, (nbytes, held, kind) in enumerate(zip(days, sizes, kinds))
    ]


def _coming_rows(past: Past, coming: Any, sizes: Any) -> list[dict[str, Any]]:
    first = past.first + len(past.whole)
    columns = {"bytes": np.median(coming, axis=0), "size": np.median(sizes, axis=0)}
    columns["low"], columns["high"] = _bounds(coming)
    columns["size_low"], columns["size_high"] = _bounds(sizes)
    return [
        {
            "day": _date(first + at),
            "kind": "forecast",
            **{name: float(column[at]) for name, column in columns.items()},
        }
        for at in range(min(coming.shape[1], _CALENDAR_END - first + 1))
    ]
