"""A user made of records that come from elsewhere: generation 1, and no log.

The records go into layers as those of a phase-1 map do.  Until its manifest is in
force the directory is no user: layers without a ``snapshot.bin`` are refused by every
reader, and by the next seed too.  A seed that fails removes what it wrote; one that was
killed leaves layers that nobody names, and the directory is to be deleted as a whole.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.bars import progress_bar
from meshlab.errors import SnapshotError, storage_errors
from meshlab.snapshot.base import verified_path
from meshlab.snapshot.checkpoint import CheckpointReport, abandon, commit, locked, tool
from meshlab.snapshot.layers import LayerFolder, read_records
from meshlab.snapshot.manifest import HISTORY, LAYERS, RECORDS, Manifest
from meshlab.snapshot.stack import Stack
from meshlab.tables.schema import RECORD_SCHEMA
from meshlab.wal.chain import LONG_AGO
from meshlab.wal.files import REAL_FILES, Files
from meshlab.wal.paths import SNAPSHOT, check_uid, segment_days, segment_name
from meshlab.wal.writer import sync_names, wall_clock


def seed(
    root: Path,
    uid: str,
    batches: Iterable[pa.RecordBatch],
    *,
    base_time: int | None = None,
    files: Files = REAL_FILES,
    clock: Callable[[], int] = wall_clock,
    progress: bool = True,
) -> CheckpointReport:
    """Make ``root`` the directory of a user whose memories are those of ``batches`` (``RECORD_SCHEMA``).

    ``root`` need not be there; its parent must.  Moments before ``base_time`` (µs) are
    not restorable: without one it is the newest ``last_accessed``, or now if no record
    tells.  Memory holds a few batches, and 8 bytes per record to find an id that comes
    twice.

    Raises ``SnapshotError`` for a directory in which anything of a user stands already,
    for an id that is missing, empty or comes twice, and for batches of another schema;
    ``CheckpointBusy``; ``StorageError``.

    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp()) / "ann"
    >>> one = pa.RecordBatch.from_pylist([{"id": "m1", "amplitude": 0.5}], schema=RECORD_SCHEMA)
    >>> report = seed(root, "ann", [one], progress=False)
    >>> report.generation, report.records
    (1, 1)
    """
    started = time.monotonic()
    check_uid(uid)
    _refuse_used(root)
    _make(root, files)
    with locked(root, files):
        _refuse_used(root)
        folder = LayerFolder(root, files)
        try:
            folder.prepare()
            with progress_bar(f"seed {uid}", unit=" records", shown=progress) as bar:
                report = _fill(root, uid, _told(batches, bar), base_time, folder, files, clock)
        except BaseException:
            _give_up(root, uid, folder, files)
            raise
    return report._replace(seconds=time.monotonic() - started)


def _refuse_used(root: Path) -> None:
    """Nothing of a user may be there: neither is it to be replaced, nor taken for what was killed half-way."""
    with storage_errors("look at", root):
        if not os.path.lexists(root):
            return
        found = [SNAPSHOT] if os.path.lexists(root / SNAPSHOT) else []
        for folder in (HISTORY, LAYERS):
            if (root / folder).is_dir():
                found += [f"{folder}/{name}" for name in sorted(os.listdir(root / folder)) if not name.startswith(".")]
        found += map(segment_name, segment_days(root))
    if found:
        raise SnapshotError(
            f"{root}: expected a directory without a user in it, found {found[0]}",
            hint="choose another directory; one with layers/ and without snapshot.bin may be what a killed run left: "
            "if nothing in it is wanted, delete it and begin anew",
        )


def _make(root: Path, files: Files) -> None:
    """The directory, and its name on the medium, whoever made it."""
    with storage_errors("make", root):
        if not root.is_dir():
            files.mkdir(root)
        sync_names(root, files)


def _told(batches: Iterable[pa.RecordBatch], bar: Any) -> Iterator[pa.RecordBatch]:
    """The batches, looked at and counted."""
    done = 0
    for batch in batches:
        if batch.schema != RECORD_SCHEMA:
            raise SnapshotError(f"batches of records: expected the schema of records, found {batch.schema.names}")
        ids = batch.column("id")
        bad = pc.fill_null(pc.equal(ids, ""), True)
        if pc.any(bad).as_py():
            raise SnapshotError(f"record {done + bad.index(True).as_py() + 1}: expected an id, found none")
        done += batch.num_rows
        bar.update(batch.num_rows)
        yield batch


def _fill(
    root: Path,
    uid: str,
    batches: Iterable[pa.RecordBatch],
    base_time: int | None,
    folder: LayerFolder,
    files: Files,
    clock: Callable[[], int],
) -> CheckpointReport:
    """Write the layers, and the manifest that puts them in force."""
    stack, ids = Stack(root, Manifest(uid=uid), folder), _Ids()
    newest = stack.add_map(ids.noted(batches))
    ids.check(root, stack, folder)
    written, now = folder.nbytes, clock()
    stack.merge()
    if base_time is None:
        base_time = now if newest == LONG_AGO else newest
    manifest = Manifest(
        uid=uid,
        generation=1,
        records=stack.records,
        state_hash=stack.hash.hexdigest(),
        layers=stack.layers,
        base_time=base_time,
        created_at=now,
        tool=tool(),
        bytes_of_change=written,
    )
    stack.drop_unused()
    commit(root, manifest, files)
    return CheckpointReport(
        uid=uid,
        generation=1,
        events=0,
        bytes_folded=0,
        records=stack.records,
        changed=stack.changed,
        gone=0,
        orphans=0,
        layers=len(stack.layers),
        bytes_written=folder.nbytes,
        bytes_of_change=written,
        bytes_merged=folder.nbytes - written,
        bytes_saved=stack.bytes_saved,
        accepted=0,
        state_hash=manifest.state_hash,
        seconds=0.0,
        dry_run=False,
    )


def _give_up(root: Path, uid: str, folder: LayerFolder, files: Files) -> None:
    """Remove what was written, unless its manifest is in force: the sync behind the rename may have failed."""
    if os.path.lexists(root / SNAPSHOT):
        abandon(root, uid, folder, files)
    else:
        folder.discard()


class _Ids:
    """Finds an id that comes twice; equal hashes are settled by the ids in the layers."""

    def __init__(self) -> None:
        self._hashes: list[Any] = []

    def noted(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches, the hashes of their ids noted."""
        for batch in batches:
            self._hashes.append(_hashed(batch.column("id")))
            yield batch

    def check(self, root: Path, stack: Stack, folder: LayerFolder) -> None:
        """Raise ``SnapshotError`` for an id of two records; the layers are those that were just written."""
        hashes = np.sort(np.concatenate([np.zeros(0, np.int64), *self._hashes]))
        suspects = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
        seen: set[str] = set()
        for layer in stack.of_kind(RECORDS) if len(suspects) else ():
            held = read_records(verified_path(root, layer, folder.path), ["id"])["id"].combine_chunks()
            for id in held.filter(pa.array(np.isin(_hashed(held), suspects))).to_pylist():
                if id in seen:
                    raise SnapshotError(f"record {id!r}: expected an id of its own, found it twice", hint=_TWICE)
                seen.add(id)


_TWICE = "nothing was made; find out which of the records is wanted, and leave out the other"


def _hashed(ids: pa.Array) -> Any:
    return np.fromiter(map(hash, ids.to_numpy(zero_copy_only=False)), np.int64, len(ids))
