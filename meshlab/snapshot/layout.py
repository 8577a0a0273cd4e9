"""The bytes of a phase-1 map: bincode 1.3 of a map from id to record.

The file is a ``u64`` count, then that many entries; an entry is the key (the id
again) and the seventeen fields of a record in serialisation order, all little
endian:

    string    u64 length, UTF-8 bytes        (times are RFC 3339 strings)
    number    f64 or u64, 8 bytes
    variant   u32 index into the tuples of ``meshlab.records``
    list      u64 count, then its strings

>>> sum(size for _, size in LAYOUT if size > 0), SMALLEST_RECORD
(124, 180)
"""

from __future__ import annotations

from meshlab.records import CONTENT_TYPES, MODES, VAULT_STATUSES
from meshlab.tables.schema import COMFORT_METRICS, EMOTIONAL_SIGNATURE

STRING, STRINGS = -1, -2
"""Sizes of what has none of its own: a string, a list of strings."""

FLOATS = ("phase_tag", "amplitude", "frequency", "width", "position", "stability")
FEELINGS = ("valence", "arousal", "dominance")
COMFORTS = ("energy", "stress", "flux", "perturbation")
VARIANTS = {"content_type": CONTENT_TYPES, "vault_status": VAULT_STATUSES, "mode": MODES}

assert EMOTIONAL_SIGNATURE.names == [*FEELINGS, "trauma_indicators"]
assert COMFORT_METRICS.names == [*COMFORTS]

LAYOUT = (
    ("key", STRING),
    ("id", STRING),
    ("concept_id", STRING),
    *((name, 8) for name in FLOATS),
    ("creation_time", STRING),
    ("last_accessed", STRING),
    ("access_count", 8),
    ("content", STRING),
    ("content_type", 4),
    *((f"emotional_signature.{name}", 8) for name in FEELINGS),
    ("emotional_signature.trauma_indicators", STRINGS),
    ("vault_status", 4),
    ("mode", 4),
    *((f"comfort_metrics.{name}", 8) for name in COMFORTS),
)
"""The parts of an entry and their sizes in bytes."""

SMALLEST_RECORD = sum(8 if size < 0 else size for _, size in LAYOUT)
TAIL = 4 + 4 + 8 * len(COMFORTS)
"""Bytes of an entry behind its trauma indicators."""
