"""Totals of segments that vacuum deleted, from the ledger it left in their place."""

from __future__ import annotations

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


def ledger_totals(root: Path, uid: str) -> pa.Table:
    """Events and bytes of a user's deleted segments, in ``TOTALS_SCHEMA``.

    ``hour`` is the hour of day within the day of the segment: the ledger keeps no other
    date.  A segment that was retired and whose file a crash left is not ``deleted``.  A
    snapshot or ledger that cannot be read has no rows: the log is what counts here, and
    ``verify`` and ``windows`` tell of the rest.
    """
    try:
        found = current(root, uid)
        if not isinstance(found, Manifest):
            return TOTALS_SCHEMA.empty_table()
        left = undeleted(root, found)
        layers = [pq.read_table(verified_path(root, layer)) for layer in found.of_kind(LEDGER)]
    except SnapshotError:
        return TOTALS_SCHEMA.empty_table()
    rows = [_row(uid, row, row["day"] not in left) for layer in layers for row in layer.to_pylist()]
    return pa.Table.from_pylist(rows, TOTALS_SCHEMA)


def _row(uid: str, row: dict[str, Any], deleted: bool) -> dict[str, Any]:
    hour = None if row["hour"] is None else midnight(row["day"]) + row["hour"] * HOUR
    return {**row, "uid": uid, "hour": hour, "deleted": deleted}
