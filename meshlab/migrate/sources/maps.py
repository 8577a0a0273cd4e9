"""``mesh_snapshot.bin``: one user's memories in one bincode map, as the first program left them.

The same bytes stand in the ``snapshot.bin`` of a phase-1 user.  They go into the new
layout as generation 0, and come back as a map of what lives then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.errors import SnapshotError, storage_errors
from meshlab.migrate.sources.folded import live_records, other_events
from meshlab.migrate.sources.notes import Notes
from meshlab.migrate.sources.source import MEND, LeftOver, Source
from meshlab.records import FIELD_SET
from meshlab.snapshot.bincode import read_bincode, write_bincode
from meshlab.snapshot.checkpoint import checkpoint
from meshlab.snapshot.entries import fits_map, misfit, write_map
from meshlab.snapshot.state import json_forms
from meshlab.tables.schema import RECORD_SCHEMA
from meshlab.wal.files import Files
from meshlab.wal.paths import SNAPSHOT
from meshlab.wal.sink import SyncedFile

_EXTRA = RECORD_SCHEMA.get_field_index("extra")

_FIELDS = ("phase_tag", "amplitude", "frequency", "width", "position", "stability")
_SMALLEST: dict[str, Any] = {
    "id": "m1",
    "concept_id": "c1",
    "content": "",
    **dict.fromkeys(("creation_time", "last_accessed"), "2025-07-01T00:00:00Z"),
    **dict.fromkeys(_FIELDS, 0.5),
    "access_count": 0,
    "content_type": "Conversation",
    "vault_status": "Active",
    "mode": "Bright",
    "emotional_signature": {"valence": 0.0, "arousal": 0.0, "dominance": 0.0, "trauma_indicators": []},
    "comfort_metrics": {"energy": 0.0, "stress": 0.0, "flux": 0.0, "perturbation": 0.0},
}
SMALLEST_MAP = write_bincode([_SMALLEST])
"""A map of one memory."""


@dataclass(frozen=True)
class MapSource(Source):
    """A bincode map from id to record."""

    kind: ClassVar[str] = "map"

    def _records(self, notes: Notes, progress: bool) -> Iterator[pa.RecordBatch]:
        with _only_copy():
            yield from read_bincode(self.paths[0], progress=progress)

    def glance(self) -> None:
        with _only_copy():
            glance_at_map(self.paths[0])

    def build(self, root: Path, inputs: Sequence[Path], files: Files, clock: Callable[[], int]) -> None:
        """The copy becomes ``snapshot.bin``, and a checkpoint with upgrade makes generation 1 of it."""
        move_in(root, {inputs[0]: SNAPSHOT}, files)
        checkpoint(root, self.uid, upgrade=True, progress=False, files=files, clock=clock)

    def give_back(self, root: Path, folder: Path, files: Files) -> list[LeftOver]:
        """A map of the memories that have all seventeen fields; the others are left over."""
        return give_map_back(root, self.uid, folder / self.paths[0].relative_to(self.base), files)

    def smallest(self) -> dict[str, bytes]:
        return {self.paths[0].name: SMALLEST_MAP}

    def operations(self) -> list[str]:
        return [
            f"copy {self.paths[0].name} as the {SNAPSHOT} of user {self.uid}",
            "checkpoint with upgrade: its records into layers, generation 1",
        ]

    def misnamed(self) -> str | None:
        return None if len(self.paths) == 1 else f"expected one file of a map, found {len(self.paths)}"


@contextmanager
def _only_copy() -> Iterator[None]:
    """Damage of a map behind which there is no log: only a copy of it helps."""
    try:
        yield
    except SnapshotError as error:
        raise SnapshotError(error.message, hint=MEND) from error


def glance_at_map(path: Path) -> None:
    """Read the count and the first record of a map.  Raises ``SnapshotError``."""
    next(read_bincode(path, batch_rows=1, progress=False), None)


def move_in(root: Path, names: dict[Path, str], files: Files) -> None:
    """Rename files into a user's directory, which is made if it is not there."""
    with storage_errors("write", root):
        if not root.is_dir():
            files.mkdir(root)
        for path, name in names.items():
            files.rename(path, root / name)
        files.sync_directory(root)


def give_map_back(root: Path, uid: str, path: Path, files: Files) -> list[LeftOver]:
    """Write a map of what a user's directory holds; returns what does not fit in it.

    A memory that has every field is written; what else it has is left over.  A memory
    that lacks a field is left over whole, and so are events that change no memory.
    """
    left: list[LeftOver] = []
    count = 0
    for batch in live_records(root, uid):
        fits = fits_map(_bare(batch))
        count += pc.sum(fits).as_py() or 0
        left += _misfits(batch, fits)
    with storage_errors("write", path), SyncedFile(path, files) as sink:
        write_map(sink, _fitting(root, uid), count)
    return left + list(other_events(root, uid))


def _fitting(root: Path, uid: str) -> Iterator[pa.RecordBatch]:
    for batch in live_records(root, uid):
        bare = _bare(batch)
        yield bare.filter(fits_map(bare))


def _bare(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Records without their unknown fields."""
    return batch.set_column(_EXTRA, RECORD_SCHEMA.field("extra"), pa.nulls(batch.num_rows, pa.string()))


def _misfits(batch: pa.RecordBatch, fits: pa.Array) -> Iterator[LeftOver]:
    """What of some records has no place in a map."""
    rows = np.flatnonzero(pc.or_(pc.invert(fits), pc.is_valid(batch["extra"])).to_numpy(zero_copy_only=False))
    for row, record in zip(rows.tolist(), json_forms(pa.table(batch.take(pa.array(rows)))), strict=True):
        if fits[row].as_py():
            rest = {name: value for name, value in record.items() if name not in FIELD_SET}
            reason = f"written without {', '.join(rest)}, which a map has no place for"
            yield LeftOver(record["id"], reason, msgspec.json.encode(rest).decode())
        else:
            yield LeftOver(record["id"], f"not written: {misfit(batch, row)}", msgspec.json.encode(record).decode())
