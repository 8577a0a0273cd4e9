"""From the bytes of a log to those that the state needs, step by step.

>>> from meshlab.testing import build_log
>>> import tempfile, meshlab
>>> from meshlab.growth.redundancy import redundancy
>>> from meshlab.timeline import log_of
>>> user = meshlab.open(tempfile.mkdtemp())["ann"]
>>> _ = build_log([[{"Insert": {"id": "a"}}], [{"Delete": "a"}]]).write(user.root)
>>> plot_redundancy(redundancy(log_of(user.root, "ann"))).data["step"].to_pylist()[:2]
['log', 'superseded']
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.growth.redundancy import Redundancy
from meshlab.plots.plot import COLOURS, Plot, new_axes
from meshlab.wording import size_text

STEPS = {
    "log": ("bytes", "the log\non disk"),
    "superseded": ("superseded_bytes", "superseded\nlines"),
    "duplicates": ("duplicate_bytes", "contents\nsaid before"),
    "no effect": ("no_effect_bytes", "without\neffect"),
    "no event": ("no_event_bytes", "no event"),
    "left": ("left_bytes", "left"),
}
"""What is drawn, in order: column of the table, and its name below the bar."""

_SCHEMA = pa.schema([("step", pa.string()), ("bytes", pa.int64()), ("share", pa.float64()), ("base", pa.int64())])


def plot_redundancy(found: Redundancy, *, users: Collection[str] | None = None) -> Plot:
    """A waterfall: the log, what could go for which reason, and what is left.

    ``users`` chooses some.  ``data`` has step, bytes, share of the log, and ``base``, the
    bytes below the bar.
    """
    table = found.table if users is None else found.table.filter(pc.is_in(found.table["uid"], pa.array(list(users))))
    nbytes = [pc.sum(table[column]).as_py() or 0 for column, _ in STEPS.values()]
    rest = nbytes[0] - np.cumsum(nbytes[1:-1])
    base = [0, *rest.tolist(), 0]
    share = [size / nbytes[0] if nbytes[0] else 0.0 for size in nbytes]
    data = pa.table([list(STEPS), nbytes, share, base], schema=_SCHEMA)
    figure, axes = new_axes("share of the log (%)")
    _draw(axes, data)
    caption = f"what of {size_text(nbytes[0])} of log the state needs, and why it does not need the rest"
    return Plot(figure, data, caption)


def _draw(axes: Any, data: pa.Table) -> None:
    total = max(data["bytes"][0].as_py(), 1)
    height, base = (100 * data[name].to_numpy() / total for name in ("bytes", "base"))
    place = np.arange(data.num_rows)
    colours = [COLOURS[0], *[COLOURS[4]] * (data.num_rows - 2), COLOURS[2]]
    bars = axes.bar(place, height, bottom=base, width=0.62, color=colours)
    for bar in bars[1:-1]:
        bar.set(facecolor="white", edgecolor=COLOURS[4], hatch="////", linewidth=0.8)
    tops = np.append(base[1:-1] + height[1:-1], height[-1])
    for index, level in enumerate(tops):
        axes.plot([index + 0.31, index + 0.69], [level, level], color="#888888", linewidth=0.8)
    for x, top, row in zip(place, base + height, data.to_pylist()):
        text = f"{size_text(row['bytes'])}\n{row['share']:.1%}" if x else size_text(row["bytes"])
        axes.annotate(text, (x, top), xytext=(0, 3), textcoords="offset points", ha="center", va="bottom", fontsize=9)
    axes.set_xticks(place, [name for _, name in STEPS.values()])
    axes.set_ylim(0, 118)
    axes.set_yticks(range(0, 101, 25))
