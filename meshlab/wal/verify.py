"""Verification: read a whole log, believe nothing, change nothing.

Safe beside a live writer and in constant memory: bytes behind the last whole frame of
the newest segment are the open tail, not damage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from meshlab.wal.chain import ORIGIN, Cursor, resumed
from meshlab.wal.lines import Block, Digests, Reject, md5_digests
from meshlab.wal.paths import segment_days
from meshlab.wal.reader import Part, Tally, resolve, scan_segment
from meshlab.wording import counted, size_text

Gone = Mapping[str, tuple[int, bytes]]
"""Days whose segments were deleted, with the last seq and sum each held."""

NOTHING_GONE: Gone = {}

Progress = Callable[[int], object]
"""Called with the number of bytes read since the last call."""


class Verification(NamedTuple):
    """What a log holds: one tally per segment, the rejects with their final classes.

    ``end`` is where the chain of frames stands at the end of the log.
    """

    root: Path
    tallies: list[Tally]
    rejects: list[Reject]
    end: Cursor

    @property
    def damage(self) -> list[Reject]:
        """Rejects and findings that are damage."""
        return [reject for reject in self.rejects if is_damage(reject)]

    @property
    def events(self) -> int:
        """Events that can be read."""
        return sum(tally.events for tally in self.tallies)

    @property
    def bytes(self) -> int:
        """Bytes in all segments."""
        return sum(tally.bytes for tally in self.tallies)

    def __repr__(self) -> str:
        days, events = counted(len(self.tallies), "day"), counted(self.events, "event")
        told = counted(len(self.damage), "damaged or missing piece")
        return f"<Verification of {self.root.name}: {days}, {size_text(self.bytes)}, {events}, {told}>"


def is_damage(reject: Reject) -> bool:
    """Whether a reject or finding is more than an unfinished last write."""
    return reject.kind != "torn"


def verify(
    root: Path, *, digests: Digests = md5_digests, progress: Progress | None = None, gone: Gone = NOTHING_GONE
) -> Verification:
    """Read every byte of a user's log and check every frame and the chain between them.

    ``gone`` names segments that were deleted on purpose: that they are missing is no gap.
    Raises ``NotFound`` or ``StorageError`` when a file cannot be read; damage is no
    error but part of the result.
    """
    log = LogScan(root, digests, gone)
    for block in log:
        if progress is not None:
            progress(int(block.nbytes.sum()))
    return Verification(root, [part.tally for part in log.parts], resolve(log.parts), log.end)


def last_gone(gone: Gone, day: str) -> tuple[int, bytes] | None:
    """The last frame of the newest deleted segment before a day."""
    return max(((seq, total) for name, (seq, total) in gone.items() if name < day), default=None)


class LogScan:
    """One pass over all segments of a log: iterate for the blocks, then read the results."""

    def __init__(self, root: Path, digests: Digests = md5_digests, gone: Gone = NOTHING_GONE) -> None:
        self.root = root
        self.digests = digests
        self.gone = gone
        self.parts: list[Part] = []
        self.end = ORIGIN

    def __iter__(self) -> Iterator[Block]:
        days = segment_days(self.root)
        for day in days:
            before = resumed(self.end, last_gone(self.gone, day))
            scan = scan_segment(self.root, day, before, newest=day == days[-1], digests=self.digests)
            yield from scan
            self.end = scan.end
            self.parts.append(scan.part)
