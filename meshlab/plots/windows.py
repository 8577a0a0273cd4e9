"""From when to when a user's memories can be restored, and why not in between.

>>> from meshlab.testing import build_log
>>> import tempfile, meshlab
>>> user = meshlab.open(tempfile.mkdtemp())["ann"]
>>> _ = build_log([[{"Insert": {"id": "a"}}], [{"Delete": "a"}]], per_day=1).write(user.root)
>>> _ = user.checkpoint(progress=False)
>>> plot_windows(user).data.select(["kind", "label"]).to_pylist()
[{'kind': 'window', 'label': 'the beginning of the log'}, {'kind': 'checkpoint', 'label': '1'}]
"""

from __future__ import annotations

from datetime import datetime
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.dates import date2num

from meshlab.errors import NotFound
from meshlab.plan import Planner, Window
from meshlab.plots.plot import COLOURS, Plot, new_axes, plain, set_time_axis
from meshlab.replay import steadily
from meshlab.tables.schema import TIME
from meshlab.times import to_datetime
from meshlab.wal.chain import LONG_AGO

if TYPE_CHECKING:
    from meshlab.store import UserStore

WINDOW, HOLE, CHECKPOINT = "window", "hole", "checkpoint"

DATA_SCHEMA = pa.schema([("kind", pa.string()), ("start", TIME), ("end", TIME), ("label", pa.string())])
"""One row per thing drawn: ``label`` is what a window is restored from, the reason of a
hole, the number of a checkpoint.  A start or end is null where there is none: at the
beginning of the log, now, and on the outer side of a hole."""

MOST_REASONS = 4
"""Holes whose reasons are written out; all of them are in the data."""

_MOST_NUMBERS = 20
_BAR, _MARKS = 1.0, 1.7
"""Heights at which windows and checkpoints are drawn."""

_MARGIN = 0.05
"""Width of a hole without an outer side, as a share of the whole."""

_GREY = "#555555"
_SMALL = {"color": _GREY, "fontsize": 9, "va": "top", "in_layout": False}
_WIDE, _LINE = 88, 0.28
"""Letters of a reason that fit beside each other, and the height of a line."""


def plot_windows(user: UserStore) -> Plot:
    """Bars where moments are restorable, hatched holes with their reasons, a marker at each checkpoint.

    A hollow marker is a checkpoint nothing can be restored from.  ``data`` is in
    ``DATA_SCHEMA``.  Raises ``NotFound`` when there is no such user.
    """
    if not user.root.is_dir():
        raise NotFound(f"user {user.uid} does not exist")
    planner = steadily(user.root, lambda: Planner(user.root, user.uid))
    windows = planner.windows()
    usable = {generation for window in windows for generation in window.generations}
    marks = [
        (to_datetime(start.since), start.generation)
        for start in planner.line.starts
        if start.generation and start.since != LONG_AGO
    ]
    rows = [
        *_rows(windows, f"{user.root}/"),
        *[_row(CHECKPOINT, moment, moment, str(number)) for moment, number in marks],
    ]
    data = pa.Table.from_pylist(rows, DATA_SCHEMA)
    figure, axes = new_axes("")
    axes.grid(visible=False)
    reasons = [row["label"] for row in rows if row["kind"] == HOLE][:MOST_REASONS]
    _lay_out(axes, len(reasons))
    known = [*_span_of_events(user), *(row[side] for row in rows for side in ("start", "end") if row[side])]
    if known:
        low, high = _limits(known)
        margin = (high - low) * _MARGIN
        axes.set_xlim(low - margin, high + 2 * margin)
        _draw_stretches(axes, rows, low, high, margin)
        _draw_marks(axes, marks, usable)
        _tell(axes, reasons)
    set_time_axis(axes)
    return Plot(figure, data, f"moments from which the memories of {user.uid} can be restored")


def _rows(windows: list[Window], root: str) -> list[dict[str, Any]]:
    """The windows with the holes before, between and behind them, in order of time; files are named from ``root``."""
    rows = []
    last = None
    for window in windows:
        if window.hole_before is not None:
            rows.append(_row(HOLE, last, window.start, window.hole_before.replace(root, "")))
        rows.append(_row(WINDOW, window.start, window.end, window.source))
        last = window.end
    if windows and windows[-1].hole_after is not None:
        rows.append(_row(HOLE, last, None, windows[-1].hole_after.replace(root, "")))
    return rows


