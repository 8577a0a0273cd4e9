"""ReplayExplorer: the memories of a user at any moment, by a slider.

>>> from meshlab.testing import build_log
>>> import tempfile, meshlab
>>> user = meshlab.open(tempfile.mkdtemp())["ann"]
>>> _ = build_log([[{"Insert": {"id": "a"}}], [{"Insert": {"id": "b"}}], [{"Delete": "a"}]]).write(user.root)
>>> explorer = ReplayExplorer(user)
>>> explorer
<ReplayExplorer of ann: behind event 3 of 3, 1 memory live>
>>> explorer.slider.value = 2
>>> explorer
<ReplayExplorer of ann: behind event 2 of 3, 2 memories live>
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets
import numpy as np
import pyarrow as pa

from meshlab.diff import ADDED, CHANGED, REMOVED, compare
from meshlab.markup import Marked, headline, short, table
from meshlab.plots.life import plot_life
from meshlab.store import UserStore
from meshlab.tables.load import Moment, micros
from meshlab.times import format_time
from meshlab.widgets.chapters import Chapters, Stop
from meshlab.widgets.lookup import Changes
from meshlab.widgets.panel import Panel, guarded, line, picture, put, shown
from meshlab.widgets.strip import Strip
from meshlab.wording import counted

ROWS = 8
"""Memories and changes shown."""

_FIELDS = ("amplitude", "stability", "access_count", "vault_status", "content")
_LONGEST, _LONGEST_ID = 38, 20
"""Characters of a text and of an id in a table: rows of one line."""

_PLAYED = 100
"""Steps in which everything is played."""


class ReplayExplorer(Panel):
    """The memories of a user behind any event that can be restored.

    The slider goes from event to event: by mouse, by its arrow keys, by the buttons, or
    played.  Shown are the memories an event touched last, what differs from the stop
    before, and the life of one memory.  The log is read once, when the explorer is made;
    ``read`` reads it again.  Whatever goes wrong is a message in the panel.
    """

    def __init__(self, user: UserStore) -> None:
        super().__init__()
        self.user = user
        self.stops: Chapters | None = None
        self._stop: Stop | None = None
        self._strip: Strip | None = None
        self._busy = False
        self._make_controls()
        self.read()

    def _make_controls(self) -> None:
        wide = widgets.Layout(width="100%")
        self.slider = widgets.IntSlider(description="event", min=0, max=0, readout_format=",d", layout=wide)
        self.play = widgets.Play(interval=400, tooltip="play")
        self.back = widgets.Button(icon="step-backward", tooltip="one event back", layout={"width": "40px"})
        self.forward = widgets.Button(icon="step-forward", tooltip="one event on", layout={"width": "40px"})
        self.again = widgets.Button(icon="refresh", tooltip="read the log again", layout={"width": "40px"})
        self.memory = widgets.Dropdown(description="memory", options=[])
        self.place, self.state, self.changes = shown("place"), shown("state"), shown("changes")
        self.life = picture("life")
        widgets.jslink((self.play, "value"), (self.slider, "value"))
        self.slider.observe(self._on_move, "value")
        self.memory.observe(self._on_choose, "value")
        self.back.on_click(lambda _: self._step(-1))
        self.forward.on_click(lambda _: self._step(1))
        self.again.on_click(lambda _: self.read())
        keys = widgets.HBox([self.play, self.back, self.forward, self.slider, self.again])
        self.ui = widgets.VBox([self.message, keys, self.place, self.state, self.changes, self.memory, self.life])

    @guarded
    def read(self) -> None:
        """Read the log and stand behind its last event."""
        self.stops, self._stop, self._strip = None, None, None
        self._enable(False)
        for part in (self.place, self.state, self.changes):
            part.value = ""
        put(self.life, b"")
        self.stops = Chapters(self.user)
        last = len(self.stops) - 1
        with self._held():
            self.slider.max = self.play.max = last
            self.slider.value = self.play.value = last
        self.play.step = max(1, last // _PLAYED)
        self._enable(last > 0)
        self._move()

    def go_to(self, at: Moment) -> None:
        """Stand behind the last event at or before a moment (a datetime, RFC 3339 text or µs since 1970)."""
        moment = micros(at, "the moment")
        if self.stops is not None and moment is not None:
            self.slider.value = self.stops.at(moment)

    def look_at(self, id: str) -> None:
        """Show the life of a memory."""
        self._offer([id, *(known for _, known in self.memory.options)], id)
        self._draw_life()

    def to_png(self) -> bytes | None:
        """The life of the memory chosen."""
        return self.life.value or None

    def __repr__(self) -> str:
        stop = self._stop
        if stop is None:
            return f"<ReplayExplorer of {self.user.uid}: nothing to show>"
        live = counted(stop.chapter.lookup.live(stop.place), "memory", "memories")
        return f"<ReplayExplorer of {self.user.uid}: {self._count(stop)}, {live} live>"

    # What controls call

    @guarded
    def _on_move(self, _: Any) -> None:
        if not self._busy:
            self._move()

    @guarded
    def _on_choose(self, _: Any) -> None:
        if not self._busy:
            self._draw_life()

    def _step(self, by: int) -> None:
        self.slider.value = min(max(self.slider.value + by, 0), self.slider.max)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Let no control answer while several are set."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _enable(self, on: bool) -> None:
        for control in (self.slider, self.play, self.back, self.forward, self.memory):
            control.disabled = not on

    # Moving

    def _move(self) -> None:
        """Show the stop the slider is at."""
        assert self.stops is not None
        before, stop = self._stop, self.stops[self.slider.value]
        self._stop = stop
        lookup = stop.chapter.lookup
        latest = lookup.latest(stop.place, ROWS)
        same = before is not None and before.chapter is stop.chapter
        changes = lookup.changes(before.place, stop.place) if before is not None and same else None
        codes = latest if changes is None else pick(latest, changes.codes[:ROWS])
        after = lookup.records(codes, stop.place)
        was = after if before is None or not same else lookup.records(codes, before.place)
        rows = compare(was, after)[0].to_pylist()
        self.place.value = self._place_line(stop)
        self.state.value = _state_table(after.slice(0, len(latest)), rows, lookup.live(stop.place))
        self.changes.value = _changes_table(before, changes, rows)
        self._tell(stop)
        self._offer(after["id"].slice(0, len(latest)).to_pylist(), self.memory.value)
        self._draw_line()

    def _place_line(self, stop: Stop) -> str:
        moment = "before the first event" if stop.moment is None else format_time(stop.moment)
        event = stop.chapter.lookup.event(stop.place)
        told = (
            f", {stop.name}"
            if event is None
            else f", {event['op']} {short(event['id'] or '', _LONGEST_ID)} at {stop.name}"
        )
        return line(f"{moment}, {self._count(stop)}{told}")

    def _count(self, stop: Stop) -> str:
        return f"behind event {stop.place:,} of {len(stop.chapter.lookup):,}"

    def _tell(self, stop: Stop) -> None:
        assert self.stops is not None
        told = []
        if not any(len(chapter.lookup) for chapter in self.stops.chapters):
            told.append(f"{self.user.uid} has no events yet")
        if self.stops.damage:
            told.append(f"{self.stops.damage:,} damaged or missing pieces in the log: 'verify' tells which")
        if stop.place == stop.chapter.last and stop.chapter.hole:
            told.append(f"what comes next cannot be restored: {stop.chapter.hole}")
        self.say(*told)

    # The life of one memory

    def _offer(self, ids: list[str], chosen: str | None) -> None:
        """Let a memory be chosen, of those shown and the one that is."""
        ids = list(dict.fromkeys(ids if chosen is None else [*ids, chosen]))
        options = list(zip(_labels(ids), ids))
        if tuple(self.memory.options) == tuple(options):
            return
        with self._held():
            self.memory.options = options
            self.memory.value = chosen if chosen is not None else ids[0] if ids else None
        if chosen is None and ids:
            self._draw_life()

    def _draw_life(self) -> None:
        stop, id = self._stop, self.memory.value
        events = None if stop is None or id is None else stop.chapter.lookup.life(id)
        self._strip = Strip(plot_life(events, id)) if events is not None and events.num_rows else None
        self._draw_line()

    def _draw_line(self) -> None:
        moment = self._stop.moment if self._stop is not None else None
        put(self.life, self._strip.at(moment) if self._strip is not None else b"")


def _labels(ids: list[str]) -> list[str]:
    """The ids in brief; those that are alike in brief are numbered."""
    seen: dict[str, int] = {}
    labels = []
    for id in ids:
        label = short(id, 60)
        seen[label] = seen.get(label, 0) + 1
        labels.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return labels


def pick(first: Any, more: Any) -> Any:
    """Codes, and behind them those of others that are not among them."""
    return np.concatenate([first, more[~np.isin(more, first)]])


def _state_table(records: pa.Table, rows: list[dict[str, Any]], live: int) -> str:
    """The memories, with what has just changed standing out."""
    changed = {(row["id"], row["field"]) for row in rows}
    cells = [
        [short(record["id"], _LONGEST_ID), *(_cell(record[name], (record["id"], name) in changed) for name in _FIELDS)]
        for record in records.select(["id", *_FIELDS]).to_pylist()
    ]
    told = f"{counted(live, 'memory', 'memories')} live, those touched last:"
    return headline("State", told=told) + table(("id", *_FIELDS), cells)


def _cell(value: Any, changed: bool) -> str | None:
    if value is None:
        return None
    text = f"{value:.6g}" if isinstance(value, float) else short(str(value), _LONGEST)
    return Marked(text) if changed else text


def _changes_table(before: Stop | None, changes: Changes | None, rows: list[dict[str, Any]]) -> str:
    """What differs from the stop before: counts, and the latest of them."""
    if before is None:
        return headline("Changed", told="nothing yet; move the slider")
    when = "the beginning" if before.moment is None else format_time(before.moment)
    if changes is None:
        return headline("Changed", told=f"unknown: there is a hole in the log since the last stop, {when}")
    told = ", ".join(f"{count:,} {name}" for count, name in zip(changes, (ADDED, REMOVED, CHANGED)) if count)
    cells = [_change_cells(row) for row in _one_per_whole(rows)][:ROWS]
    return headline("Changed", told=f"{told or 'nothing'} since the last stop, {when}") + table(
        ("id", "change", "field", "before", "after"), cells
    )


def _change_cells(row: dict[str, Any]) -> list[str]:
    values = [short(row[name] or "", _LONGEST) for name in ("before", "after")]
    return [short(row["id"], _LONGEST_ID), row["change"], row["field"] or "", *values]


def _one_per_whole(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows of a diff; of a memory that came or went only its content."""
    seen = set()
    for row in rows:
        if row["change"] == CHANGED:
            yield row
        elif row["id"] not in seen:
            seen.add(row["id"])
            yield next(
                (one for one in rows if one["id"] == row["id"] and one["field"] == "content"),
                {**row, "field": None, "before": None, "after": None},
            )
