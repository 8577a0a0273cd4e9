"""Reading a user's log: segment by segment, in stretches, in constant memory.

``scan_segment`` yields blocks of events; what is no event stands in ``rejects``.  The
class of a run of unreadable bytes depends on what follows it in the whole log, so
``resolve`` gives the final classes when all segments have been read.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from meshlab.errors import storage_errors
from meshlab.jsontext import NotJson, parse_json
from meshlab.wal.chain import LONG_AGO, MIDDLE, ORIGIN, UNKNOWN, Cursor
from meshlab.wal.classify import Classified, classify
from meshlab.wal.files import open_regular
from meshlab.wal.frame import LINE_START, MAX_FRAME, SUM_ENDING, SUM_KEY, ends_as_member, is_member, read_tail
from meshlab.wal.gather import Stretch, is_utf8
from meshlab.wal.lines import PAD, Block, Claim, Digests, Reject, md5_digests
from meshlab.wal.paths import LOCK, segment_name

__all__ = [
    "LONG_AGO",
    "MIDDLE",
    "ORIGIN",
    "UNKNOWN",
    "Cursor",
    "Part",
    "SegmentScan",
    "Tally",
    "resolve",
    "scan_segment",
    "settled_ends",
    "tail_run",
    "total",
]

Opener = Callable[[Any, int], int]
"""Opens a file for reading; returns a descriptor."""

CHUNK = 16 << 20
_KEPT = 64 << 10
"""Bytes of a ``too-long`` line that a reject keeps."""


class Tally(NamedTuple):
    """What a segment holds; the four byte counts after ``bytes`` add up to it.

    ``pieces`` counts the parts of fused lines beyond the first of each, so that
    ``events + rejects + blanks = lines + pieces``; the open tail is in neither.
    """

    segment: str
    bytes: int
    lines: int
    events: int
    event_bytes: int
    rejects: int
    reject_bytes: int
    blanks: int
    blank_bytes: int
    open_tail_bytes: int
    pieces: int


class Part(NamedTuple):
    """What a segment, or a piece of one, adds to the report on a log; rejects are not resolved yet.

    ``last_event`` is the offset of its last event, -1 when it has none; ``start`` is the
    offset it begins at.
    """

    tally: Tally
    rejects: list[Reject]
    claims: list[Claim]
    last_event: int
    start: int = 0

    @property
    def stop(self) -> int:
        """The offset it ends at."""
        return self.start + self.tally.bytes


@dataclass(slots=True)
class SegmentScan:
    """One pass over a segment or a piece of it: iterate for the blocks, then read ``part`` and ``end``.

    ``first`` is the effective time of its first event, None when it has none.
    """

    path: Path
    segment: str
    start: Cursor
    newest: bool
    digests: Digests
    chunk: int
    offset: int = 0
    stop: int | None = None
    line: int = 1
    opener: Opener = open_regular
    end: Cursor = ORIGIN
    rejects: list[Reject] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Tally._fields[1:], 0))
    last_event: int = -1
    first: int | None = None

    @property
    def part(self) -> Part:
        """What this segment adds to the log's report."""
        return Part(Tally(self.segment, **self.counts), self.rejects, self.claims, self.last_event, self.offset)

    def __iter__(self) -> Iterator[Block]:
        self.end = self.start
        with storage_errors("read", self.path), open(self.path, "rb", 0, opener=self.opener) as file:
            size = os.fstat(file.fileno()).st_size
            size = size if self.stop is None else min(size, self.stop)
            for stretch in self._stretches(file, size):
                yield self._take(classify(stretch, self.end, self.digests))
            if self.newest and self.stop is None:
                self._set_tail_aside(file, size)

    def _stretches(self, file: Any, size: int) -> Iterator[Stretch]:
        """Whole lines and whole frames, about ``chunk`` bytes at a time."""
        at, line = self.offset, self.line
        while at < size:
            data, cut = _read_whole(file, at, size, self.chunk)
            if cut == 0:
                at = self._skip_long_line(file, at, size, line)
                line += 1
                continue
            stretch = Stretch(self.segment, at, data, cut, line)
            yield stretch
            line = self.line + self.counts["lines"]
            at += cut
        self.counts["bytes"] = max(0, size - self.offset)

    def _take(self, result: Classified) -> Block:
        block, counts = result.block, self.counts
        self.end = result.end
        self.rejects += result.rejects
        self.claims += result.claims
        counts["lines"] += result.lines
        counts["pieces"] += result.pieces
        counts["blanks"] += result.blanks
        counts["blank_bytes"] += result.blank_bytes
        counts["events"] += len(block.start)
        counts["event_bytes"] += int(block.nbytes.sum())
        self._count_rejects(result.rejects)
        if len(block.start):
            self.first = int(block.effective[0]) if self.first is None else self.first
            self.last_event = block.base + int(block.start[-1])
        return block

    def _count_rejects(self, rejects: Sequence[Reject], sign: int = 1) -> None:
        self.counts["rejects"] += sign * sum(reject.nbytes > 0 for reject in rejects)
        self.counts["reject_bytes"] += sign * sum(reject.nbytes for reject in rejects)

    def _skip_long_line(self, file: Any, at: int, size: int, line: int) -> int:
        """Count a line longer than any frame without holding it; returns where it ends."""
        kept, nul, end = b"", True, at
        while end < size:
            data, count = _read(file, end, min(self.chunk, size - end))
            newlines = np.flatnonzero(data[:count] == 0x0A)
            taken = int(newlines[0]) + 1 if len(newlines) else count
            kept = kept or bytes(data[: min(taken, _KEPT)])
            nul = nul and not data[: taken - len(newlines[:1])].any()
            end += taken
            if len(newlines):
                break
        kind, reason = ("nul-run", "NUL bytes") if nul else ("too-long", f"longer than {MAX_FRAME} bytes")
        reject = Reject(self.segment, line, at, end - at, kind, reason, kept)
        self.rejects.append(reject)
        self.counts["lines"] += 1
        self._count_rejects([reject])
        return end

    def _set_tail_aside(self, file: Any, size: int) -> None:
        """Bytes a live writer has begun but not ended are no reject."""
        run = tail_run(self.rejects, size)
        if not run or not _is_being_written(self.path.parent / LOCK, file, size):
            return
        self._count_rejects(run, -1)
        begins_line = run[0].offset == self.offset or os.pread(file.fileno(), 1, run[0].offset - 1) == b"\n"
        lines = len({reject.line for reject in run}) - (not begins_line)
        self.counts["lines"] -= lines
        self.counts["pieces"] -= len(run) - lines
        self.counts["open_tail_bytes"] = sum(reject.nbytes for reject in run)
        aside = {reject.offset for reject in run}
        self.rejects = [reject for reject in self.rejects if not reject.nbytes or reject.offset not in aside]


