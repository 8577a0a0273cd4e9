"""Events per day, by what they do.

>>> from meshlab.testing import build_log
>>> import tempfile, meshlab
>>> store = meshlab.open(tempfile.mkdtemp())
>>> _ = build_log([[{"Insert": {"id": "a"}}], [{"Delete": "a"}]], per_day=1).write(store["ann"].root)
>>> plot_days(store.events()).data.select(["op", "events"]).to_pylist()
[{'op': 'insert', 'events': 1}, {'op': 'delete', 'events': 1}]
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.dates import date2num

from meshlab.dialects import OPS
from meshlab.plots.near import near
from meshlab.plots.plot import COLOURS, Plot, new_axes, set_time_axis, tell_below


def plot_days(events: Any, *, users: Collection[str] | None = None, ops: Collection[str] = OPS) -> Plot:
    """Stacked bars: events per UTC day of their effective time, one colour per op.

    ``events`` is anything with an Arrow stream that has uid, op and effective_ts.
    Days far from the others are left out and told of, as ``plots.near`` has it.  ``data``
    has day, op and events, of all days.
    """
    table = pa.table(events).select(["uid", "op", "effective_ts"])
    if users is not None:
        table = table.filter(pc.is_in(table["uid"].cast(pa.string()), pa.array(list(users), pa.string())))
    data = _counts(table, ops)
    figure, axes = new_axes("events per day")
    shown, note = near(data["day"].cast(pa.int32()).to_numpy())
    _draw(axes, data.filter(pa.array(shown)), ops)
    set_time_axis(axes, name="day")
    tell_below(figure, note)
    if data.num_rows:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, reverse=True)
    return Plot(figure, data, "events per UTC day, by op" + (f"; {note}" if note else ""))


def _counts(table: pa.Table, ops: Collection[str]) -> pa.Table:
    day = table["effective_ts"].cast(pa.timestamp("us")).cast(pa.date32(), safe=False)
    counted = pa.table({"day": day, "op": table["op"].cast(pa.string())})
    counted = counted.group_by(["day", "op"]).aggregate([([], "count_all")]).rename_columns(["day", "op", "events"])
    counted = counted.filter(pc.is_in(counted["op"], pa.array(list(ops), pa.string())))
    rank = pc.index_in(counted["op"], pa.array(OPS))
    return counted.append_column("rank", rank).sort_by([("day", "ascending"), ("rank", "ascending")]).drop(["rank"])


def _draw(axes: Any, data: pa.Table, ops: Collection[str]) -> None:
    days = sorted(set(data["day"].to_pylist()))
    floor = np.zeros(len(days))
    for index, op in enumerate(OPS):
        rows = {row["day"]: row["events"] for row in data.to_pylist() if row["op"] == op}
        if op in ops and rows:
            height = np.array([rows.get(day, 0) for day in days])
            axes.bar(date2num(days), height, bottom=floor, width=0.8, color=COLOURS[index], label=op)
            floor += height
