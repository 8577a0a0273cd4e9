"""What a writer finds at the end of a log: the last valid frame, and what a crash left.

Only tails are read.  Nothing is ever cut off: a torn run is ended by a newline and named
by a ``Recovered`` frame, so that readers know it from damage.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from meshlab.errors import storage_errors
from meshlab.wal.chain import MIDDLE
from meshlab.wal.classify import classify
from meshlab.wal.files import open_regular
from meshlab.wal.frame import LINE_START, MAX_FRAME, NO_SUM, SUM_ENDING, SUM_KEY, Tail, is_member, read_frame, read_tail
from meshlab.wal.gather import Stretch
from meshlab.wal.lines import padded
from meshlab.wal.lock import Hint
from meshlab.wal.paths import segment_days, segment_name
from meshlab.wal.reader import tail_run
from meshlab.wal.salvage import Effort, frame_starts

_LOOK = 64 << 10
_MOST_LINES = 1000
_HIGHEST_CLAIM = 10**17
_SUM_KEYS = re.compile(re.escape(SUM_KEY))
_NAMES = re.compile(rb'\{"Recovered":\{("segment":"\d{8}","offset":\d{1,20},"bytes":\d{1,20},"md5":"[0-9a-f]{32}")')


class Torn(NamedTuple):
    """Bytes at the end of a segment that an interrupted write left behind."""

    segment: str
    offset: int
    nbytes: int
    md5: str
    reason: str

    def event(self) -> bytes:
        """The JSON of the ``Recovered`` event that names these bytes."""
        return b'{"Recovered":{%b,"reason":"%b"}}' % (self.name(), self.reason.encode())

    def name(self) -> bytes:
        """The part of the event that identifies the bytes."""
        return b'"segment":"%b","offset":%d,"bytes":%d,"md5":"%b"' % (
            self.segment.encode(),
            self.offset,
            self.nbytes,
            self.md5.encode(),
        )


class LogEnd(NamedTuple):
    """Where a log ends: its newest segment (None for an empty log) and how to go on.

    ``seq`` and ``sum`` are those to count on from; ``newline`` tells that the newest
    segment does not end with one; ``torn`` lists the runs no ``Recovered`` frame names;
    ``framed`` is the segment of the last valid frame.
    """

    segment: str | None
    size: int
    seq: int
    sum: bytes
    newline: bool
    torn: list[Torn]
    framed: str | None = None


_NO_FRAME = Tail(0, 0, NO_SUM, NO_SUM)
EMPTY = LogEnd(None, 0, 0, NO_SUM, False, [])


def find_end(root: Path, hint: Hint | None = None) -> LogEnd:
    """Look at the ends of all segments of a log.

    Reads backwards to the last valid frame, which is in the last bytes of any log that
    meshlab wrote to; a log of foreign lines alone is searched once.  That frame may be a
    repeated one (a careless restore): the highest seq near it and at the ends of the
    other segments counts, else readers would take the next frames for repeated too.
    So does the frame of a hint, when it stands where the hint says.
    """
    days = segment_days(root)
    if not days:
        return EMPTY
    runs = {day: run for day in days if (run := find_torn(root, day))}
    torn = _unnamed(root, days, list(runs.values()))
    seq, last, framed = 0, _NO_FRAME, None
    for day in reversed(days):
        path, stop = root / segment_name(day), runs[day].offset if day in runs else None
        if framed is None:
            frame, claimed = last_frame(path, stop=stop)
            seq = max(seq, claimed)
            if frame is not None:
                last, framed = _highest(path, frame), day
        else:
            last = _highest(path, last, _LOOK)
    if hint is not None and hint.seq > last.seq and hint.segment in days:
        last = _hinted(root / segment_name(hint.segment), hint) or last
    size, newline = _size(root / segment_name(days[-1]))
    return LogEnd(days[-1], size, max(seq, last.seq), last.sum, newline, torn, framed)


def look_behind(root: Path, end: LogEnd) -> LogEnd:
    """The end of the log when others have added to the segment ``end`` knows.

    Only bytes behind ``end.size`` are looked at for frames.
    """
    assert end.segment is not None
    path = root / segment_name(end.segment)
    run = find_torn(root, end.segment)
    frame, claimed = last_frame(path, floor=end.size, stop=run.offset if run else None, above=end.seq)
    seq, total = (max(claimed, frame.seq), frame.sum) if frame else (max(claimed, end.seq), end.sum)
    size, newline = _size(path)
    return LogEnd(end.segment, size, seq, total, newline, [run] if run else [], end.segment)


def find_torn(root: Path, day: str) -> Torn | None:
    """The torn run at the end of a segment, if there is one."""
    with _mapped(root / segment_name(day)) as text:
        if _ends_whole(text):
            return None
        size, look = len(text), _LOOK
        while size:
            start = max(0, size - look)
            if start:
                newline = text.find(b"\n", start)
                start = newline + 1 if newline >= 0 else size
            stretch = Stretch(day, start, padded(text[start:size]), size - start, 1)
            run = tail_run(classify(stretch, MIDDLE).rejects, size)
            if start and look < 8 * MAX_FRAME and (start == size or (run and run[0].offset == start)):
                look *= 8
                continue
            if not run:
                return None
            offset = run[0].offset
            md5 = hashlib.md5(text[offset:size], usedforsecurity=False).hexdigest()
            return Torn(day, offset, size - offset, md5, "torn")
    return None


def _ends_whole(text: mmap.mmap | bytes) -> bool:
    """Whether a text ends with a valid frame that begins a line, as most do; false when that takes long to tell."""
    start = size = len(text)
    tail = read_tail(text[max(0, size - 129) : size - 1]) if text[size - 1 :] == b"\n" else None
    if tail is None or tail.n > _MOST_LINES:
        return False
    for _ in range(tail.n):
        start = text.rfind(b"\n", 0, max(0, start - 1)) + 1
    frame = text[start:size]
    members = frame.splitlines()[:-1]
    return frame.startswith(LINE_START) and all(map(is_member, members)) and read_frame(frame) is not None


def last_frame(path: Path, floor: int = 0, stop: int | None = None, above: int = 0) -> tuple[Tail | None, int]:
    """The last valid frame of a segment, and the highest seq that broken ones behind it claim.

    Looks at ``[floor, stop)`` only, and for a seq ``above`` one.  A broken frame whose seq was lowered by the damage
    counts as one of its size: the gap it leaves must show.  When the search gives up, every
    ending counts as broken: a gap is better than a seq used twice.
    """
    claimed = broken = 0
    with _mapped(path) as text:
        stop = len(text) if stop is None else stop
        effort = Effort(stop - floor)
        while (at := text.rfind(SUM_KEY, floor, stop)) >= 0:
            end = at + SUM_ENDING
            tail = read_tail(text[max(0, end - 128) : end])
            if tail is not None:
                if _holds(text, floor, end, tail.n, effort):
                    if tail.seq > above:
                        return tail, max(claimed, tail.seq + broken) if broken else claimed
                elif _is_claim(tail, text[end : end + 1]) or (effort.spent and tail.seq < _HIGHEST_CLAIM):
                    claimed = max(claimed, tail.seq)
                    broken += tail.n
            stop = at
    return None, claimed


def _highest(path: Path, last: Tail, window: int = 16 * _LOOK) -> Tail:
    """The valid frame with the highest seq in the last bytes of a segment, if higher than ``last``."""
    with _mapped(path) as text:
        base = max(0, len(text) - window)
        tails = [(read_tail(text[max(0, at - 128) : at]), at) for at in _sum_ends(text[base:], base)]
        higher = [(tail, at) for tail, at in tails if tail is not None and last.seq < tail.seq < _HIGHEST_CLAIM]
        effort = Effort(len(text))
        for tail, end in sorted(higher, key=lambda found: -found[0].seq):
            if _holds(text, 0, end, tail.n, effort):
                return tail
            if effort.spent:
                return last._replace(seq=tail.seq)
    return last


def _is_claim(tail: Tail, behind: bytes) -> bool:
    """Whether a broken frame at a line's end may have held what its tail says."""
    return behind in (b"", b"\n", b"\r") and tail.seq < _HIGHEST_CLAIM


