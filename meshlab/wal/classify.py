"""From lines to events and rejects: the one classifier every reader uses.

Order of proof: frames whose sum holds; then, for lines no frame covers, the Python
decoder; then what can be salvaged.  What is left is a reject.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from meshlab.dialects import OTHER, Parsed, parse_event
from meshlab.jsontext import NotJson, parse_json
from meshlab.times import DAY, midnight
from meshlab.wal.chain import Cursor, Links, follow
from meshlab.wal.columns import Framed, read_framed
from meshlab.wal.frame import SUM_ENDING
from meshlab.wal.gather import (
    Loose,
    Stretch,
    Work,
    is_utf8,
    keep_framed,
    keep_saved,
    read_uncovered,
    reject_lines,
)
from meshlab.wal.lines import (
    DIALECTS,
    NO_TIME,
    Block,
    Claim,
    Digests,
    Endings,
    Lines,
    Reject,
    find_lines,
    hex_digests,
    md5_digests,
    read_endings,
)
from meshlab.wal.salvage import Piece


@dataclass(slots=True)
class Classified:
    """A stretch, classified: its events, all that is no event, and the chain behind it.

    ``pieces`` counts the parts of fused lines beyond the first of each.
    """

    block: Block
    rejects: list[Reject]
    claims: list[Claim]
    lines: int
    blanks: int
    blank_bytes: int
    pieces: int
    end: Cursor


class _Frames(NamedTuple):
    """Frames whose sum holds: their first and last line, and their links."""

    first: Any
    last: Any
    links: Links


def classify(stretch: Stretch, cursor: Cursor, digests: Digests = md5_digests) -> Classified:
    """Classify a stretch; the sums come from ``digests``, the chain goes on from ``cursor``."""
    lines = find_lines(stretch.data, stretch.size)
    endings = read_endings(lines)
    work = Work(stretch, lines, memoryview(stretch.data))
    frames = _valid_frames(lines, endings, digests)
    covered = _covered(len(lines), frames.first, frames.last)
    read_uncovered(work, np.flatnonzero(~covered))
    repeated, end = _follow_chain(work, frames, cursor)
    covered &= ~repeated & ~_unreadable_text(work, covered & ~repeated)
    block = _assemble(work, endings, np.flatnonzero(covered), cursor.effective)
    if len(block.effective):
        end = end._replace(effective=int(block.effective[-1]))
    work.rejects.sort(key=lambda reject: (reject.offset, reject.nbytes))
    return Classified(block, work.rejects, _claims(block), len(lines), work.blanks, work.blank_bytes, work.pieces, end)


# Frames


def _valid_frames(lines: Lines, endings: Endings, digests: Digests) -> _Frames:
    last = np.flatnonzero(endings.whole)
    first = last - endings.n[last] + 1
    members = np.concatenate([[0], np.cumsum(endings.member)])
    complete = (first >= 0) & (members[last] - members[np.maximum(first, 0)] == last - first)
    first, last = first[complete], last[complete]
    holds = hex_digests(digests(lines.data, lines.start[first], lines.stop[last] - SUM_ENDING)) == endings.sum[last]
    first, last = first[holds], last[holds]
    seq = endings.seq[last]
    return _Frames(first, last, Links(seq - (last - first), seq, endings.prev[last], endings.sum[last]))


def _covered(count: int, first: Any, last: Any) -> Any:
    """Which of ``count`` lines stand between a first and its last."""
    edges = np.zeros(count + 1, np.int64)
    np.add.at(edges, first, 1)
    np.subtract.at(edges, last + 1, 1)
    return np.cumsum(edges[:-1]) > 0


def _follow_chain(work: Work, frames: _Frames, cursor: Cursor) -> tuple[Any, Cursor]:
    """Follow the chain over regular and salvaged frames, in log order.

    Notes gaps and repeated frames, reads the salvaged frames that are not repeated,
    and returns the mask of lines in repeated frames and the cursor behind the last.
    """
    start, links = work.lines.start[frames.first], frames.links
    if work.saved:
        links = Links(*(np.concatenate(pair) for pair in zip(links, _saved_links(work.saved), strict=True)))
        start = np.concatenate([start, [piece.start for piece in work.saved]])
    order = np.argsort(start, kind="stable")
    findings, end = follow(Links(*(column[order] for column in links)), cursor)
    regular = len(frames.first)
    seen: set[int] = set()
    for finding in findings:
        index = int(order[finding.row])
        if finding.repeated:
            seen.add(index)
            stop = work.lines.end[frames.last[index]] if index < regular else work.saved[index - regular].end
            reject_lines(work, int(start[index]), int(stop), "duplicate-frame", finding.reason)
        else:
            work.reject(int(start[index]), int(start[index]), "chain-gap", finding.reason)
    for index, piece in enumerate(work.saved, regular):
        if index not in seen:
            keep_saved(work, piece)
    repeated = np.array(sorted(index for index in seen if index < regular), np.int64)
    return _covered(len(work.lines), frames.first[repeated], frames.last[repeated]), end


def _saved_links(saved: list[Piece]) -> Links:
    tails = [piece.frame for piece in saved if piece.frame is not None]
    last = np.array([tail.seq for tail in tails], np.int64)
    first = last - np.array([tail.n for tail in tails], np.int64) + 1
    return Links(first, last, np.array([t.prev for t in tails], "S16"), np.array([t.sum for t in tails], "S16"))


def _unreadable_text(work: Work, covered: Any) -> Any:
    """Reject the lines of valid frames that are not UTF-8 (no writer of ours makes them)."""
    mask = np.zeros(len(covered), bool)
    if is_utf8(work.text[: work.stretch.size]):
        return mask
    for row in np.flatnonzero(covered).tolist():
        start, end = int(work.lines.start[row]), int(work.lines.end[row])
        if not is_utf8(work.text[start:end]):
            mask[row] = True
            work.reject(start, end, "not-utf8", "the sum holds but the text is not UTF-8")
    return mask


# The block


def _assemble(work: Work, endings: Endings, rows: Any, floor: int) -> Block:
    """Framed rows and loose ones as one block in log order; ``floor`` bounds effective time."""
    lines, stretch = work.lines, work.stretch
    framed = read_framed(lines, rows, endings.body[rows])
    parsed: dict[int, Parsed] = {}
    odd = np.flatnonzero(~framed.plain)
    keep = np.ones(len(rows), bool)
    for row in odd.tolist():
        event = _parse_odd(work, framed, row)
        if event is None:
            keep[row] = False
            line = int(rows[row])
            seq = int(endings.seq[line])
            keep_framed(work, int(lines.start[line]), int(lines.stop[line]), int(lines.end[line]), seq)
        else:
            parsed[row] = event
            framed.op[row] = event.op
    columns = {
        "start": lines.start[rows],
        "nbytes": lines.end[rows] - lines.start[rows],
        "line": rows + stretch.first_line,
        "seq": endings.seq[rows],
        "time": framed.time,
        "op": framed.op,
        "dialect": np.full(len(rows), DIALECTS.index("meshlab"), np.int8),
        "event_start": framed.event_start,
        "event_stop": framed.event_stop,
        "key_start": framed.key_start,
        "key_stop": framed.key_stop,
        "plain": framed.plain,
    }
    if work.loose or not keep.all():
        columns, parsed = _merge(columns, parsed, keep, work.loose)
    effective = _effective(columns["time"], midnight(stretch.segment), floor)
    return Block(stretch.segment, stretch.base, stretch.data, effective=effective, parsed=parsed, **columns)


def _parse_odd(work: Work, framed: Framed, row: int) -> Parsed | None:
    """The event of a framed row that is not plain, or None when its layout is not ours."""
    if not framed.regular[row]:
        return None
    try:
        return parse_event(bytes(work.text[framed.event_start[row] : framed.event_stop[row]]))
    except NotJson:
        return None


def _merge(
    columns: dict[str, Any], parsed: dict[int, Parsed], keep: Any, loose: list[Loose]
) -> tuple[dict[str, Any], dict[int, Parsed]]:
    """Put loose events among the framed rows, in log order."""
    kept = np.flatnonzero(keep)
    order_of = {int(row): index for index, row in enumerate(kept.tolist())}
    events = {order_of[row]: event for row, event in parsed.items()}
    events |= {len(kept) + index: event.parsed for index, event in enumerate(loose)}
    added: dict[str, Any] = {name: [getattr(event, name) for event in loose] for name in Loose._fields[:-1]}
    added["op"] = [event.parsed.op for event in loose]
    added["plain"] = [False] * len(loose)
    merged = {
        name: np.concatenate([column[kept], np.array(added[name], column.dtype)]) for name, column in columns.items()
    }
    order = np.argsort(merged["start"], kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return (
        {name: column[order] for name, column in merged.items()},
        {int(place[row]): event for row, event in events.items()},
    )


def _effective(time: Any, day_start: int, floor: int) -> Any:
    """Effective times: never falling, never more than a day past the segment's own."""
    own = np.where(time == NO_TIME, day_start, np.minimum(time, day_start + 2 * DAY))
    return np.maximum(np.maximum.accumulate(own), floor) if len(own) else own


def _claims(block: Block) -> list[Claim]:
    """The ``Recovered`` frames of a block; only framed lines count."""
    text = memoryview(block.data)
    claims = []
    for row, event in block.parsed.items():
        payload = bytes(text[block.event_start[row] : block.event_stop[row]])
        if event.op == OTHER and block.seq[row] and payload.startswith(b'{"Recovered":'):
            told = parse_json(payload)["Recovered"]
            if isinstance(told, dict) and isinstance(told.get("md5"), str):
                claims.append(
                    Claim(str(told.get("segment")), _int(told.get("offset")), _int(told.get("bytes")), told["md5"])
                )
    return claims


def _int(value: Any) -> int:
    return value if isinstance(value, int) else -1
