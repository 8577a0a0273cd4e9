"""Policies of checkpoints: what they write against how much log they let grow.

>>> from meshlab.growth.policies import Policy
>>> from meshlab.growth.simulation import simulate
>>> plot_policies(simulate([], [Policy(bytes=64e6)])).data["policy"].to_pylist()
['bytes=64MB']
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from meshlab.growth.simulation import Simulation
from meshlab.plots.plot import COLOURS, Plot, new_axes
from meshlab.wording import size_text, span_text

_GREY = "#999999"
_MOST_NAMES = 8
_HEIGHT = 4.6
"""Inches."""


def plot_policies(found: Simulation) -> Plot:
    """Every policy as a point: peak WAL across, bytes written upwards, both on scales of powers of ten.

    Those that no other beats in bytes written, peak WAL and worst replay at once are
    filled and joined, and named with their worst replay; the recommended one is ringed.  Policies that never
    checkpoint are left out of the picture, not of ``data``, which is the simulation's
    table with a column ``recommended``.
    """
    best = str(found.recommended)
    flags = pc.equal(found.table["policy"], best)
    data = found.table.append_column("recommended", flags)
    figure, axes = new_axes("written by checkpoints (bytes)")
    figure.set_figheight(_HEIGHT)
    axes.set_xlabel("peak WAL: most bytes of log that no checkpoint has folded")
    shown = data.filter(pc.greater(data["checkpoints"], 0))
    _draw(axes, shown)
    left_out = data.num_rows - shown.num_rows
    told = f"; {left_out} never checkpoint and are not drawn" if left_out else ""
    return Plot(figure, data, f"bytes written and peak WAL of {shown.num_rows} policies{told}")


def _draw(axes: Any, data: pa.Table) -> None:
    rows = data.sort_by([("peak_wal_bytes", "ascending"), ("written_bytes", "descending")]).to_pylist()
    pareto = [row for row in rows if row["pareto"]]
    others = [row for row in rows if not row["pareto"]]
    axes.set(xscale="log", yscale="log")
    axes.scatter(*_points(others), s=22, facecolor="white", edgecolor=_GREY, label="beaten by another", zorder=2)
    axes.step(*_points(_stairs(pareto)), where="post", color=COLOURS[0], linewidth=0.8, zorder=1)
    axes.scatter(*_points(pareto), s=26, color=COLOURS[0], label="beaten by none (worst replay)", zorder=3)
    best = [row for row in rows if row["recommended"]]
    axes.scatter(*_points(best), s=150, facecolor="none", edgecolor=COLOURS[1], linewidth=1.8, label="recommended")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: size_text(value)))
        axis.set_minor_formatter(NullFormatter())
    if rows:
        _give_room(axes, rows)
        _name(axes, pareto, best)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=9, frameon=False, borderaxespad=0)


def _stairs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those, by peak WAL, that write less than all before them."""
    least = np.minimum.accumulate([row["written_bytes"] for row in rows]).tolist()
    return [row for row, before in zip(rows, [np.inf, *least]) if row["written_bytes"] < before]


def _points(rows: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    return [row["peak_wal_bytes"] for row in rows], [row["written_bytes"] for row in rows]


def _give_room(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Limits with room for names; points that are close together get a power of ten around them."""
    for values, limits in zip(_points(rows), (axes.set_xlim, axes.set_ylim)):
        low, high = min(values), max(values)
        middle, spread = (low * high) ** 0.5, max(high / low, 10.0)
        limits(middle / spread**0.58, middle * spread**0.68)


def _name(axes: Any, pareto: list[dict[str, Any]], best: list[dict[str, Any]]) -> None:
    """The names of the recommended policy and of some others of the set, well apart from each other."""
    height = np.ptp(np.log(axes.get_ylim()))
    left, right = np.log(axes.get_xlim())
    taken: list[float] = []
    for row in [*best, *pareto]:
        level = float(np.log(row["written_bytes"]))
        if len(taken) == _MOST_NAMES or any(abs(level - other) < _NEAREST * height for other in taken):
            continue
        taken.append(level)
        outside = np.log(row["peak_wal_bytes"]) > left + 0.7 * (right - left)
        axes.annotate(
            f"{row['policy']} ({span_text(row['worst_replay_seconds'])})",
            (row["peak_wal_bytes"], row["written_bytes"]),
            xytext=(-9, -9) if outside else (9, 3),
            ha="right" if outside else "left",
            textcoords="offset points",
            fontsize=9,
            color=COLOURS[1] if row["recommended"] else COLOURS[0],
            weight="bold" if row["recommended"] else "normal",
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )


_NEAREST = 0.055
"""Least distance of two names, as a share of the height."""
