"""Past days, and the fan of the coming ones.

>>> from meshlab.growth.forecast import forecast
>>> from meshlab.testing.rates import Rates, totals_of
>>> plot_forecast(forecast(totals_of(Rates(users=1, days=14), seed=1), days=3)).data["kind"].to_pylist()[-4:]
['past', 'forecast', 'forecast', 'forecast']
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.dates import date2num
from matplotlib.ticker import MaxNLocator

from meshlab.growth.forecast import LEVEL, Forecast
from meshlab.plots.plot import COLOURS, Plot, new_axes, say, set_time_axis, tell_below, unit_of
from meshlab.wording import size_text

_PAST, _COMING, _LIMIT = COLOURS[0], COLOURS[4], COLOURS[1]
_HEIGHT = 5.2
_ORDER = ("past", "day not over", "median", f"{LEVEL:.0%} of futures".replace("%", " %"))
"""What the legend names."""

_NEAR = 3.0
"""How many times the largest size drawn a limit may be to be drawn too."""


def plot_forecast(forecast: Forecast) -> Plot:
    """Two panels over days: bytes per day and the size of all logs, each with a fan of what is to come.

    The fan is what lies between the bounds, its line the median; a day that is not over is
    hollow.  A limit stands where it is, with the days at which it is reached, or is told
    when it is far away.  ``data`` is the table of the forecast.
    """
    data = forecast.table
    figure, _ = new_axes("")
    figure.clear()
    figure.set_figheight(_HEIGHT)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    _draw_days(upper, data)
    _draw_sizes(lower, forecast)
    _tell(upper, forecast)
    return Plot(figure, data, f"bytes per day and size, with bounds of {LEVEL:.0%}".replace("%", " %"))


def _of(data: pa.Table, kind: str) -> pa.Table:
    return data.filter(pc.equal(data["kind"], kind))


def _column(table: pa.Table, name: str, divisor: int) -> Any:
    return table[name].to_numpy() / divisor


def _largest(data: pa.Table, *names: str) -> float:
    return max((pc.max(data[name]).as_py() or 0.0 for name in names), default=0.0)


def _draw_days(axes: Any, data: pa.Table) -> None:
    divisor, unit = unit_of(_largest(data, "bytes", "high"), 1000)
    axes.set_ylabel(f"written per day ({unit})")
    past, partial, coming = (_of(data, kind) for kind in ("past", "partial", "forecast"))
    axes.bar(_days(past), _column(past, "bytes", divisor), width=0.8, color=_PAST, label=_ORDER[0])
    if partial.num_rows:
        style: dict[str, Any] = {"facecolor": "none", "edgecolor": _PAST, "linewidth": 1.2}
        axes.bar(_days(partial), _column(partial, "bytes", divisor), width=0.8, label=_ORDER[1], **style)
    _fan(axes, coming, divisor, ("low", "bytes", "high"))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, min_n_ticks=2))
    if data.num_rows:
        handles, _ = axes.get_legend_handles_labels()
        handles.sort(key=lambda handle: _ORDER.index(handle.get_label()))
        axes.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=4,
            fontsize=9,
            frameon=False,
            borderaxespad=0,
        )


def _days(table: pa.Table) -> Any:
    return date2num(table["day"].to_numpy())


def _fan(axes: Any, coming: pa.Table, divisor: int, names: tuple[str, str, str]) -> None:
    if not coming.num_rows:
        return
    days = _days(coming)
    low, middle, high = (_column(coming, name, divisor) for name in names)
    lone = {"marker": "."} if len(days) == 1 else {}
    axes.fill_between(days, low, high, color=_COMING, alpha=0.35, linewidth=4 if lone else 0, label=_ORDER[3])
    axes.plot(days, middle, color=_COMING, linewidth=2, label=_ORDER[2], **lone)


def _draw_sizes(axes: Any, forecast: Forecast) -> None:
    data = forecast.table
    largest = max(_largest(data, "size", "size_high"), forecast.size)
    near = largest > 0 and forecast.limit <= _NEAR * largest
    divisor, unit = unit_of(max(largest, forecast.limit if near else 0), 1000)
    axes.set_ylabel(f"size at the end of day ({unit})")
    known, coming = data.filter(pc.not_equal(data["kind"], "forecast")), _of(data, "forecast")
    axes.plot(_days(known), _column(known, "size", divisor), color=_PAST, linewidth=2, marker="o", markersize=3)
    partial = _of(data, "partial")
    if partial.num_rows:
        axes.plot(_days(partial), _column(partial, "size", divisor), "o", color=_PAST, mfc="white", markersize=5)
    _fan(axes, coming, divisor, ("size_low", "size", "size_high"))
    axes.set_ylim(0, 1.18 * max(largest, forecast.limit if near else 0, 1) / divisor)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, min_n_ticks=2))
    if data.num_rows:
        _draw_limit(axes, forecast, forecast.limit / divisor if near else None)
        first, last = _days(data)[[0, -1]]
        axes.set_xlim(first - 1.5, max(last, first + 3) + 1.5)
        set_time_axis(axes, name="day")
    else:
        axes.set_xlabel("day (UTC)")
        say(axes, "no day is known")


def _draw_limit(axes: Any, forecast: Forecast, level: float | None) -> None:
    """The limit and the interval of days at which it is reached; in the corner words alone when it is not near."""
    passed = forecast.size >= forecast.limit
    style: dict[str, Any] = {"color": _LIMIT, "fontsize": 9}
    if level is not None:
        axes.axhline(level, color=_LIMIT, linewidth=1.2, linestyle=(0, (5, 2)))
    if level is None or passed:
        far = "" if passed else "limit, far above: "
        axes.text(0.01, 0.98, f"{far}{_when(forecast)}", transform=axes.transAxes, va="top", **style)
    else:
        place: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
        axes.annotate(f"limit: {_when(forecast)}", (0.01, level), xytext=(0, 4), **place, **style)
    coming = _of(forecast.table, "forecast")
    if forecast.days is None or not forecast.days.low or not coming.num_rows:
        return
    low, middle, high = forecast.days
    before, end = _days(coming)[0] - 1, _days(coming)[-1]
    if before + low <= end:
        last = before + high if high is not None else np.inf
        axes.plot([before + low, min(last, end)], [level, level], color=_LIMIT, linewidth=5, solid_capstyle="butt")
        if middle is not None and before + middle <= end:
            axes.plot(before + middle, level, "D", color=_LIMIT, mfc="white", markersize=6, zorder=4)


def _when(forecast: Forecast) -> str:
    """When the limit is reached, in words."""
    size = size_text(forecast.limit)
    if forecast.size >= forecast.limit:
        return f"limit {size} was passed"
    if forecast.days is None:
        return f"{size} is reached nobody knows when"
    return f"{size} reached {forecast.days}".replace("reached not", "not reached")


def _tell(axes: Any, forecast: Forecast) -> None:
    """The notes: as what there is to see when there is nothing else, else below the figure."""
    text = "\n".join(forecast.notes)
    if not forecast.table.num_rows:
        say(axes, text or "nothing is known")
    else:
        tell_below(axes.figure, text)
