"""Repair: a copy of a log with everything that is no event left out, and kept beside it.

The original is never edited.  Frames are copied byte for byte, so a gap in the chain
stays a finding in the copy: a repair does not hide that something is missing.

    target/wal-YYYYMMDD.log          the events, as they were written
    target/snapshot.bin              copied as it is, if there is one
    target/left-out/wal-YYYYMMDD.bin the bytes left out, one after the other
    target/left-out/report.ndjson    one line per reject: where it was, what, why, and
                                     its position in the .bin file
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np

from meshlab.errors import InternalError, StorageError, storage_errors
from meshlab.wal.chain import ORIGIN
from meshlab.wal.files import REAL_FILES, Files
from meshlab.wal.lines import Block, Digests, Reject, md5_digests
from meshlab.wal.paths import SNAPSHOT, segment_days, segment_name
from meshlab.wal.reader import Part, resolve, scan_segment
from meshlab.wal.sink import SyncedFile
from meshlab.wal.verify import Progress, verify

LEFT_OUT = "left-out"
_STEP = 4 << 20


class RepairReport(NamedTuple):
    """What a repair did: events and bytes in the copy, and what was left out of it."""

    target: Path
    events: int
    bytes: int
    left_out: list[Reject]

    @property
    def left_out_bytes(self) -> int:
        """Bytes kept beside the copy."""
        return sum(reject.nbytes for reject in self.left_out)


def repair(
    root: Path,
    target: Path,
    *,
    digests: Digests = md5_digests,
    progress: Progress | None = None,
    files: Files = REAL_FILES,
) -> RepairReport:
    """Write a cleaned copy of a user's log to ``target``, a directory that is not there yet.

    The copy is synced and read back before this returns.  Raises ``StorageError`` when
    the target exists or cannot be written; an interrupted repair leaves no target.
    """
    _refuse_target(root, target)
    scratch = target.with_name(target.name + ".unfinished")
    _refuse_scratch(root, scratch)
    with storage_errors("write the repaired copy to", scratch):
        shutil.rmtree(scratch, ignore_errors=True)
        _make_folders(scratch.parent, files)
        files.mkdir(scratch)  # fails on a link or file, which rmtree leaves alone
        files.mkdir(scratch / LEFT_OUT)
        try:
            parts = list(_copy_segments(root, scratch, digests, progress, files))
            left_out = [reject for reject in resolve(parts) if reject.nbytes]
            _keep_left_out(root, scratch, left_out, files)
            if (root / SNAPSHOT).is_file():
                _copy_snapshot(root, scratch, files)
            _sync_tree(scratch, files)
            events = sum(part.tally.events for part in parts)
            report = _check(scratch, events, left_out)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        files.rename(scratch, target)
        files.sync_directory(target.parent)
    return report._replace(target=target)


def _refuse_target(root: Path, target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise StorageError(f"{target} is already there", hint="name a directory that does not exist yet")
    if root.resolve() in [target.resolve(), *target.resolve().parents]:
        raise StorageError(f"{target} lies inside the log it would repair", hint=f"name a directory outside {root}")


def _refuse_scratch(root: Path, scratch: Path) -> None:
    if scratch.resolve() in [root.resolve(), *root.resolve().parents]:
        raise StorageError(f"{root} lies in {scratch}, which a repair would replace", hint="name another directory")


def _make_folders(folder: Path, files: Files) -> None:
    """Make a directory and its missing parents, each on the medium before the next."""
    if not folder.is_dir():
        _make_folders(folder.parent, files)
        files.mkdir(folder)
        files.sync_directory(folder.parent)


def _copy_segments(
    root: Path, target: Path, digests: Digests, progress: Progress | None, files: Files
) -> Iterator[Part]:
    end = ORIGIN
    for day in segment_days(root):
        scan = scan_segment(root, day, end, digests=digests)
        with SyncedFile(target / segment_name(day), files) as copy:
            for block in scan:
                _copy_events(block, copy)
                if progress is not None:
                    progress(int(block.nbytes.sum()))
        end = scan.end
        yield scan.part


def _copy_events(block: Block, copy: SyncedFile) -> None:
    """Write the lines of a block, neighbours in one piece, each ended by a newline."""
    if not len(block.start):
        return
    text = memoryview(block.data)
    stop = block.start + block.nbytes
    ended = block.data[stop - 1] == 0x0A
    breaks = np.flatnonzero((stop[:-1] != block.start[1:]) | ~ended[:-1]) + 1
    pieces: list[bytes | memoryview] = []
    for first, last in zip([0, *breaks.tolist()], [*breaks.tolist(), len(stop)]):
        pieces.append(text[int(block.start[first]) : int(stop[last - 1])])
        if not ended[last - 1]:
            pieces.append(b"\n")
    copy.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))


def _keep_left_out(root: Path, target: Path, left_out: list[Reject], files: Files) -> None:
    with SyncedFile(target / LEFT_OUT / "report.ndjson", files) as report:
        for day, rejects in groupby(left_out, lambda reject: reject.segment):
            name, rows = segment_name(day), []
            with (
                open(root / name, "rb") as source,
                SyncedFile((target / LEFT_OUT / name).with_suffix(".bin"), files) as kept,
            ):
                for reject in rejects:
                    rows.append(msgspec.json.encode(_row(reject, kept.size)) + b"\n")
                    _copy_range(source, kept, reject.offset, reject.nbytes)
            report.write(b"".join(rows))


def _copy_snapshot(root: Path, target: Path, files: Files) -> None:
    with open(root / SNAPSHOT, "rb") as source, SyncedFile(target / SNAPSHOT, files) as copy:
        _copy_range(source, copy, 0, os.fstat(source.fileno()).st_size)


def _row(reject: Reject, position: int) -> dict[str, Any]:
    return {
        "segment": reject.segment,
        "line": reject.line,
        "offset": reject.offset,
        "bytes": reject.nbytes,
        "class": reject.kind,
        "reason": reject.reason,
        "position": position,
    }


def _copy_range(source: BinaryIO, target: SyncedFile, offset: int, count: int) -> None:
    source.seek(offset)
    while count:
        data = source.read(min(count, _STEP))
        if not data:
            raise StorageError(f"{source.name} became shorter while it was read", hint="stop its writers and try again")
        target.write(data)
        count -= len(data)


def _sync_tree(root: Path, files: Files) -> None:
    """The names in the copy; what is in its files was synced when they were closed."""
    files.sync_directory(root / LEFT_OUT)
    files.sync_directory(root)


def _check(copy: Path, events: int, left_out: list[Reject]) -> RepairReport:
    """Read the copy back: the same events, and nothing unreadable left."""
    found = verify(copy)
    rest = [reject for reject in found.rejects if reject.nbytes]
    if found.events != events or rest:
        raise InternalError(f"the repaired copy holds {found.events} events, expected {events}; {len(rest)} rejects")
    return RepairReport(copy, found.events, found.bytes, left_out)
