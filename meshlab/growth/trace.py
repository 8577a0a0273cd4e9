"""A trace: what one user's log did, event by event, as numbers; no contents, no ids.

>>> import tempfile
>>> from pathlib import Path
>>> root = Path(tempfile.mkdtemp())
>>> lines = ['{"Insert":{"id":"m1","content":"sea"}}', '{"Update":{"id":"m1","mode":"Dark"}}', '{"Delete":"m2"}', ""]
>>> _ = (root / "wal-20250707.log").write_text("\\n".join(lines))
>>> found = trace(Log(root, "u1"))
>>> found
<Trace of u1: 3 events, 92 B, 1 day>
>>> found.id.tolist(), found.next.tolist(), found.content.tolist()
([0, 0, 1], [1, 3, 3], [3, 0, 0])
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.dialects import OPS
from meshlab.errors import MeshlabError, SnapshotError
from meshlab.growth.lives import PARTIAL, Lives, kinds, next_of
from meshlab.snapshot.codes import encode_ids
from meshlab.snapshot.manifest import Manifest, current
from meshlab.tables.events import Events, load_users
from meshlab.tables.load import Log
from meshlab.tables.schema import TIME
from meshlab.times import DAY, day_of
from meshlab.wal.chain import LONG_AGO
from meshlab.wording import counted, size_text

TRACE_COLUMNS = (
    "segment",
    "nbytes",
    "payload_nbytes",
    "content_nbytes",
    "effective_ts",
    "op",
    "id",
    "given",
    "content_key",
)
"""What is read of an event; of sealed segments nothing that holds a content."""


@dataclass(frozen=True, repr=False)
class Trace:
    """The events of one user in log order; every array has one entry per event.

    ``time``     effective time, µs, never falling
    ``id``       which record, from 0 in order of appearance; -1 for ``other`` events
    ``op``       index into ``OPS``
    ``nbytes``   of the line; ``payload`` of the event's JSON; ``content`` of the content's UTF-8
    ``key``      of the content: equal contents have equal keys; 0 without one
    ``given``    bit i: ``FIELDS[i]`` is given; the next bit: a field nobody knows
    ``next``     the next event about the same record; the number of events when there is none
    ``day``      index into ``days``, the segments

    ``spare`` are the bytes of each segment that are no events (rejects, blank lines, an
    open tail): when they were written is not known.  With ``begun`` False records lived
    before the first event, because older segments were deleted or the user began with a
    snapshot; ``before`` are those the trace never names, as far as the snapshot in force
    tells.  ``copies`` is how many users like this one there are (see ``scaled``).
    """

    uid: str
    time: Any
    id: Any
    op: Any
    nbytes: Any
    payload: Any
    content: Any
    key: Any
    given: Any
    next: Any
    day: Any
    days: tuple[str, ...]
    spare: Any
    damage: int = 0
    begun: bool = True
    before: int = 0
    copies: int = 1

    def __len__(self) -> int:
        return len(self.time)

    @cached_property
    def ends(self) -> Any:
        """Bytes of all events before each event, and behind the last (int64, one more than events)."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.nbytes, dtype=np.int64)])

    def events_in(self, nbytes: int) -> int:
        """How many events the first bytes of the log hold, those that are no events taken to stand behind."""
        return int(np.searchsorted(self.ends, nbytes, side="right")) - 1

    @property
    def spare_bytes(self) -> int:
        """Bytes of the log that are no events."""
        return int(self.spare.sum())

    @property
    def span_days(self) -> float:
        """Days from the first event to the last, at least an hour's worth."""
        return max(float(self.time[-1] - self.time[0]), DAY / 24) / DAY if len(self) else 0.0

    def scaled(self, *, users: int = 1, recalls: int = 1) -> Trace:
        """What the log would be with ``users`` times the users, each with ``recalls`` times the recalls.

        A recall here is any partial update.  Each is followed by copies of itself, spread
        evenly in time up to the next event about the same record, or the end of the
        trace: so more records are touched in any hour, and none after it was deleted.
        The users are all like this one, at the same moments, and share nothing.

        Raises ``MeshlabError`` for numbers below 1.
        """
        if min(users, recalls) < 1:
            raise MeshlabError(f"a trace cannot be scaled to {users} users, {recalls} recalls", hint="give 1 or more")
        more = self if recalls == 1 else _repeated(self, recalls)
        return replace(more, copies=self.copies * users)

    def __repr__(self) -> str:
        size = size_text(int(self.ends[-1]))
        return f"<Trace of {self.uid}: {counted(len(self), 'event')}, {size}, {counted(len(self.days), 'day')}>"


def trace(log: Log, *, progress: bool = False) -> Trace:
    """Read the trace of one user's log, in batches: about 45 bytes an event stay, and an id for every record.

    Raises what reading events raises.
    """
    events = load_users([log], columns=TRACE_COLUMNS, progress=progress)
    parts = _Parts()
    for batch in events.to_batches():
        parts.add(batch)
    found = parts.trace(log.uid, _spare(events), events.damage)
    return _with_beginning(found, log)


