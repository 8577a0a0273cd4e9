"""A log prepared so that the state behind any of its events is looked up, not replayed.

Rows are numbered as in a fold: the records at the start, then the events.  For every
record the rows that reset it stand in order, and for every field the rows that give it.
The state behind a row is then the last of each before it, found by binary search; only
the records somebody looks at are put together, by the fold itself, out of these rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.diff import compare, differs
from meshlab.records import FIELDS
from meshlab.snapshot.contents import TEXTS, Contents, digests_in, encode_batch
from meshlab.snapshot.fold import FOLD_COLUMNS, GONE, PARTIAL, SET, Fold, Step
from meshlab.tables.events import load_user
from meshlab.tables.load import Piece
from meshlab.tables.schema import EVENT_SCHEMA, RECORD_SCHEMA
from meshlab.timeline import Start

CUT = 200
"""Characters of a content that are kept and shown."""

_RECORD = (*FIELDS, "extra")
_PLACE = tuple(name for name in FOLD_COLUMNS if name not in _RECORD)
_EVENTS = pa.schema([EVENT_SCHEMA.field(name) for name in FOLD_COLUMNS])
_RECORDS = pa.schema([RECORD_SCHEMA.field(name) for name in _RECORD])


class Changes(NamedTuple):
    """What differs between two places: counts of records, and the records, as codes, latest first."""

    added: int
    removed: int
    changed: int
    codes: Any


class Lookup:
    """The events behind a start, and the state behind each of them.

    A *place* is a number of events: the state at place n is that behind the first n.
    ``effective`` has the effective times of the events (µs), never falling.
    """

    def __init__(self, uid: str, start: Start, pieces: tuple[Piece, ...], *, progress: bool = True) -> None:
        self.uid, self.start = uid, start
        self._base = start.base()
        self._texts: dict[bytes, str] = {}
        records = self._records_at(start, progress)
        events = load_user(start.root, uid, pieces, start.cursor, columns=FOLD_COLUMNS, progress=progress)
        batches = [self._coded(batch) for batch in events.to_batches()]
        table = pa.Table.from_batches(batches, _EVENTS).unify_dictionaries()
        self.rejects = events.rejects
        self.base_rows = records.num_rows
        # In one piece, of which a few rows are taken many times as fast as from many.
        self._places = table.select(list(_PLACE)).combine_chunks()
        self._rows = pa.concat_tables([records, table.select(list(_RECORD))]).combine_chunks()
        self.effective = table["effective_ts"].cast(pa.int64()).to_numpy()
        self._prepare(Step(records, table))

    def _records_at(self, start: Start, progress: bool) -> pa.Table:
        """The records at the start, with codes for contents."""
        if self._base is not None:
            self._base.contents.decode(pa.array([], pa.string()))  # opens them, while they are there
            return self._base.coded().select(list(_RECORD)).cast(_RECORDS)
        table = start.table(progress=progress)
        batches = [] if table is None else table.select(list(_RECORD)).to_batches()
        return pa.Table.from_batches([self._coded(batch) for batch in batches], _RECORDS)

    def _coded(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch with codes for long contents, of which only the beginnings are kept."""
        batch, texts = encode_batch(batch)
        cut = pc.utf8_slice_codeunits(texts["text"], 0, CUT).to_pylist()
        self._texts.update(zip(texts["digest"].to_pylist(), cut))
        return batch

    def _prepare(self, step: Step) -> None:
        total = len(step.codes)
        applied = step.kind.copy()
        applied[step.orphans] = -1
        partial = np.flatnonzero(applied == PARTIAL)
        sets = np.flatnonzero(applied == SET)
        self.codes, self._kind = step.codes, step.kind
        self._firsts = np.zeros(int(self.codes.max(initial=-1)) + 1, np.int64)
        self._firsts[self.codes[::-1]] = np.arange(total)[::-1]  # of repeated indices the last assignment stays
        self._touches = np.flatnonzero(applied >= PARTIAL)
        self._resets = _Trail(self.codes, np.flatnonzero(applied >= SET), total)
        both = np.sort(np.concatenate([partial, sets]))
        self._given = {name: _Trail(self.codes, both[self._gives(step, name, both)], total) for name in FIELDS}
        extra = np.flatnonzero(self._rows["extra"].is_valid().to_numpy())
        self._extra = _Trail(self.codes, extra[applied[extra] >= PARTIAL], total)
        self._odd = np.zeros(len(self._firsts), bool)
        self._odd[self.codes[extra]] = True
        self._live = self._count_live(applied)

    def _gives(self, step: Step, name: str, rows: Any) -> Any:
        """Whether rows give a field; a record at the start gives what it has."""
        given = np.concatenate([self._rows[name].slice(0, self.base_rows).is_valid().to_numpy(), step.given[name]])
        return given[rows]

    def _count_live(self, applied: Any) -> Any:
        """Live records behind each row."""
        rows = np.flatnonzero(applied >= SET)
        order = np.argsort(self.codes[rows], kind="stable")
        code, alive = self.codes[rows][order], applied[rows][order] == SET
        before = np.append(False, alive[:-1] & (code[1:] == code[:-1]))[: len(rows)]
        change = np.zeros(len(applied) + 1, np.int64)
        change[rows[order] + 1] = alive.astype(np.int64) - before
        return np.cumsum(change)

    def __len__(self) -> int:
        return len(self.effective)

    # Places

    def row(self, place: int) -> int:
        """The first row that does not count at a place."""
        return self.base_rows + place

    def event(self, place: int) -> dict[str, Any] | None:
        """The last event that counts at a place: segment, offset, effective_ts, op and id; None at the start."""
        if not place:
            return None
        (row,) = self._events(np.array([place - 1]), ("id",)).to_pylist()
        return dict(row)

    def live(self, place: int) -> int:
        """How many records live at a place."""
        return int(self._live[self.row(place)])

    def latest(self, place: int, count: int) -> Any:
        """The codes of the live records whose last event is the latest, the latest first."""
        end = int(np.searchsorted(self._touches, self.row(place)))
        span = 4 * count
        while True:
            codes = self.codes[self._touches[max(0, end - span) : end]][::-1]
            found = self._alive(_each_once(codes), place)
            if len(found) >= count or span >= end:
                return found[:count]
            span *= 4

    def code(self, id: str) -> int | None:
        """The code of a record, None for one that never was."""
        row = pc.index(self._rows["id"], pa.scalar(id)).as_py()
        return None if row < 0 else int(self.codes[row])

    def life(self, id: str) -> pa.Table:
        """All events of a record, in log order."""
        code = self.code(id)
        rows = np.flatnonzero(self.codes[self.base_rows :] == (-1 if code is None else code))
        return self._events(rows, _RECORD)

    def _events(self, rows: Any, columns: Sequence[str]) -> pa.Table:
        """Some events, with their places and some columns of what they give."""
        given = self._rows.select(list(columns)).take(pa.array(rows + self.base_rows))
        places = self._places.take(pa.array(rows))
        return pa.table([*places.columns, *given.columns], names=[*_PLACE, *columns])

    # Records

    def records(self, codes: Any, place: int) -> pa.Table:
        """The live ones of some records at a place, in ``RECORD_SCHEMA`` and in the order of the codes.

        Contents are cut to ``CUT`` characters.
        """
        table = self._folded(codes, place)
        rows = pc.index_in(self._ids(codes), table["id"].combine_chunks()).drop_null()
        table = table.take(rows)
        index = table.schema.get_field_index("content")
        return table.set_column(index, "content", self._cut(table["content"].combine_chunks()))

    def _ids(self, codes: Any) -> pa.Array:
        return self._rows["id"].take(pa.array(self._firsts[codes])).combine_chunks()

    def _folded(self, codes: Any, place: int) -> pa.Table:
        """The live ones of some records at a place, sorted by id, with codes for contents."""
        rows = self._rows_of(codes, place)
        old, new = rows[rows < self.base_rows], rows[rows >= self.base_rows] - self.base_rows
        fold = Fold(self._rows.take(pa.array(old)))
        for batch in self._events(new, _RECORD).to_batches():
            fold.add(batch)
        return fold.finish().state

    def _rows_of(self, codes: Any, place: int) -> Any:
        """The rows that the state of some records at a place comes from, in their order."""
        end = self.row(place)
        codes = self._alive(codes, place)
        since = self._resets.last(codes, end)
        found = [since, *self._extra.between(codes, since, end)]
        for trail in self._given.values():
            last = trail.last(codes, end)
            found.append(last[last >= since])
        return np.unique(np.concatenate(found))

    def _alive(self, codes: Any, place: int) -> Any:
        rows = self._resets.last(codes, self.row(place))
        return codes[(rows >= 0) & (self._kind[rows] != GONE)]

    def _cut(self, codes: pa.Array) -> pa.Array:
        """The beginnings of the contents that codes stand for."""
        digests = [digest for digest in digests_in(codes).to_pylist() if digest is not None]
        held = {digest: self._texts[digest] for digest in digests if digest in self._texts}
        fresh = pa.table([list(held), list(held.values())], schema=TEXTS)
        contents = Contents() if self._base is None or len(held) == len(set(digests)) else self._base.contents
        return pc.utf8_slice_codeunits(contents.decode(codes, fresh), 0, CUT)

    # Changes

    def changes(self, before: int, after: int) -> Changes:
        """What differs at place ``after`` from place ``before``, which may be the later one."""
        first, last = np.searchsorted(self._touches, sorted((self.row(before), self.row(after))))
        codes = _each_once(self.codes[self._touches[first:last]][::-1])
        ends = self.row(before), self.row(after)
        was, is_ = (np.isin(codes, self._alive(codes, place)) for place in (before, after))
        changed = np.zeros(len(codes), bool)
        both = np.flatnonzero(was & is_)
        changed[both] = self._differ(codes[both], ends, (before, after))
        told = (was != is_) | changed
        return Changes(int((is_ & ~was).sum()), int((was & ~is_).sum()), int(changed.sum()), codes[told])

    def _differ(self, codes: Any, ends: tuple[int, int], places: tuple[int, int]) -> Any:
        """Whether records that live at both places differ."""
        since = [self._resets.last(codes, end) for end in ends]
        unlike = np.zeros(len(codes), bool)
        for name, trail in self._given.items():
            sources = [np.where((row := trail.last(codes, end)) >= reset, row, -1) for end, reset in zip(ends, since)]
            moved = np.flatnonzero((sources[0] != sources[1]) & ~unlike)
            if len(moved):
                unlike[moved] = differs(*(self._taken(name, rows[moved]) for rows in sources))
        odd = np.flatnonzero(self._odd[codes] & ~unlike)
        if len(odd):  # values that stand in extra: put together and compared whole
            table, _ = compare(*(self._folded(codes[odd], place) for place in places))
            told = pc.is_in(self._ids(codes[odd]), table["id"].combine_chunks())
            unlike[odd] = told.to_numpy(zero_copy_only=False)
        return unlike

    def _taken(self, name: str, rows: Any) -> pa.ChunkedArray:
        return self._rows[name].take(pa.array(rows, mask=rows < 0))


