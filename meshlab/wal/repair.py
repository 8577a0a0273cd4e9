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
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np

from meshlab.errors import InternalError, StorageError, storage_errors
from meshlab.wal.chain import ORIGIN
from meshlab.wal.lines import Block, Digests, Reject, md5_digests
from meshlab.wal.paths import SNAPSHOT, segment_days, segment_name
from meshlab.wal.reader import Part, resolve, scan_segment
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
    root: Path, target: Path, *, digests: Digests = md5_digests, progress: Progress | None = None
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
        scratch.mkdir(parents=True)  # fails on a link or file, which rmtree leaves alone
        (scratch / LEFT_OUT).mkdir()
        try:
            parts = list(_copy_segments(root, scratch, digests, progress))
            left_out = [reject for reject in resolve(parts) if reject.nbytes]
            _keep_left_out(root, scratch, left_out)
            if (root / SNAPSHOT).is_file():
                shutil.copyfile(root / SNAPSHOT, scratch / SNAPSHOT)
            _sync_tree(scratch)
            events = sum(part.tally.events for part in parts)
            report = _check(scratch, events, left_out)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        os.rename(scratch, target)
        _sync(target.parent)
    return report._replace(target=target)


def _refuse_target(root: Path, target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise StorageError(f"{target} is already there", hint="name a directory that does not exist yet")
    if root.resolve() in [target.resolve(), *target.resolve().parents]:
        raise StorageError(f"{target} lies inside the log it would repair", hint=f"name a directory outside {root}")


def _refuse_scratch(root: Path, scratch: Path) -> None:
    if scratch.resolve() in [root.resolve(), *root.resolve().parents]:
        raise StorageError(f"{root} lies in {scratch}, which a repair would replace", hint="name another directory")


def _copy_segments(root: Path, target: Path, digests: Digests, progress: Progress | None) -> Iterator[Part]:
    end = ORIGIN
    for day in segment_days(root):
        scan = scan_segment(root, day, end, digests=digests)
        with open(target / segment_name(day), "wb") as copy:
            for block in scan:
                _copy_events(block, copy)
                if progress is not None:
                    progress(int(block.nbytes.sum()))
        end = scan.end
        yield scan.part


def _copy_events(block: Block, copy: BinaryIO) -> None:
    """Write the lines of a block, neighbours in one go, each ended by a newline."""
    if not len(block.start):
        return
    text = memoryview(block.data)
    stop = block.start + block.nbytes
    ended = block.data[stop - 1] == 0x0A
    breaks = np.flatnonzero((stop[:-1] != block.start[1:]) | ~ended[:-1]) + 1
    for first, last in zip([0, *breaks.tolist()], [*breaks.tolist(), len(stop)]):
        copy.write(text[int(block.start[first]) : int(stop[last - 1])])
        if not ended[last - 1]:
            copy.write(b"\n")


def _keep_left_out(root: Path, target: Path, left_out: list[Reject]) -> None:
    with open(target / LEFT_OUT / "report.ndjson", "wb") as report:
        for reject in left_out:
            name = segment_name(reject.segment)
            with (
                open(root / name, "rb") as source,
                open((target / LEFT_OUT / name).with_suffix(".bin"), "ab") as kept,
            ):
                position = kept.tell()
                _copy_range(source, kept, reject.offset, reject.nbytes)
            report.write(msgspec.json.encode(_row(reject, position)) + b"\n")


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


def _copy_range(source: BinaryIO, target: BinaryIO, offset: int, count: int) -> None:
    source.seek(offset)
    while count:
        data = source.read(min(count, _STEP))
        if not data:
            raise StorageError(f"{source.name} became shorter while it was read", hint="stop its writers and try again")
        target.write(data)
        count -= len(data)


def _sync_tree(root: Path) -> None:
    for folder, _, names in os.walk(root):
        for name in names:
            _sync(Path(folder) / name)
        _sync(Path(folder))


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _check(copy: Path, events: int, left_out: list[Reject]) -> RepairReport:
    """Read the copy back: the same events, and nothing unreadable left."""
    found = verify(copy)
    rest = [reject for reject in found.rejects if reject.nbytes]
    if found.events != events or rest:
        raise InternalError(f"the repaired copy holds {found.events} events, expected {events}; {len(rest)} rejects")
    return RepairReport(copy, found.events, found.bytes, left_out)
