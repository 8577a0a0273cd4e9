"""What a migration will take, from a sample of the very sources, converted on this machine.

Of every kind of source one user is chosen.  A small one is converted whole, of a large
one the first records: copied with their SHA-256, built, and read back, as it will be
done later, in the system's directory for temporary files, where nothing stays.  What a
user costs who has next to nothing is measured too, for many users are small.

>>> one = Measured(kind="map", what="ann", records=9, bytes_read=900, bytes_written=300, seconds=0.3, fixed_seconds=0.1)
>>> cost = cost_of(1800, one)
>>> round(cost.seconds, 3), cost.nbytes
(0.5, 600)
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from meshlab.errors import storage_errors
from meshlab.migrate.plan import Measured, PlannedUser
from meshlab.migrate.sources.folded import live_records
from meshlab.migrate.sources.source import Source
from meshlab.snapshot.entries import fits_map, write_map
from meshlab.snapshot.hashing import StateHash, row_hashes
from meshlab.snapshot.seed import seed
from meshlab.tables.schema import RECORD_SCHEMA
from meshlab.wal.files import REAL_FILES
from meshlab.wal.sink import SyncedFile
from meshlab.wal.writer import wall_clock

WHOLE = 16 << 20
"""Bytes of old files up to which a user is converted whole."""

_WORTH_A_PROCESS = 16 << 20
"""Bytes of old files below which another process takes longer to start than to work."""

_SAMPLE_ROWS = 100_000
_SAMPLE_BYTES = 96 << 20
"""Arrow bytes: more than one stretch of a checkpoint, so that a merge is part of what is measured."""

_CHUNK = 1 << 20

SPARE = 1.1
"""What is asked for over the estimate of disk: layers that are merged stand twice for a while."""

SPARE_BYTES = 32 << 20


class Cost(NamedTuple):
    """Seconds of one processor, and bytes that stay in the store."""

    seconds: float
    nbytes: int


class Sample(NamedTuple):
    """A source that could be converted: its records, and how long reading them took."""

    source: Source
    nbytes: int
    records: int
    seconds: float


def cost_of(nbytes: int, measured: Measured | None, seconds: float = 0.0) -> Cost:
    """What a user with so many bytes of old files costs.

    Without a measurement it is what reading it took (``seconds``), three times over, and
    twice its bytes.
    """
    if measured is None:
        return Cost(3 * seconds, 2 * nbytes)
    ratio = max(measured.bytes_written - measured.fixed_bytes, 0) / max(measured.bytes_read, 1)
    return Cost(measured.fixed_seconds + nbytes / measured.rate, measured.fixed_bytes + round(nbytes * ratio))


def useful_jobs(users: Sequence[PlannedUser], jobs: int | None = None) -> int:
    """How many users are worth working on at once: a process takes time to start.

    ``jobs`` is what was asked for, None for as many as there are processors.
    """
    if jobs is not None:
        return max(1, min(jobs, len(users)))
    worth = sum(one.bytes_to_read for one in users) // _WORTH_A_PROCESS
    return max(1, min(usable_cores(), len(users), worth))


def wall_time(users: Sequence[PlannedUser], jobs: int) -> float:
    """Seconds until all are done, so many at a time."""
    seconds = [one.seconds for one in users]
    return max(sum(seconds) / max(jobs, 1), max(seconds, default=0.0))


def disk_needed(users: Sequence[PlannedUser], jobs: int) -> int:
    """Bytes that must be free: what stays, and the copies of the inputs of those who are at work at once."""
    if not users:
        return 0
    copies = sorted((one.bytes_to_read for one in users), reverse=True)[: max(jobs, 1)]
    return round(SPARE * sum(one.bytes_to_write for one in users)) + sum(copies) + SPARE_BYTES


def disk_free(path: Path) -> int:
    """Bytes free for us on the file system where a path is, or would be.  Raises ``StorageError``."""
    place = next((one for one in (path, *path.parents) if one.exists()), Path("/"))
    with storage_errors("look at", place):
        return shutil.disk_usage(place).free


def usable_cores() -> int:
    """Processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


# Measuring ----------------------------------------------------------------------------


def choose(samples: Sequence[Sample]) -> dict[str, Sample]:
    """One source of every kind: the largest of those that can be converted whole, else the smallest."""
    chosen: dict[str, Sample] = {}
    for kind in dict.fromkeys(one.source.kind for one in samples):
        mine = [one for one in samples if one.source.kind == kind]
        whole = [one for one in mine if one.nbytes <= WHOLE]
        chosen[kind] = max(whole, key=_size) if whole else min(mine, key=_size)
    return chosen


