"""All restorable moments of a user in a row of stops: one behind every event that can be reached.

Where the log has a hole, a chapter ends, and the next begins at the first checkpoint
behind it.  A user without holes has one chapter.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from meshlab.errors import NotRestorable
from meshlab.plan import Planner, Span
from meshlab.replay import steadily
from meshlab.store import UserStore
from meshlab.wal.chain import LONG_AGO
from meshlab.wal.paths import existing_user
from meshlab.widgets.lookup import Lookup


class Chapter(NamedTuple):
    """Places ``first`` to ``last`` of a lookup, both restorable, and why there is no more behind the last."""

    lookup: Lookup
    first: int
    last: int
    hole: str


class Stop(NamedTuple):
    """A place in a chapter: the moment (µs, None before everything), and the last event, empty where it starts."""

    chapter: Chapter
    place: int
    moment: int | None
    lsn: str

    @property
    def name(self) -> str:
        """Where it is: the place of the last event, or what the chapter starts from."""
        return self.lsn or self.chapter.lookup.start.name


class Chapters:
    """The stops of a user, oldest first: one before the first event, one behind each event.

    Reads the log and the snapshots once.  Memory: the events, without long contents.
    Raises ``NotFound``, ``NotRestorable``, and what reading a log raises.
    """

    def __init__(self, user: UserStore, *, progress: bool = True) -> None:
        root = existing_user(user.store.path, user.uid)
        self.chapters = steadily(root, lambda: list(_chapters(Planner(root, user.uid), progress)))
        if not self.chapters:
            raise NotRestorable(f"no moment of {user.uid} can be restored", hint="'meshlab windows' tells why")
        sizes = [chapter.last - chapter.first + 1 for chapter in self.chapters]
        self._firsts = [0, *np.cumsum(sizes).tolist()]

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def __getitem__(self, index: int) -> Stop:
        number = bisect_right(self._firsts, index) - 1
        chapter = self.chapters[number]
        place = chapter.first + index - self._firsts[number]
        event, since = chapter.lookup.event(place), chapter.lookup.start.since
        moment = since if event is None else int(chapter.lookup.effective[place - 1])
        if event is None or moment < since:  # of a snapshot that is younger than the log's first days
            return Stop(chapter, place, None if since == LONG_AGO else since, "")
        return Stop(chapter, place, moment, f"{event['segment']}:{event['offset']}")

    def at(self, moment: int) -> int:
        """The last stop at or before a moment (µs), the first one when there is none."""
        found = 0
        for chapter, first in zip(self.chapters, self._firsts):
            place = int(np.searchsorted(chapter.lookup.effective, moment, side="right"))
            if place >= chapter.first and chapter.lookup.start.since <= moment:
                found = first + min(place, chapter.last) - chapter.first
        return found

    @property
    def damage(self) -> int:
        """Rejects and findings in what was read that are damage: all but torn tails."""
        kinds = (kind for chapter in self.chapters for kind in chapter.lookup.rejects["class"].to_pylist())
        return sum(kind != "torn" for kind in kinds)


def _chapters(planner: Planner, progress: bool) -> Iterator[Chapter]:
    reached = LONG_AGO - 1
    for span in planner.spans():
        if span.end is not None and span.end <= reached:
            continue
        yield _chapter(planner, span, reached, progress)
        if span.end is None:
            return
        reached = span.end


def _chapter(planner: Planner, span: Span, reached: int, progress: bool) -> Chapter:
    """What a span adds to the moments that were reached before it."""
    start, line = span.start, planner.line
    lookup = Lookup(planner.uid, start, line.pieces(start, line.missing(start)), progress=progress)
    since = max(span.since, reached)
    first = 0 if since <= LONG_AGO else int(np.searchsorted(lookup.effective, since, side="right"))
    last = len(lookup) if span.end is None else int(np.searchsorted(lookup.effective, span.end, side="right"))
    return Chapter(lookup, min(first, last), last, span.reason)
