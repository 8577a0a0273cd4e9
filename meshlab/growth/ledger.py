"""Totals of segments that vacuum deleted, from the ledger it left in their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from meshlab.errors import SnapshotError
from meshlab.snapshot.base import verified_path
from meshlab.snapshot.manifest import LEDGER, Manifest, current
from meshlab.snapshot.ranges import undeleted
from meshlab.tables.totals import TOTALS_SCHEMA
from meshlab.times import HOUR, midnight

NO_EVENT = "(no event)"
"""Bytes of deleted segments that were no event: nobody knows any more which were rejects and which blank lines."""


def ledger_totals(root: Path, uid: str) -> pa.Table:
    """Events and bytes of a user's deleted segments, in ``TOTALS_SCHEMA``, all ``deleted``.

    ``hour`` is the hour of day within the day of the segment: the ledger keeps no other
    date.  What the files had beyond their events is a row of each day, named ``NO_EVENT``.
    A segment that was retired and whose file a crash left has no rows: the log counts it.
    Nor has a snapshot or ledger that cannot be read, of which ``verify`` and ``windows``
    tell.
    """
    try:
        found = current(root, uid)
        if not isinstance(found, Manifest):
            return TOTALS_SCHEMA.empty_table()
        left = undeleted(root, found)
        layers = [pq.read_table(verified_path(root, layer)) for layer in found.of_kind(LEDGER)]
    except SnapshotError:
        return TOTALS_SCHEMA.empty_table()
    rows = [_row(uid, row) for layer in layers for row in layer.to_pylist() if row["day"] not in left]
    rows += [_row(uid, row) for row in _no_events(rows, found, left)]
    return pa.Table.from_pylist(rows, TOTALS_SCHEMA)


def _row(uid: str, row: dict[str, Any]) -> dict[str, Any]:
    hour = None if row["hour"] is None else midnight(row["day"]) + row["hour"] * HOUR
    return {**row, "uid": uid, "hour": hour, "deleted": True}


def _no_events(rows: list[dict[str, Any]], found: Manifest, left: Collection[str]) -> Iterator[dict[str, Any]]:
    """What the deleted files had beyond the events in these rows, by day."""
    rest: Counter[str] = Counter()
    for gone in found.retired:
        if gone.segment not in left:
            rest[gone.segment] += gone.nbytes
    for row in rows:
        rest[row["day"]] -= row["bytes"]
    for day, nbytes in rest.items():
        if nbytes > 0:
            yield {"day": day, "hour": None, "op": NO_EVENT, "dialect": NO_EVENT, "events": 0, "bytes": nbytes}
