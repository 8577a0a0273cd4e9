"""When of day and week bytes are written.

>>> from meshlab.testing.rates import Rates, totals_of
>>> data = plot_heatmap(totals_of(Rates(users=1, days=2), seed=1)).data
>>> data.num_rows, sorted(set(data["hours"].to_pylist()))
(168, [0, 1])
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib import colormaps
from matplotlib.colors import ListedColormap

from meshlab.dialects import OPS
from meshlab.growth.series import Series
from meshlab.plots.plot import GREY, Plot, new_axes, of_users, say, unit_of
from meshlab.wording import counted

DATA_SCHEMA = pa.schema(
    [
        ("weekday", pa.int64()),
        ("hour", pa.int64()),
        ("hours", pa.int64()),
        ("bytes", pa.int64()),
        ("bytes_per_hour", pa.float64()),
    ]
)
"""One row per day of the week (from Monday, 0) and hour of day.

``hours`` is how many such hours there were between the first event and the last;
``bytes_per_hour`` their mean, null where there was none.
"""

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HEIGHT = 3.2
"""Inches."""


def plot_heatmap(totals: pa.Table, users: Collection[str] | None = None) -> Plot:
    """Squares: mean bytes of events by hour of day (UTC) and day of week of their effective time.

    The more bytes the darker; where nothing was written it is white, and hours that never
    came are grey and hatched.  Of events far apart, by more than a month, only the
    last are drawn, as ``growth.series`` tells; the caption says so.  ``totals`` are in
    ``TOTALS_SCHEMA``, ``data`` in ``DATA_SCHEMA``.
    """
    chosen = of_users(totals, users)
    events = chosen.filter(pc.and_(pc.is_in(chosen["op"], pa.array(OPS)), pc.is_valid(chosen["hour"])))
    series = Series(events) if events.num_rows else None
    hours, nbytes = np.zeros((2, 168), np.int64) if series is None else _by_phase(series)
    mean = np.divide(nbytes, hours, out=np.full(168, np.nan), where=hours > 0)
    columns = [np.arange(168) // 24, np.arange(168) % 24, hours, nbytes, pa.array(mean, mask=hours == 0)]
    data = pa.table(list(map(pa.array, columns)), schema=DATA_SCHEMA)
    figure, axes = new_axes("day of week")
    figure.set_figheight(_HEIGHT)
    _draw(axes, mean.reshape(7, 24))
    span = "no event has a time" if series is None else "; ".join([counted(series.hours, "hour"), *series.notes])
    return Plot(figure, data, f"mean bytes per hour of day and day of week ({span})")


def _by_phase(series: Series) -> Any:
    """Number of hours and their bytes, by hour of the week."""
    nbytes = sum((block.nbytes.sum(axis=0) for block in series.blocks()), np.zeros(series.hours))
    since_monday = (series.first + np.arange(series.hours) + 3 * 24) % 168
    return np.stack([np.bincount(since_monday, minlength=168), np.bincount(since_monday, nbytes, 168)]).astype(np.int64)


def _draw(axes: Any, mean: Any) -> None:
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xticks(range(0, 25, 3), [f"{hour:02}:00" for hour in range(0, 25, 3)])
    axes.set_yticks(np.arange(7) + 0.5, _DAYS)
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 24), ylim=(7, 0), xlabel="hour of day (UTC)")
    known = ~np.isnan(mean)
    if not known.any():
        say(axes, "no event has a time")
        return
    axes.fill_between([0, 24], 0, 7, facecolor="#e6e6e6", edgecolor="#aaaaaa", hatch="////", linewidth=0)
    largest = mean[known].max()
    divisor, unit = unit_of(largest, 1000)
    shown = np.ma.masked_invalid(mean / divisor)
    mesh = axes.pcolormesh(
        shown, cmap=_SHADES, vmin=_LEAST, vmax=max(largest / divisor, 1e-9), edgecolor="#cccccc", lw=0.4
    )
    bar = axes.figure.colorbar(mesh, ax=axes, label=f"mean per hour ({unit})", pad=0.02)
    bar.outline.set(edgecolor="#cccccc", linewidth=0.4)
    told = [_NOTHING] * bool((mean[known] == 0).any()) + [_UNKNOWN] * (not known.all())
    if told:
        style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right"}
        axes.annotate("; ".join(told), (1, 1), xytext=(0, 4), fontsize=9, color=GREY, **style)


_NOTHING, _UNKNOWN = "white: nothing was written", "hatched: no such hour yet"

_SHADES = ListedColormap(colormaps["Blues"](np.linspace(0.12, 1.0, 256))).with_extremes(under="white")
"""From pale to dark; white below."""

_LEAST = 1e-12
"""More than nothing, in any unit."""