def _row(kind: str, start: datetime | None, end: datetime | None, label: str) -> dict[str, Any]:
    return {"kind": kind, "start": start, "end": end, "label": label}


def _span_of_events(user: UserStore) -> list[datetime]:
    """The first and last effective time in the log, if it holds any."""
    found: list[datetime] = []
    for batch in user.events(columns=["effective_ts"], progress=False).to_batches():
        ends = pc.min_max(batch["effective_ts"].cast(pa.int64())).as_py()
        found += [to_datetime(moment) for moment in ends.values() if moment is not None and moment != LONG_AGO]
    return [min(found), max(found)] if found else []


def _limits(known: list[datetime]) -> tuple[float, float]:
    """The first and last of all moments, in days as matplotlib counts them, which go on beyond the calendar."""
    low, high = date2num(min(known)), date2num(max(known))
    return (low, high) if low < high else (low - _HOUR, high + _HOUR)


_HOUR = 1 / 24


# Drawing


def _lay_out(axes: Any, lines: int) -> None:
    axes.set_ylim(_BAR - 0.6 - _LINE * lines, _MARKS + 0.4)
    axes.figure.set_figheight(2.1 + 0.22 * lines)
    axes.set_yticks([_BAR, _MARKS], ["restorable", "checkpoints"])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _draw_stretches(axes: Any, rows: list[dict[str, Any]], low: float, high: float, margin: float) -> None:
    letters = iter(ascii_lowercase[:MOST_REASONS])
    for row in rows:
        if row["kind"] == WINDOW:
            _bar(axes, _place(row["start"], low), _place(row["end"], high), color=COLOURS[0])
            if row["end"] is None:
                style: dict[str, Any] = {"textcoords": "offset points", "va": "center", "color": COLOURS[0]}
                axes.annotate("now", (high, _BAR), xytext=(6, 0), **style)
        elif row["kind"] == HOLE:
            start, end = _place(row["start"], low), _place(row["end"], high)
            start = start if row["start"] else min(low, end - margin)
            end = end if row["end"] else max(high, start + margin)
            _bar(axes, start, end, facecolor="white", edgecolor=_GREY, hatch="////", linewidth=0.8)
            axes.text((start + end) / 2, _BAR - 0.28, next(letters, "…"), ha="center", va="top", color=_GREY)


def _place(moment: datetime | None, otherwise: float) -> float:
    return otherwise if moment is None else float(date2num(moment))


def _bar(axes: Any, start: float, end: float, **style: Any) -> None:
    axes.barh(_BAR, end - start, left=start, height=0.4, **style)


def _tell(axes: Any, reasons: list[str]) -> None:
    """Write the reasons of the holes below all, each behind the letter of its hole."""
    for index, (letter, reason) in enumerate(zip(ascii_lowercase, reasons, strict=False)):
        text = f"{letter}  {plain(reason, _WIDE)}"
        axes.text(0.01, _BAR - 0.6 - _LINE * index, text, transform=axes.get_yaxis_transform(), **_SMALL)


def _draw_marks(axes: Any, marks: list[tuple[datetime, int]], usable: set[int]) -> None:
    """Diamonds with the numbers of their checkpoints; those of one moment share one."""
    numbers: dict[datetime, list[int]] = {}
    for moment, number in marks:
        numbers.setdefault(moment, []).append(number)
    low, high = axes.get_xlim()
    last = low - high
    for moment, held in numbers.items():
        x = date2num(moment)
        fill = COLOURS[1] if usable.intersection(held) else "white"
        axes.plot([x, x], [_BAR - 0.2, _MARKS], color=COLOURS[1], linewidth=1)
        axes.plot(x, _MARKS, marker="D", markersize=6, markerfacecolor=fill, markeredgecolor=COLOURS[1])
        if x - last > (high - low) / _MOST_NUMBERS:
            text = str(held[0]) if len(held) == 1 else f"{held[0]} to {held[-1]}"
            axes.annotate(text, (x, _MARKS), xytext=(0, 7), textcoords="offset points", ha="center", color=COLOURS[1])
            last = x
