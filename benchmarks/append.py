"""One durable append after another, beside a bare loop that writes the same bytes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import meshlab
from benchmarks.inputs import Inputs, sample_events
from benchmarks.measure import figure, tell
from benchmarks.plain import BareLog
from benchmarks.report import TIME, Bound, Row, seconds
from meshlab.events import MeshEvent
from meshlab.store import UserStore
from meshlab.wal.paths import segment_name
from meshlab.wal.writer import Receipt

APPENDS = 200
ROUNDS = 16
"""Short rounds, ``ROUNDS`` for each round asked for: a disk changes its mood within seconds."""


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    folder = inputs.scratch("append")
    events = sample_events(APPENDS)
    bare = BareLog(folder / "bare.log")
    ours, theirs = [], []
    with meshlab.open(folder / "store") as store:
        user = store["u"]
        frames = _frames(user, events)
        bare.append_all(frames)
        for number in range(rounds * ROUNDS):
            if number % 2:
                theirs.append(bare.append_all(frames))
            elapsed, frames = _append_all(user, events)
            ours.append(elapsed)
            if not number % 2:
                theirs.append(bare.append_all(frames))
    bare.close()
    mine, other = (figure([value / APPENDS for value in values]) for values in (ours, theirs))
    tell(f"  append {mine.median * 1e6:.0f} µs, bare {other.median * 1e6:.0f} µs")
    return [
        Row(
            "append, durable, one thread",
            seconds(mine),
            f"write + fdatasync {seconds(other)}",
            mine.median / other.median,
            TIME,
            Bound(1.35, most=True),
            Bound(1.15, most=True),
        )
    ]


def _append_all(user: UserStore, events: list[MeshEvent]) -> tuple[float, list[bytes]]:
    """Append each durably; returns the seconds, and the frames that were written."""
    append = user.append
    receipts = []
    start = time.perf_counter()
    for event in events:
        receipts.append(append(event))
    elapsed = time.perf_counter() - start
    return elapsed, read_frames(user.root, receipts)


def _frames(user: UserStore, events: list[MeshEvent]) -> list[bytes]:
    return _append_all(user, events)[1]


def read_frames(root: Path, receipts: list[Receipt]) -> list[bytes]:
    """The bytes that appends put into the log."""
    frames = []
    for receipt in receipts:
        fd = os.open(root / segment_name(receipt.segment), os.O_RDONLY)
        try:
            frames.append(os.pread(fd, receipt.nbytes, receipt.offset))
        finally:
            os.close(fd)
    return frames
