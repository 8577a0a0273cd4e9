"""Events: the result of a load, in whatever form the caller works with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.markup import headline, table
from meshlab.records import FIELDS
from meshlab.tables.load import Load, Log, Moment, Piece, Read, select
from meshlab.tables.reports import reject_table, segment_table
from meshlab.tables.schema import COLUMNS, REJECT_SCHEMA, SEGMENT_SCHEMA
from meshlab.tables.tabular import Tabular
from meshlab.wal.chain import ORIGIN, Cursor
from meshlab.wal.reader import Part, Tally, total


class Events(Tabular):
    """Events of one or more users; nothing is read before it is asked for.

    ``to_batches()`` streams in bounded memory.  Everything else reads all once and
    keeps it.  ``rejects`` and ``segments`` are Arrow tables; they are complete when
    the events have been read, and read them when they have not.
    """

    def __init__(self, loads: Sequence[Load], schema: pa.Schema) -> None:
        self._loads = list(loads)
        self.schema = schema
        self._table: pa.Table | None = None
        self._done = False

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """The events as record batches, in log order, user by user."""
        if self._table is not None:
            yield from self._table.to_batches()
            return
        for load in self._loads:
            yield from load
        self._done = True

    def to_arrow(self) -> pa.Table:
        """The events as one Arrow table."""
        if self._table is None:
            table = pa.Table.from_batches(list(self.to_batches()), self.schema)
            self._table = table.unify_dictionaries() if len(self._loads) > 1 else table
        return self._table

    def to_pylist(self) -> list[dict[str, Any]]:
        """The events as dicts: place and time in front, then what was given of the record."""
        return [json_form(row) for batch in self.to_arrow().to_batches() for row in batch.to_pylist()]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.to_batches():
            for row in batch.to_pylist():
                yield json_form(row)

    @property
    def rejects(self) -> pa.Table:
        """Bytes that are no event, and findings; one row each."""
        self._read()
        return _joined([reject_table(load.uid, load.rejects) for load in self._loads], REJECT_SCHEMA)

    @property
    def segments(self) -> pa.Table:
        """What tiles each segment that was read to its end."""
        self._read()
        return _joined([segments_of(load) for load in self._loads], SEGMENT_SCHEMA)

    @property
    def end(self) -> Cursor:
        """Where the log of the last user stands behind what was read."""
        self._read()
        if not self._loads:
            return ORIGIN
        last = self._loads[-1]
        return last.report.reads[-1].end if last.report.reads else last.log.start

    @property
    def reads(self) -> list[Read]:
        """What each piece that was read holds, and where the log stands behind it; in log order."""
        self._read()
        return [read for load in self._loads for read in load.report.reads]

    @property
    def parts(self) -> list[Part]:
        """What each piece that was read holds, in log order; rejects are not resolved yet."""
        return [read.part for read in self.reads]

    @property
    def damage(self) -> int:
        """Number of rejects and findings that are damage: all but torn tails."""
        self._read()
        return sum(reject.kind != "torn" for load in self._loads for reject in load.rejects)

    def _read(self) -> None:
        if not self._done:
            self.to_arrow()

    def __repr__(self) -> str:
        return f"<Events of {self._users()}{', ' if not self._done else ': '}{self._summary()}>"

    def _repr_html_(self) -> str:
        head = headline("Events of", self._users(), self._summary())
        if self._table is None or "op" not in self.schema.names:
            return head
        counts = pc.value_counts(self._table.column("op").cast(pa.string())).to_pylist()
        return head + table(["op", "events"], [[row["values"], f"{row['counts']:,}"] for row in counts])

    def _users(self) -> str:
        return self._loads[0].uid if len(self._loads) == 1 else f"{len(self._loads)} users"

    def _summary(self) -> str:
        if not self._done:
            return "not read yet"
        rows = "" if self._table is None else f"{self._table.num_rows:,} rows, "
        told = f", {self.damage} damaged or missing pieces (see .rejects)" if self.damage else ""
        return f"{rows}{len(self.schema)} columns{told}"


def segments_of(load: Load) -> pa.Table:
    """What tiles each segment that a load has read to its end, in ``SEGMENT_SCHEMA``."""
    tallies: dict[str, Tally] = {}
    for part in load.report.parts:
        tally = part.tally
        known = tallies.get(tally.segment)
        tallies[tally.segment] = tally if known is None else total(known, tally)
    whole = [tally for day, tally in sorted(tallies.items()) if day not in load.report.cut]
    return segment_table(load.uid, [(tally, tally.segment in load.report.sealed) for tally in whole])


def _joined(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables(tables or [schema.empty_table()]).unify_dictionaries()


def json_form(row: dict[str, Any]) -> dict[str, Any]:
    """A row as a dict without what was not given; unknown and misfit fields under their names.

    >>> json_form({"op": "update", "id": "m1", "mode": None, "extra": '{"theme":"dark"}'})
    {'op': 'update', 'id': 'm1', 'theme': 'dark'}
    """
    extra = row.pop("extra", None)
    given = {name: _given(name, value) for name, value in row.items() if value is not None}
    return given | (msgspec.json.decode(extra) if extra else {})


def _given(name: str, value: Any) -> Any:
    if isinstance(value, dict) and name in FIELDS:
        return {part: item for part, item in value.items() if item is not None}
    return value


def load_users(
    logs: Sequence[Log | tuple[Path, str]],
    *,
    columns: Iterable[str] | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    ops: Collection[str] | str | None = None,
    ids: Collection[str] | str | None = None,
    progress: bool = True,
) -> Events:
    """The events of several users, each given as a ``Log``, of which directory and uid will do; see ``load_user``."""
    selection = select(columns, since, until, ops, ids)
    schema = pa.schema([COLUMNS.field(name) for name in selection.columns])
    return Events([Load(Log(*log), selection, progress) for log in logs], schema)


def load_user(
    root: Path, uid: str, pieces: Sequence[Piece] | None = None, start: Cursor = ORIGIN, **chosen: Any
) -> Events:
    """The events of the user whose directory is ``root``.

    ``columns`` are names of ``COLUMNS``, those of ``EVENT_SCHEMA`` unless named; ``since`` and ``until`` bound the
    effective time, inclusive (a datetime, RFC 3339 text or µs since 1970); ``ops`` and
    ``ids`` choose rows.  Raises ``MeshlabError`` for a name that does not exist, and
    while reading ``StorageError`` or ``NotFound``.

    ``pieces`` are those of the log to read, in log order (all segments when none are
    named); ``start`` is where the log stands before the first of them.

    With ``since``, segments that end before it are not read, so a frame repeated from
    one of them is recognised only by the last frame before the first segment read.
    """
    return load_users([Log(root, uid, pieces, start)], **chosen)
