"""Which moments can be restored, and how: one computation answers both.

A moment can be restored from a start at or before it when every step between can be
read; see ``timeline``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from meshlab.errors import NotRestorable, SnapshotError, storage_errors
from meshlab.tables.load import Moment, Piece, micros
from meshlab.timeline import Start, Step, Timeline
from meshlab.times import format_time, from_datetime, to_datetime
from meshlab.wal.chain import LONG_AGO
from meshlab.wal.paths import segment_name

_LSN = re.compile(r"(\d{8}):(\d+)", re.ASCII)
_LONGEST = 64 << 20
"""Bytes of the longest line that is looked at to see whether a checkpoint ends with it."""


class Lsn(NamedTuple):
    """A place in the log: the line that begins at an offset of a segment."""

    segment: str
    offset: int

    def __str__(self) -> str:
        return f"{self.segment}:{self.offset}"


class Window(NamedTuple):
    """Moments that can be restored, from ``start`` to ``end``, both included.

    ``start`` is None where the log begins, ``end`` is None where it goes on.  ``source``
    is what the earliest of them are restored from, ``generations`` are the checkpoints
    inside.  The holes say why moments before and after are not restorable, None where
    there are none.
    """

    start: datetime | None
    end: datetime | None
    source: str
    generations: tuple[int, ...] = ()
    hole_before: str | None = None
    hole_after: str | None = None


class Plan(NamedTuple):
    """How to restore a state: fold ``pieces`` over a start.

    Up to the effective time ``until`` (µs) or the line ``last``, inclusive; None: all.
    """

    start: Start
    pieces: tuple[Piece, ...]
    until: int | None = None
    last: Lsn | None = None


class Span(NamedTuple):
    """What is restorable from one start: moments from ``since`` to ``end`` (None: now), and why no more."""

    since: int
    end: int | None
    start: Start
    reason: str


class Planner:
    """Answers for one user, from one look at the log and the snapshots; see ``Timeline``.

    ``line`` is that look, when it was made elsewhere.
    """

    def __init__(self, root: Path, uid: str, *, past: bool = True, line: Timeline | None = None) -> None:
        self.line = Timeline(root, uid, past=past) if line is None else line
        self.uid = uid
        self._past = past

    def span(self, start: Start) -> Span | None:
        """What can be restored from a start; None when it is no single moment."""
        index = self.line.missing(start)
        if index is None:
            return Span(start.since, None, start, "")
        if self._leads_nowhere(start):
            return None
        end = self._moment_before(index, start)
        return Span(start.since, end, start, self.line.problem(index)) if end >= start.since else None

    def _leads_nowhere(self, start: Start) -> bool:
        """Whether only that there was nothing before the first event is known from a start."""
        return start.since == LONG_AGO and self.line.missing(start, start.place + 1) is not None

    def _moment_before(self, index: int, start: Start) -> int:
        """The last moment that a missing step has no part in.

        When nobody knows where the step begins, an event of it may be of the very moment
        of the one before.  Of what no checkpoint has folded it is not known that there
        was anything at all.
        """
        step = self.line.steps[index]
        if step.first is not None:
            return step.first - 1
        ends = (known.end for known in reversed(self.line.steps[start.place : index]) if known.end is not None)
        before = next(ends, start.cursor.effective)
        return before if step.folded is None else before - 1

    def spans(self) -> list[Span]:
        """What can be restored, from every start that can be read; by their moments."""
        usable = [start for start in self.line.starts if not start.problem]
        spans = [span for start in usable if (span := self.span(start)) is not None]
        return sorted(spans, key=lambda span: span.since)

    # Answers

    def windows(self) -> list[Window]:
        """The intervals of restorable moments, oldest first, and why there are holes."""
        windows: list[Window] = []
        groups: list[list[Span]] = []
        for span in self.spans():
            end = _end_of(groups[-1]) if groups else None
            if groups and (end is None or span.since <= end + 1):
                groups[-1].append(span)
            else:
                groups.append([span])
        for group in groups:
            end = _end_of(group)
            reason = next((span.reason for span in group if span.end == end), "")
            before = windows[-1].hole_after if windows else self._nothing_before(group[0])
            after = None if end is None else "; ".join(dict.fromkeys([reason, *self._unusable_after(end)]))
            generations = tuple(sorted({span.start.generation for span in group} - {0}))
            windows.append(Window(_shown(group[0].since), _shown(end), group[0].start.name, generations, before, after))
        return windows

    def _nothing_before(self, first: Span) -> str | None:
        if first.since == LONG_AGO:
            return None
        reasons = [start.problem for start in self.line.starts if start.place < first.start.place and start.problem]
        reasons += [self.line.problem(index) for index in range(first.start.place) if self.line.problem(index)][:1]
        reasons += [entry.problem for entry in self.line.entries if entry.problem]
        if first.since != first.start.cursor.effective:
            began = first.start.name if first.start.path is not None else "what the user began with"
            reasons.append(f"{began} is of {format_time(first.since)}")
        return "; ".join(dict.fromkeys(reasons)) or "no earlier snapshot is kept"

    def _unusable_after(self, moment: int) -> list[str]:
        """Why starts behind a moment cannot be used."""
        problems = [start.problem for start in self.line.starts if start.problem and start.since > moment]
        problems += [entry.problem for entry in self.line.entries if entry.problem]
        return problems + ([self.line.broken.message] if self.line.broken is not None else [])

    def plan(self, at: int | Lsn | None = None) -> Plan:
        """How to restore the state at a moment (µs), behind a line, or (None) after the last event.

        Raises ``NotRestorable`` with the nearest moments that can be, and for the state of
        now ``SnapshotError`` when the snapshot in force cannot be used.
        """
        if at is None:
            return self._plan_now()
        return self._plan_line(at) if isinstance(at, Lsn) else self._plan_moment(at)

    def _plan_now(self) -> Plan:
        if self.line.broken is not None:
            raise SnapshotError(self.line.broken.message, hint=self._still())
        start = self.line.starts[-1]
        if start.path is None and start.problem:
            raise SnapshotError(start.problem, hint=self._still())
        index = self.line.missing(start)
        if index is not None:
            raise NotRestorable(
                f"the state of {self.uid} after the last event cannot be restored: {self.line.problem(index)}",
                hint=self._still(),
            )
        return Plan(start, self.line.pieces(start))

    def _plan_moment(self, moment: int) -> Plan:
        for start in reversed(self.line.starts):
            if start.since > moment or start.problem or self._leads_nowhere(start):
                continue
            stop = self._first_after(moment, start)
            index = self.line.missing(start, stop)
            if index is not None and self._moment_before(index, start) < moment:
                break
            pieces = self.line.pieces(start, stop if index is None else index)
            return Plan(start, pieces, until=moment)
        raise self._refusal(moment)

    def _first_after(self, moment: int, start: Start) -> int:
        """The first step known to begin after a moment."""
        for index in range(start.place, len(self.line.steps)):
            first = self.line.steps[index].first
            if first is not None and first > moment:
                return index
        return len(self.line.steps)

    def _plan_line(self, lsn: Lsn) -> Plan:
        index = next((i for i, step in enumerate(self.line.steps) if _holds(step, lsn) and not step.gone), None)
        if index is None:
            raise NotRestorable(f"there is no place {lsn} in the log of {self.uid}", hint=self._still())
        for start in reversed(self.line.starts):
            at_end = start.place == index + 1 and self._ends_with(index, lsn)
            if (start.place > index and not at_end) or start.problem:
                continue
            gap = self.line.missing(start, index + 1)
            if gap is not None:
                raise NotRestorable(
                    f"the state at {lsn} cannot be restored: {self.line.problem(gap)}", hint=self._still()
                )
            return Plan(start, self.line.pieces(start, index + 1), last=lsn)
        raise NotRestorable(f"no snapshot before {lsn} of {self.uid} can be used", hint=self._still())

    def _ends_with(self, index: int, lsn: Lsn) -> bool:
        """Whether a step ends with the line that begins at a place."""
        stop = self.line.steps[index].piece.stop
        if stop is None or stop - lsn.offset > _LONGEST or self.line.problem(index):
            return False
        path = self.line.root / segment_name(lsn.segment)
        with storage_errors("read", path), open(path, "rb") as file:
            return b"\n" not in os.pread(file.fileno(), stop - lsn.offset, lsn.offset)[:-1]

    def _refusal(self, moment: int) -> NotRestorable:
        """The error that says why a moment cannot be restored, and which are nearest to it."""
        windows = self.windows()
        asked = _shown(moment)
        assert asked is not None
        before = [window for window in windows if window.end is not None and window.end < asked]
        after = [window for window in windows if window.start is not None and window.start > asked]
        reason = before[-1].hole_after if before else after[0].hole_before if after else "no snapshot can be used"
        nearest = [f"{_text(w.end)} before it" for w in before[-1:]] + [f"{_text(w.start)} after it" for w in after[:1]]
        return NotRestorable(
            f"the state of {self.uid} at {format_time(moment)} cannot be restored: {reason}",
            hint=f"the nearest moments that can be: {', '.join(nearest)}" if nearest else None,
        )

    def _still(self) -> str:
        """What can be restored, as a hint."""
        whole = self if self._past else Planner(self.line.root, self.uid)
        told = [f"{_text(window.start, 'its beginning')} to {_text(window.end)}" for window in whole.windows()]
        return f"restorable are the moments from {'; from '.join(told)}" if told else "no moment can be restored"


def moment_of(at: Moment | Lsn | None) -> int | Lsn | None:
    """A moment (datetime, RFC 3339 text, µs) or a place (``20250707:1234``) in the form planners take.

    >>> moment_of("20250707:1234"), moment_of("2025-07-07T08:00:00Z")
    (Lsn(segment='20250707', offset=1234), 1751875200000000)
    """
    if isinstance(at, Lsn):
        return at
    if isinstance(at, str) and (match := _LSN.fullmatch(at)):
        return Lsn(match[1], int(match[2]))
    return micros(at, "the moment")


def _holds(step: Step, lsn: Lsn) -> bool:
    piece = step.piece
    return (
        piece.segment == lsn.segment and piece.start <= lsn.offset and (piece.stop is None or lsn.offset < piece.stop)
    )


def _end_of(group: Sequence[Span]) -> int | None:
    """The last moment of some spans; None when it is now."""
    ends = [span.end for span in group]
    return None if None in ends else max(end for end in ends if end is not None)


def _shown(moment: int | None) -> datetime | None:
    """A moment as people read it; None for now and for the beginning."""
    return None if moment is None or moment == LONG_AGO else to_datetime(moment)


def _text(moment: datetime | None, none: str = "now") -> str:
    return none if moment is None else format_time(from_datetime(moment))
