"""What a trace gives checkpoints to write, made ready once for all policies."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from meshlab.growth.calibration import Costs
from meshlab.growth.disk import Segments
from meshlab.growth.distinct import Distinct
from meshlab.growth.lives import Lives
from meshlab.growth.sizes import Sizes
from meshlab.growth.trace import Trace
from meshlab.snapshot.contents import LEAST
from meshlab.snapshot.stack import STRETCH

_EVENT_BYTES = 280
"""Arrow bytes of an event beside its content, about."""

_READ = 16 << 20
"""Bytes of log that are read at once: only between two such pieces a stretch ends."""


class Material:
    """The records, tombstones and contents that stretches of one trace leave.

    A stretch is events ``[start, stop)`` that are folded into one layer; ``stops`` are
    where stretches end that follow each other from the first event on.
    """

    def __init__(self, found: Trace, sizes: Sizes, costs: Costs) -> None:
        self.trace = found
        told = Lives(found)
        contents = told.content
        self._records = Distinct(told, [told.alive.astype(np.uint8), sizes.content_bytes(contents) * told.alive])
        self._deaths = told.deaths()
        self._texts = _Texts(told)
        self.segments = Segments.of(found)
        self._orphans = _counted(told.in_log_order(told.orphans))
        self._ranges = _counted(np.append(True, found.day[1:] != found.day[:-1])[: len(found)])
        self._untold = _counted(told.in_log_order(told.first & told.alive_before))
        self._arrow = np.append(0, np.cumsum(found.content + np.int64(_EVENT_BYTES)))
        steps = costs.log(1, found.content)
        self.seconds = np.append(0.0, np.cumsum(steps))
        """Seconds that folding the events before each takes."""

    @property
    def first_records(self) -> int:
        """Records that lived before the trace."""
        return self.trace.before + int(self._untold[-1])

    def changed(self, start: int, stop: int) -> tuple[int, float]:
        """The records that a stretch touched and that live behind it, and what their contents take in a layer."""
        count, contents = self._records.over(start, stop)
        return int(count), float(contents)

    def alive(self, stop: int) -> tuple[int, float]:
        """All records that live at a point, and what their contents take, as far as they are known."""
        count, contents = self._records.upto(stop)
        before = self.trace.before + int(self._untold[-1] - self._untold[stop])
        return int(count) + before, float(contents)

    def tombstones(self, stops: Any) -> Tombstones:
        """The tombstones that stretches write."""
        deaths, births, revivals = self._deaths
        within = np.searchsorted(stops, deaths, side="right")
        known = within < len(stops)
        deaths, births, revivals, within = (values[known] for values in (deaths, births, revivals, within))
        starts = np.append(0, stops)[within]
        written = (births < starts) & (revivals >= stops[within])
        return Tombstones(deaths[written], revivals[written])

    def texts(self, stops: Any) -> tuple[Any, Any]:
        """Per stretch, how many long contents are new to the layers, and their bytes."""
        return self._texts.written(stops)

    def orphans(self, stop: int) -> int:
        """Orphans before a point."""
        return int(self._orphans[stop])

    def ranges(self, stop: int) -> int:
        """Ranges of segments that make up the log before a point."""
        return int(self._ranges[stop])

    def stretches(self, stops: Any) -> tuple[Any, Any]:
        """The stretches that checkpoints at some points fold, and how many of them come before each checkpoint ends."""
        found: list[int] = []
        counts = []
        for start, stop in zip(np.append(0, stops[:-1]).tolist(), stops.tolist()):
            found += [*self._cuts(start, stop), stop]
            counts.append(len(found))
        return np.array(found, np.int64), np.array(counts, np.int64)

    def _cuts(self, start: int, stop: int) -> list[int]:
        """Where a checkpoint has so much in memory that it writes a layer before it goes on."""
        cuts: list[int] = []
        if self._arrow[stop] - self._arrow[start] < STRETCH:
            return cuts
        ends = self.trace.ends
        for nbytes in range(int(ends[start]) + _READ, int(ends[stop]), _READ):
            at = int(np.searchsorted(ends, nbytes, side="right")) - 1
            if self._arrow[at] - self._arrow[cuts[-1] if cuts else start] >= STRETCH:
                cuts.append(at)
        return cuts


class Tombstones(NamedTuple):
    """Events that led to a tombstone in their layer, and where each of those records lives again."""

    events: Any
    revivals: Any

    def within(self, start: int, stop: int) -> int:
        """Tombstones that a layer of the events ``[start, stop)`` holds, be it merged from several."""
        low, high = np.searchsorted(self.events, (start, stop))
        return int(np.count_nonzero(self.revivals[low:high] >= stop))


class _Texts:
    """Long contents: the events that gave them, until which event their record had them, and which are the same."""

    def __init__(self, told: Lives) -> None:
        found = told.trace
        gives = np.flatnonzero(told.decides & told.alive & (found.content[told.order] >= LEAST))
        gives = gives[np.argsort(told.order[gives])]
        events, until = told.order[gives], told.until(told.decides)[gives]
        keys = found.key[events]
        by_key = np.argsort(keys, kind="stable")
        same = keys[by_key][1:] == keys[by_key][:-1]
        repeated = np.append(same, False) | np.append(False, same) if len(keys) else np.zeros(0, bool)
        several = by_key[repeated]
        single = np.ones(len(events), bool)
        single[several] = False
        self._single = events[single], until[single], found.content[events[single]].astype(np.int64)
        self._several = events[several], until[several], found.content[events[several]].astype(np.int64)
        self._keys = keys[several]

    def written(self, stops: Any) -> tuple[Any, Any]:
        """Per stretch, the contents that a record still has behind it and that no stretch before it wrote."""
        counts = np.zeros(len(stops) + 1, np.int64)
        nbytes = np.zeros(len(stops) + 1, np.int64)
        for (_, _, sizes), (within, kept) in ((self._single, self._kept(self._single, stops)), self._first(stops)):
            counts += np.bincount(within[kept], minlength=len(counts))
            nbytes += np.bincount(within[kept], sizes[kept], len(counts)).astype(np.int64)
        return counts[:-1], nbytes[:-1]

    def _kept(self, texts: tuple[Any, Any, Any], stops: Any) -> tuple[Any, Any]:
        """In which stretch each content was given, and which of them their record has behind it."""
        events, until, _ = texts
        within = np.searchsorted(stops, events, side="right")
        return within, until >= np.append(stops, len(stops) and stops[-1])[within]

    def _first(self, stops: Any) -> tuple[tuple[Any, Any, Any], tuple[Any, Any]]:
        """The same for contents that were given more than once: of those that are kept, the first of each."""
        within, kept = self._kept(self._several, stops)
        rows = np.flatnonzero(kept)
        again = self._keys[rows][1:] == self._keys[rows][:-1]
        kept[rows[1:][again]] = False
        return self._several, (within, kept)


def _counted(marks: Any) -> Any:
    """How many marks stand before each place, and before the end."""
    return np.append(0, np.cumsum(marks, dtype=np.int64))