def scan_segment(
    root: Path,
    day: str,
    start: Cursor = ORIGIN,
    *,
    newest: bool = False,
    digests: Digests = md5_digests,
    chunk: int = CHUNK,
    offset: int = 0,
    stop: int | None = None,
    line: int = 1,
    opener: Opener = open_regular,
) -> SegmentScan:
    """A pass over the segment of ``day``; nothing is read before it is iterated.

    ``start`` is where the log stands at the beginning of the segment; ``newest`` says
    that a writer may be at work at its end; ``digests`` computes the sums.

    With ``offset`` and ``stop`` only the bytes between are read, as if the segment began
    and ended there: a line, with the number ``line``, begins at the one and no frame
    crosses the other.  Places stay those in the file; only these bytes are counted.
    ``opener`` opens the file, as for ``open``.
    """
    path = root / segment_name(day)
    return SegmentScan(path, day, start, newest, digests, min(chunk, MAX_FRAME), offset, stop, line, opener)


def _read(file: Any, at: int, count: int) -> tuple[Any, int]:
    """Up to ``count`` bytes from ``at`` into a padded buffer, and how many came."""
    buffer: Any = np.empty(count + PAD, np.uint8)
    buffer[count:] = 0
    view, got = memoryview(buffer), 0
    while got < count:
        step = os.preadv(file.fileno(), [view[got:count]], at + got)
        if step == 0:
            buffer[got:] = 0
            break
        got += step
    return buffer, got


