"""A state: the records that live after a fold, in the form each tool wants them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.jsontext import json_float
from meshlab.markup import SHOWN, headline, table
from meshlab.records import FIELDS
from meshlab.snapshot.fold import Counts
from meshlab.tables.tabular import Tabular
from meshlab.wal.chain import ORIGIN, Cursor

_decode = msgspec.json.decode

_IN_BRIEF = ("id", "amplitude", "stability", "access_count", "vault_status", "content")
"""What a notebook shows of a memory."""


class State(Tabular):
    """Live memories of one user, sorted by id.

    ``orphans``   partial updates of ids that did not exist: segment, offset, line,
                  effective_ts, id and the names of the fields they give
    ``rejects``   bytes of the log that are no event, and findings (``REJECT_SCHEMA``)
    ``segments``  what the log consists of (``SEGMENT_SCHEMA``)
    ``counts``    events folded, by kind
    ``ends``      per segment, the offset up to which it is in the state, and ``end``, the chain there

    Arrow tools take the object as it is: ``pa.table(state)``, ``pl.from_arrow(state)``,
    ``duckdb.sql("from state")``.
    """

    def __init__(
        self,
        uid: str,
        table: pa.Table,
        *,
        orphans: pa.Table,
        rejects: pa.Table,
        segments: pa.Table,
        counts: Counts,
        ends: Mapping[str, int] | None = None,
        end: Cursor = ORIGIN,
    ) -> None:
        self.uid = uid
        self.orphans = orphans
        self.rejects = rejects
        self.segments = segments
        self.counts = counts
        self.ends = dict(ends or {})
        self.end = end
        self._table = table

    def to_arrow(self) -> pa.Table:
        """The records in ``RECORD_SCHEMA``."""
        return self._table

    def to_pylist(self) -> list[dict[str, Any]]:
        """The records in the JSON form.

        Given fields only, in serialisation order, then unknown ones by name; times are
        the text that was written; a value that does not fit its field stands as it was.
        NaN and the infinities, which only an older layout can bring, are the strings
        ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.
        """
        return list(json_forms(self._table))

    def get(self, id: str) -> dict[str, Any] | None:
        """The JSON form of one memory, or None when no such memory lives."""
        row = self._find(id)
        return None if row is None else next(json_forms(self._table.slice(row, 1)))

    @property
    def damage(self) -> int:
        """Number of rejects and findings in the log that are damage: all but torn tails."""
        return int(pc.sum(pc.not_equal(self.rejects["class"], "torn")).as_py() or 0)

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and self._find(id) is not None

    def __repr__(self) -> str:
        return f"<State of {self.uid}: {self._summary()}>"

    def _repr_html_(self) -> str:
        rows = self._table.select(list(_IN_BRIEF)).slice(0, SHOWN // 2).to_pylist()
        return headline("State of", self.uid, self._summary()) + table(
            _IN_BRIEF, (row.values() for row in rows), len(self)
        )

    def _summary(self) -> str:
        parts = [f"{len(self):,} live {'memory' if len(self) == 1 else 'memories'}"]
        if self.orphans.num_rows:
            parts.append(f"{self.orphans.num_rows:,} orphan{'s' * (self.orphans.num_rows > 1)}")
        if self.damage:
            parts.append(f"{self.damage:,} damaged or missing pieces in the log (see .rejects)")
        return ", ".join(parts)

    def _find(self, id: str) -> int | None:
        ids = self._table["id"]
        row = bisect_left(range(len(ids)), id, key=lambda at: ids[at].as_py())
        return row if row < len(ids) and ids[row].as_py() == id else None


def json_forms(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The records of a table in ``RECORD_SCHEMA``, one after the other, as ``State.to_pylist`` gives them."""
    for batch in table.to_batches(max_chunksize=65_536):
        columns = [plain_values(batch.column(name)) for name in FIELDS]
        extras = plain_values(batch.column("extra"))
        for extra, *values in zip(extras, *columns, strict=True):
            record = {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}
            yield record if extra is None else _merged(record, _decode(extra))


def plain_values(column: pa.Array) -> list[Any]:
    """Python values as the JSON form has them, None where there is none; of a struct the given subfields only.

    Numpy makes Python objects of a column many times faster than Arrow does.
    """
    if pa.types.is_struct(column.type):
        return _with_gaps(_structs(column), column)
    if pa.types.is_list(column.type):
        offsets = column.offsets.to_numpy()
        values = plain_values(column.values[offsets[0] : offsets[-1]])
        lists = [values[start:stop] for start, stop in pairwise((offsets - offsets[0]).tolist())]
        return _with_gaps(lists, column)
    if pa.types.is_string(column.type):
        return list(column.to_numpy(zero_copy_only=False).tolist())
    numbers = column.fill_null(0).to_numpy()
    plain = numbers.tolist()
    for row in np.flatnonzero(~np.isfinite(numbers)).tolist():
        plain[row] = json_float(plain[row])
    return _with_gaps(plain, column)


def _structs(column: pa.Array) -> list[dict[str, Any]]:
    names = [column.type.field(i).name for i in range(column.type.num_fields)]
    rows = zip(*[plain_values(child) for child in column.flatten()], strict=True)
    return [{name: value for name, value in zip(names, row, strict=True) if value is not None} for row in rows]


def _with_gaps(values: list[Any], column: pa.Array) -> list[Any]:
    for row in np.flatnonzero(column.is_null()).tolist() if column.null_count else ():
        values[row] = None
    return values


def _merged(record: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """Known names in serialisation order, those whose value does not fit included."""
    both = record | extra
    return {name: both[name] for name in (*FIELDS, *extra) if name in both}
