"""Totals that nobody would like to get, and what can be said of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from meshlab.tables.totals import REJECTS, TOTALS_SCHEMA
from meshlab.testing.rates import Rates, totals_of

HOSTILE = ("<script>alert(1)</script>", "$x$ and $\\frac{1}{0}$", "two\nlines", "a & b", "\x1b[31mred")
"""Names that a page, a figure or a terminal could take for more than text."""


def rows(*found, uid="ann"):
    """Totals of rows (moment or segment, op, events, bytes)."""
    return pa.Table.from_pylist([row(uid, *one) for one in found], TOTALS_SCHEMA)


def row(uid, when, op, events, nbytes):
    timed = isinstance(when, datetime)
    day, hour = (when.strftime("%Y%m%d"), when) if timed else (when, None)
    dialect = op if op.startswith("(") else "meshlab"
    counts = {"events": events, "bytes": nbytes, "deleted": False}
    return {"uid": uid, "day": day, "hour": hour, "op": op, "dialect": dialect, **counts}


def at(year, month=7, day=7, hour=12):
    return datetime(year, month, day, hour, tzinfo=UTC)


def traffic(days, *, seed=1):
    return totals_of(Rates(users=1, days=days), seed)


def without(table, first, last):
    """The rows that are not of some days."""
    return table.filter(pc.or_(pc.less(table["day"], first), pc.greater(table["day"], last)))


def before(table, moment):
    """The rows of hours before a moment."""
    return table.filter(pc.less(table["hour"], pa.scalar(moment, TOTALS_SCHEMA.field("hour").type)))


def far_clocks():
    """A month of traffic, and hours that are decades away."""
    return pa.concat_tables([traffic(28), rows((at(1971), "insert", 5, 900), (at(2155), "update", 7, 1200))])


ODD = {
    "an empty store": TOTALS_SCHEMA.empty_table(),
    "one event": rows((at(2025), "insert", 1, 100)),
    "a single day": traffic(1),
    "clocks decades apart": far_clocks(),
    "two events a century apart": rows((at(1971), "insert", 1, 100), (at(2071), "insert", 1, 100)),
    "other events alone": rows(*((at(2025, 7, day), "other", 9, 800) for day in range(1, 29))),
    "no event with a time": rows(("20250707", "other", 9, 800), ("20250708", "insert", 1, 100)),
    "rejects in between": pa.concat_tables(
        [traffic(28), rows(*((f"202507{day}", REJECTS, 3, 5000) for day in (10, 17)))]
    ),
    "rejects alone": rows(("20250707", REJECTS, 3, 5000)),
    "a last day that is not over": before(traffic(28), at(2025, 8, 3, 9)),
    "a gap of ten days": without(traffic(35), "20250715", "20250724"),
    "a gap of two months": pa.concat_tables(
        [traffic(21), rows(*((at(2025, 10, day), "insert", 20, 9000) for day in (1, 2, 3)))]
    ),
}
"""Totals by what is odd about them."""


def hourly(count, events, *, uid="ann", op="insert", start=None):
    """The same number of events in each of some hours."""
    start = start or at(2025, 7, 7, 0)
    return rows(*((start + timedelta(hours=number), op, events, 100 * events) for number in range(count)), uid=uid)
