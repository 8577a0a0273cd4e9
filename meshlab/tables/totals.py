"""What a log is full of, in small tables: of sealed segments from what stands beside their copies.

>>> import tempfile
>>> from pathlib import Path
>>> root = Path(tempfile.mkdtemp())
>>> _ = (root / "wal-20250707.log").write_text('{"Delete":"m1"}\\n\\nno event\\n')
>>> table = totals(Log(root, "ann")).table
>>> dict(zip(table["op"].to_pylist(), table["bytes"].to_pylist()))
{'delete': 16, '(rejects)': 9, '(blank lines)': 1}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from meshlab.dialects import OPS
from meshlab.tables.load import Advance, Load, Log, select
from meshlab.tables.schema import TIME
from meshlab.tables.sealed import SealedSegment
from meshlab.tables.segment import RawSegment
from meshlab.tables.sizes import NO_HOUR, Groups, Packed, Sizes, numbers
from meshlab.times import HOUR
from meshlab.wal.lines import DIALECTS
from meshlab.wal.reader import Tally

TOTALS_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("day", pa.string()),
        ("hour", TIME),
        ("op", pa.string()),
        ("dialect", pa.string()),
        ("events", pa.int64()),
        ("bytes", pa.int64()),
        ("deleted", pa.bool_()),
    ]
)
"""Events and bytes by segment, hour, op and dialect.

``hour`` is the effective time, floored; null where there is none.  Bytes that are no
event are rows of their own, named in ``op`` and ``dialect`` alike: ``REJECTS``,
``BLANKS`` (``events`` counts them) and ``OPEN_TAIL``.  ``deleted`` rows are of segments
that vacuum removed; the bytes of all others add up to the sizes of the files.
"""

FIELD_TOTALS_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("day", pa.string()),
        ("hour", TIME),
        ("op", pa.string()),
        ("dialect", pa.string()),
        ("field", pa.string()),
        ("bytes", pa.int64()),
    ]
)
"""Bytes by field of a record as well: keys with their quotes, and values, as they were written."""

ID_TOTALS_SCHEMA = pa.schema([("uid", pa.string()), ("id", pa.string()), ("events", pa.int64()), ("bytes", pa.int64())])
"""Events and bytes by id; null for events without one."""

REJECTS, BLANKS, OPEN_TAIL = "(rejects)", "(blank lines)", "(open tail)"


class Totals(NamedTuple):
    """A table, and how many damaged pieces the log holds."""

    table: pa.Table
    damage: int


def totals(log: Log, *, progress: bool = False) -> Totals:
    """Events and bytes of one user's log, in ``TOTALS_SCHEMA``.  Raises what reading events raises."""
    load = Load(log, select(["uid"]), progress)
    sized = [(tally, sizes) for tally, sizes in _sizes(load, fields=False)]
    tables = [_groups(log.uid, tally.segment, sizes) for tally, sizes in sized]
    tables += [_no_events(log.uid, [tally for tally, _ in sized])]
    return Totals(_joined(tables, TOTALS_SCHEMA), _damage(load))


def field_totals(log: Log, *, progress: bool = False) -> Totals:
    """Bytes by field of one user's log, in ``FIELD_TOTALS_SCHEMA``.  Raises what reading events raises."""
    load = Load(log, select(["uid"]), progress)
    tables = [_fields(log.uid, tally.segment, sizes) for tally, sizes in _sizes(load, fields=True)]
    return Totals(_joined(tables, FIELD_TOTALS_SCHEMA), _damage(load))


def id_totals(log: Log, *, progress: bool = False) -> Totals:
    """Events and bytes by id of one user's log, in ``ID_TOTALS_SCHEMA``; memory holds a row per id.

    Raises what reading events raises.
    """
    load = Load(log, select(["id", "nbytes"]), progress)
    held = pa.table(
        {"id": pa.array([], pa.string()), "events": pa.array([], pa.int64()), "bytes": pa.array([], pa.int64())}
    )
    for batch in load:
        ones = pa.array(np.ones(batch.num_rows, np.int64))
        more = pa.table({"id": batch["id"], "events": ones, "bytes": batch["nbytes"]})
        held = _summed_by_id(pa.concat_tables([held, _summed_by_id(more)]))
    uid = pa.array([log.uid] * held.num_rows, pa.string())
    return Totals(held.add_column(0, "uid", uid).cast(ID_TOTALS_SCHEMA), _damage(load))


def _summed_by_id(table: pa.Table) -> pa.Table:
    grouped = table.group_by("id").aggregate([("events", "sum"), ("bytes", "sum")])
    return grouped.select(["id", "events_sum", "bytes_sum"]).rename_columns(["id", "events", "bytes"])


def _damage(load: Load) -> int:
    return sum(reject.kind != "torn" for reject in load.rejects)


def _sizes(load: Load, *, fields: bool) -> Iterator[tuple[Tally, Packed]]:
    """Each piece of the log: what tiles it, and what its events take."""
    for segment, advance in load.segments():
        if isinstance(segment, SealedSegment):
            sizes = segment.sealed.description.sizes
        else:
            sizes = _read(segment, advance, fields)
        yield segment.part.tally, sizes


def _read(segment: RawSegment, advance: Advance, fields: bool) -> Packed:
    segment.sizes, segment.with_fields = Sizes(), fields
    for _ in segment.batches(advance):
        pass
    return segment.sizes.packed()


# Tables


def _groups(uid: str, day: str, sizes: Packed) -> pa.Table:
    groups = Groups.of(sizes.groups)
    counts = [numbers(sizes.events), numbers(sizes.nbytes), np.zeros(len(groups.hour), bool)]
    return pa.table([*_shared(uid, day, groups), *map(pa.array, counts)], schema=TOTALS_SCHEMA)


def _fields(uid: str, day: str, sizes: Packed) -> pa.Table:
    groups = Groups.of(sizes.field_groups)
    names = pa.array(sizes.names, pa.string()).take(pa.array(groups.field))
    return pa.table(
        [*_shared(uid, day, groups), names, pa.array(numbers(sizes.field_nbytes))], schema=FIELD_TOTALS_SCHEMA
    )


def _shared(uid: str, day: str, groups: Groups) -> list[pa.Array]:
    count = len(groups.hour)
    hours = pa.array(groups.hour * HOUR, mask=groups.hour == NO_HOUR).cast(TIME)
    ops, dialects = (
        pa.array(names).take(pa.array(codes)) for names, codes in ((OPS, groups.op), (DIALECTS, groups.dialect))
    )
    return [pa.array([uid] * count, pa.string()), pa.array([day] * count, pa.string()), hours, ops, dialects]


def _no_events(uid: str, tallies: Sequence[Tally]) -> pa.Table:
    """What is no event, by segment."""
    rows = [
        {
            "uid": uid,
            "day": tally.segment,
            "op": name,
            "dialect": name,
            "events": count,
            "bytes": nbytes,
            "deleted": False,
        }
        for tally in tallies
        for name, count, nbytes in (
            (REJECTS, tally.rejects, tally.reject_bytes),
            (BLANKS, tally.blanks, tally.blank_bytes),
            (OPEN_TAIL, 0, tally.open_tail_bytes),
        )
        if nbytes
    ]
    return pa.Table.from_pylist(rows, TOTALS_SCHEMA)


def _joined(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()
