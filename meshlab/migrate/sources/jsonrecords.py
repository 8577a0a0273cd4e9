"""Records in JSON as they come from other programs, and as columns.

What a record means is what ``meshlab.dialects`` says; there are two things more.  Python
writes ``NaN``, ``Infinity`` and ``-Infinity`` into JSON: outside of strings these become
texts.  And in a field that is a float such a text is the number, as the JSON form of a
memory spells it.

>>> record = read_record(b'{"id":"m1","amplitude":"NaN","theme":"dark"}')
>>> record.fields.amplitude, record.extra
(nan, {'theme': b'"dark"'})
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from meshlab.dialects import parse_record
from meshlab.jsontext import NOT_FINITE
from meshlab.records import FIELDS, ComfortMetrics, EmotionalSignature, Fields
from meshlab.tables.parse import extra_text
from meshlab.tables.schema import RECORD_FIELDS, RECORD_SCHEMA, TIME_PROJECTIONS
from meshlab.tables.times import to_timestamps

# A text without an end reaches to the end of it all: nothing is looked at twice.
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|-?Infinity|NaN', re.DOTALL)
_FLOATS = frozenset(field.name for field in RECORD_FIELDS if pa.types.is_floating(field.type))
_STRUCTS: dict[str, Any] = {"emotional_signature": EmotionalSignature, "comfort_metrics": ComfortMetrics}
_PARTS = {
    name: frozenset(part.name for part in RECORD_FIELDS.field(name).type if pa.types.is_floating(part.type))
    for name in _STRUCTS
}
_decode = msgspec.json.decode


class Record(NamedTuple):
    """A record: its known fields, and the raw JSON of all that is unknown or does not fit."""

    fields: Fields
    extra: dict[str, bytes] | None


def without_tokens(raw: bytes) -> bytes:
    """JSON with Python's tokens for floats that are not finite as texts.

    >>> without_tokens(b'[NaN, "NaN", -Infinity]')
    b'["NaN", "NaN", "-Infinity"]'
    """
    if b"NaN" not in raw and b"Infinity" not in raw:
        return raw
    return _TOKENS.sub(lambda found: found[0] if found[0].startswith(b'"') else b'"%b"' % found[0], raw)


def read_record(raw: bytes) -> Record | None:
    """The record that JSON without tokens stands for; None when it is no object with a usable id.

    Raises ``NotJson``.
    """
    fields, extra = parse_record(raw)
    if fields is None:
        return None
    return _with_floats(fields, extra) if extra else Record(fields, extra)


def _with_floats(fields: Fields, extra: dict[str, bytes]) -> Record:
    """The same record with texts like NaN in float fields as numbers."""
    typed: dict[str, Any] = {}
    for name, raw in extra.items():
        if name in _FLOATS and (number := _number(_decode(raw))) is not None:
            typed[name] = number
        elif name in _STRUCTS and (struct := _struct(name, _decode(raw))) is not None:
            typed[name] = struct
    if not typed:
        return Record(fields, extra)
    left = {name: raw for name, raw in extra.items() if name not in typed}
    return Record(msgspec.structs.replace(fields, **typed), left or None)


def _number(value: Any) -> float | None:
    return NOT_FINITE.get(value) if isinstance(value, str) else None


def _struct(name: str, value: Any) -> Any:
    """A nested value whose misfits are all texts like NaN in float fields; None when there are others."""
    if not isinstance(value, dict):
        return None
    odd = {part: number for part in _PARTS[name] if (number := _number(value.get(part))) is not None}
    try:
        rest = msgspec.convert({part: item for part, item in value.items() if part not in odd}, _STRUCTS[name])
    except msgspec.ValidationError:
        return None
    return msgspec.structs.replace(rest, **odd) if odd else None


def record_batch(records: Sequence[Record]) -> pa.RecordBatch:
    """Records as columns, in ``RECORD_SCHEMA``."""
    columns = {name: pa.array(_values(records, name), RECORD_SCHEMA.field(name).type) for name in FIELDS}
    for name, text in TIME_PROJECTIONS.items():
        columns[name] = to_timestamps(columns[text])
    columns["extra"] = pa.array([extra_text(record.extra) for record in records], pa.string())
    return pa.RecordBatch.from_arrays([columns[name] for name in RECORD_SCHEMA.names], schema=RECORD_SCHEMA)


def _values(records: Sequence[Record], name: str) -> list[Any]:
    values = [getattr(record.fields, name) for record in records]
    if name in _STRUCTS:
        return [None if value is None else msgspec.structs.asdict(value) for value in values]
    return values
