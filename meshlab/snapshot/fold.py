"""What a log means: events folded into records, whole columns at a time.

Per id, in log order: an Insert, or an Update with all seventeen fields, sets the
record; an Update with fewer replaces the fields it gives, and is an *orphan* when
there is no such record; a Delete removes it.  The rule looks only at the current
state, so folding a log in one go or piece by piece agrees.

Rows are numbered: first the records so far, then the events.  For every id the last
row that *resets* it (sets or removes the whole record) is found, and for every field
the last row at or after it that gives the field.  The new state is those rows, taken.

>>> fold = Fold()
>>> fold.add(pa.RecordBatch.from_pylist([], schema=EVENT_SCHEMA))
>>> fold.finish().counts
Counts(events=0, inserts=0, updates=0, deletes=0, others=0, orphans=0)
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.dialects import DELETE, INSERT, OPS, OTHER, UPDATE
from meshlab.records import FIELDS
from meshlab.snapshot.codes import encode_ids, sort_ids
from meshlab.snapshot.extras import Extras
from meshlab.tables.schema import EVENT_SCHEMA, NAME, RECORD_SCHEMA, TIME, TIME_PROJECTIONS
from meshlab.tables.times import to_timestamps

STEP_BYTES = 256 << 20
"""Arrow bytes of events folded at once."""

FOLD_COLUMNS = ("segment", "offset", "line", "effective_ts", "op", *FIELDS, "extra")
"""The columns of an event table that a fold reads; times are projected once, at its end."""

_FOLD_SCHEMA = pa.schema([EVENT_SCHEMA.field(name) for name in FOLD_COLUMNS])
_STATE_SCHEMA = pa.schema([RECORD_SCHEMA.field(name) for name in (*FIELDS, "extra")])

ORPHAN_SCHEMA = pa.schema(
    [
        ("segment", NAME),
        ("offset", pa.int64()),
        ("line", pa.int64()),
        ("effective_ts", TIME),
        ("id", pa.string()),
        ("fields", pa.list_(pa.string())),
    ]
)
"""Orphans in log order: where the update stands, and the names it gives besides the id."""

NOTHING, PARTIAL, SET, GONE = range(-1, 3)  # what a row does to its record; from SET on it resets it
_SMALL_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 30  # a column of 32-bit strings holds 2 GiB


class Counts(NamedTuple):
    """Events folded, by what they were; orphans are among the updates."""

    events: int
    inserts: int
    updates: int
    deletes: int
    others: int
    orphans: int


class Folded(NamedTuple):
    """A state in ``RECORD_SCHEMA`` sorted by id, the orphans on the way, and counts."""

    state: pa.Table
    orphans: pa.Table
    counts: Counts


class Fold:
    """Folds event batches, given in log order, over a base table or nothing.

    Memory: the state, and events up to ``step_bytes`` twice.
    """

    def __init__(self, base: pa.Table | None = None, *, step_bytes: int = STEP_BYTES) -> None:
        self._state = _STATE_SCHEMA.empty_table() if base is None else base.select(_STATE_SCHEMA.names)
        self._step_bytes = step_bytes
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0
        self._orphans: list[pa.Table] = []
        self._counts = Counts(*[0] * len(Counts._fields))

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the next events; folds when enough are waiting."""
        batch = batch.select(list(FOLD_COLUMNS))
        self._waiting.append(batch)
        self._waiting_bytes += batch.nbytes
        if self._waiting_bytes >= self._step_bytes:
            self._step(ordered=False)

    def finish(self) -> Folded:
        """Fold what is waiting.  The fold can go on afterwards."""
        self._step(ordered=True)
        orphans = pa.concat_tables([ORPHAN_SCHEMA.empty_table(), *self._orphans])
        return Folded(_with_projections(self._state), orphans, self._counts)

    def _step(self, *, ordered: bool) -> None:
        step = Step(self._state, pa.Table.from_batches(self._waiting, None if self._waiting else _FOLD_SCHEMA))
        self._waiting, self._waiting_bytes = [], 0
        self._state = step.state(ordered=ordered)
        self._orphans.append(step.orphan_table())
        self._counts = Counts(*[a + b for a, b in zip(self._counts, step.counts(), strict=True)])