def _size(one: Sample) -> int:
    return one.nbytes


def measure(sample: Sample) -> Measured:
    """Convert a sample of one source in a temporary directory.  Raises ``MeshlabError`` when that fails."""
    source = sample.source
    with tempfile.TemporaryDirectory(prefix="meshlab-sample-") as name:
        folder = Path(name)
        few = _first_records(source, 1)
        _convert_records(source, few, folder / "warm")  # the first one also loads libraries
        fixed = _convert_records(source, few, folder / "small")[0]
        if sample.nbytes <= WHOLE:
            cost, nbytes, records = _convert(source, folder / "whole"), sample.nbytes, sample.records
        else:
            part = _first_records(source, _SAMPLE_ROWS)
            cost, written = _convert_records(source, part, folder / "part")
            records = part.num_rows
            share = records / max(sample.records, 1)
            nbytes = written or round(share * sample.nbytes)
            if not written:  # records went in without their old form: reading that is added
                cost = cost._replace(seconds=cost.seconds + share * sample.seconds)
    told = "all" if records == sample.records else f"the first {records:,} of"
    return Measured(
        kind=source.kind,
        what=f"{told} {sample.records:,} records of {source.uid}",
        records=records,
        bytes_read=nbytes,
        bytes_written=cost.nbytes,
        seconds=cost.seconds,
        fixed_seconds=min(fixed.seconds, cost.seconds / 2),
        fixed_bytes=min(fixed.nbytes, cost.nbytes // 2),
    )


def _first_records(source: Source, rows: int) -> pa.Table:
    """The first records of a source, as far as they fit in a sample."""
    held: list[pa.RecordBatch] = []
    left, room = rows, _SAMPLE_BYTES
    for batch in source.batches(progress=False):
        part = batch.slice(0, max(1, min(left, batch.num_rows * room // max(batch.nbytes, 1))))
        held.append(part)
        left, room = left - part.num_rows, room - part.nbytes
        if left <= 0 or room <= 0 or part.num_rows < batch.num_rows:
            break
    return pa.Table.from_batches(held, RECORD_SCHEMA)


def _convert(source: Source, folder: Path) -> Cost:
    """Copy the files of a source, build the user of them, and read it back."""
    started = time.monotonic()
    root, inputs = folder / "user", []
    for path in source.paths:
        inputs.append(folder / "inputs" / path.relative_to(source.base))
        inputs[-1].parent.mkdir(parents=True, exist_ok=True)
        _copy(path, inputs[-1])
    source.build(root, inputs, REAL_FILES, wall_clock)
    return _read_back(root, source.uid, started)


def _convert_records(source: Source, records: pa.Table, folder: Path) -> tuple[Cost, int]:
    """The same with some records only; the bytes of their old form are 0 where they have none of their own."""
    (folder / "old").mkdir(parents=True)
    if source.kind == "map" and all(pc.all(fits_map(batch)).as_py() is not False for batch in records.to_batches()):
        path = folder / "old" / source.paths[0].name
        with storage_errors("write", path), SyncedFile(path, REAL_FILES) as sink:
            write_map(sink, iter(records.to_batches()), records.num_rows)
        return _convert(source.relocated(folder / "old", [path]), folder), path.stat().st_size
    started = time.monotonic()
    seed(folder / "user", source.uid, iter(records.to_batches()), progress=False)
    return _read_back(folder / "user", source.uid, started), 0


def _copy(path: Path, target: Path) -> None:
    with storage_errors("read", path), open(path, "rb") as old, SyncedFile(target, REAL_FILES) as new:
        while chunk := old.read(_CHUNK):
            new.write(chunk)


def _read_back(root: Path, uid: str, started: float) -> Cost:
    total = StateHash.EMPTY
    for batch in live_records(root, uid):
        total = total.add(row_hashes(batch))
    return Cost(time.monotonic() - started, sum(_sizes(root)))


def _sizes(folder: Path) -> Iterator[int]:
    """Bytes of the files below a directory; a file with two names counts once."""
    seen: set[tuple[int, int]] = set()
    for at, _, names in os.walk(folder):
        for name in names:
            status = os.lstat(os.path.join(at, name))
            if (key := (status.st_dev, status.st_ino)) not in seen:
                seen.add(key)
                yield status.st_size