def _hinted(path: Path, hint: Hint) -> Tail | None:
    """The valid frame a hint tells of, if it stands there."""
    with _mapped(path) as text:
        end = hint.size - 1
        tail = read_tail(text[max(0, end - 128) : end]) if text[end : end + 1] == b"\n" else None
        if (
            tail is not None
            and (tail.seq, tail.sum) == (hint.seq, hint.sum)
            and _holds(text, 0, end, tail.n, Effort(end))
        ):
            return tail
    return None


def _sum_ends(text: bytes, base: int) -> list[int]:
    return [base + match.start() + SUM_ENDING for match in _SUM_KEYS.finditer(text)]


def _holds(text: mmap.mmap | bytes, floor: int, end: int, n: int, effort: Effort) -> bool:
    """Whether a frame of ``n`` lines that stops at ``end`` is valid, wherever its line starts."""
    return any(read_frame(text[at:end]) is not None for at in frame_starts(text, floor, end, n, effort))


def _unnamed(root: Path, days: list[str], runs: list[Torn]) -> list[Torn]:
    """The runs that no ``Recovered`` frame in a segment after their own names; each is read once at most."""
    for day in days:
        sought = {run.name() for run in runs if run.segment < day}
        if sought:
            with _mapped(root / segment_name(day)) as text:
                named = _named(text, sought)
            runs = [run for run in runs if run.segment >= day or run.name() not in named]
    return runs


def _named(text: mmap.mmap | bytes, sought: set[bytes]) -> set[bytes]:
    """Which of the names stand in whole frames of a text; stops at the last of them."""
    named: set[bytes] = set()
    for match in _NAMES.finditer(text):
        if match[1] in sought and match[1] not in named and _is_whole(text, match.start(), match.end()):
            named.add(match[1])
            if len(named) == len(sought):
                break
    return named


def _is_whole(text: mmap.mmap | bytes, start: int, stop: int) -> bool:
    """Whether what stands there is in a valid frame of one line: a crash may have torn the naming too."""
    at, ending = text.rfind(LINE_START, 0, start), text.find(SUM_KEY, stop)
    return at >= 0 and ending >= 0 and read_frame(text[at : ending + SUM_ENDING]) is not None


def _size(path: Path) -> tuple[int, bool]:
    with _mapped(path) as text:
        return len(text), len(text) > 0 and text[len(text) - 1 :] != b"\n"


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap | bytes]:
    """The bytes of a file, mapped; an empty file cannot be."""
    with storage_errors("read", path), open(path, "rb", opener=open_regular) as file:
        try:
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            yield b""
            return
        with view:
            yield view