class _Trail:
    """Some rows, by record and in order: which is the last of a record before another row."""

    def __init__(self, codes: Any, rows: Any, total: int) -> None:
        self._total = total
        self._keys = np.sort(codes[rows].astype(np.int64) * total + rows)

    def last(self, codes: Any, before: int) -> Any:
        """The last row of each record before a row, -1 where there is none."""
        first = codes.astype(np.int64) * self._total
        at = np.searchsorted(self._keys, first + before) - 1
        rows = np.where(at < 0, -1, self._keys[at] - first) if len(self._keys) else np.full(len(codes), -1)
        return np.maximum(rows, -1)

    def between(self, codes: Any, since: Any, before: int) -> Iterator[Any]:
        """The rows of each record from a row of its own on, and before another."""
        if not len(self._keys):
            return
        first = codes.astype(np.int64) * self._total
        starts, stops = np.searchsorted(self._keys, first + since), np.searchsorted(self._keys, first + before)
        some = np.flatnonzero(stops > starts)
        for start, stop, base in zip(starts[some].tolist(), stops[some].tolist(), first[some].tolist()):
            yield self._keys[start:stop] - base


def _each_once(codes: Any) -> Any:
    """Codes in the order in which they come, without those that came before."""
    _, firsts = np.unique(codes, return_index=True)
    return codes[np.sort(firsts)]
