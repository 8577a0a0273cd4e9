"""What checkpoints wrote, beside what they folded and what a snapshot written anew would take.

>>> from meshlab.testing import build_log
>>> import tempfile, meshlab
>>> user = meshlab.open(tempfile.mkdtemp())["ann"]
>>> _ = build_log([[{"Insert": {"id": "a"}}]]).write(user.root)
>>> report = user.checkpoint(progress=False)
>>> data = plot_checkpoints([report], rewrites=[1000]).data
>>> data["generation"].to_pylist(), data["rewrite"].to_pylist()
([1], [1000])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.ticker import MaxNLocator

from meshlab.plots.plot import COLOURS, Plot, new_axes, unit_of
from meshlab.snapshot.checkpoint import CheckpointReport

_SCHEMA = pa.schema(
    [(name, pa.int64()) for name in ("generation", "events", "folded", "change", "merged", "saved", "rewrite")]
)
_MOST_NAMES = 12


def plot_checkpoints(reports: Sequence[CheckpointReport], *, rewrites: Sequence[int] | None = None) -> Plot:
    """Groups of bars, one per checkpoint: bytes of log folded, bytes written, bytes of a whole snapshot.

    What merging older layers wrote stands hatched on top of what was new.  ``rewrites``
    are the bytes a snapshot written anew would have taken each time, as a dry run of a
    first checkpoint over the same log reports them.  ``data`` has generation, events and
    bytes: folded, change and merged (what was written), saved (contents that were there
    already) and rewrite, null when not given.
    """
    whole = [None] * len(reports) if rewrites is None else list(rewrites)
    rows = [
        (r.generation, r.events, r.bytes_folded, r.bytes_of_change, r.bytes_merged, r.bytes_saved, size)
        for r, size in zip(reports, whole, strict=True)
    ]
    data = pa.Table.from_pylist([dict(zip(_SCHEMA.names, row, strict=True)) for row in rows], _SCHEMA)
    divisor, unit = unit_of(_largest(data))
    figure, axes = new_axes(f"size ({unit})")
    _draw(axes, data, divisor)
    axes.set_xlabel("checkpoint (number)")
    compared = "" if rewrites is None else ", beside a snapshot written anew"
    return Plot(figure, data, f"bytes of log folded and bytes written by each checkpoint{compared}")


def _largest(data: pa.Table) -> int:
    """The bytes of the largest bar."""
    columns = [data["folded"], data["rewrite"], pa.chunked_array([_written(data)])]
    return max((value or 0 for column in columns for value in column.to_pylist()), default=0)


def _written(data: pa.Table) -> Any:
    return data["change"].to_numpy() + data["merged"].to_numpy()


def _draw(axes: Any, data: pa.Table, divisor: int) -> None:
    place = np.arange(data.num_rows)
    change, merged = data["change"].to_numpy() / divisor, data["merged"].to_numpy() / divisor
    bars = [("log folded", data["folded"].to_numpy() / divisor, COLOURS[5]), ("written", change, COLOURS[0])]
    if data["rewrite"].null_count < data.num_rows:
        whole = data["rewrite"].fill_null(0).to_numpy() / divisor
        bars.append(("whole snapshot, written anew", whole, COLOURS[4]))
    width = 0.8 / len(bars)
    for index, (name, height, colour) in enumerate(bars):
        at = place + (index - (len(bars) - 1) / 2) * width
        axes.bar(at, height, width=0.92 * width, color=colour, label=name)
        if name == "written" and merged.any():
            style: dict[str, Any] = {"facecolor": "white", "edgecolor": colour, "hatch": "////", "linewidth": 0.8}
            axes.bar(at, merged, bottom=change, width=0.92 * width, label="written, merging older layers", **style)
    step = max(1, -(-data.num_rows // _MOST_NAMES))
    axes.set_xticks(place[::step], [str(number) for number in data["generation"].to_pylist()[::step]])
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, min_n_ticks=2))
    axes.set_ylim(bottom=0)
    if data.num_rows:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=4,
            columnspacing=1.2,
            fontsize=9,
            frameon=False,
            borderaxespad=0,
        )
