"""The chain of frames: each names the sum of the one before and counts on from its seq."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from meshlab.wal.frame import NO_SUM


class Cursor(NamedTuple):
    """Where a log stands: last seq, its sum, largest effective time (µs since 1970).

    ``seq`` is ``UNKNOWN`` when reading starts in the middle of a log: the first frame
    then sets the chain and is no finding.
    """

    seq: int
    sum: bytes
    effective: int


UNKNOWN = -1
LONG_AGO = -(1 << 63)
ORIGIN = Cursor(0, NO_SUM, LONG_AGO)
MIDDLE = Cursor(UNKNOWN, NO_SUM, LONG_AGO)


def resumed(cursor: Cursor, after: tuple[int, bytes] | None) -> Cursor:
    """The cursor behind a frame (seq and sum) that stood there and is gone, when it is further on."""
    return cursor if after is None or after[0] <= cursor.seq else cursor._replace(seq=after[0], sum=after[1])


class Links(NamedTuple):
    """Valid frames in log order: first and last seq (int64), prev and sum (S16)."""

    first: Any
    last: Any
    prev: Any
    sum: Any


class Finding(NamedTuple):
    """A frame that does not follow: its row, whether it was seen before, and why."""

    row: int
    repeated: bool
    reason: str


def follow(links: Links, cursor: Cursor) -> tuple[list[Finding], Cursor]:
    """Follow the chain from a cursor; sound stretches cost no Python loop.

    A frame whose seq is not above the last is ``repeated`` and leaves the chain as it
    was; any other break is a gap, and the chain goes on from the frame behind it.
    """
    if not len(links.first):
        return [], cursor
    expected = np.concatenate([[cursor.seq], links.last[:-1]]) + 1
    before = np.concatenate([np.array([cursor.sum], "S16"), links.sum[:-1]])
    sound = (links.first == expected) & (links.prev == before)
    if cursor.seq == UNKNOWN:
        sound[0] = True
    if sound.all():
        return [], cursor._replace(seq=int(links.last[-1]), sum=bytes(links.sum[-1]))
    return _walk(links, cursor)


def _walk(links: Links, cursor: Cursor) -> tuple[list[Finding], Cursor]:
    findings = []
    seq, total = cursor.seq, cursor.sum
    rows = zip(links.first.tolist(), links.last.tolist(), links.prev.tolist(), links.sum.tolist(), strict=True)
    for row, (first, last, prev, own) in enumerate(rows):
        if seq != UNKNOWN:
            if first <= seq:
                reason = f"seq {first} is not above {seq}: the frame is repeated or out of order"
                findings.append(Finding(row, True, reason))
                continue
            reason = _gap(seq, total, first, prev)
            if reason:
                findings.append(Finding(row, False, reason))
        seq, total = last, own
    return findings, cursor._replace(seq=seq, sum=total)


def _gap(seq: int, total: bytes, first: int, prev: bytes) -> str:
    if first > seq + 1:
        return f"seq {first} follows {seq}: {first - seq - 1} missing"
    if prev != total:
        return f"prev is {prev.decode()}, expected {total.decode()}: another frame stood before this one"
    return ""
