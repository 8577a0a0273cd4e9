"""Rejects and segment tallies as Arrow tables, and the law that nothing is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from meshlab.errors import InternalError
from meshlab.tables.schema import REJECT_SCHEMA, SEGMENT_SCHEMA
from meshlab.wal.lines import Block, Reject
from meshlab.wal.paths import segment_name
from meshlab.wal.reader import Part, Tally


def reject_table(uid: str, rejects: Iterable[Reject]) -> pa.Table:
    """Rejects in ``REJECT_SCHEMA``."""
    rows = list(rejects)
    columns: dict[str, Sequence[object]] = {
        "uid": [uid] * len(rows),
        "segment": [row.segment for row in rows],
        "line": [row.line for row in rows],
        "offset": [row.offset for row in rows],
        "nbytes": [row.nbytes for row in rows],
        "class": [row.kind for row in rows],
        "reason": [row.reason for row in rows],
        "raw": [row.raw for row in rows],
    }
    return _table(columns, REJECT_SCHEMA)


def segment_table(uid: str, tallies: Iterable[tuple[Tally, bool]]) -> pa.Table:
    """Tallies in ``SEGMENT_SCHEMA``; the flag says whether a sealed copy was read."""
    rows = [(uid, *tally[:-1], sealed) for tally, sealed in tallies]
    columns = {name: [row[index] for row in rows] for index, name in enumerate(SEGMENT_SCHEMA.names)}
    return _table(columns, SEGMENT_SCHEMA)


def _table(columns: Mapping[str, Sequence[object]], schema: pa.Schema) -> pa.Table:
    """Dictionary columns come from their plain values."""
    arrays = []
    for field in schema:
        if pa.types.is_dictionary(field.type):
            arrays.append(pa.array(columns[field.name], field.type.value_type).dictionary_encode())
        else:
            arrays.append(pa.array(columns[field.name], field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def failed_rejects(block: Block, failed: dict[int, str]) -> list[Reject]:
    """Rejects for framed lines whose sum holds but whose event is no JSON."""
    rejects = []
    for row, reason in sorted(failed.items()):
        start, nbytes = int(block.start[row]), int(block.nbytes[row])
        raw = bytes(memoryview(block.data)[start : start + nbytes])
        place = block.base + start
        reason = f"the sum holds but the line is no event: {reason}"
        rejects.append(Reject(block.segment, int(block.line[row]), place, nbytes, "not-json", reason, raw))
    return rejects


def with_failed(part: Part, failed: Sequence[Reject]) -> Part:
    """A part in which some events have turned out to be rejects."""
    if not failed:
        return part
    nbytes = sum(reject.nbytes for reject in failed)
    tally = part.tally
    tally = tally._replace(
        events=tally.events - len(failed),
        event_bytes=tally.event_bytes - nbytes,
        rejects=tally.rejects + len(failed),
        reject_bytes=tally.reject_bytes + nbytes,
    )
    rejects = sorted([*part.rejects, *failed], key=lambda reject: (reject.offset, reject.nbytes))
    return part._replace(tally=tally, rejects=rejects)


def check_tiling(root: Path, part: Part, events: int, event_bytes: int) -> None:
    """Raise ``InternalError`` unless events, rejects, blanks and open tail tile the segment.

    ``events`` and ``event_bytes`` are counted on the rows that were given out.
    """
    tally = part.tally
    found_bytes = event_bytes + tally.reject_bytes + tally.blank_bytes + tally.open_tail_bytes
    found_rows = events + tally.rejects + tally.blanks
    held = sum(reject.nbytes for reject in part.rejects)
    if found_bytes == tally.bytes and found_rows == tally.lines + tally.pieces and held == tally.reject_bytes:
        return
    raise InternalError(
        f"{root / segment_name(tally.segment)}: {events} events of {event_bytes} bytes, {tally.rejects} rejects of "
        f"{tally.reject_bytes} ({held} listed), {tally.blanks} blanks of {tally.blank_bytes} and an open tail of "
        f"{tally.open_tail_bytes} make {found_bytes} bytes; the file has {tally.bytes}. They make {found_rows} "
        f"lines; the file has {tally.lines} and {tally.pieces} pieces of fused ones"
    )