class _Parts:
    """Columns of the batches so far."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [np.empty(0, kind)] for name, kind in _KINDS.items()}
        self._ids = [pa.array([], pa.large_string())]
        self._known = 0
        self._days: dict[str, int] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the next batch."""
        found = {
            "time": batch["effective_ts"].cast(TIME).cast(pa.int64()),
            "op": pc.index_in(batch["op"].dictionary, pa.array(OPS)).take(batch["op"].indices),
            "nbytes": batch["nbytes"],
            "payload": batch["payload_nbytes"],
            "content": batch["content_nbytes"],
            "key": batch["content_key"],
            "given": batch["given"],
            "id": self._codes(batch["id"]),
            "day": self._places(batch["segment"]),
        }
        for name, values in found.items():
            plain = pc.fill_null(values, 0) if values.null_count else values
            self._columns[name].append(plain.to_numpy().astype(_KINDS[name]))

    def _codes(self, ids: pa.Array) -> pa.Array:
        """Codes that tell ids apart, though one id may have several; -1 for none."""
        rows = np.flatnonzero(ids.is_valid().to_numpy(zero_copy_only=False))
        codes = np.full(len(ids), -1, np.int32)
        if len(rows):
            some = ids if len(rows) == len(ids) else ids.take(pa.array(rows))
            found, firsts = encode_ids(some)
            codes[rows] = found + self._known
            self._known += len(firsts)
            self._ids.append(some.take(pa.array(firsts)).cast(pa.large_string()))
        return pa.array(codes)

    def _places(self, segments: pa.DictionaryArray) -> pa.Array:
        """Segments as numbers in order of appearance."""
        places = [self._days.setdefault(day, len(self._days)) for day in segments.dictionary.to_pylist()]
        return pa.array(places, pa.int32()).take(segments.indices)

    def trace(self, uid: str, spare: dict[str, int], damage: int) -> Trace:
        """All batches as one; ``spare`` are the bytes of each segment that are no events."""
        columns: dict[str, Any] = {name: np.concatenate(parts) for name, parts in self._columns.items()}
        same, _ = encode_ids(pa.concat_arrays(self._ids))
        ids = np.append(same, -1).astype(np.int32)[columns["id"]]
        days = sorted({*spare, *self._days})
        place = np.array([days.index(day) for day in self._days], np.int16)
        columns |= {"id": ids, "day": place[columns["day"]], "time": np.maximum.accumulate(columns["time"])}
        left = np.array([spare.get(day, 0) for day in days], np.int64)
        return Trace(uid=uid, **columns, next=next_of(ids), days=tuple(days), spare=left, damage=damage)


_KINDS = {
    "time": np.int64,
    "id": np.int32,
    "op": np.int8,
    "nbytes": np.int32,
    "payload": np.int32,
    "content": np.int32,
    "key": np.int64,
    "given": np.int32,
    "day": np.int16,
}


def _spare(events: Events) -> dict[str, int]:
    """Per segment, the bytes that are no events."""
    rows = events.segments.select(["segment", "bytes", "event_bytes"]).to_pylist()
    return {row["segment"]: row["bytes"] - row["event_bytes"] for row in rows}


# Where records come from that lived before


def _with_beginning(found: Trace, log: Log) -> Trace:
    """The trace with what is known of records that lived before it."""
    try:
        snapshot = current(log.root, log.uid)
    except SnapshotError:
        return replace(found, begun=not len(found))
    if not isinstance(snapshot, Manifest):
        return replace(found, begun=snapshot is None)
    if not (snapshot.retired or snapshot.base_time != LONG_AGO or (snapshot.records and not snapshot.folded)):
        return found
    presumed, nbytes = replace(found, begun=False), sum(piece.stop - piece.start for piece in snapshot.folded)
    return replace(presumed, before=max(0, snapshot.records - _named_at(presumed, found.events_in(nbytes))))


def _named_at(found: Trace, count: int) -> int:
    """Records that live behind some of the first events and that the trace names, there or later."""
    told = Lives(found)
    last = told.alive & (told.order < count) & (found.next[told.order] >= count)
    return int((last | (told.first & told.alive_before & (told.order >= count))).sum())


# Another traffic of the same kind


def _repeated(found: Trace, times: int) -> Trace:
    """Every partial update ``times`` over; see ``Trace.scaled``."""
    counts = np.where((found.id >= 0) & (kinds(found.op, found.given) == PARTIAL), times, 1)
    rows = np.repeat(np.arange(len(found)), counts)
    nth = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    until = np.append(found.time, found.time[-1:])[found.next]
    time = found.time[rows] + (until - found.time)[rows] * nth // times
    order = np.argsort(time, kind="stable")
    rows, time = rows[order], time[order]
    columns = {name: getattr(found, name)[rows] for name in _KINDS if name not in ("time", "day")}
    numbers, day = np.unique(time // DAY, return_inverse=True)
    names = [day_of(int(number) * DAY) for number in numbers.tolist()]
    days = sorted({*names, *found.days})
    place = np.array([days.index(name) for name in names], np.int16)
    spare = np.zeros(len(days), np.int64)
    spare[[days.index(name) for name in found.days]] = found.spare
    moved = {"time": time, "day": place[day], "days": tuple(days), "spare": spare}
    return replace(found, **columns | moved, next=next_of(columns["id"]))
