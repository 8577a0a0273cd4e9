"""What a migration will take, from a sample of the very sources, converted on this machine.

Of every kind of source one user is chosen, the largest that a sample can be taken of in
little time.  One that is not too large is converted whole, by the very code that will do
it later; of a larger one the first records go into layers and are read back.  It happens
in the system's directory for temporary files, where nothing stays.  What a user with one
memory costs is measured too: that is the part that does not grow.

A small sample says little of a large user, so what it says of one is held to bounds: the
time to that of reading the user, the bytes to those of the records in memory.

>>> one = Measured(kind="map", what="ann", records=9, bytes_read=900, bytes_written=300, seconds=0.3, fixed_seconds=0.1)
>>> cost = cost_of(1800, one)
>>> round(cost.seconds, 3), cost.nbytes
(0.5, 600)
>>> cost_of(1_000_000_000, one, reading=2.0, memory=400_000_000)
Cost(seconds=120.1, nbytes=333333333)
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from meshlab.errors import storage_errors
from meshlab.migrate.build import USER, Task, build_user, digest_of
from meshlab.migrate.pace import Pace, PacedFiles
from meshlab.migrate.plan import Measured, PlannedUser, hash_input
from meshlab.migrate.sources.folded import live_records
from meshlab.migrate.sources.source import Source
from meshlab.snapshot.entries import fits_map, write_map
from meshlab.snapshot.seed import seed
from meshlab.tables.schema import RECORD_SCHEMA
from meshlab.wal.files import REAL_FILES
from meshlab.wal.sink import SyncedFile
from meshlab.wal.writer import wall_clock

WHOLE = 16 << 20
"""Bytes of old files up to which a user is converted whole."""

TELLING = 4 << 20
"""Bytes of old files from which on a user who is converted whole says what others cost."""

PATIENCE = 20.0
"""Seconds that reading a user may take who is sampled by the first records, where reading has to come to its end."""

START = 0.5
"""Seconds until a command, or a process that builds users, begins to work."""

_BEGINS_AT_ONCE = ("map", "export")
"""Kinds whose first records come before the last ones are read."""

_MOST_READINGS = 10
_SLOWEST = 10e6
"""Bounds of what bytes cost: so many readings, and old files at so many bytes a second."""

_WORTH_A_PROCESS = 16 << 20
"""Bytes of old files below which another process takes longer to start than to work."""

_SAMPLE_ROWS = 100_000
_SAMPLE_BYTES = 96 << 20
"""Arrow bytes: more than one stretch of a checkpoint, so that a merge is part of what is measured."""

SPARE = 1.1
"""What is asked for over the estimate of disk: layers that are merged stand twice for a while."""

SPARE_BYTES = 32 << 20


class Cost(NamedTuple):
    """Seconds of one processor, and bytes that stay in the store."""

    seconds: float
    nbytes: int


class Sample(NamedTuple):
    """A source that could be converted: its records, how long reading them took, and their bytes in memory."""

    source: Source
    nbytes: int
    records: int
    seconds: float
    memory: int = 0

    @property
    def is_quick(self) -> bool:
        """Whether its first records can be had in little time."""
        return self.nbytes <= WHOLE or self.source.kind in _BEGINS_AT_ONCE or self.seconds <= PATIENCE


def cost_of(nbytes: int, measured: Measured | None, *, reading: float | None = None, memory: int | None = None) -> Cost:
    """What a user with so many bytes of old files costs: a fixed part, and one in proportion.

    The second is at least the seconds that ``reading`` the user took, and at most ten
    times that and 100 ns a byte; the bytes it comes to are at most twice those of the
    old files (which may stay, and stand in a log) and those of the records in
    ``memory``.  Without a measurement a user costs three readings, and twice its bytes.
    """
    if measured is None:
        return Cost(3 * (reading or 0.0), 2 * nbytes)
    seconds = nbytes / measured.rate
    if reading is not None:
        seconds = min(max(seconds, reading), _MOST_READINGS * reading + nbytes / _SLOWEST)
    written = nbytes * max(measured.bytes_written - measured.fixed_bytes, 0) / max(measured.bytes_read, 1)
    if memory is not None:
        written = min(written, 2 * nbytes + memory)
    return Cost(measured.fixed_seconds + seconds, measured.fixed_bytes + round(written))


def useful_jobs(users: Sequence[PlannedUser], jobs: int | None = None) -> int:
    """How many users are worth working on at once: a process takes time to start.

    ``jobs`` is what was asked for, None for as many as there are processors.
    """
    if jobs is not None:
        return max(1, min(jobs, len(users)))
    worth = sum(one.bytes_to_read for one in users) // _WORTH_A_PROCESS
    return max(1, min(usable_cores(), len(users), worth))


def wall_time(users: Sequence[PlannedUser], jobs: int) -> float:
    """Seconds until all are done, so many at a time, from the start of the command on."""
    seconds = [one.seconds for one in users]
    starts = START * (1 + (jobs > 1)) if users else 0.0
    return starts + max(sum(seconds) / max(jobs, 1), max(seconds, default=0.0))


def disk_needed(users: Sequence[PlannedUser], jobs: int) -> int:
    """Bytes that must be free: what stays, and the copies of the inputs of those who are at work at once."""
    if not users:
        return 0
    copies = sorted((one.bytes_to_read for one in users), reverse=True)[: max(jobs, 1)]
    return round(SPARE * sum(one.bytes_to_write for one in users)) + sum(copies) + SPARE_BYTES


def disk_free(path: Path) -> int:
    """Bytes free for us on the file system where a path is, or would be.  Raises ``StorageError``."""
    with storage_errors("look at", path):
        place = next((one for one in (path, *path.parents) if one.exists()), Path("/"))
        return shutil.disk_usage(place).free


def usable_cores() -> int:
    """Processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


