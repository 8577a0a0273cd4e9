"""What the entries of a scoped log mean: concepts become memories.

    add_concept       an Insert; a second one of a living concept known by name only: nothing
    update_concept    an Update of the fields under ``updates``, or of those beside the id
    remove_concept    a Delete
    anything else     an Other event {"operation": ..., "data": ...}: relations among them

A concept's id is its ``id``, else its ``concept_id``, else its ``name``: the program
gave ids only in memory, and a mesh had one concept of a name.  Its ``description`` is
the content of the memory; every other field keeps its name.  Only when a memory has a
field of that name and of another type, ``concept.`` is put before it: a log takes no
value that does not fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from meshlab.dialects import DELETE, INSERT, OPS, UPDATE, Parsed, parse_event, parse_record
from meshlab.errors import BadEvent, DamageFound
from meshlab.events import encode_event
from meshlab.migrate.sources.entries import Entry
from meshlab.migrate.sources.jsonrecords import Record, record_batch
from meshlab.migrate.sources.notes import Notes
from meshlab.records import FIELD_SET, FIELDS, Fields
from meshlab.snapshot.fold import FOLD_COLUMNS
from meshlab.tables.schema import EVENT_SCHEMA
from meshlab.wal.frame import MAX_FRAME

OPERATIONS = frozenset({"add_concept", "update_concept", "remove_concept"})
"""Those that change memories."""

_ENVELOPE = 256
"""Bytes that a line adds to an event, at most."""

_LAST_MOMENT = 253_402_300_799  # 9999-12-31T23:59:59Z
_ROWS = 8192
_BYTES = 4 << 20
"""Bytes of JSON in a batch: as Python objects they take many times as much."""

_AGAIN = "second adds of a living concept known by name only, which the mesh ignored"
_BESIDE = "updates with fields beside 'updates', which are left out"
_MISFITS = "values that do not fit the field of their name, kept with 'concept.' before it"
_TIMELESS = "entries without a usable time, which get that of the entry before"


class Meant(NamedTuple):
    """What an entry means: its event as a writer takes it and as a reader sees it, its bytes, and its time (µs)."""

    entry: Entry
    event: dict[str, Any]
    parsed: Parsed
    nbytes: int
    micros: int | None


def meanings(entries: Iterable[Entry], folder: Path, notes: Notes) -> Iterator[Meant]:
    """The events of entries, in their order.

    Raises ``DamageFound`` naming file, line and offset for a concept without an id, and
    for what is too large for a log.
    """
    live: set[str] = set()
    before: int | None = None
    for entry in entries:
        event, encoded = _encoded(_event(entry, folder, live, notes), entry, folder, notes)
        if len(encoded) + _ENVELOPE > MAX_FRAME:
            raise _damage(entry, folder, f"expected at most {MAX_FRAME - _ENVELOPE} bytes, found {len(encoded)}")
        parsed = parse_event(encoded)
        if parsed.op == INSERT or (parsed.op == UPDATE and _is_whole(parsed)):
            live.add(str(parsed.id))
        elif parsed.op == DELETE:
            live.discard(str(parsed.id))
        micros = _micros(entry.time)
        if micros is None:
            notes.count(_TIMELESS, entry.place)
        before = before if micros is None else micros
        yield Meant(entry, event, parsed, len(encoded), before)


def _event(entry: Entry, folder: Path, live: set[str], notes: Notes) -> dict[str, Any]:
    other = {"operation": entry.operation, "data": entry.data}
    if entry.operation not in OPERATIONS:
        return other
    if not isinstance(entry.data, dict):
        raise _damage(entry, folder, f"expected the fields of a concept, found {type(entry.data).__name__}")
    data = dict(entry.data)
    id, source = _id_of(entry, folder)
    if entry.operation == "remove_concept":
        return {"Delete": id}
    if entry.operation == "update_concept":
        if isinstance(data.get("updates"), dict) and not {*data} <= {"id", "concept_id", "name", "updates"}:
            notes.count(_BESIDE, f"{id} ({entry.place})")
        return {"Update": _changes(data, id, source)}
    if source == "name" and id in live:
        notes.count(_AGAIN, f"{id} ({entry.place})")
        return other
    return {"Insert": {"id": id} | _described({"concept_id": id} | data) | {"id": id}}


def _encoded(event: dict[str, Any], entry: Entry, folder: Path, notes: Notes) -> tuple[dict[str, Any], bytes]:
    """An event as a log takes it, and its JSON."""
    try:
        try:
            return event, encode_event(event)
        except BadEvent:
            if not {"Insert", "Update"}.intersection(event):
                raise
            event = _misfits_renamed(event, entry, notes)
            return event, encode_event(event)
    except BadEvent as error:
        raise _damage(entry, folder, error.message) from None


def _misfits_renamed(event: dict[str, Any], entry: Entry, notes: Notes) -> dict[str, Any]:
    """The event with ``concept.`` before the names of fields whose values a memory cannot have in them."""
    ((tag, record),) = event.items()
    _, extra = parse_record(msgspec.json.encode(record))
    misfits = FIELD_SET.intersection(extra or ())
    for name in sorted(misfits):
        notes.count(_MISFITS, f"{name} of {record['id']} ({entry.place})")
    return {tag: {(f"concept.{name}" if name in misfits else name): value for name, value in record.items()}}


def _id_of(entry: Entry, folder: Path) -> tuple[str, str]:
    """The id of a concept, and the field it comes from."""
    for source in ("id", "concept_id", "name"):
        id = entry.data.get(source)
        if isinstance(id, str) and id:
            return id, source
        if id is not None and id != "":
            raise _damage(entry, folder, f"expected a text as {source} of a concept, found {str(id)[:40]!r}")
    raise _damage(entry, folder, "expected a concept with an id, a concept_id or a name, found none")


def _changes(data: dict[str, Any], id: str, source: str) -> dict[str, Any]:
    """The fields that an update gives."""
    updates = data.get("updates")
    if not isinstance(updates, dict):
        updates = {name: value for name, value in data.items() if name != source}
    return {"id": id} | _described(updates) | {"id": id}


def _described(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields with the description as content, where there is no word of a content."""
    if "content" in fields or not isinstance(fields.get("description"), str):
        return fields
    return {("content" if name == "description" else name): value for name, value in fields.items()}


