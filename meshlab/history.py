"""The life of one memory: every event of it that is still in the log, and what it was after each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.errors import NotRestorable
from meshlab.markup import SHOWN, headline, table
from meshlab.plan import Planner
from meshlab.records import FIELDS
from meshlab.replay import steadily
from meshlab.snapshot.state import json_forms
from meshlab.tables.events import json_form, load_user
from meshlab.tables.schema import NAME, TIME
from meshlab.tables.tabular import Tabular
from meshlab.timeline import Start

APPLIED, ORPHAN, NOTHING = "applied", "orphan", "nothing"
"""What an event did: ``nothing`` is a Delete of a memory that did not live."""

HISTORY_SCHEMA = pa.schema(
    [
        ("effective_ts", TIME),
        ("ts", TIME),
        ("segment", NAME),
        ("offset", pa.int64()),
        ("seq", pa.int64()),
        ("op", NAME),
        ("effect", NAME),
        ("fields", pa.list_(pa.string())),
        ("after", pa.string()),
    ]
)
"""One row per event, in log order.

``fields`` are those the event gives besides the id; ``after`` is the JSON of these fields
when it had been applied, of the whole record behind one that sets it, null when there is
no record.
"""

_PLACE = ("effective_ts", "ts", "segment", "offset", "seq", "op")
_COLUMNS = (*_PLACE, *FIELDS, "extra")


class History(Tabular):
    """The events of one memory in log order, and what it was after each.

    ``before`` is the record as it was before the first of them, None when there was none;
    ``source`` says where that is known from.
    """

    def __init__(self, uid: str, id: str, source: str, before: dict[str, Any] | None, table: pa.Table) -> None:
        self.uid, self.id, self.source, self.before = uid, id, source, before
        self._table = table

    def to_arrow(self) -> pa.Table:
        """The events in ``HISTORY_SCHEMA``."""
        return self._table

    def to_pylist(self) -> list[dict[str, Any]]:
        """The events as dicts; ``after`` is a dict as well."""
        rows = self._table.to_pylist()
        return [row | {"after": row["after"] and msgspec.json.decode(row["after"])} for row in rows]

    def __repr__(self) -> str:
        return f"<History of {self.id} of {self.uid}: {self._summary()}>"

    def _repr_html_(self) -> str:
        rows = [_cells(row) for row in self._table.slice(0, SHOWN).to_pylist()]
        return headline("History of", self.id, f"of {self.uid}, {self._summary()}") + table(_IN_BRIEF, rows, len(self))

    def _summary(self) -> str:
        there = f"was there in {self.source}" if self.before is not None else f"not there at {self.source}"
        return f"{len(self):,} event{'s' * (len(self) != 1)}, {there}"


_IN_BRIEF = ("effective_ts", "op", "effect", "fields", "after")


def _cells(row: dict[str, Any]) -> list[Any]:
    return [", ".join(row[name]) if name == "fields" else row[name] for name in _IN_BRIEF]


def history(root: Path, uid: str, id: str, *, progress: bool = True) -> History:
    """The life of a memory, as far back as the log goes without a hole.

    Raises ``NotRestorable`` when nothing leads from a snapshot to the end of the log.
    """
    return steadily(root, lambda: _history(root, uid, id, progress))


def _history(root: Path, uid: str, id: str, progress: bool) -> History:
    line = Planner(root, uid).line
    start = next((one for one in line.starts if not one.problem and line.missing(one) is None), None)
    if start is None:
        raise NotRestorable(f"no snapshot of {uid} leads to the end of the log")
    pieces = line.pieces(start)
    events = load_user(root, uid, pieces, start.cursor, columns=_COLUMNS, ids=id, progress=progress).to_arrow()
    before = _record(start, id, progress)
    return History(uid, id, start.name, before, _lives(events, before))


def _record(start: Start, id: str, progress: bool) -> dict[str, Any] | None:
    """One record where a replay starts, in the JSON form."""
    base = start.base()
    if base is not None:
        found = base.lookup(pa.array([id], pa.string()))
        whole = base.contents.decode_column(found["content"])
        return next(json_forms(found.set_column(found.schema.get_field_index("content"), "content", whole)), None)
    table = start.table(progress=progress)
    return None if table is None else next(json_forms(table.filter(pc.equal(table["id"], id))), None)


def _lives(events: pa.Table, record: dict[str, Any] | None) -> pa.Table:
    """The events with what each did, by the rule of the fold."""
    effects, fields, afters = [], [], []
    names = ["op", *FIELDS, "extra"]
    for row in (row for batch in events.select(names).to_batches() for row in batch.to_pylist()):
        given = json_form(row)
        op = given.pop("op")
        effect, record, shown = _apply(op, given, record)
        effects.append(effect)
        fields.append([name for name in given if name != "id"])
        afters.append(None if shown is None else msgspec.json.encode(shown).decode())
    columns = {name: events[name] for name in _PLACE}
    columns["effect"] = pa.array(effects, pa.string()).dictionary_encode()
    columns |= {"fields": pa.array(fields, pa.list_(pa.string())), "after": pa.array(afters, pa.string())}
    return pa.table([columns[name] for name in HISTORY_SCHEMA.names], names=HISTORY_SCHEMA.names).cast(HISTORY_SCHEMA)


def _apply(
    op: str, given: dict[str, Any], record: dict[str, Any] | None
) -> tuple[str, dict[str, Any] | None, dict[str, Any] | None]:
    """What an event does to a record: the effect, the record behind it, and what of it to show."""
    if op == "delete":
        return (NOTHING if record is None else APPLIED), None, None
    if op == "insert" or all(name in given for name in FIELDS):
        return APPLIED, given, given
    if record is None:
        return ORPHAN, None, None
    record = record | given
    return APPLIED, record, {name: record[name] for name in given}
