"""Bytes written per day, by what they do or in all.

>>> from meshlab.testing.rates import Rates, totals_of
>>> plot_growth_days(totals_of(Rates(users=1, days=2), seed=1)).data["op"].to_pylist()[:3]
['insert', 'update', 'delete']
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from meshlab.dialects import OPS
from meshlab.growth.ledger import NO_EVENT
from meshlab.plots.near import near
from meshlab.plots.plot import (
    CALENDAR,
    COLOURS,
    GREY,
    Plot,
    new_axes,
    of_users,
    say,
    set_time_axis,
    tell_below,
    unit_of,
)
from meshlab.tables.totals import BLANKS, OPEN_TAIL, REJECTS
from meshlab.times import midnight, to_datetime
from meshlab.wording import counted, size_text

EVENTS = "events"
"""All ops together."""

KINDS = (*OPS, EVENTS, REJECTS, BLANKS, OPEN_TAIL, NO_EVENT)
"""What is stacked, from below."""

DATA_SCHEMA = pa.schema(
    [("day", pa.date32()), ("op", pa.string()), ("deleted", pa.bool_()), ("events", pa.int64()), ("bytes", pa.int64())]
)
"""One row per bar: the UTC day of the segment, and whether vacuum deleted it.

``op`` is one of ``KINDS``.  Days far away, that are not drawn, are here too.
"""

_HATCHES = {REJECTS: "////", BLANKS: "....", OPEN_TAIL: "xxxx", NO_EVENT: "\\\\\\\\"}
_COLOURS = {**dict(zip(OPS, COLOURS)), EVENTS: COLOURS[0]}
_NARROWEST = 1 / 300
"""Least width of a bar, as a share of all days: one day in many years is still seen."""

_MANY = 200
"""Days from which on bars touch."""


def plot_growth_days(totals: pa.Table, users: Collection[str] | None = None, *, by_op: bool = True) -> Plot:
    """Stacked bars: bytes written per UTC day of the segment, one colour per op.

    Without ``by_op`` all events of a day are one bar; of few days it bears its size.  What
    is no event is hatched grey.  Bars of segments that vacuum deleted are light, with a
    coloured edge.  Days far from the others are left out and told of, as
    ``plots.near`` has it.  ``totals`` are in ``TOTALS_SCHEMA``, ``data`` in ``DATA_SCHEMA``.
    """
    data = _sums(of_users(totals, users), by_op)
    known = data["day"].cast(pa.int32()).to_numpy()
    kept, note = near(known)
    shown, days = data.filter(pa.array(kept)), np.unique(known[kept])
    height = _by_day(shown, days).sum(axis=0)
    divisor, unit = unit_of(height.max(initial=0), 1000)
    figure, axes = new_axes(f"written per day ({unit})")
    if len(days):
        _draw(axes, shown, days, divisor)
        if not by_op and len(days) <= _MOST_SIZES:
            _write_sizes(axes, days, height, divisor)
    else:
        axes.set_xlabel("day (UTC)")
        say(axes, "nothing was written")
    tell_below(figure, note)
    told = (", by op" if by_op else "") + (f"; {note}" if note else "")
    return Plot(figure, data, f"bytes written on {counted(len(days), 'UTC day')}{told}")


_MOST_SIZES = 12
"""Days that have room for their sizes."""


def _write_sizes(axes: Any, days: Any, height: Any, divisor: int) -> None:
    """The bytes of each day above its bar."""
    for day, size in zip(days, height):
        style: dict[str, Any] = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center", "fontsize": 9}
        axes.annotate(size_text(size), (day, size / divisor), **style)


def _sums(totals: pa.Table, by_op: bool) -> pa.Table:
    names = totals["day"].combine_chunks().dictionary_encode()
    dates = pa.array([to_datetime(midnight(name)).date() for name in names.dictionary.to_pylist()], pa.date32())
    keyed = totals.set_column(totals.column_names.index("day"), "day", dates.take(names.indices))
    if not by_op:
        op = pc.if_else(pc.is_in(keyed["op"], pa.array(OPS)), EVENTS, keyed["op"])
        keyed = keyed.set_column(keyed.column_names.index("op"), "op", op)
    found = keyed.group_by(["day", "op", "deleted"]).aggregate([("events", "sum"), ("bytes", "sum")])
    found = pa.table(found.columns, names=DATA_SCHEMA.names).cast(DATA_SCHEMA)
    order = [("day", "ascending"), ("rank", "ascending"), ("deleted", "ascending")]
    return found.append_column("rank", pc.index_in(found["op"], pa.array(KINDS))).sort_by(order).drop(["rank"])


def _by_day(data: pa.Table, days: Any) -> Any:
    """Bytes by kind, those deleted behind all others, and day."""
    grid = np.zeros((2 * len(KINDS), len(days)))
    kind = pc.index_in(data["op"], pa.array(KINDS)).to_numpy() + len(KINDS) * data["deleted"].to_numpy()
    place = np.searchsorted(days, data["day"].cast(pa.int32()).to_numpy())
    np.add.at(grid, (kind, place), data["bytes"].to_numpy())
    return grid


def _draw(axes: Any, data: pa.Table, days: Any, divisor: int) -> None:
    grid = _by_day(data, days) / divisor
    width = max(0.8 if np.ptp(days) < _MANY else 1.0, _NARROWEST * np.ptp(days))
    places = np.clip(days, CALENDAR[0] + width / 2, CALENDAR[1] - width / 2)
    floor = np.zeros(len(days))
    handles = []
    for index, height in enumerate(grid):
        if height.any():
            name, style = _style(index)
            axes.bar(places, height, bottom=floor, width=width, **style)
            handles.append(Patch(label=name, **style))
            floor += height
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, min_n_ticks=2))
    if np.ptp(days) < 3:
        axes.set_xticks(days, [str(day) for day in np.unique(data["day"].to_numpy())])
        axes.set_xlim(days[0] - 2, days[-1] + 2)
        axes.set_xlabel("day (UTC)")
    else:
        set_time_axis(axes, name="day")
    if len(handles) > 1 or EVENTS not in data["op"].to_pylist():
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False, reverse=True)


def _style(index: int) -> tuple[str, dict[str, Any]]:
    """The name of a row of the grid, and how its bars look."""
    deleted, kind = divmod(index, len(KINDS))
    name = KINDS[kind] + (", deleted" if deleted else "")
    hatch = _HATCHES.get(KINDS[kind])
    colour = GREY if hatch else _COLOURS[KINDS[kind]]
    if hatch and not deleted:
        return name, {"facecolor": "white", "edgecolor": colour, "hatch": hatch, "linewidth": 0.6}
    if deleted:
        return name, {"facecolor": (colour, 0.25), "edgecolor": colour, "hatch": hatch, "linewidth": 0.6}
    return name, {"color": colour}