def _is_whole(parsed: Parsed) -> bool:
    """Whether an update gives every field, which makes it as good as an insert."""
    return all(getattr(parsed.fields, name) is not None or name in (parsed.extra or ()) for name in FIELDS)


def _micros(seconds: float | None) -> int | None:
    if seconds is None or not math.isfinite(seconds) or not 0 <= seconds <= _LAST_MOMENT:
        return None
    return round(seconds * 1e6)


def _damage(entry: Entry, folder: Path, what: str) -> DamageFound:
    return DamageFound(
        f"{folder / entry.file}: byte {entry.offset}, line {entry.line}: {what}",
        hint="mend the entry in the file, then make the plan anew",
    )


# As columns


def event_batches(meant: Iterable[Meant]) -> Iterator[pa.RecordBatch]:
    """Events as a fold reads them; their segment is the name of the file they are from."""
    waiting: list[Meant] = []
    nbytes = 0
    for one in meant:
        waiting.append(one)
        nbytes += one.nbytes
        if len(waiting) >= _ROWS or nbytes >= _BYTES:
            yield _event_batch(waiting)
            waiting, nbytes = [], 0
    if waiting:
        yield _event_batch(waiting)


def _event_batch(meant: list[Meant]) -> pa.RecordBatch:
    records = record_batch(
        [Record(one.parsed.fields or Fields(one.parsed.id or ""), one.parsed.extra) for one in meant]
    )
    columns: dict[str, Any] = {name: records[name] for name in (*FIELDS, "extra")}
    columns["segment"] = pa.array([one.entry.file for one in meant]).dictionary_encode()
    columns["offset"] = pa.array([one.entry.offset for one in meant], pa.int64())
    columns["line"] = pa.array([one.entry.line for one in meant], pa.int64())
    columns["effective_ts"] = pa.array([one.micros for one in meant], pa.int64()).view(pa.timestamp("us", "UTC"))
    codes = pa.array(np.array([one.parsed.op for one in meant], np.int32))
    columns["op"] = pa.DictionaryArray.from_arrays(codes, pa.array(OPS))
    schema = pa.schema([EVENT_SCHEMA.field(name) for name in FOLD_COLUMNS])
    return pa.record_batch([columns[name] for name in FOLD_COLUMNS], schema=schema)
