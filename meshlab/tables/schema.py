"""The Arrow schemas: one for events, one for rejects, one for segments, one for records."""

from __future__ import annotations

import pyarrow as pa

from meshlab.records import FIELDS

TIME = pa.timestamp("us", "UTC")
NAME = pa.dictionary(pa.int32(), pa.string())
"""Columns of few different values: uid, segment, op, dialect."""

EMOTIONAL_SIGNATURE = pa.struct(
    [
        ("valence", pa.float64()),
        ("arousal", pa.float64()),
        ("dominance", pa.float64()),
        ("trauma_indicators", pa.list_(pa.string())),
    ]
)
COMFORT_METRICS = pa.struct([(name, pa.float64()) for name in ("energy", "stress", "flux", "perturbation")])

RECORD_FIELDS = pa.schema(
    [
        ("id", pa.string()),
        ("concept_id", pa.string()),
        ("phase_tag", pa.float64()),
        ("amplitude", pa.float64()),
        ("frequency", pa.float64()),
        ("width", pa.float64()),
        ("position", pa.float64()),
        ("stability", pa.float64()),
        ("creation_time", pa.string()),
        ("last_accessed", pa.string()),
        ("access_count", pa.uint64()),
        ("content", pa.string()),
        ("content_type", pa.string()),
        ("emotional_signature", EMOTIONAL_SIGNATURE),
        ("vault_status", pa.string()),
        ("mode", pa.string()),
        ("comfort_metrics", COMFORT_METRICS),
    ]
)
"""The seventeen fields, in serialisation order; times are the text that was written."""

assert tuple(RECORD_FIELDS.names) == FIELDS

TIME_PROJECTIONS = {"creation_ts": "creation_time", "last_accessed_ts": "last_accessed"}
"""µs UTC columns and the text they are read from."""

_DERIVED = [("creation_ts", TIME), ("last_accessed_ts", TIME), ("extra", pa.string())]

RECORD_SCHEMA = pa.schema([*RECORD_FIELDS, *[pa.field(*column) for column in _DERIVED]])
"""Records (a state, a snapshot): the fields, two time projections, and ``extra``.

``extra`` is the JSON object text of fields this version does not know, and of known
fields whose value does not fit their type (their typed column is null); values are
the raw JSON that was written; null when there is nothing.
"""

EVENT_SCHEMA = pa.schema(
    [
        ("uid", NAME),
        ("segment", NAME),
        ("offset", pa.int64()),
        ("line", pa.int64()),
        ("nbytes", pa.int64()),
        ("seq", pa.int64()),
        ("ts", TIME),
        ("effective_ts", TIME),
        ("op", NAME),
        ("dialect", NAME),
        *RECORD_FIELDS,
        *_DERIVED,
        ("content_nbytes", pa.int64()),
        ("payload_nbytes", pa.int64()),
        ("key", pa.string()),
        ("raw", pa.string()),
    ]
)
"""Events: one row per line.

``offset`` and ``nbytes`` locate the line in its segment; ``payload_nbytes`` is the
event's JSON alone, ``content_nbytes`` the content's UTF-8; ``raw`` is the JSON of
``other`` events.  ``id`` is null for ``other`` events, the rest where not given.
"""

ON_REQUEST = pa.schema([("given", pa.int32()), ("content_key", pa.int64())])
"""Columns of events that are there for whoever names them.

``given`` has a bit for every field that an insert or update gives (bit i: ``FIELDS[i]``,
misfits too; the next bit: any field this version does not know) and is 0 for other
events.  ``content_key`` is the same for equal contents: the first eight bytes of their
MD5, little-endian; null where none is given.
"""

COLUMNS = pa.schema([*EVENT_SCHEMA, *ON_REQUEST])
"""All columns of events that can be asked for."""

REJECT_SCHEMA = pa.schema(
    [
        ("uid", NAME),
        ("segment", NAME),
        ("line", pa.int64()),
        ("offset", pa.int64()),
        ("nbytes", pa.int64()),
        ("class", pa.string()),
        ("reason", pa.string()),
        ("raw", pa.binary()),
    ]
)
"""Bytes that are no event; rows with ``nbytes`` 0 are findings about sound bytes."""

SEGMENT_SCHEMA = pa.schema(
    [
        ("uid", NAME),
        ("segment", NAME),
        ("bytes", pa.int64()),
        ("lines", pa.int64()),
        ("events", pa.int64()),
        ("event_bytes", pa.int64()),
        ("rejects", pa.int64()),
        ("reject_bytes", pa.int64()),
        ("blanks", pa.int64()),
        ("blank_bytes", pa.int64()),
        ("open_tail_bytes", pa.int64()),
        ("sealed", pa.bool_()),
    ]
)
"""Segments: what tiles each file; the four byte columns add up to ``bytes``."""
