"""JSON exports: a list of records, or a map from id to record."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import pyarrow as pa

from meshlab.bars import progress_bar
from meshlab.errors import DamageFound, storage_errors
from meshlab.jsontext import NotJson, parse_json
from meshlab.migrate.sources.elements import Element, damage, elements, opener
from meshlab.migrate.sources.folded import live_records, other_events
from meshlab.migrate.sources.jsonrecords import Record, read_record, record_batch, without_tokens
from meshlab.migrate.sources.notes import Notes
from meshlab.migrate.sources.source import LeftOver, Source
from meshlab.records import FIELD_SET
from meshlab.snapshot.seed import seed
from meshlab.snapshot.state import json_forms
from meshlab.tables.schema import RECORD_SCHEMA
from meshlab.wal.files import Files
from meshlab.wal.sink import SyncedFile

_ROWS = 16_384
_BYTES = 16 << 20
_TOKENS = "records with tokens of Python that are no JSON (NaN, Infinity), read as texts or floats"
_EXTRA = RECORD_SCHEMA.get_field_index("extra")
_raw_map = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode


@dataclass(frozen=True)
class ExportSource(Source):
    """One JSON file."""

    kind: ClassVar[str] = "export"

    @property
    def path(self) -> Path:
        """The file."""
        return self.paths[0]

    def _records(self, notes: Notes, progress: bool) -> Iterator[pa.RecordBatch]:
        hashes = array("q")
        waiting: list[Record] = []
        nbytes = 0
        for element, record in self._each(notes, progress):
            hashes.append(hash(record.fields.id))
            waiting.append(record)
            nbytes += len(element.data)
            if len(waiting) >= _ROWS or nbytes >= _BYTES:
                yield record_batch(waiting)
                waiting, nbytes = [], 0
        yield record_batch(waiting)
        self._refuse_repeats(hashes)

    def _each(self, notes: Notes, progress: bool) -> Iterator[tuple[Element, Record]]:
        read = self._listed if opener(self.path) == b"[" else self._mapped
        with progress_bar(f"read {self.path.name}", self.path.stat().st_size, shown=progress) as bar:
            for element in elements(self.path, bar.update):
                data = without_tokens(element.data)
                try:
                    record = read(element, data)
                except (NotJson, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                    raise self._damage(element, "expected JSON", str(error)) from None
                if data is not element.data and data != element.data:
                    notes.count(_TOKENS, record.fields.id)
                yield element, record

    def _listed(self, element: Element, data: bytes) -> Record:
        """An element of a list: a record."""
        record = read_record(data)
        if record is None:
            raise self._damage(element, _EXPECTED, _shown(parse_json(data)))
        return record

    def _mapped(self, element: Element, data: bytes) -> Record:
        """An element of a map: an id and a record, which need not say it again."""
        ((id, raw),) = _raw_map(b"{%b}" % data).items()
        body = bytes(raw)
        value = parse_json(body)
        if not isinstance(value, dict):
            raise self._damage(element, f"expected a record under {id!r}", _shown(value))
        if value.get("id") is None:
            if _is_wrapper(value):
                raise self._damage(element, f"expected a record under {id!r}", "a map of records: a wrapper")
            body = body.rstrip()[:-1] + (b"," if value else b"") + b'"id":%b}' % _encode(id)
        elif value["id"] != id:
            raise self._damage(element, f"expected the id {id!r}, under which the record stands", repr(value["id"]))
        record = read_record(body)
        if record is None:
            raise self._damage(element, _EXPECTED, repr(id))
        return record

    def _damage(self, element: Element, expected: str, found: str) -> DamageFound:
        return damage(self.path, element.offset, expected, found, element.number)

    def _refuse_repeats(self, hashes: array[int]) -> None:
        """Raise for the first id that comes twice; equal hashes are settled by reading on."""
        ranked = np.sort(np.frombuffer(hashes, np.int64)) if hashes else np.empty(0, np.int64)
        suspects = set(ranked[1:][ranked[1:] == ranked[:-1]].tolist())
        seen: dict[str, Element] = {}
        for element, record in self._each(Notes(), False) if suspects else ():
            id = record.fields.id
            if hash(id) not in suspects:
                continue
            if id in seen:
                first = f"{id!r} again, the id of record {seen[id].number + 1} at byte {seen[id].offset}"
                raise self._damage(element, "expected an id of its own", first)
            seen[id] = element._replace(data=b"")

    def glance(self) -> None:
        super().glance()
        next(self._each(Notes(), False), None)

    def build(self, root: Path, inputs: Sequence[Path], files: Files, clock: Callable[[], int]) -> None:
        """The records become layers of generation 1; there is no log."""
        copy = self.relocated(inputs[0].parent, inputs)
        seed(root, self.uid, copy.batches(progress=False), files=files, clock=clock, progress=False)

    def give_back(self, root: Path, folder: Path, files: Files) -> list[LeftOver]:
        """The same shape, list or map, with the memories that live then, sorted by id."""
        path, left = folder / self.path.relative_to(self.base), list[LeftOver]()
        is_list = opener(self.path) == b"["
        with storage_errors("write", path), SyncedFile(path, files) as sink:
            between = b"[\n" if is_list else b"{\n"
            for batch in live_records(root, self.uid):
                texts = list(_json_texts(batch))
                left += _ambiguous(texts, batch["extra"])
                if not is_list:
                    ids = batch["id"].to_pylist()
                    texts = [_encode(id) + b":" + text for id, text in zip(ids, texts, strict=True)]
                sink.write(between + b",\n".join(texts))
                between = b",\n"
            sink.write((b"" if between == b",\n" else between) + (b"\n]\n" if is_list else b"\n}\n"))
        return left + list(other_events(root, self.uid))

    def smallest(self) -> dict[str, bytes]:
        return {self.path.name: b'[{"id":"m1"}]'}

    def operations(self) -> list[str]:
        return [
            f"read the records of {self.path.name} for user {self.uid}",
            "write them into layers, generation 1; there is no log before that",
        ]

    def misnamed(self) -> str | None:
        return None if len(self.paths) == 1 else f"expected one file of an export, found {len(self.paths)}"


_EXPECTED = "expected a record, an object with an id that is a text and not empty"


def _shown(value: Any) -> str:
    if not isinstance(value, dict):
        return f"{type(value).__name__} {str(value)[:40]!r}"
    return f"the id {value['id']!r}"[:60] if "id" in value else f"an object without one: {', '.join(value)[:60]!r}"


def _is_wrapper(value: dict[str, Any]) -> bool:
    """Whether what should be a record is a map of records itself."""
    return bool(value) and all(isinstance(item, dict) for item in value.values()) and FIELD_SET.isdisjoint(value)


def _json_texts(batch: pa.RecordBatch) -> Iterator[bytes]:
    """The JSON of records; what is unknown or does not fit stands as it was written."""
    bare = batch.set_column(_EXTRA, RECORD_SCHEMA.field("extra"), pa.nulls(batch.num_rows, pa.string()))
    for form, extra in zip(json_forms(pa.table(bare)), batch["extra"].to_pylist(), strict=True):
        text = _encode(form)
        yield text if not extra else text[:-1] + b"," + extra.encode()[1:]


def _ambiguous(texts: Sequence[bytes], extras: pa.Array) -> Iterator[LeftOver]:
    """Records that would be read as others: a text like NaN in a float field is the number in an export."""
    for row in np.flatnonzero(extras.is_valid()).tolist():
        record = read_record(texts[row])
        if record is not None and set(record.extra or ()) != set(_raw_map(extras[row].as_py())):
            reason = "written, but a text like NaN in a float field of an export means the number"
            yield LeftOver(record.fields.id, reason, texts[row].decode())
