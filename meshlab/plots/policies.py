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

from meshlab.growth.policies import Policy
from meshlab.growth.simulation import Simulation, unbeaten
from meshlab.plots.names import Name, place_names
from meshlab.plots.plot import COLOURS, Plot, new_axes, say
from meshlab.wording import counted, size_text, span_text

_GREY = "#999999"
_MOST_NAMES = 8
_HEIGHT = 4.8
"""Inches."""

_RECOMMENDED, _SET = COLOURS[1], COLOURS[6]


def plot_policies(found: Simulation, policy: Policy | None = None) -> Plot:
    """Every policy as a point: peak WAL across, bytes written upwards, both on scales of powers of ten.

    Those that no other beats in bytes written, peak WAL and worst replay at once are
    filled and joined, and named with their worst replay, as far as there is room; the
    recommended one is ringed, and ``policy``, the one that is set, in a square.  Compared
    are those the recommendation was chosen among (``Simulation.comparable``): policies
    that leave users without a checkpoint are crosses, those that replay too slowly
    triangles.  Policies that never checkpoint are left out of the picture, not of
    ``data``, which is the simulation's table with ``recommended``, ``set`` and ``kind``.
    """
    data = _with_kinds(found, policy)
    figure, axes = new_axes("written by checkpoints (bytes)")
    figure.set_figheight(_HEIGHT)
    axes.set_xlabel("peak WAL: most bytes of log that no checkpoint has folded")
    shown = data.filter(pc.greater(data["checkpoints"], 0))
    _draw(axes, shown, f"worst replay above {span_text(found.replay)}")
    return Plot(figure, data, _caption(data, shown))


BEST, BEATEN, IDLE, SLOW, NEVER = "beaten by none", "beaten", "leaves users idle", "slow", "never checkpoints"
"""What kinds of policies there are."""

_COLUMNS = pa.schema([("recommended", pa.bool_()), ("set", pa.bool_()), ("kind", pa.string())])
"""What the data have beyond the table of the simulation."""


def _with_kinds(found: Simulation, policy: Policy | None) -> pa.Table:
    """The table of a simulation, and in which way each policy is drawn."""
    table = found.table
    comparable = np.array(found.comparable.to_pylist(), bool)
    idle, checkpoints = table["idle_users"].to_numpy(), table["checkpoints"].to_numpy()
    best = np.zeros(table.num_rows, bool)
    best[comparable] = unbeaten(table.filter(pa.array(comparable)))
    names = np.array(table["policy"].to_pylist(), object)
    recommended = names == str(found.recommended)
    kinds = np.where(best | recommended, BEST, BEATEN).astype(object)
    kinds[~comparable] = SLOW
    kinds[~comparable & (idle > idle[checkpoints > 0].min(initial=idle.max(initial=0)))] = IDLE
    kinds[checkpoints == 0] = NEVER
    columns = {"recommended": recommended, "set": names == str(policy), "kind": kinds.tolist()}
    for name, column in columns.items():
        table = table.append_column(name, pa.array(column, _COLUMNS.field(name).type))
    return table


def _caption(data: pa.Table, shown: pa.Table) -> str:
    told = [f"bytes written and peak WAL of {counted(shown.num_rows, 'policy', 'policies')}"]
    kinds = data["kind"].to_pylist()
    if IDLE in kinds:
        told.append(f"{kinds.count(IDLE)} leave users without a checkpoint and are not compared")
    if SLOW in kinds:
        told.append(f"{kinds.count(SLOW)} replay too slowly and are not compared")
    if NEVER in kinds:
        one = kinds.count(NEVER) == 1
        told.append(f"{kinds.count(NEVER)} never {'checkpoints and is' if one else 'checkpoint and are'} not drawn")
    if any(row["set"] and not row["checkpoints"] for row in data.to_pylist()):
        told.append("the policy set is among them")
    return "; ".join(told)


def _draw(axes: Any, data: pa.Table, slow: str) -> None:
    rows = data.sort_by([("peak_wal_bytes", "ascending"), ("written_bytes", "descending")]).to_pylist()
    kinds = {kind: [row for row in rows if row["kind"] == kind] for kind in (BEATEN, IDLE, SLOW, BEST)}
    axes.set(xscale="log", yscale="log")
    hollow: dict[str, Any] = {"facecolor": "white", "edgecolor": _GREY, "zorder": 2}
    _scatter(axes, kinds[BEATEN], "beaten by another", s=22, **hollow)
    _scatter(axes, kinds[IDLE], "leaves users without a checkpoint", s=26, color=_GREY, marker="x", zorder=2)
    _scatter(axes, kinds[SLOW], slow, s=26, marker="^", **hollow)
    axes.step(*_points(_stairs(kinds[BEST])), where="post", color=COLOURS[0], linewidth=0.8, zorder=1)
    _scatter(axes, kinds[BEST], "beaten by none (worst replay)", s=26, color=COLOURS[0], zorder=3)
    best, chosen = ([row for row in rows if row[flag]] for flag in ("recommended", "set"))
    ring: dict[str, Any] = {"facecolor": "none", "linewidth": 1.8, "zorder": 4}
    _scatter(axes, best, "recommended", s=150, edgecolor=_RECOMMENDED, **ring)
    _scatter(axes, chosen, "set", s=210, edgecolor=_SET, marker="s", **ring | {"linewidth": 1.2})
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: size_text(value)))
        axis.set_minor_formatter(NullFormatter())
    if rows:
        _give_room(axes, rows)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=9, frameon=False, borderaxespad=0)
        _name(axes, rows, [*best, *chosen], kinds[BEST])
    else:
        axes.minorticks_off()
        say(axes, "no policy makes a checkpoint")


def _scatter(axes: Any, rows: list[dict[str, Any]], name: str, **style: Any) -> None:
    if rows:
        axes.scatter(*_points(rows), label=name, **style)


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
        limits(middle / spread**0.58, middle * spread**0.62)


def _name(axes: Any, rows: list[dict[str, Any]], first: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
    """The names of the recommended policy and the one set, and of some others that no other beats."""
    chosen: dict[tuple[float, float], dict[str, Any]] = {}
    for row in [*first, *others]:  # of policies that come to the same, the most important
        chosen.setdefault(_point(row), row)
    names = [
        Name(_point(row), f"{row['policy']} ({span_text(row['worst_replay_seconds'])})", _style(row))
        for row in chosen.values()
    ]
    place_names(
        axes, names, [_point(row) for row in rows], most=_MOST_NAMES, needed=len({_point(row) for row in first})
    )


def _point(row: dict[str, Any]) -> tuple[float, float]:
    return row["peak_wal_bytes"], row["written_bytes"]


def _style(row: dict[str, Any]) -> dict[str, Any]:
    colour = _RECOMMENDED if row["recommended"] else _SET if row["set"] else COLOURS[0]
    weight = "bold" if row["recommended"] or row["set"] else "normal"
    return {"color": colour, "weight": weight, "path_effects": [withStroke(linewidth=3, foreground="white")]}
