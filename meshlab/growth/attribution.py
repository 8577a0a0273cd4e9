"""Attribution: whose bytes these are, of what day, op, dialect, memory or field.

>>> rows = [("ann", "20250707", None, "insert", "meshlab", 3, 900, False),
...         ("ann", "20250707", None, "(rejects)", "(rejects)", 1, 100, False)]
>>> from meshlab.tables.totals import TOTALS_SCHEMA
>>> totals = pa.Table.from_pylist([dict(zip(TOTALS_SCHEMA.names, row)) for row in rows], TOTALS_SCHEMA)
>>> attribute(totals, "op")
<Attribution of 1.0 kB by op: insert 90 %, (rejects) 10 %>
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.dialects import OPS
from meshlab.errors import MeshlabError
from meshlab.markup import short
from meshlab.tables.tabular import Tabular
from meshlab.wording import escape, size_text

if TYPE_CHECKING:
    from meshlab.plots.plot import Plot

KEYS = ("user", "day", "hour", "op", "dialect", "id", "field")
"""What bytes can be put down to."""

IN_TIME = ("day", "hour")
"""Keys whose rows stand in order of time; all others begin with the largest."""

ENVELOPE = "(envelope)"
"""The bytes of events that are no field: timestamps, tags, sums, punctuation; all of events that give none."""

NO_ID, NO_HOUR = "(no id)", "(no hour)"

ATTRIBUTION_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("bytes", pa.int64()),
        ("events", pa.int64()),
        ("share", pa.float64()),
        ("cumulative", pa.float64()),
        ("deleted_bytes", pa.int64()),
        ("deleted_events", pa.int64()),
    ]
)
"""One row per key; ``bytes`` add up to the sizes of the files.

