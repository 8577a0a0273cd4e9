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
from typing import Any, NamedTuple

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
    pieces = list(_pieces(load, fields=False))
    table = pa.concat_tables([_groups(log.uid, pieces), _no_events(log.uid, [tally for tally, _ in pieces])])
    return Totals(_each_once(table, pieces), _damage(load))


def field_totals(log: Log, *, progress: bool = False) -> Totals:
    """Bytes by field of one user's log, in ``FIELD_TOTALS_SCHEMA``.  Raises what reading events raises."""
    load = Load(log, select(["uid"]), progress)
    pieces = list(_pieces(load, fields=True))
    return Totals(_each_once(_fields(log.uid, pieces), pieces), _damage(load))


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


_Piece = tuple[Tally, Packed]
"""What tiles a piece of the log, and what its events take."""


def _pieces(load: Load, *, fields: bool) -> Iterator[_Piece]:
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


def _groups(uid: str, pieces: Sequence[_Piece]) -> pa.Table:
    events = numbers(b"".join(sizes.events for _, sizes in pieces))
    nbytes = numbers(b"".join(sizes.nbytes for _, sizes in pieces))
    shared, _ = _shared(uid, [(tally.segment, sizes.groups) for tally, sizes in pieces])
    return pa.table([*shared, events, nbytes, np.zeros(len(events), bool)], schema=TOTALS_SCHEMA)


def _fields(uid: str, pieces: Sequence[_Piece]) -> pa.Table:
    nbytes = numbers(b"".join(sizes.field_nbytes for _, sizes in pieces))
    shared, place = _shared(uid, [(tally.segment, sizes.field_groups) for tally, sizes in pieces])
    names = [name for _, sizes in pieces for name in sizes.names]
    counts = [len(sizes.field_groups) // _NUMBER for _, sizes in pieces]
    firsts = np.cumsum([0, *(len(sizes.names) for _, sizes in pieces)])[:-1]
    field = pa.array(names, pa.string()).take(pa.array(place + np.repeat(firsts, counts)))
    return pa.table([*shared, field, nbytes], schema=FIELD_TOTALS_SCHEMA)


def _shared(uid: str, packed: Sequence[tuple[str, bytes]]) -> tuple[list[pa.Array], Any]:
    """The columns from ``uid`` to ``dialect`` of groups given by day, and the field of each."""
    groups = Groups.of(b"".join(held for _, held in packed))
    day = np.repeat(np.arange(len(packed)), [len(held) // _NUMBER for _, held in packed])
    hours = pa.array(groups.hour * HOUR, mask=groups.hour == NO_HOUR).view(TIME)
    named = (([day for day, _ in packed], day), (OPS, groups.op), (DIALECTS, groups.dialect))
    days, ops, dialects = (pa.array(names, pa.string()).take(pa.array(codes)) for names, codes in named)
    return [pa.repeat(uid, len(day)), days, hours, ops, dialects], groups.field


_NUMBER = 8
"""Bytes of a number in a ``Packed``."""


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


def _each_once(table: pa.Table, pieces: Sequence[_Piece]) -> pa.Table:
    """Rows of several pieces of one segment that tell of the same, as one."""
    if len({tally.segment for tally, _ in pieces}) == len(pieces):
        return table.combine_chunks()
    sums = [name for name in table.schema.names if name in ("events", "bytes")]
    keys = [name for name in table.schema.names if name not in sums]
    once = table.group_by(keys, use_threads=False).aggregate([(name, "sum") for name in sums])
    return once.rename_columns([*keys, *sums]).select(table.schema.names).cast(table.schema)
