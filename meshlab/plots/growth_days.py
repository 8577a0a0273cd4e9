"""Bytes written per day, by what they do.

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
from matplotlib.dates import date2num
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from meshlab.dialects import OPS
from meshlab.growth.ledger import NO_EVENT
from meshlab.plots.plot import COLOURS, GREY, Plot, new_axes, of_users, say, set_time_axis, unit_of
from meshlab.tables.totals import BLANKS, OPEN_TAIL, REJECTS
from meshlab.times import midnight, to_datetime
from meshlab.wording import counted

KINDS = (*OPS, REJECTS, BLANKS, OPEN_TAIL, NO_EVENT)
"""What is stacked, from below."""

DATA_SCHEMA = pa.schema(
    [("day", pa.date32()), ("op", pa.string()), ("deleted", pa.bool_()), ("events", pa.int64()), ("bytes", pa.int64())]
)
"""One row per bar: the UTC day of the segment, and whether vacuum deleted it."""

_HATCHES = {REJECTS: "////", BLANKS: "....", OPEN_TAIL: "xxxx", NO_EVENT: "\\\\\\\\"}
_NARROWEST = 1 / 300
"""Least width of a bar, as a share of all days: one day in many years is still seen."""


def plot_growth_days(totals: pa.Table, users: Collection[str] | None = None) -> Plot:
    """Stacked bars: bytes written per UTC day of the segment, one colour per op.

    What is no event is hatched grey.  Bars of segments that vacuum deleted are light, with
    a coloured edge.  ``totals`` are in ``TOTALS_SCHEMA``, ``data`` in ``DATA_SCHEMA``.
    """
    data = _sums(of_users(totals, users))
    days = np.unique(date2num(data["day"].to_numpy()))
    height = _by_day(data, days).sum(axis=0)
    divisor, unit = unit_of(height.max(initial=0), 1000)
    figure, axes = new_axes(f"written per day ({unit})")
    if len(days):
        _draw(axes, data, days, divisor)
    else:
        axes.set_xlabel("day (UTC)")
        say(axes, "nothing was written")
    return Plot(figure, data, f"bytes written on {counted(len(days), 'UTC day')}, by op")


def _sums(totals: pa.Table) -> pa.Table:
    names = totals["day"].combine_chunks().dictionary_encode()
    dates = pa.array([to_datetime(midnight(name)).date() for name in names.dictionary.to_pylist()], pa.date32())
    keyed = totals.set_column(totals.column_names.index("day"), "day", dates.take(names.indices))
    found = keyed.group_by(["day", "op", "deleted"]).aggregate([("events", "sum"), ("bytes", "sum")])
    found = pa.table(found.columns, names=DATA_SCHEMA.names).cast(DATA_SCHEMA)
    order = [("day", "ascending"), ("rank", "ascending"), ("deleted", "ascending")]
    return found.append_column("rank", pc.index_in(found["op"], pa.array(KINDS))).sort_by(order).drop(["rank"])


def _by_day(data: pa.Table, days: Any) -> Any:
    """Bytes by kind, those deleted behind all others, and day."""
    grid = np.zeros((2 * len(KINDS), len(days)))
    kind = pc.index_in(data["op"], pa.array(KINDS)).to_numpy() + len(KINDS) * data["deleted"].to_numpy()
    np.add.at(grid, (kind, np.searchsorted(days, date2num(data["day"].to_numpy()))), data["bytes"].to_numpy())
    return grid


def _draw(axes: Any, data: pa.Table, days: Any, divisor: int) -> None:
    grid = _by_day(data, days) / divisor
    width = max(0.8, _NARROWEST * np.ptp(days))
    floor = np.zeros(len(days))
    handles = []
    for index, height in enumerate(grid):
        if height.any():
            name, style = _style(index)
            axes.bar(days, height, bottom=floor, width=width, **style)
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
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False, reverse=True)


def _style(index: int) -> tuple[str, dict[str, Any]]:
    """The name of a row of the grid, and how its bars look."""
    deleted, kind = divmod(index, len(KINDS))
    name = KINDS[kind] + (", deleted" if deleted else "")
    hatch = _HATCHES.get(KINDS[kind])
    colour = GREY if hatch else COLOURS[kind]
    if hatch and not deleted:
        return name, {"facecolor": "white", "edgecolor": colour, "hatch": hatch, "linewidth": 0.6}
    if deleted:
        return name, {"facecolor": (colour, 0.25), "edgecolor": colour, "hatch": hatch, "linewidth": 0.6}
    return name, {"color": colour}