``share`` is of all bytes on disk, ``cumulative`` that of this row and those above.  What
vacuum deleted stands beside it: it has grown too.  ``events`` is null by field, where one
event counts in many rows.  For rejects and blank lines it is their number.
"""


@dataclass(frozen=True, repr=False, eq=False)
class Attribution(Tabular):
    """Bytes and events by ``by``: ``table`` is in ``ATTRIBUTION_SCHEMA``; ``totals`` is what it was made of."""

    by: str
    table: pa.Table
    totals: pa.Table

    def to_arrow(self) -> pa.Table:
        """The table."""
        return self.table

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return pc.sum(self.table["bytes"]).as_py() or 0

    def top(self, count: int) -> Attribution:
        """The ``count`` largest rows, and all others as one row behind them."""
        if count < 1:
            raise MeshlabError(f"the top {count} is no number of rows", hint="give 1 or more")
        if self.table.num_rows <= count:
            return self
        table = self.table.sort_by(_LARGEST_FIRST)
        rest = table.slice(count)
        sums = {name: pc.sum(rest[name]).as_py() for name in _SUMMED}
        row = pa.Table.from_pylist([{"key": f"({rest.num_rows:,} others)", **sums}], _PLAIN)
        joined = pa.concat_tables([table.select(_PLAIN.names).slice(0, count), row])
        return Attribution(self.by, _with_shares(joined), self.totals)

    def plot(self) -> Plot:
        """Days, for the op stacked by it; for users, hours, and other keys their own figures."""
        if self.by == "user":
            from meshlab.plots.growth_users import plot_growth_users

            return plot_growth_users(self)
        if self.by == "hour":
            from meshlab.plots.heatmap import plot_heatmap

            return plot_heatmap(self.totals)
        if self.by in ("day", "op"):
            from meshlab.plots.growth_days import plot_growth_days

            return plot_growth_days(self.totals, by_op=self.by == "op")
        from meshlab.plots.shares import plot_shares

        return plot_shares(self)

    def __repr__(self) -> str:
        largest = self.table.sort_by([("bytes", "descending"), ("key", "ascending")]).slice(0, _TOLD).to_pylist()
        told = ", ".join(
            f"{short(escape(row['key']), _LETTERS)} {row['share']:.0%}".replace("%", " %") for row in largest
        )
        more = f" and {self.table.num_rows - _TOLD:,} more" if self.table.num_rows > _TOLD else ""
        return f"<Attribution of {size_text(self.bytes)} by {self.by}: {told or 'nothing'}{more}>"

    def _repr_html_(self) -> str:
        names = [self.by, "bytes", "events", "share"]
        head = "".join(f"<th>{name}</th>" for name in names)
        shown = self.table if self.by in IN_TIME else self.top(_SHOWN).table
        body = "".join(_html_row(row) for row in shown.slice(0, _SHOWN + 1).to_pylist())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


_TOLD, _SHOWN, _LETTERS = 3, 20, 40
_LARGEST_FIRST = [("bytes", "descending"), ("deleted_bytes", "descending"), ("key", "ascending")]
_SUMMED = ("bytes", "events", "deleted_bytes", "deleted_events")
_PLAIN = pa.schema([ATTRIBUTION_SCHEMA.field(name) for name in ("key", *_SUMMED)])


def _html_row(row: dict[str, Any]) -> str:
    events = "" if row["events"] is None else f"{row['events']:,}"
    cells = (html.escape(short(escape(row["key"]), _LETTERS)), size_text(row["bytes"]), events, f"{row['share']:.1%}")
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def attribute(
    totals: pa.Table, by: str = "op", *, fields: pa.Table | None = None, ids: pa.Table | None = None
) -> Attribution:
    """Put the bytes in ``totals`` (``TOTALS_SCHEMA``) down to one of ``KEYS``.

    ``hour`` is the hour of day of the effective time, 00 to 23 UTC; ``day`` that of the
    segment.  ``field`` needs ``fields`` (``FIELD_TOTALS_SCHEMA``) and ``id`` needs
    ``ids`` (``ID_TOTALS_SCHEMA``).  Raises ``MeshlabError`` for any other key.
    """
    if by not in KEYS:
        raise MeshlabError(f"bytes cannot be put down to {by!r}", hint=f"choose from {', '.join(KEYS)}")
    if by == "field":
        table = _by_field(totals, fields)
    elif by == "id":
        table = _by_id(totals, ids)
    else:
        table = _grouped(totals, _keys_of(totals, by))
    return Attribution(by, _with_shares(_ordered(table, by in IN_TIME)), totals)


def _keys_of(totals: pa.Table, by: str) -> pa.ChunkedArray:
    """The key of each row; what is no event is put down to its own name."""
    if by == "hour":
        keys = pc.fill_null(pc.strftime(totals["hour"], "%H:00"), NO_HOUR)
    else:
        keys = totals["uid" if by == "user" else by]
    return pc.if_else(_is_event(totals), keys, totals["op"])


def _is_event(totals: pa.Table) -> pa.ChunkedArray:
    return pc.is_in(totals["op"], pa.array(OPS))


def _grouped(totals: pa.Table, keys: pa.ChunkedArray) -> pa.Table:
    """Sums by key, what is on disk and what is not apart."""
    gone = totals["deleted"]
    columns = {
        "key": keys,
        "bytes": pc.if_else(gone, 0, totals["bytes"]),
        "events": pc.if_else(gone, 0, totals["events"]),
        "deleted_bytes": pc.if_else(gone, totals["bytes"], 0),
        "deleted_events": pc.if_else(gone, totals["events"], 0),
    }
    return _summed(pa.table(columns))


def _summed(table: pa.Table) -> pa.Table:
    found = table.group_by("key").aggregate([(name, "sum") for name in _SUMMED])
    return found.select(["key", *(f"{name}_sum" for name in _SUMMED)]).rename_columns(_PLAIN.names).cast(_PLAIN)


def _by_field(totals: pa.Table, fields: pa.Table | None) -> pa.Table:
    if fields is None:
        raise MeshlabError(
            "bytes by field need the totals of fields", hint="give fields=, or use store.growth().by('field')"
        )
    nbytes = fields.group_by("field").aggregate([("bytes", "sum")])
    kept = _row_sum(totals, _is_event(totals), "bytes")
    spent = pc.sum(fields["bytes"]).as_py() or 0
    rows = [{"key": row["field"], "bytes": row["bytes_sum"]} for row in nbytes.to_pylist()]
    rows += [{"key": ENVELOPE, "bytes": kept - spent}] if kept else []
    return pa.concat_tables([_named(rows), _unspoken(totals)])


def _by_id(totals: pa.Table, ids: pa.Table | None) -> pa.Table:
    if ids is None:
        raise MeshlabError("bytes by id need the totals of ids", hint="give ids=, or use store.growth().by('id')")
    keys = pc.fill_null(ids["id"], NO_ID)
    zeros = pa.array(np.zeros(ids.num_rows, np.int64))
    columns = {
        "key": keys,
        "bytes": ids["bytes"],
        "events": ids["events"],
        "deleted_bytes": zeros,
        "deleted_events": zeros,
    }
    return pa.concat_tables([_summed(pa.table(columns)), _unspoken(totals)])


def _unspoken(totals: pa.Table) -> pa.Table:
    """The rows that fields and ids say nothing of: what is no event, and events that were deleted."""
    rest = totals.filter(pc.invert(_is_event(totals)))
    others = _grouped(rest, rest["op"])
    gone = {name: _row_sum(totals, _is_event(totals), name, deleted=True) for name in ("bytes", "events")}
    if not any(gone.values()):
        return others
    row = {"key": DELETED, "bytes": 0, "deleted_bytes": gone["bytes"], "deleted_events": gone["events"]}
    return pa.concat_tables([others, _named([row])])


DELETED = "(deleted segments)"
"""Events that vacuum deleted, where nobody knows the fields and ids any more."""


def _named(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows in ``_PLAIN``; deleted bytes that are not given are 0."""
    return pa.Table.from_pylist([{"deleted_bytes": 0, "deleted_events": 0, **row} for row in rows], _PLAIN)


def _row_sum(totals: pa.Table, rows: pa.ChunkedArray, name: str, *, deleted: bool = False) -> int:
    chosen = pc.and_(rows, totals["deleted"] if deleted else pc.invert(totals["deleted"]))
    return pc.sum(totals[name].filter(chosen)).as_py() or 0


def _ordered(table: pa.Table, in_time: bool) -> pa.Table:
    """The largest first, or in order of time with what is no event, whose names begin with a bracket, behind."""
    if in_time:
        last = pc.starts_with(table["key"], "(")
        return table.append_column("last", last).sort_by([("last", "ascending"), ("key", "ascending")]).drop(["last"])
    return table.sort_by(_LARGEST_FIRST)


def _with_shares(table: pa.Table) -> pa.Table:
    nbytes = table["bytes"].to_numpy()
    share = nbytes / max(1, nbytes.sum())
    columns = [*table.columns[:3], pa.array(share), pa.array(np.cumsum(share)), *table.columns[3:]]
    return pa.table(columns, schema=ATTRIBUTION_SCHEMA)
