"""How many memories live, over time.

>>> from meshlab.testing import build_log
>>> import tempfile, meshlab
>>> store = meshlab.open(tempfile.mkdtemp())
>>> events = [{"Insert": {"id": "a"}}, {"Insert": {"id": "b"}}, {"Delete": "a"}, {"Delete": "a"}]
>>> _ = build_log([[event] for event in events]).write(store["ann"].root)
>>> plot_live(store.events()).data["live"].to_pylist()
[1, 2, 1]
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.plots.near import near_moments
from meshlab.plots.plot import (
    COLOURS,
    Plot,
    frame_lines,
    label_ends,
    moments,
    new_axes,
    plain,
    set_height,
    set_time_axis,
    tell_below,
)
from meshlab.records import FIELDS

MOST_USERS = 6
"""Lines drawn when no users are named: those with the most events."""

_TIME = "datetime64[us]"
_SCHEMA = pa.schema([("uid", pa.string()), ("effective_ts", pa.timestamp("us", "UTC")), ("live", pa.int64())])


def plot_live(events: Any, *, users: Collection[str] | None = None) -> Plot:
    """Steps: live memories of each user after each event that made or removed one.

    ``events`` is anything with an Arrow stream that has uid, id, op and effective_ts, in
    log order; when it has all fields of a record, an update that gives them all counts
    as an insert, as in a replay.  A log over a snapshot counts from 0.  Lines go on to
    the last moment of all; days far from the others are left out and told of, as
    ``plots.near`` has it.  ``data`` has uid, effective_ts and live.
    """
    table = pa.table(events)
    chosen = _largest(table) if users is None else list(users)
    steps = {uid: _steps(table.filter(pc.equal(table["uid"].cast(pa.string()), uid))) for uid in chosen}
    figure, axes = new_axes("live memories")
    note = _draw(axes, steps)
    set_time_axis(axes)
    tell_below(figure, note)
    data = pa.concat_tables([_SCHEMA.empty_table(), *[_table(uid, *step) for uid, step in steps.items()]])
    told = f"; {note}" if note else ""
    return Plot(figure, data, f"live memories per user over effective time{told}")


def _largest(table: pa.Table) -> list[str]:
    counts = pc.value_counts(table["uid"].cast(pa.string())).to_pylist()
    return [pair["values"] for pair in sorted(counts, key=lambda p: (-p["counts"], p["values"]))[:MOST_USERS]]


def _steps(table: pa.Table) -> tuple[Any, Any]:
    """The moments at which the number of live memories changes, and the numbers."""
    op = table["op"].cast(pa.string())
    sets, gone = (pc.equal(op, name).to_numpy() for name in ("insert", "delete"))
    if set(FIELDS) <= set(table.column_names):
        whole = pc.equal(op, "update").to_numpy()
        for name in FIELDS:
            whole &= pc.is_valid(table[name]).to_numpy()
        sets |= whole
    rows = np.flatnonzero(sets | gone)
    ids = pc.dictionary_encode(table["id"].take(pa.array(rows))).combine_chunks()
    codes = ids.indices.to_numpy() if len(rows) else np.zeros(0, np.int32)
    order = np.argsort(codes, kind="stable")
    alive = sets[rows][order]
    same = np.concatenate([[False], codes[order][1:] == codes[order][:-1]]) if len(rows) else np.zeros(0, bool)
    before = np.concatenate([[False], alive[:-1]]) & same if len(rows) else same
    change = np.zeros(len(rows), np.int64)
    change[order] = alive.astype(np.int64) - before
    turns = np.flatnonzero(change)
    return moments(table["effective_ts"])[rows[turns]], np.cumsum(change)[turns]


def _draw(axes: Any, steps: dict[str, tuple[Any, Any]]) -> str:
    """The lines and their names; what is said of moments that are not drawn."""
    found = [moment for moment, _ in steps.values()]
    shown, note = near_moments(np.concatenate([np.zeros(0, _TIME), *found]))
    kept = np.split(shown, np.cumsum([len(moment) for moment in found])[:-1])
    drawn = np.concatenate([np.zeros(0, _TIME), *(moment[rows] for moment, rows in zip(found, kept))])
    last = frame_lines(axes, drawn)
    ends = []
    for index, ((uid, (moment, live)), rows) in enumerate(zip(steps.items(), kept)):
        colour = COLOURS[index % len(COLOURS)]
        if rows.any():
            moment, live = np.append(moment[rows], last), live[rows]
            axes.step(moment, np.append(live, live[-1]), where="post", color=colour, linewidth=1.6)
            ends.append((last, live[-1], f"{plain(uid, 16)} {live[-1]:,}", colour))
    set_height(axes)
    axes.yaxis.get_major_locator().set_params(integer=True)
    label_ends(axes, ends)
    return note


def _table(uid: str, moment: Any, live: Any) -> pa.Table:
    columns = [pa.array([uid] * len(live), pa.string()), pa.array(moment.astype(np.int64)).cast(_SCHEMA.types[1])]
    return pa.Table.from_arrays([*columns, pa.array(live, pa.int64())], schema=_SCHEMA)
