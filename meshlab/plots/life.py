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

from meshlab.plots.plot import COLOURS, Plot, label_ends, moments, new_axes, set_time_axis

FIELDS = ("amplitude", "stability")
"""Fields drawn unless others are named; neither has a unit."""

_MARKERS = "osD^v"
_AROUND = np.timedelta64(1, "h")
"""What is drawn before and behind a life of one moment."""


def plot_life(events: Any, id: str, *, fields: Sequence[str] = FIELDS) -> Plot:
    """Steps with a marker at each event that gives a value; a delete is a dashed line.

    ``events`` is anything with an Arrow stream that has id, op, effective_ts and the
    fields, in log order.  ``data`` has effective_ts, op and the fields.
    """
    table = pa.table(events)
    table = table.filter(pc.equal(table["id"], id)).select(["effective_ts", "op", *fields])
    figure, axes = new_axes(" and ".join(fields) + " (no unit)")
    moment = moments(table["effective_ts"])
    ends = []
    for index, name in enumerate(fields):
        rows = np.flatnonzero(pc.is_valid(table[name]).to_numpy())
        if len(rows):
            value = table[name].take(pa.array(rows)).to_numpy()
            style: dict[str, Any] = {"marker": _MARKERS[index % len(_MARKERS)], "markersize": 3, "linewidth": 1.2}
            axes.step(moment[rows], value, where="post", color=COLOURS[index % len(COLOURS)], **style)
            ends.append((moment[-1], value[-1], f"{name} {value[-1]:.3g}", COLOURS[index % len(COLOURS)]))
    for row in np.flatnonzero(pc.equal(table["op"].cast(pa.string()), "delete").to_numpy()):
        axes.axvline(moment[row], color="#555555", linestyle="--", linewidth=1)
        _name_delete(axes, moment[row], late=moment[row] - moment[0] > moment[-1] - moment[row])
    axes.set_ylim(bottom=0)
    if len(moment) and moment[0] == moment[-1]:
        axes.set_xlim(moment[0] - _AROUND, moment[0] + _AROUND)
    label_ends(axes, ends)
    set_time_axis(axes)
    return Plot(figure, table, f"{' and '.join(fields)} of one memory over effective time")


def _name_delete(axes: Any, moment: Any, *, late: bool) -> None:
    """Write "deleted" beside the foot of a line, on the side where there is more room."""
    place: dict[str, Any] = {"xytext": (-4, 6), "ha": "right"} if late else {"xytext": (4, 6), "ha": "left"}
    style = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "color": "#555555"}
    axes.annotate("deleted", (moment, 0), **place, **style)
