"""What a migration took, user by user.

>>> table = pa.table({"uid": ["ann"], "bytes_read": [10], "bytes_written": [4], "seconds": [0.5]})
>>> plot_migration(table).data.num_rows
1
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from meshlab.plots.plot import COLOURS, WIDTH, Plot, plain

_SHOWN = 20
"""Users with a bar of their own: those who took longest."""

_LONGEST = 18
"""Characters of a uid that a label has room for."""

_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))


def plot_migration(report: Any) -> Plot:
    """Bars per user, in order of their ids: bytes read and written on the left, seconds on the right.

    Of many users those who took longest are drawn.  ``report`` is anything with an Arrow
    stream that has uid, bytes_read, bytes_written and seconds: what a rehearsal or an
    apply gives.  ``data`` has those columns, of all users.
    """
    table = pa.table(report).select(["uid", "bytes_read", "bytes_written", "seconds"])
    data = table.sort_by("uid")
    shown = data.sort_by([("seconds", "descending"), ("uid", "ascending")]).slice(0, _SHOWN).sort_by("uid")
    figure = Figure(figsize=(WIDTH, 1.2 + 0.36 * max(shown.num_rows, 2)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    places = np.arange(shown.num_rows)[::-1]
    unit, size = _unit(shown)
    for offset, name, colour in ((0.2, "bytes_read", COLOURS[0]), (-0.2, "bytes_written", COLOURS[1])):
        values = shown[name].to_numpy() / size
        left.barh(places + offset, values, height=0.36, color=colour, label=name.removeprefix("bytes_"))
    right.barh(places, shown["seconds"].to_numpy(), height=0.5, color=COLOURS[2])
    left.set_yticks(places, [_short(uid) for uid in shown["uid"].to_pylist()])
    left.set_xlabel(f"read and written ({unit})")
    right.set_xlabel("time (s)")
    left.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=9, borderaxespad=0)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    more = f", the {_SHOWN} of {data.num_rows:,} that took longest" if data.num_rows > _SHOWN else ""
    return Plot(figure, data, f"bytes and seconds of a migration, by user{more}")


def _short(uid: str) -> str:
    return plain(uid if len(uid) <= _LONGEST else f"{uid[:8]}…{uid[-4:]}", _LONGEST)


def _unit(table: pa.Table) -> tuple[str, float]:
    most = max([1, *table["bytes_read"].to_pylist(), *table["bytes_written"].to_pylist()])
    return next((unit, size) for unit, size in _UNITS if most >= size)
