"""What differs between two states: memories that came and went, and fields that changed.

>>> from meshlab.testing import build_log
>>> import tempfile, meshlab
>>> user = meshlab.open(tempfile.mkdtemp())["ann"]
>>> events = [{"Insert": {"id": "a"}}, {"Update": {"id": "a", "amplitude": 0.5}}, {"Insert": {"id": "b"}}]
>>> _ = build_log([[event] for event in events], per_day=1).write(user.root)
>>> first = user.events(progress=False).to_arrow()["effective_ts"][0].as_py()
>>> plot_changes(user.diff(first, progress=False)).data.to_pylist()
[{'change': 'added', 'field': None, 'memories': 1}, {'change': 'changed', 'field': 'amplitude', 'memories': 1}]
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from meshlab.diff import ADDED, CHANGED, REMOVED, Diff
from meshlab.plots.plot import COLOURS, Plot, new_axes, plain

MOST_FIELDS = 15
"""Fields drawn, the most frequently changed; the caption says how many more there are."""

_SCHEMA = pa.schema([("change", pa.string()), ("field", pa.string()), ("memories", pa.int64())])
_COLOURS = {ADDED: COLOURS[2], REMOVED: COLOURS[1], CHANGED: COLOURS[0]}


def plot_changes(diff: Diff, *, most: int = MOST_FIELDS) -> Plot:
    """Horizontal bars: memories added, removed, and changed by field.

    A memory that changed in several fields counts once in each.  ``data`` has change,
    field (null for memories that came or went) and memories.
    """
    fields = diff.fields
    rows: list[tuple[str, str | None, int]] = [
        (change, None, diff.counts[change]) for change in (ADDED, REMOVED) if diff.counts[change]
    ]
    rows += [(CHANGED, name, count) for name, count in list(fields.items())[:most]]
    data = pa.Table.from_pylist([dict(zip(_SCHEMA.names, row, strict=True)) for row in rows], _SCHEMA)
    figure, axes = new_axes("change")
    figure.set_figheight(max(1.6, 0.9 + 0.3 * len(rows)))
    _draw(axes, rows)
    axes.set_xlabel("memories (number)")
    more = f", without {len(fields) - most} that changed less often" if len(fields) > most else ""
    return Plot(figure, data, f"memories of {diff.uid} added, removed, and changed by field{more}")


def _draw(axes: Any, rows: list[tuple[str, str | None, int]]) -> None:
    names = [f"{name} changed" if name else f"memory {change}" for change, name, _ in rows]
    places = range(len(rows))
    counts = [count for _, _, count in rows]
    bars = axes.barh(places, counts, height=0.7, color=[_COLOURS[change] for change, _, _ in rows])
    axes.bar_label(bars, labels=[f"{count:,}" for count in counts], padding=4)
    axes.set_yticks(places, [plain(name, 32) for name in names])
    axes.set_xlim(0, 1.1 * max(counts, default=1))
    axes.invert_yaxis()
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
