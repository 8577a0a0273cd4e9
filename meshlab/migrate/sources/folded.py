"""What a user's directory in the new layout holds, when everything in it is folded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from meshlab.dialects import OPS, OTHER
from meshlab.errors import SnapshotError
from meshlab.migrate.sources.source import LeftOver
from meshlab.snapshot.base import Base
from meshlab.snapshot.manifest import Manifest, current, history_path, read_manifest
from meshlab.snapshot.ranges import rest
from meshlab.tables.events import load_user
from meshlab.tables.load import Piece

_RECOVERED = '{"Recovered":'
"""What a log says of itself: no event of anybody's."""


def manifest_of(root: Path, uid: str) -> Manifest:
    """The manifest in force.  Raises ``SnapshotError`` when there is none."""
    found = current(root, uid)
    if not isinstance(found, Manifest):
        raise SnapshotError(f"{root}: expected a user with a checkpoint, found none")
    return found


def live_records(root: Path, uid: str) -> Iterator[pa.RecordBatch]:
    """All live records in ``RECORD_SCHEMA``, sorted by id, in bounded memory."""
    yield from Base.open(root, manifest_of(root, uid)).batches()


def other_events(root: Path, uid: str, *, since: Manifest | None = None) -> Iterator[LeftOver]:
    """The events of op ``other`` in the log, in its order, each under its place.

    ``since`` leaves out what a manifest had folded.
    """
    pieces: list[Piece] | None = None if since is None else rest(root, since)
    events = load_user(root, uid, pieces, columns=("segment", "offset", "raw"), ops=OPS[OTHER], progress=False)
    for batch in events.to_batches():
        for row in batch.to_pylist():
            if not row["raw"].startswith(_RECOVERED):
                yield LeftOver(f"{row['segment']}:{row['offset']}", "an event that changes no memory", row["raw"])


def first_manifest(root: Path, uid: str) -> Manifest:
    """The manifest of generation 1, with which the migration ended.  Raises ``SnapshotError``."""
    newest = manifest_of(root, uid)
    return newest if newest.generation == 1 else read_manifest(history_path(root, 1), uid)
