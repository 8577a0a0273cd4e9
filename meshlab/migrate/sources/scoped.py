"""Scoped logs: the memories of one mesh as a log of operations (see ``entries`` and ``concepts``).

In the new layout the log becomes the user's log, every event at the time of its entry,
so that moments of the past can be restored.  What comes back are the old files, and
behind the last entry what has changed since.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pyarrow as pa

from meshlab.errors import storage_errors
from meshlab.jsontext import NotJson, parse_json
from meshlab.migrate.sources.concepts import OPERATIONS, Meant, event_batches, meanings
from meshlab.migrate.sources.entries import Entries, family_of
from meshlab.migrate.sources.folded import first_manifest, live_records, manifest_of, other_events
from meshlab.migrate.sources.jsonrecords import without_tokens
from meshlab.migrate.sources.notes import Notes
from meshlab.migrate.sources.source import LeftOver, Source
from meshlab.migrate.sources.texts import kept_apart, with_contents
from meshlab.records import FIELD_SET
from meshlab.snapshot.checkpoint import checkpoint
from meshlab.snapshot.fold import Fold
from meshlab.snapshot.hashing import row_hashes
from meshlab.snapshot.state import json_forms
from meshlab.wal.files import Files, open_regular
from meshlab.wal.sink import SyncedFile
from meshlab.wal.writer import Writer
from meshlab.wording import counted

_UNKNOWN = "operations about ids that the log does not define, which change no memory"
_TOGETHER = 256
"""Events of one time that go into one frame."""

_TOGETHER_BYTES = 8 << 20
_STEP = 4 << 20
_FOLDED = 64 << 20
"""Arrow bytes of events folded at once."""


@dataclass(frozen=True)
class ScopedSource(Source):
    """A scoped log with its rotated parts and checkpoints, all in ``base``.

    Reading takes memory for the memories that live: their fields several times over,
    those that meshlab does not know among them, without long contents, which wait in a
    temporary file.
    """

    kind: ClassVar[str] = "scoped"

    @property
    def stem(self) -> str:
        """The id that the files are called by."""
        return family_of(self.paths[0].name) or self.uid

    def _meanings(self, notes: Notes) -> Iterator[Meant]:
        return meanings(Entries(self.uid, self.paths, self.accept, notes), self.base, notes)

    def _records(self, notes: Notes, progress: bool) -> Iterator[pa.RecordBatch]:
        with kept_apart() as texts:
            fold = Fold(step_bytes=_FOLDED)
            for batch in event_batches(self._meanings(notes)):
                fold.add(texts.add(batch))
            state, orphans, counts = fold.finish()
            _tell(notes, orphans, counts.others)
            del fold
            yield from with_contents(state, texts.contents())

    def build(self, root: Path, inputs: Sequence[Path], files: Files, clock: Callable[[], int]) -> None:
        """Append every entry at its own time (none later than now), then make a checkpoint."""
        copy = ScopedSource(self.uid, inputs[0].parent, tuple(inputs), self.accept)
        with storage_errors("write", root):
            if not root.is_dir():
                files.mkdir(root)
        _write_log(root, copy._meanings(Notes()), files, clock())
        checkpoint(root, self.uid, progress=False, files=files, clock=clock)

    def give_back(self, root: Path, folder: Path, files: Files) -> list[LeftOver]:
        """The old files; behind the last entry of the current one, what has changed since."""
        current = f"{self.stem}.wal"
        for path in self.paths:
            if path.name != current:
                _copy(path, folder / path.name, files)
        moment = manifest_of(root, self.uid).created_at / 1e6
        sequence = max((entry.sequence for entry in Entries(self.uid, self.paths, self.accept)), default=0)
        left: list[LeftOver] = []
        with storage_errors("write", folder / current), SyncedFile(folder / current, files) as sink:
            _copy_lines(self.base / current, sink)
            for operation, data in self._changes(root, left):
                sequence += 1
                sink.write(_entry_line(sequence, moment, operation, data))
        return left

    def _changes(self, root: Path, left: list[LeftOver]) -> Iterator[tuple[str, Any]]:
        """Operations that lead from the records of this source to those of a user's directory."""
        hashes = {id: digest for batch in self.batches(progress=False) for id, digest in _hashed(batch)}
        changed: dict[str, dict[str, Any]] = {}
        for batch in live_records(root, self.uid):
            rows = [hashes.pop(id, None) == digest for id, digest in _hashed(batch)]
            odd = batch.filter(pa.array([not same for same in rows], pa.bool_()))
            changed |= {record["id"]: record for record in json_forms(pa.table(odd))}
        for id in hashes:
            yield "remove_concept", {"id": id}
        for batch in self.batches(progress=False) if changed else ():
            mine = batch.filter(pa.array([id in changed for id in batch["id"].to_pylist()], pa.bool_()))
            for old in json_forms(pa.table(mine)):
                yield from _difference(old, changed.pop(old["id"]))
        yield from (("add_concept", _whole(record)) for record in changed.values())
        yield from self._others(root, left)

    def _others(self, root: Path, left: list[LeftOver]) -> Iterator[tuple[str, Any]]:
        """The events since the migration that changed no memory; those of another shape are left over."""
        for event in other_events(root, self.uid, since=first_manifest(root, self.uid)):
            value = msgspec.json.decode(event.json)
            is_ours = isinstance(value, dict) and set(value) == {"operation", "data"}
            if is_ours and isinstance(value["operation"], str) and value["operation"] not in OPERATIONS:
                yield value["operation"], value["data"]
            else:
                left.append(event)

    def smallest(self) -> dict[str, bytes]:
        return {f"{self.stem}.wal": _entry_line(1, 0.0, "add_concept", {"id": "m1"})}

    def operations(self) -> list[str]:
        files = counted(len(self.paths), "file")
        return [
            f"write the entries of {files} of {self.stem} as events of user {self.uid}, at their times",
            "checkpoint: the events into layers, generation 1; the log stays readable",
            *(f"leave out damage at {place}, as accepted" for place in self.accept),
        ]

    def misnamed(self) -> str | None:
        for path in self.paths:
            if path.parent != self.base or family_of(path.name) != self.stem:
                return f"expected the files of the scoped log {self.stem} in {self.base}, found {path}"
        return None


