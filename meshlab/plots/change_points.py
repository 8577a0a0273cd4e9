"""Traffic around the hours at which it jumped.

>>> from meshlab.growth.changes import change_points
>>> from meshlab.testing.rates import Planted, Rates, totals_of
>>> changes = change_points(totals_of(Rates(users=1, days=28), 1, Planted(0, "update", 340, 10.0)))
>>> plot_change_points(changes).data.select(["uid", "op"]).slice(0, 1).to_pylist()
[{'uid': 'user-0001', 'op': 'update'}]
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.growth.changes import Changes
from meshlab.plots.plot import COLOURS, Plot, moments, new_axes, plain, say, set_time_axis
from meshlab.tables.schema import TIME
from meshlab.times import HOUR, from_datetime
from meshlab.wording import counted

DATA_SCHEMA = pa.schema([("uid", pa.string()), ("op", pa.string()), ("hour", TIME), ("events", pa.int64())])
"""One row per hour of each panel, hours without events too."""

AROUND = timedelta(days=7)
"""What is drawn on either side of a change, as far as anybody wrote anything."""

_HEIGHT = 1.6
"""Inches of a panel."""


def plot_change_points(changes: Changes, most: int = 4) -> Plot:
    """A panel for each of the ``most`` largest changes: events per hour, and the levels before and behind.

    ``data`` is in ``DATA_SCHEMA``.
    """
    rows = changes.table.slice(0, most).to_pylist()
    parts = [_around(changes.totals, row) for row in rows]
    data = pa.concat_tables([DATA_SCHEMA.empty_table(), *parts])
    figure, axes = new_axes("events per hour")
    figure.set_figheight(max(2.0, 0.6 + _HEIGHT * len(rows)))
    if rows:
        axes.remove()
        _draw(figure, rows, parts)
    else:
        axes.set_xlabel("hour (UTC)")
        say(axes, "\n".join(["no change was found", *changes.notes]))
    more = f", the largest of {changes.table.num_rows}" if changes.table.num_rows > len(rows) else ""
    return Plot(figure, data, f"events per hour around {counted(len(rows), 'change')} of traffic{more}")


def _around(totals: pa.Table, change: dict[str, Any]) -> pa.Table:
    """Events of each hour of one user and op."""
    distance = pc.abs(pc.hours_between(pa.scalar(change["hour"], TIME), totals["hour"]))
    known = totals.filter(pc.less_equal(distance, AROUND // timedelta(hours=1)))
    first, last = (from_datetime(end) // HOUR for end in pc.min_max(known["hour"]).as_py().values())
    same = known.filter(pc.and_(pc.equal(known["uid"], change["uid"]), pc.equal(known["op"], change["op"])))
    at = same["hour"].cast(pa.int64()).to_numpy() // HOUR - first
    events = np.bincount(at, same["events"].to_numpy(), last - first + 1).astype(np.int64)
    hours = pa.array((first + np.arange(len(events))) * HOUR).cast(TIME)
    names = ([change[name]] * len(events) for name in ("uid", "op"))
    return pa.table([*names, hours, events], schema=DATA_SCHEMA)


def _draw(figure: Any, rows: list[dict[str, Any]], parts: list[pa.Table]) -> None:
    for axes, change, part in zip(np.ravel(figure.subplots(len(rows), squeeze=False)), rows, parts):
        moment, events = moments(part["hour"]), part["events"].to_numpy()
        here = np.datetime64(change["hour"].replace(tzinfo=None), "us")
        ends = (moment[0], here, moment[-1] + np.timedelta64(1, "h"))
        axes.step([*moment, ends[2]], [*events, events[-1]], where="post", color=COLOURS[5], linewidth=1)
        for side, name in enumerate(("before", "after")):
            level = change[f"events_per_day_{name}"] / 24
            axes.plot(ends[side : side + 2], [level, level], color=COLOURS[0], linewidth=2)
        axes.axvline(here, color=COLOURS[1], linewidth=1.2)
        axes.plot(here, 1, marker="v", color=COLOURS[1], transform=axes.get_xaxis_transform(), clip_on=False)
        axes.set_title(_title(change), loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
        axes.margins(x=0.01)
        set_time_axis(axes, name="hour")
        if axes.get_subplotspec().rowspan.stop < len(rows):
            axes.set_xlabel("")
    figure.supylabel("events per hour; bold: mean", fontsize=10)


def _title(change: dict[str, Any]) -> str:
    """Who does what how much more often from when on."""
    factor = change["factor"]
    jump = "new" if math.isinf(factor) else f"{factor:.3g} times as often" if factor else "none"
    return f"{plain(change['uid'])}: {change['op']} {jump} from {change['hour']:%Y-%m-%d %H:%M} UTC"
