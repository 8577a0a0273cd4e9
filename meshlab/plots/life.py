"""The life of one memory: what its events set, over time.

>>> from meshlab.testing import build_log
>>> import tempfile, meshlab
>>> store = meshlab.open(tempfile.mkdtemp())
>>> events = [{"Insert": {"id": "a", "amplitude": 0.5}}, {"Update": {"id": "a", "amplitude": 0.505}}, {"Delete": "a"}]
>>> _ = build_log([[event] for event in events]).write(store["ann"].root)
>>> plot_life(store.events(), "a").data["amplitude"].to_pylist()
[0.5, 0.505, None]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.plots.near import near_moments
from meshlab.plots.plot import (
    COLOURS,
    Plot,
    frame_lines,
    label_ends,
    moments,
    new_axes,
    plain,
    set_height,
    set_time_axis,
    tell_below,
)

FIELDS = ("amplitude", "stability")
"""Fields drawn unless others are named; neither has a unit."""

_MARKERS = "osD^v"
_LONGEST = 48
"""Letters of an id in the title."""


def plot_life(events: Any, id: str, *, fields: Sequence[str] = FIELDS) -> Plot:
    """Steps with a marker at each event that gives a value, up to the last event; a delete is a dashed line.

    ``events`` is anything with an Arrow stream that has id, op, effective_ts and the
    fields, in log order.  Events far from the others are left out and told of, as
    ``plots.near`` has it.  ``data`` has effective_ts, op and the fields, of all events.
    """
    table = pa.table(events)
    table = table.filter(pc.equal(table["id"], id)).select(["effective_ts", "op", *fields])
    figure, axes = new_axes(" and ".join(fields) + " (no unit)")
    axes.set_title(f"memory {plain(id, _LONGEST)}", loc="left", fontsize=10)
    shown, note = near_moments(moments(table["effective_ts"]))
    _draw(axes, table.filter(pa.array(shown)), fields)
    set_time_axis(axes)
    tell_below(figure, note)
    told = f"; {note}" if note else ""
    return Plot(figure, table, f"{' and '.join(fields)} of one memory over effective time{told}")


def _draw(axes: Any, table: pa.Table, fields: Sequence[str]) -> None:
    moment = moments(table["effective_ts"])
    gone = pc.equal(table["op"].cast(pa.string()), "delete").to_numpy()
    last = frame_lines(axes, moment)
    ends = []
    for index, name in enumerate(fields):
        known = pc.is_valid(table[name]).to_numpy()
        if known.any():
            colour = COLOURS[index % len(COLOURS)]
            value = table[name].to_numpy()
            _step(axes, moment, value, known, gone, last, color=colour, marker=_MARKERS[index % len(_MARKERS)])
            at = np.flatnonzero(known)[-1]
            end = min((moment[row] for row in np.flatnonzero(gone) if row > at), default=last)
            ends.append((end, value[at], f"{name} {value[at]:.3g}", colour))
    for row in np.flatnonzero(gone):
        axes.axvline(moment[row], color="#555555", linestyle="--", linewidth=1)
        _name_delete(axes, moment[row], late=moment[row] - moment.min() > last - moment[row])
    set_height(axes)
    label_ends(axes, ends)


def _step(axes: Any, moment: Any, value: Any, known: Any, gone: Any, last: Any, **style: Any) -> None:
    """A line from value to value that ends at a delete, else at the last moment, with markers where values are."""
    rows = np.flatnonzero(known | gone)
    value = np.where(known, value, np.nan)[rows]
    axes.step(
        [*moment[rows], last],
        [*value, value[-1]],
        where="post",
        linewidth=1.2,
        markersize=3,
        markevery=range(len(rows)),
        **style,
    )


def _name_delete(axes: Any, moment: Any, *, late: bool) -> None:
    """Write "deleted" beside the foot of a line, on the side where there is more room."""
    place: dict[str, Any] = {"xytext": (-4, 6), "ha": "right"} if late else {"xytext": (4, 6), "ha": "left"}
    style = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "color": "#555555"}
    axes.annotate("deleted", (moment, 0), **place, **style)