def _read_whole(file: Any, at: int, size: int, chunk: int) -> tuple[Any, int]:
    """Bytes from ``at`` and how many of them can be classified; 0 when not one line ends.

    Reads more than ``chunk`` only for a line or a frame that is longer.
    """
    while True:
        asked = min(chunk, size - at)
        data, count = _read(file, at, asked)
        cut = count if at + count >= size or count < asked else _cut(data, count)
        if cut or count >= MAX_FRAME:
            return data, cut
        chunk = min(2 * chunk, MAX_FRAME)


def _cut(data: Any, count: int) -> int:
    """Where the last line ends that belongs to no frame still open."""
    whole = end = _line_start(data, count)
    while end:
        start = _line_start(data, end - 1)
        if not ends_as_member(bytes(data[start:end])):
            return end
        end = start
    return whole if count >= MAX_FRAME else 0


def _line_start(data: Any, stop: int) -> int:
    """Behind the last newline before ``stop``, looking back in growing steps."""
    step = 4096
    while True:
        floor = max(0, stop - step)
        found = bytes(data[floor:stop]).rfind(b"\n")
        if found >= 0 or floor == 0:
            return floor + found + 1
        step *= 4


def tail_run(rejects: Sequence[Reject], size: int) -> list[Reject]:
    """The rejects at the very end of a segment that an interrupted write may have left.

    A whole frame that fails its sum is damage, and so is a whole line of anything else;
    a frame with NULs in it is unfinished: its pages did not all reach the disk.
    """
    run: list[Reject] = []
    solid = [reject for reject in rejects if reject.nbytes]
    for reject, nul_line in zip(reversed(solid), reversed(_nul_lines(solid)), strict=True):
        if reject.offset + reject.nbytes != size:
            break
        if not _is_unfinished(reject) and not _has_hole(reject, nul_line):
            break
        run.append(reject)
        size = reject.offset
    return run[::-1]


def settled_ends(parts: Iterable[Part]) -> dict[str, int]:
    """Per segment, the offset from which on a later pass must look.

    That is its end; of the newest, the start of what is unfinished there, for it may yet
    be finished.
    """
    ends: dict[str, int] = {}
    for part in sorted(parts, key=lambda part: (part.tally.segment, part.start)):
        ends[part.tally.segment] = part.stop
        last = part
    if ends:
        newest = last.stop - last.tally.open_tail_bytes
        run = tail_run(last.rejects, newest)
        ends[last.tally.segment] = run[0].offset if run else newest
    return ends


def _is_unfinished(reject: Reject) -> bool:
    if reject.kind == "nul-run":
        return True
    if reject.kind == "duplicate-frame" or reject.nbytes > len(reject.raw):
        return False
    if is_member(reject.raw):
        return True
    if reject.raw.endswith(b"\n"):
        return _is_cut_short(reject.raw.rstrip())
    return read_tail(reject.raw.rstrip()) is None


def _is_cut_short(line: bytes) -> bool:
    """Whether a line that begins like ours breaks off, with a newline by a recovery behind it.

    A whole line with a flipped bit still ends much like a sum; a cut one does not.
    """
    if not line.startswith(LINE_START[: len(line)]):
        return False
    ending = line[-SUM_ENDING:].rjust(SUM_ENDING)
    fixed = zip(SUM_KEY + b'"}', ending[: len(SUM_KEY)] + ending[-2:])
    return sum(told == found for told, found in fixed) < 5 and _breaks_off(line)


def _breaks_off(line: bytes) -> bool:
    try:
        parse_json(line)
    except NotJson as error:
        return "truncated" in str(error) or not is_utf8(memoryview(line))
    return False


def _nul_lines(solid: Sequence[Reject]) -> list[int]:
    """For each reject the line of the last NULs before it, -1 when there are none."""
    own = (reject.line if reject.kind == "nul-run" else -1 for reject in solid)
    return list(accumulate(own, max, initial=-1))[:-1]


