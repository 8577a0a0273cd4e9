"""Plot: a figure together with the numbers it shows."""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, date2num, num2date
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import ScaledTranslation

from meshlab.markup import short
from meshlab.times import DAY, SECOND
from meshlab.wording import escape

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, without the yellow that is lost on white."""

DPI = 110
WIDTH, HEIGHT = 8.0, 3.6
"""Inches."""

GREY = "#777777"

_UNITS = {1024: ("bytes", "KiB", "MiB", "GiB", "TiB"), 1000: ("bytes", "kB", "MB", "GB", "TB")}
_NEAREST = 0.06
"""Least distance of two labels, as a share of the axis."""


class Plot:
    """A figure and its ``data``, an Arrow table; notebooks show it as a picture.

    ``caption`` is one sentence that says what is drawn.
    """

    def __init__(self, figure: Figure, data: pa.Table, caption: str) -> None:
        self.figure = figure
        self.data = data
        self.caption = caption

    def to_png(self) -> bytes:
        """The picture as PNG."""
        buffer = BytesIO()
        self.figure.savefig(buffer, format="png", dpi=DPI)
        return buffer.getvalue()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture; the suffix names the format (png, svg, pdf)."""
        self.figure.savefig(path, dpi=DPI)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        from base64 import b64encode

        return {"image/png": b64encode(self.to_png()).decode(), "text/plain": repr(self)}

    def __repr__(self) -> str:
        return f"<Plot of {self.data.num_rows:,} rows: {self.caption}>"


def new_axes(ylabel: str) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes in the house style."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def set_time_axis(axes: Axes, *, name: str = "effective time") -> None:
    """Label the x axis with UTC dates, with hours below three days, with seconds below ten minutes.

    What the ticks do not say of the date the label does.  Limits beyond the years 1 to 9999,
    that dates have, are drawn in.
    """
    low, high = axes.get_xlim()
    if low < CALENDAR[0] or high > CALENDAR[1]:
        low, high = axes.set_xlim(
            min(max(low, CALENDAR[0]), CALENDAR[1] - 1), max(min(high, CALENDAR[1]), CALENDAR[0] + 1)
        )
    span = (high - low) * DAY / SECOND
    axes.xaxis.set_major_locator(_Ticks(minticks=3, maxticks=7))
    form, told = next((form, told) for least, form, told in _TIME_FORMS if span >= least)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: num2date(x).isoformat(sep=" ")[form]))
    since = f"; from {num2date(low).date()}" if told else ""
    axes.set_xlabel(f"{name} (UTC{told}{since})")


CALENDAR = date2num(np.array(["0001-01-01T00:00:01", "9999-12-31T23:59:59"], "datetime64[s]"))
"""The dates that can be drawn, with a second for rounding."""

_TIME_FORMS = (
    (3 * DAY / SECOND, slice(0, 10), ""),
    (600, slice(5, 16), ", month-day and hour:minute"),
    (0, slice(11, 19), ", hour:minute:second"),
)
"""Spans in seconds from which on a part of a moment is written, and what is said of it."""


class _Ticks(AutoDateLocator):
    """Dates at even distances, as far as the calendar goes."""

    def viewlim_to_dt(self) -> Any:
        axis: Any = self.axis
        return tuple(num2date(np.clip(sorted(axis.get_view_interval()), *CALENDAR)))

    def tick_values(self, vmin: Any, vmax: Any) -> Any:
        return [tick for tick in super().tick_values(vmin, vmax) if CALENDAR[0] <= tick <= CALENDAR[1]]


def frame_lines(axes: Axes, moments: Any) -> Any:
    """Limits around lines over some moments (``datetime64[us]``), a minute where there is one; the last moment."""
    if not len(moments):
        return None
    first, last = moments.min(), max(moments.max(), moments.min() + _MINUTE)
    axes.set_xlim(first - (last - first) // 25, last + (last - first) // 100)
    return last


def set_height(axes: Axes) -> None:
    """Let the y axis go from 0 to a little above what is drawn."""
    top = axes.dataLim.y1
    axes.set_ylim(0, 1.06 * top if 0 < top < np.inf else 1)


_MINUTE = np.timedelta64(60_000_000, "us")


def label_ends(axes: Axes, ends: list[tuple[Any, float, str, str]]) -> None:
    """Write the names of lines, given as (x, y, name, colour), behind the axes, each joined to its end.

    They stand beside their ends, or as near as they can without covering each other.
    """
    ends = sorted(ends, key=lambda end: end[1])
    beside = axes.get_yaxis_transform() + ScaledTranslation(_LEADER, 0, axes.figure.dpi_scale_trans)
    for (x, y, name, colour), place in zip(ends, _spread([y for _, y, *_ in ends], axes.get_ylim())):
        axes.annotate(
            name,
            (x, y),
            xytext=(1, place),
            textcoords=beside,
            va="center",
            color=colour,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0}
            | {"relpos": (0, 0.5)},
        )


_LEADER = 0.14
"""Inches between the axes and a name."""


def _spread(heights: list[float], limits: tuple[float, float]) -> list[float]:
    """Rising heights moved apart, up where there is room and else down from the top.

    >>> _spread([0.0, 0.0, 1.0], (0.0, 1.0)), _spread([1.0, 1.0], (0.0, 1.0))
    ([0.0, 0.06, 1.0], [0.94, 1.0])
    """
    least = _NEAREST * (limits[1] - limits[0])
    places = list(heights)
    for at in range(1, len(places)):
        places[at] = max(places[at], places[at - 1] + least)
    ceiling = limits[1]
    for at in reversed(range(len(places))):
        places[at] = min(places[at], ceiling)
        ceiling = places[at] - least
    return places


def tell_below(figure: Figure, text: str) -> None:
    """Write a note below a figure, when there is one."""
    if text:
        figure.supxlabel(text, x=0.01, ha="left", fontsize=9, color=GREY)


def moments(column: pa.ChunkedArray) -> Any:
    """Timestamps as numpy ``datetime64[us]``, which matplotlib draws as UTC."""
    return column.cast(pa.int64()).to_numpy().astype("datetime64[us]")


def unit_of(largest: float, base: int = 1024) -> tuple[int, str]:
    """The largest unit of which so many bytes have at least one, and its name.

    ``base`` is 1024, or 1000 beside sizes in words (``wording.size_text``).

    >>> unit_of(5_000), unit_of(5_000_000, 1000)
    ((1024, 'KiB'), (1000000, 'MB'))
    """
    names = _UNITS[base]
    power = max((power for power in range(len(names)) if largest >= base**power), default=0)
    return base**power, names[power]


def plain(text: str, most: int = 36) -> str:
    r"""Text of a log as a label: cut after ``most`` letters, each in the font, and nothing of it a formula.

    >>> print(plain("$x$\n"), plain("\u4e00"))
    \$x\$\n \u4e00
    """
    known = _letters()
    shown = "".join(
        char if ord(char) in known else char.encode("unicode_escape", "surrogatepass").decode()
        for char in short(escape(text), most)
    )
    return shown.replace("$", r"\$")


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    """The letters of the font that figures use."""
    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def of_users(table: pa.Table, users: Collection[str] | None) -> pa.Table:
    """The rows of some users, of all when there is no choice."""
    return table if users is None else table.filter(pc.is_in(table["uid"], pa.array(list(users), pa.string())))


def say(axes: Axes, text: str) -> None:
    """Write into axes with nothing to draw why that is so."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY, wrap=True)