class Step:
    """One fold of a table of events over a table of records.

    Rows count through the records, then the events; ``codes`` maps each to its id, ``kind``
    says what it does, ``given`` which events give a field, ``orphans`` lists partial updates
    of nothing.
    """

    def __init__(self, base: pa.Table, events: pa.Table) -> None:
        self.base_rows = base.num_rows
        self.events = events
        nbytes = base.nbytes + events.nbytes
        self.small, self.wide = nbytes < _SMALL_BYTES, nbytes > _CHUNK_BYTES
        self.base = base
        self.ops = np.concatenate([np.full(base.num_rows, INSERT, np.int8), _op_codes(events["op"])])
        self.extras = Extras(events["extra"], self.base_rows)
        self.columns = {"id": self.column("id")}
        self.codes, firsts = self.encode()
        self.given = {name: self.given_by_events(name) for name in FIELDS}
        self.kind = self.kinds()
        self.last = np.full(len(firsts) + 1, -1, np.int64)
        resets = np.flatnonzero(self.kind >= SET)
        self.last[self.codes[resets]] = resets  # of repeated indices the last assignment stays
        self.orphans = self.find_orphans(firsts)
        self.late = self.find_late()

    def column(self, name: str) -> pa.Array:
        """A column over all rows, in one piece."""
        pieces = [*self.base[name].chunks, *self.events[name].chunks]
        kind = RECORD_SCHEMA.field(name).type
        if self.wide:
            kind = _wide(kind)
            pieces = [piece.cast(kind) for piece in pieces]
        return pa.concat_arrays(pieces) if pieces else pa.array([], kind)

    def encode(self) -> tuple[Any, Any]:
        """Codes of all rows; rows without a record share one code beyond the others."""
        ids = self.columns["id"]
        rows = np.flatnonzero(self.ops != OTHER)
        if len(rows) == len(self.ops):
            return encode_ids(ids)
        some, firsts = encode_ids(ids.take(pa.array(rows)))
        codes = np.full(len(self.ops), len(firsts), some.dtype)
        codes[rows] = some
        return codes, rows[firsts]

    def given_by_events(self, name: str) -> Any:
        """Per event, whether it gives a field: typed, or as a value that does not fit."""
        given = pc.is_valid(self.events[name]).to_numpy()
        misfits = self.extras.rows_with(name)
        if len(misfits):
            given = given.copy()
            given[misfits - self.base_rows] = True
        return given

    def kinds(self) -> Any:
        """What each row does; an update that gives every field sets the record."""
        kinds = _KIND_OF_OP[self.ops]
        whole = np.flatnonzero(kinds == PARTIAL)
        for name in FIELDS:
            whole = whole[self.given[name][whole - self.base_rows]]
        kinds[whole] = SET
        return kinds

    def find_orphans(self, firsts: Any) -> Any:
        """Partial updates of records that do not exist at that point, in log order.

        Only ids that are ever absent while the log speaks of them can have any.
        """
        absent = np.append(self.kind[firsts] != SET, False)
        absent[self.codes[self.kind == GONE]] = True
        rows = np.flatnonzero(absent[self.codes])
        rows = rows[np.argsort(self.codes[rows], kind="stable")]
        kind, code = self.kind[rows], self.codes[rows]
        resets = np.where(kind >= SET, np.arange(len(rows)), -1)
        before = np.maximum.accumulate(resets) if len(rows) else resets
        live = (before >= 0) & (code[before] == code) & (kind[before] == SET)
        return np.sort(rows[(kind == PARTIAL) & ~live])

    def find_late(self) -> Any:
        """Partial updates that still count: applied, and no reset of their record follows."""
        applies = self.kind == PARTIAL
        applies[self.orphans] = False
        rows = np.flatnonzero(applies)
        return rows[rows > self.last[self.codes[rows]]]

    def sources(self, name: str) -> Any:
        """Per code, the row that a field's value comes from."""
        rows = self.late[self.given[name][self.late - self.base_rows]]
        if not len(rows):
            return self.last
        source = self.last.copy()
        source[self.codes[rows]] = rows
        return source

    def state(self, *, ordered: bool) -> pa.Table:
        """The records that live behind the last event, sorted by id if wanted."""
        live = np.flatnonzero(self.last >= 0)
        live = live[self.kind[self.last[live]] == SET]
        ids = self.columns["id"].take(pa.array(self.last[live]))
        if ordered:
            order = sort_ids(ids)
            live, ids = live[order], ids.take(pa.array(order))
        columns = {"id": _narrow(ids, "id"), "extra": _narrow(self.extra(live), "extra")}
        names = FIELDS[1:]
        if self.small:  # threads would take longer to start
            columns |= {name: self.taken(name, live) for name in names}
        else:
            with ThreadPoolExecutor(os.cpu_count()) as pool:  # Arrow lets other threads run while it copies
                columns |= zip(names, pool.map(lambda name: self.taken(name, live), names), strict=True)
        return pa.table([columns[name] for name in _STATE_SCHEMA.names], schema=_STATE_SCHEMA)

    def taken(self, name: str, live: Any) -> pa.ChunkedArray:
        """A column of the new state."""
        return _narrow(self.column(name).take(pa.array(self.sources(name)[live])), name)

    def extra(self, live: Any) -> pa.Array:
        """The ``extra`` of the new state: as it was where nothing changed, else written anew."""
        kept = self.column("extra")
        changed = np.empty(0, np.int64)
        if self.base["extra"].null_count < self.base_rows:
            changed = np.unique(self.codes[self.late])
            changed = changed[self.last[changed] < self.base_rows]
            self.extras.add_base(kept, self.last[changed])
        if not self.extras:
            return kept.take(pa.array(self.last[live]))
        counts = np.zeros(len(self.codes), bool)
        counts[self.late] = True
        counts[self.last[live]] = True
        sources = {name: self.sources(name) for name in FIELDS if self.extras.has(name)}
        texts = self.extras.render(self.codes, counts, sources)
        rows = self.last[live]
        own = rows >= self.base_rows
        own |= np.isin(live, changed)
        unchanged = pc.if_else(pa.array(own), None, kept.take(pa.array(rows)))
        return pc.coalesce(unchanged, pa.array([texts.get(code) for code in live.tolist()], kept.type))

    def orphan_table(self) -> pa.Table:
        """The orphans as rows: where each stands, and the fields it gives."""
        if not len(self.orphans):
            return ORPHAN_SCHEMA.empty_table()
        rows = self.orphans - self.base_rows
        columns = {name: self.events[name] for name in ("offset", "line", "effective_ts", "id")}
        columns["segment"] = self.events["segment"].cast(pa.string())
        columns = {name: column.take(pa.array(rows)) for name, column in columns.items()}
        columns["fields"] = self.names_given(rows)
        return pa.table([columns[name] for name in ORPHAN_SCHEMA.names], names=ORPHAN_SCHEMA.names).cast(ORPHAN_SCHEMA)

    def names_given(self, rows: Any) -> pa.Array:
        """The fields given by some events, known ones in serialisation order, then the unknown."""
        known = np.stack([self.given[name][rows] for name in FIELDS[1:]], axis=1)
        at, field = np.nonzero(known)
        unknown_at, unknown = self.extras.unknown_in(rows + self.base_rows)
        names = [*FIELDS[1:], *self.extras.names]
        at = np.concatenate([at, unknown_at])
        name = np.concatenate([field, unknown + len(FIELDS) - 1])[np.argsort(at, kind="stable")]
        offsets = np.zeros(len(rows) + 1, np.int32)
        np.cumsum(np.bincount(at, minlength=len(rows)), out=offsets[1:])
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(names, pa.string()).take(pa.array(name)))

    def counts(self) -> Counts:
        """The events by what they do."""
        by_op = np.bincount(self.ops[self.base_rows :], minlength=len(OPS)).tolist()
        return Counts(
            self.events.num_rows, by_op[INSERT], by_op[UPDATE], by_op[DELETE], by_op[OTHER], len(self.orphans)
        )


