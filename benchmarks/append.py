"""One durable append after another, beside a bare loop that writes the same bytes, and beside databases."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import meshlab
from benchmarks.inputs import Inputs, sample_events
from benchmarks.lmdb import LmdbLog
from benchmarks.measure import Figure, figure, tell
from benchmarks.plain import BareLog, PhaseOneLog
from benchmarks.report import TIME, Bound, Row, seconds
from benchmarks.sqlite import SqliteLog
from meshlab.events import MeshEvent
from meshlab.store import UserStore
from meshlab.wal.paths import segment_name
from meshlab.wal.writer import Receipt

OURS, BARE = "meshlab", "write + fdatasync"
APPENDS = 200
ROUNDS = 16
"""Short rounds, ``ROUNDS`` for each round asked for: a disk changes its mood within seconds."""


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    folder = inputs.scratch("append")
    events = sample_events(APPENDS)
    bare = BareLog(folder / "bare.log")
    others = {
        "SQLite": SqliteLog(folder / "log.db"),
        "LMDB": LmdbLog(folder / "log.lmdb"),
        "phase-1 way, no sync": PhaseOneLog(folder / "phase1"),
    }
    samples: dict[str, list[float]] = {name: [] for name in (OURS, BARE, *others)}
    with meshlab.open(folder / "store") as store:
        user = store["u"]
        frames = _append_all(user, events)[1]
        bare.append_all(frames)
        for number in range(rounds * ROUNDS):
            if number % 2:
                samples[BARE].append(bare.append_all(frames))
            elapsed, frames = _append_all(user, events)
            samples[OURS].append(elapsed)
            if not number % 2:
                samples[BARE].append(bare.append_all(frames))
            for name, log in others.items():
                samples[name].append(_seconds(log.append, events))
    for log in (bare, *others.values()):
        log.close()
    figures = {name: figure([value / APPENDS for value in values]) for name, values in samples.items()}
    tell("  " + ", ".join(f"{name} {each.median * 1e6:.0f} µs" for name, each in figures.items()))
    bounds = {BARE: (Bound(1.35, most=True), Bound(1.15, most=True))}
    return [_row(figures, name, *bounds.get(name, (None, None))) for name in (BARE, *others)]


def _row(figures: dict[str, Figure], name: str, floor: Bound | None, aim: Bound | None) -> Row:
    ours, theirs = figures[OURS], figures[name]
    ratio = ours.median / theirs.median
    return Row("append, durable, one thread", seconds(ours), f"{name} {seconds(theirs)}", ratio, TIME, floor, aim)


def _seconds(append: Callable[[MeshEvent], object], events: list[MeshEvent]) -> float:
    start = time.perf_counter()
    for event in events:
        append(event)
    return time.perf_counter() - start


def _append_all(user: UserStore, events: list[MeshEvent]) -> tuple[float, list[bytes]]:
    """Append each durably; returns the seconds, and the frames that were written."""
    append = user.append
    receipts = []
    start = time.perf_counter()
    for event in events:
        receipts.append(append(event))
    elapsed = time.perf_counter() - start
    return elapsed, read_frames(user.root, receipts)


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
