"""Growth of many users: sums that are made partition by partition.

By day, hour, op or dialect memory does not grow with the users.  By user, and for
changes, there are rows for each, which are put one behind another: nobody is in two
partitions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from meshlab.errors import MeshlabError
from meshlab.fleet.run import Run
from meshlab.growth.attribution import Attribution, attribute
from meshlab.growth.changes import Changes, change_points
from meshlab.growth.forecast import LIMIT, SHOWN, Forecast, forecast
from meshlab.growth.redundancy import USER_SCHEMA, Redundancy
from meshlab.tables.totals import TOTALS_SCHEMA

_KEPT = {
    "user": ("uid", "op"),
    "day": ("day", "op"),
    "op": ("day", "op"),
    "hour": ("day", "hour", "op"),
    "dialect": ("dialect", "op"),
}
"""What of the totals a key, and its figure, need."""

_HELD = 1 << 20
"""Rows of sums that wait to be added up."""


class GrowthRun(Run):
    """What the logs of many users are full of."""

    @property
    def totals(self) -> pa.Table:
        """Events and bytes by user, day, hour, op and dialect, of all users at once."""
        return self.table("totals")

    def by(self, key: str = "op") -> Attribution:
        """Bytes and events by ``user``, ``day``, ``hour``, ``op`` or ``dialect``."""
        if key not in _KEPT:
            raise MeshlabError(
                f"bytes of a fleet cannot be put down to {key!r}",
                hint=f"choose from {', '.join(_KEPT)}; for 'id' and 'field' use store.growth(users) on a few",
            )
        return attribute(self.summed(*_KEPT[key]), key)

    def changes(self) -> Changes:
        """When somebody's traffic jumped for good."""
        return change_points(self.summed("uid", "day", "hour", "op", "dialect"))

    def forecast(self, limit: int = LIMIT, *, days: int = SHOWN) -> Forecast:
        """The bytes of the next days, and when the logs reach ``limit``."""
        return forecast(self.summed("day", "hour", "op", "dialect"), limit=limit, days=days)

    def summed(self, *kept: str) -> pa.Table:
        """The totals by some columns, in ``TOTALS_SCHEMA``; the others are empty."""
        keys = [*kept, "deleted"]
        parts = (_summed(table, keys) for table in self.each("totals"))
        found = pa.concat_tables([TOTALS_SCHEMA.empty_table(), *parts]) if "uid" in kept else _added_up(parts, keys)
        return found.sort_by([(name, "ascending") for name in keys])


def _added_up(parts: Iterable[pa.Table], keys: Sequence[str]) -> pa.Table:
    held, waiting, rows = _summed(TOTALS_SCHEMA.empty_table(), keys), list[pa.Table](), 0
    for part in parts:
        waiting.append(part)
        rows += part.num_rows
        if rows > _HELD:
            held, waiting, rows = _summed(pa.concat_tables([held, *waiting]), keys), [], 0
    return _summed(pa.concat_tables([held, *waiting]), keys)


def _summed(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    found = table.group_by(list(keys), use_threads=False).aggregate([("events", "sum"), ("bytes", "sum")])
    columns = {
        field.name: found[f"{field.name}_sum"]
        if field.name in ("events", "bytes")
        else found[field.name]
        if field.name in keys
        else _nothing(found.num_rows, field.type)
        for field in TOTALS_SCHEMA
    }
    return pa.table(columns, schema=TOTALS_SCHEMA)


def _nothing(rows: int, kind: pa.DataType) -> pa.Array:
    return pa.repeat("", rows) if pa.types.is_string(kind) else pa.nulls(rows, kind)


class RedundancyRun(Run):
    """What the memories of many users no longer need."""

    def redundancy(self) -> Redundancy:
        """The days and users of all who did not fail."""
        found = self.to_arrow().filter(pc.field("ok"))
        notes = [note for note in found["notes"].to_pylist() if note]
        return Redundancy(self.table("days"), found.select(USER_SCHEMA.names), notes)