def _tell(notes: Notes, orphans: pa.Table, others: int) -> None:
    for orphan in orphans.to_pylist():
        notes.count(_UNKNOWN, f"{orphan['id']} ({orphan['segment']}:{orphan['offset']})")
    if others:
        one = "operation is kept as an event that changes"
        many = "relations and other operations are kept as events that change"
        notes.add(f"{others:,} {one if others == 1 else many} no memory")


# Into the new layout


def _write_log(root: Path, meant: Iterable[Meant], files: Files, now: int) -> None:
    """Append events at their times, none later than ``now``; the checkpoint syncs them."""
    moment = now

    def then() -> int:
        return moment

    writer = Writer(root, durability="os", files=files, clock=then)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # clocks that went back: the entries' own
            for micros, events in _together(meant):
                moment = now if micros is None else min(micros, now)
                writer.append_many(events)
    finally:
        writer.close()


def _together(meant: Iterable[Meant]) -> Iterator[tuple[int | None, list[dict[str, Any]]]]:
    """Events that follow one another and have one time, as many as fit in a frame."""
    events: list[dict[str, Any]] = []
    micros, nbytes = None, 0
    for one in meant:
        size = one.nbytes
        if events and (one.micros != micros or len(events) >= _TOGETHER or nbytes + size > _TOGETHER_BYTES):
            yield micros, events
            events, nbytes = [], 0
        micros = one.micros
        events.append(one.event)
        nbytes += size
    if events:
        yield micros, events


# Back into the old one


def _hashed(batch: pa.RecordBatch) -> Iterator[tuple[str, bytes]]:
    return zip(batch["id"].to_pylist(), row_hashes(batch).to_pylist(), strict=True)


def _difference(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What makes one record of another: an update, or where it cannot take a field away, a new concept."""
    changed = {name: value for name, value in new.items() if name not in old or not _same(old[name], value)}
    if set(old) <= set(new) and FIELD_SET - {*changed, "id"}:
        if isinstance(changed.get("description"), str):
            changed.setdefault("content", new.get("content"))
        yield "update_concept", {"id": new["id"], "updates": changed}
    else:
        yield "remove_concept", {"id": new["id"]}
        yield "add_concept", _whole(new)


def _same(one: Any, other: Any) -> bool:
    return msgspec.json.encode(one) == msgspec.json.encode(other)


def _whole(record: dict[str, Any]) -> dict[str, Any]:
    """A record as the fields of a concept: what it does not have is said not to be there, so that nothing is put in."""
    absent = {name: None for name in ("concept_id", "content") if name not in record}
    return record | absent


def _entry_line(sequence: int, moment: float, operation: str, data: Any) -> bytes:
    entry = {"sequence": sequence, "timestamp": moment, "operation": operation, "data": data, "checksum": None}
    return json.dumps(entry).encode() + b"\n"


def _copy(path: Path, target: Path, files: Files) -> None:
    with storage_errors("copy", path), open(path, "rb", opener=open_regular) as file, SyncedFile(target, files) as sink:
        while chunk := file.read(_STEP):
            sink.write(chunk)


def _copy_lines(path: Path, sink: SyncedFile) -> None:
    """Copy a current file up to the end of its last entry; it need not be there."""
    if not path.exists():
        return
    with open(path, "rb", opener=open_regular) as file:
        waiting = b""
        for line in file:
            sink.write(waiting)
            waiting = line
    if not waiting.endswith(b"\n") and waiting.strip():
        try:
            parse_json(without_tokens(waiting))
        except NotJson:
            return  # an unfinished write
        waiting += b"\n"
    sink.write(waiting)