# Measuring ----------------------------------------------------------------------------


def choose(samples: Sequence[Sample]) -> dict[str, Sample]:
    """One source of every kind: the largest that is converted whole.

    Where that is too small to say much it is the largest of all whose first records can
    be had in little time.
    """
    chosen: dict[str, Sample] = {}
    for kind in dict.fromkeys(one.source.kind for one in samples):
        mine = [one for one in samples if one.source.kind == kind]
        telling = [one for one in mine if TELLING <= one.nbytes <= WHOLE]
        quick = telling or [one for one in mine if one.is_quick]
        chosen[kind] = max(quick, key=_size) if quick else min(mine, key=_size)
    return chosen


def _size(one: Sample) -> int:
    return one.nbytes


def measure(sample: Sample) -> Measured:
    """Convert a sample of one source in a temporary directory.  Raises ``MeshlabError`` when that fails."""
    source = sample.source
    with tempfile.TemporaryDirectory(prefix="meshlab-sample-") as name:
        folder = Path(os.path.abspath(name))
        least = _smallest(source, folder / "old")
        _convert(least, folder / "warm")  # the first one also loads libraries
        fixed = _convert(least, folder / "small")
        if sample.nbytes <= WHOLE:
            cost, nbytes, records = _convert(source, folder / "whole"), sample.nbytes, sample.records
        else:
            cost, nbytes, records = _convert_part(sample, folder / "part")
    told = "all" if records == sample.records else f"the first {records:,} of"
    noun = "record" if sample.records == 1 else "records"
    return Measured(
        kind=source.kind,
        what=f"{told} {sample.records:,} {noun} of {source.uid}",
        records=records,
        bytes_read=nbytes,
        bytes_written=cost.nbytes,
        seconds=cost.seconds,
        fixed_seconds=min(fixed.seconds, _MOST_FIXED * cost.seconds),
        fixed_bytes=min(fixed.nbytes, round(_MOST_FIXED * cost.nbytes)),
    )


_MOST_FIXED = 0.9
"""The part of a sample's cost that may be called fixed: clocks are not exact."""


def _smallest(source: Source, folder: Path) -> Source:
    """A user of the same kind with one memory."""
    folder.mkdir()
    paths = []
    for name, data in source.smallest().items():
        paths.append(folder / name)
        with storage_errors("write", paths[-1]):
            paths[-1].write_bytes(data)
    return replace(source, base=folder, paths=tuple(paths), accept=())


def _convert(source: Source, folder: Path) -> Cost:
    """Build a user of a source as a migration does it, from the comparison with the plan to the last sync."""
    inputs = [hash_input(path) for path in source.paths]
    found = digest_of(source.batches(progress=False))
    user = PlannedUser(
        uid=source.uid,
        kind=source.kind,
        base=str(source.base),
        inputs=inputs,
        operations=[],
        records=found.records,
        state_hash=found.state_hash,
        bytes_to_write=0,
        seconds=0.0,
    )
    task = Task(user, {source.uid: list(source.accept)}, str(folder), "a sample")
    started = time.monotonic()
    for path in source.paths:
        hash_input(path)
    build_user(task, PacedFiles(REAL_FILES, Pace()), wall_clock)
    return Cost(time.monotonic() - started, sum(_sizes(folder / USER)))


def _convert_part(sample: Sample, folder: Path) -> tuple[Cost, int, int]:
    """Convert the first records of a source; what it costs, the bytes of their old form, and how many they are."""
    source, records = sample.source, _first_records(sample.source)
    count = records.num_rows
    if source.kind == "map" and all(pc.all(fits_map(batch)).as_py() is not False for batch in records.to_batches()):
        path = folder / source.paths[0].name
        folder.mkdir()
        with storage_errors("write", path), SyncedFile(path, REAL_FILES) as sink:
            write_map(sink, iter(records.to_batches()), count)
        return _convert(source.relocated(folder, [path]), folder / "built"), path.stat().st_size, count
    share = count / max(sample.records, 1)
    started = time.monotonic()
    seed(folder, source.uid, iter(records.to_batches()), progress=False)
    digest_of(live_records(folder, source.uid))
    spent = time.monotonic() - started + share * sample.seconds  # reading the old form is added
    kept = 0 if source.kind == "export" else round(share * sample.nbytes)  # maps and logs stay
    return Cost(spent, sum(_sizes(folder)) + kept), round(share * sample.nbytes), count


def _first_records(source: Source) -> pa.Table:
    """The first records of a source, as far as they fit in a sample."""
    held: list[pa.RecordBatch] = []
    left, room = _SAMPLE_ROWS, _SAMPLE_BYTES
    for batch in source.batches(progress=False):
        part = batch.slice(0, max(1, min(left, batch.num_rows * room // max(batch.nbytes, 1))))
        held.append(part)
        left, room = left - part.num_rows, room - part.nbytes
        if left <= 0 or room <= 0 or part.num_rows < batch.num_rows:
            break
    return pa.Table.from_batches(held, RECORD_SCHEMA)


def _sizes(folder: Path) -> Iterator[int]:
    """Bytes of the files below a directory; a file with two names counts once."""
    seen: set[tuple[int, int]] = set()
    for at, _, names in os.walk(folder):
        for name in names:
            status = os.lstat(os.path.join(at, name))
            if (key := (status.st_dev, status.st_ino)) not in seen:
                seen.add(key)
                yield status.st_size
