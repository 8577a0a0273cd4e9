"""Replay: what a user's log, over a phase-1 snapshot or nothing, comes to.

>>> import tempfile
>>> root = Path(tempfile.mkdtemp())
>>> lines = ['{"Insert":{"id":"m1","amplitude":0.5}}', '{"Update":{"id":"m1","mode":"Dark"}}', ""]
>>> _ = (root / "wal-20250707.log").write_text("\\n".join(lines))
>>> state = replay(root, "u1", progress=False)
>>> state
<State of u1: 1 live memory>
>>> state.to_pylist()
[{'id': 'm1', 'amplitude': 0.5, 'mode': 'Dark'}]
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from meshlab.errors import SnapshotError, storage_errors
from meshlab.snapshot.bincode import is_bincode, read_bincode
from meshlab.snapshot.fold import FOLD_COLUMNS, Fold
from meshlab.snapshot.state import State
from meshlab.tables.events import load_user
from meshlab.tables.schema import RECORD_SCHEMA
from meshlab.wal.paths import SNAPSHOT
from meshlab.wal.reader import settled_ends

CHECKPOINT_FOLDERS = ("history", "layers")


def replay(root: Path, uid: str, *, progress: bool = True) -> State:
    """The state of the user whose directory is ``root``, after the last event.

    A phase-1 ``snapshot.bin`` counts as older than the whole log.  Damage in the log
    does not stop a replay; it stands in ``State.rejects`` and shows in the repr.
    Raises ``SnapshotError`` for a snapshot that cannot be read or has gone, and
    ``NotFound`` or ``StorageError`` for files that cannot be read.
    """
    fold = Fold(read_base(root, progress=progress))
    events = load_user(root, uid, columns=FOLD_COLUMNS, progress=progress)
    for batch in events.to_batches():
        fold.add(batch)
    state, orphans, counts = fold.finish()
    reports = {"rejects": events.rejects, "segments": events.segments}
    return State(uid, state, orphans=orphans, counts=counts, ends=settled_ends(events.parts), end=events.end, **reports)


def read_base(root: Path, *, progress: bool = True) -> pa.Table | None:
    """The records a log starts from, or None when it starts from nothing."""
    path = root / SNAPSHOT
    if not path.exists():
        _refuse_lost_snapshot(root)
        return None
    if not is_bincode(path):
        raise SnapshotError(
            f"{path}: {SNAPSHOT} is a manifest, which this version of meshlab does not read",
            hint="use a newer version of meshlab; the files were not touched",
        )
    return pa.Table.from_batches(list(read_bincode(path, progress=progress)), RECORD_SCHEMA)


def _refuse_lost_snapshot(root: Path) -> None:
    """Checkpoints without their manifest mean that events may be gone from the log."""
    for folder in CHECKPOINT_FOLDERS:
        path = root / folder
        with storage_errors("list", path):
            if path.is_dir() and any(path.iterdir()):
                raise SnapshotError(
                    f"{root}: expected {SNAPSHOT} beside the files in {folder}/, found none",
                    hint="restore snapshot.bin from a backup or from history/; without it the state is unknown",
                )
