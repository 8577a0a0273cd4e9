"""What changed between two states: records that came and went, and every field that differs.

The states are compared column by column; only values that differ become text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.markup import SHOWN, headline, table
from meshlab.records import FIELDS
from meshlab.snapshot.state import State, plain_values
from meshlab.tables.schema import NAME
from meshlab.tables.tabular import Tabular

ADDED, REMOVED, CHANGED = "added", "removed", "changed"

DIFF_SCHEMA = pa.schema(
    [("id", pa.string()), ("change", NAME), ("field", pa.string()), ("before", pa.string()), ("after", pa.string())]
)
"""One row per field that differs; ``before`` and ``after`` are JSON, null where the field is not given."""


class Diff(Tabular):
    """What changed from one state to another.

    ``counts`` has the number of records ``added``, ``removed`` and ``changed``, and
    ``fields`` the number of changed records by field.  Arrow tools take the object as it
    is: one row per record and field, in ``DIFF_SCHEMA``, by id.
    """

    def __init__(self, before: State, after: State) -> None:
        self.uid = after.uid
        self.damage = max(before.damage, after.damage)
        self._table, self.counts = compare(before.to_arrow(), after.to_arrow())

    @property
    def fields(self) -> dict[str, int]:
        """How many records changed, by field; the most frequent first."""
        changed = self._table.filter(pc.equal(self._table["change"].cast(pa.string()), CHANGED))
        pairs = pc.value_counts(changed["field"].combine_chunks()).to_pylist()
        return {pair["values"]: pair["counts"] for pair in sorted(pairs, key=lambda pair: -pair["counts"])}

    def to_arrow(self) -> pa.Table:
        """The differences in ``DIFF_SCHEMA``."""
        return self._table

    def to_pylist(self) -> list[dict[str, Any]]:
        """The differences as dicts, values as they are in the JSON form; what is not given is left out."""
        return [_row(row) for row in self._table.to_pylist()]

    def __bool__(self) -> bool:
        return any(self.counts.values())

    def __repr__(self) -> str:
        return f"<Diff of {self.uid}: {self._summary()}>"

    def _repr_html_(self) -> str:
        rows = (row.values() for row in self._table.slice(0, SHOWN).to_pylist())
        return headline("Diff of", self.uid, self._summary()) + table(DIFF_SCHEMA.names, rows, len(self))

    def _summary(self) -> str:
        told = [f"{count:,} {name}" for name, count in self.counts.items() if count] or ["no difference"]
        if self.damage:
            told.append(f"{self.damage:,} damaged or missing pieces in the log")
        return ", ".join(told)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    values = {name: msgspec.json.decode(row[name]) for name in ("before", "after") if row[name] is not None}
    return {"id": row["id"], "change": row["change"], "field": row["field"], **values}


# Comparing


def compare(before: pa.Table, after: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """What differs between two tables in ``RECORD_SCHEMA``.

    The rows of a diff, in ``DIFF_SCHEMA``, and how many records were added, removed and changed.
    """
    old, new = before["id"].combine_chunks(), after["id"].combine_chunks()
    place = pc.index_in(new, old)  # where each new record stood
    stays = place.is_valid().to_numpy(zero_copy_only=False)
    rows_before = place.drop_null().to_numpy().astype(np.int64)
    left = np.ones(len(old), bool)
    left[rows_before] = False
    rows_after = np.flatnonzero(stays)
    added = _whole(after.take(pa.array(np.flatnonzero(~stays))), ADDED)
    removed = _whole(before.take(pa.array(np.flatnonzero(left))), REMOVED)
    changed, count = _changed(before.take(pa.array(rows_before)), after.take(pa.array(rows_after)))
    table = pa.concat_tables([added, removed, changed]).unify_dictionaries()
    order = pc.sort_indices(table, [("id", "ascending")])
    return table.take(order), {ADDED: int((~stays).sum()), REMOVED: int(left.sum()), CHANGED: count}


def _whole(records: pa.Table, change: str) -> pa.Table:
    """Every given field of records that came or went."""
    if not records.num_rows:
        return DIFF_SCHEMA.empty_table()
    rows: list[Any] = []
    for name in FIELDS[1:]:
        given = np.flatnonzero(records[name].is_valid().to_numpy())
        rows += [(row, name, text) for row, text in zip(given.tolist(), _texts(records[name], given), strict=True)]
    extras = _extras(records, np.flatnonzero(records["extra"].is_valid().to_numpy()))
    rows += [(row, name, text) for row, fields in extras.items() for name, text in fields.items()]
    # A record of nothing but its id still came or went.
    bare = set(range(records.num_rows)) - {row for row, _, _ in rows}
    rows += [(row, "id", _encode(records["id"][row].as_py())) for row in bare]
    rows.sort(key=lambda row: (row[0], _ORDER.get(row[1], len(FIELDS))))
    side = {"before": None, "after": [text for _, _, text in rows]}
    if change == REMOVED:
        side = {"before": side["after"], "after": None}
    return _table(records["id"], [row for row, _, _ in rows], change, [name for _, name, _ in rows], **side)


def _changed(before: pa.Table, after: pa.Table) -> tuple[pa.Table, int]:
    """The fields that differ of records that are in both, and how many records those are."""
    found: dict[tuple[int, str], list[str | None]] = {}
    for name in FIELDS[1:]:
        rows = np.flatnonzero(differs(before[name], after[name]))
        pairs = zip(_texts(before[name], rows), _texts(after[name], rows), strict=True)
        found |= {(row, name): list(pair) for row, pair in zip(rows.tolist(), pairs, strict=True)}
    rows = np.flatnonzero(differs(before["extra"], after["extra"]))
    for side, fields in enumerate((_extras(before, rows), _extras(after, rows))):
        for row, texts in fields.items():
            for name, text in texts.items():
                found.setdefault((row, name), [None, None])[side] = text
    unlike = {place: pair for place, pair in found.items() if pair[0] != pair[1]}
    places = sorted(unlike, key=lambda place: (place[0], _ORDER.get(place[1], len(FIELDS)), place[1]))
    sides = {"before": [unlike[place][0] for place in places], "after": [unlike[place][1] for place in places]}
    held = [row for row, _ in places]
    return _table(after["id"], held, CHANGED, [name for _, name in places], **sides), len(set(held))


_ORDER = {name: index for index, name in enumerate(FIELDS)}


def _table(
    ids: pa.ChunkedArray, rows: Sequence[int], change: str, fields: list[str], before: Any = None, after: Any = None
) -> pa.Table:
    count = len(rows)
    sides = [pa.nulls(count, pa.string()) if side is None else pa.array(side, pa.string()) for side in (before, after)]
    columns = [
        ids.take(pa.array(rows, pa.int64())),
        pa.array([change] * count, pa.string()),
        pa.array(fields, pa.string()),
    ]
    columns[1] = columns[1].dictionary_encode()
    return pa.table([*columns, *sides], names=DIFF_SCHEMA.names).cast(DIFF_SCHEMA)


def differs(before: pa.ChunkedArray, after: pa.ChunkedArray) -> Any:
    """Per row, whether two columns differ; floats by their bits."""
    one, other = before.combine_chunks(), after.combine_chunks()
    one, other = (side.chunk(0) if isinstance(side, pa.ChunkedArray) else side for side in (one, other))
    return _unlike(one, other)


def _unlike(one: pa.Array, other: pa.Array) -> Any:
    valid = one.is_valid().to_numpy(zero_copy_only=False), other.is_valid().to_numpy(zero_copy_only=False)
    both = valid[0] & valid[1]
    if pa.types.is_struct(one.type):
        unlike = np.zeros(len(one), bool)
        for ours, theirs in zip(one.flatten(), other.flatten(), strict=True):
            unlike |= _unlike(ours, theirs)
    elif pa.types.is_list(one.type):
        unlike = _unlike_lists(one, other, both)
    elif pa.types.is_float64(one.type):
        bits = (side.fill_null(0.0).to_numpy().view(np.int64) for side in (one, other))
        unlike = np.not_equal(*bits)
    else:
        unlike = pc.fill_null(pc.not_equal(one, other), False).to_numpy(zero_copy_only=False)
    return (valid[0] != valid[1]) | (both & unlike)


def _unlike_lists(one: pa.ListArray, other: pa.ListArray, both: Any) -> Any:
    """Lists of one length are compared element by element, all at once."""
    lengths = [pc.fill_null(pc.list_value_length(side), 0).to_numpy() for side in (one, other)]
    unlike = lengths[0] != lengths[1]
    rows = np.flatnonzero(both & ~unlike & (lengths[0] > 0))
    if len(rows):
        values = [side.take(pa.array(rows)).flatten() for side in (one, other)]
        starts = np.concatenate([[0], np.cumsum(lengths[0][rows])[:-1]])
        unlike[rows] = np.logical_or.reduceat(_unlike(*values), starts)
    return unlike


# Values as text


def _encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _texts(column: pa.ChunkedArray, rows: Any) -> list[str | None]:
    """The JSON of some values; None where there is none."""
    taken = column.take(pa.array(rows, pa.int64())).combine_chunks()
    chunks = taken.chunks if isinstance(taken, pa.ChunkedArray) else [taken]
    return [None if value is None else _encode(value) for chunk in chunks for value in plain_values(chunk)]


def _extras(records: pa.Table, rows: Any) -> dict[int, dict[str, str]]:
    """The fields in ``extra`` of some rows, by row, as JSON."""
    texts = records["extra"].take(pa.array(rows, pa.int64())).to_pylist()
    return {
        row: {name: bytes(raw).decode() for name, raw in _raw_map(text).items()}
        for row, text in zip(rows.tolist(), texts, strict=True)
        if text is not None
    }


_raw_map = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