_KIND_OF_OP = np.array([SET, PARTIAL, GONE, NOTHING], np.int8)
assert (INSERT, UPDATE, DELETE, OTHER) == (0, 1, 2, 3)


def _op_codes(column: pa.ChunkedArray) -> Any:
    """Indexes into ``OPS``; every chunk may number its dictionary in its own way."""
    parts = [np.empty(0, np.int8)]
    for chunk in column.chunks:
        if len(chunk):
            index = np.array([OPS.index(name) for name in chunk.dictionary.to_pylist()], np.int8)
            parts.append(index[chunk.indices.to_numpy()])
    return np.concatenate(parts)


def _with_projections(state: pa.Table) -> pa.Table:
    columns = {name: state[name] for name in state.column_names}
    for name, text in TIME_PROJECTIONS.items():
        columns[name] = pa.chunked_array([to_timestamps(chunk) for chunk in state[text].chunks], TIME)
    return pa.table([columns[name] for name in RECORD_SCHEMA.names], schema=RECORD_SCHEMA)


def _wide(kind: pa.DataType) -> pa.DataType:
    """The same type with 64-bit offsets."""
    if pa.types.is_string(kind):
        return pa.large_string()
    if pa.types.is_list(kind):
        return pa.large_list(_wide(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(kind.field(i).name, _wide(kind.field(i).type)) for i in range(kind.num_fields)])
    return kind


def _narrow(values: pa.Array, name: str) -> pa.ChunkedArray:
    """Back to the type of the schema, cut into chunks that 32-bit offsets can hold."""
    kind = RECORD_SCHEMA.field(name).type
    if values.type == kind:
        return pa.chunked_array([values], kind)
    pieces = [values]
    while any(len(piece) > 1 and piece.nbytes > _CHUNK_BYTES for piece in pieces):
        pieces = [half for piece in pieces for half in _halves(piece)]
    # A slice keeps the offsets of the whole, which do not fit: taken, it gets its own.
    return pa.chunked_array([piece.take(pa.array(np.arange(len(piece)))).cast(kind) for piece in pieces], kind)


def _halves(values: pa.Array) -> list[pa.Array]:
    middle = len(values) // 2
    return [values.slice(0, middle), values.slice(middle)]