def _has_hole(reject: Reject, nul_line: int) -> bool:
    """Whether NULs stand in the frame, or the line, that ends with this reject."""
    tail = read_tail(reject.raw.rstrip())
    return nul_line > max(reject.line - (tail.n if tail else 1), -1)


def _is_being_written(lock: Path, file: Any, size: int) -> bool:
    """Whether a writer holds the lock, or has written since ``size`` was taken."""
    try:
        fd = open_regular(lock, os.O_RDONLY)
    except OSError:
        return bool(os.fstat(file.fileno()).st_size != size)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return bool(os.fstat(file.fileno()).st_size != size)


def resolve(parts: Sequence[Part]) -> list[Reject]:
    """The rejects of a whole log with their final classes, in log order.

    A run of unreadable bytes is ``torn`` when a ``Recovered`` frame names exactly it, or
    when it is unfinished and nothing valid follows anywhere in the log.
    """
    torn = _claimed(parts)
    for part in reversed(_joined(parts)):
        end = part.stop - part.tally.open_tail_bytes
        torn |= {(reject.segment, reject.offset) for reject in tail_run(part.rejects, end)}
        if part.last_event >= 0 or any(reject.kind == "duplicate-frame" for reject in part.rejects):
            break
    return [
        reject._replace(kind="torn", reason=f"an unfinished write ({reject.kind}: {reject.reason})")
        if reject.nbytes and (reject.segment, reject.offset) in torn
        else reject
        for part in parts
        for reject in part.rejects
    ]


def _joined(parts: Sequence[Part]) -> list[Part]:
    """The parts, those made one that follow each other without a gap in one segment."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if last is not None and (last.tally.segment, last.stop) == (part.tally.segment, part.start):
            tally = total(last.tally, part.tally)
            joined[-1] = Part(tally, last.rejects + part.rejects, [], max(last.last_event, part.last_event), last.start)
        else:
            joined.append(part)
    return joined


def total(one: Tally, other: Tally) -> Tally:
    """The tally of two pieces of one segment."""
    return Tally(one.segment, *(a + b for a, b in zip(one[1:], other[1:], strict=True)))


def _claimed(parts: Sequence[Part]) -> set[tuple[str, int]]:
    """Segment and offset of the rejects that claims name."""
    claims = {claim for part in parts for claim in part.claims}
    named = {claim.segment for claim in claims}
    rejects = [r for part in parts for r in part.rejects if r.nbytes and r.segment in named]
    rejects.sort(key=lambda reject: (reject.segment, reject.offset))  # pieces need not stand together
    places = {(r.segment, r.offset): index for index, r in enumerate(rejects)}
    torn: set[tuple[str, int]] = set()
    digests: dict[tuple[str, int, int], str] = {}
    for claim in claims:
        run = _tiling(claim, rejects, places.get(claim[:2], len(rejects)))
        place = claim[:3]
        if run and place not in digests:  # bytes that several claims name are hashed once
            digests[place] = _md5(run, claim.nbytes)
        if run and digests[place] == claim.md5:
            torn |= {(r.segment, r.offset) for r in run}
    return torn


def _tiling(claim: Claim, rejects: list[Reject], first: int) -> list[Reject]:
    """The rejects from ``first`` on that tile exactly the bytes a claim names; empty when none do."""
    run: list[Reject] = []
    at, end = claim.offset, claim.offset + claim.nbytes
    for index in range(first, len(rejects)):
        reject = rejects[index]
        if at >= end or (reject.segment, reject.offset) != (claim.segment, at) or reject.nbytes > len(reject.raw):
            break
        run.append(reject)
        at += reject.nbytes
    # The newline that ended the run was written by the recovery itself.
    if at == end or (at == end + 1 and run and run[-1].raw.endswith(b"\n")):
        return run
    return []


def _md5(run: list[Reject], nbytes: int) -> str:
    return hashlib.md5(b"".join(reject.raw for reject in run)[:nbytes], usedforsecurity=False).hexdigest()
