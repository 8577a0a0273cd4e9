"""Batches of 1,000 events, each batch one durable frame or transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import meshlab
from benchmarks.inputs import Inputs, sample_dicts, sample_events
from benchmarks.lmdb import LmdbLog
from benchmarks.measure import Figure, Sample, interleave
from benchmarks.report import SPEED, Bound, Row, rate
from benchmarks.sqlite import SqliteLog

BATCH = 1000
BATCHES = 20
ROUNDS = 3
"""Rounds are short: so many for each one asked for."""


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    folder = inputs.scratch("batch")
    objects, dicts = _batches(sample_events(BATCH * BATCHES)), _batches(sample_dicts(BATCH * BATCHES))
    databases = [SqliteLog(folder / f"{name}.db") for name in ("objects", "dicts")]
    maps = [LmdbLog(folder / f"{name}.lmdb") for name in ("objects", "dicts")]
    try:
        with meshlab.open(folder / "store") as store:
            contenders = {
                "objects, meshlab": _sample(store["objects"].append_many, objects),
                "objects, SQLite": _sample(databases[0].append_events, objects),
                "objects, LMDB": _sample(maps[0].append_events, objects),
                "dicts, meshlab": _sample(store["dicts"].append_many, dicts),
                "dicts, SQLite": _sample(databases[1].append_dicts, dicts),
                "dicts, LMDB": _sample(maps[1].append_dicts, dicts),
            }
            figures = interleave(contenders, rounds * ROUNDS)
    finally:
        for database in (*databases, *maps):
            database.close()
    return [
        *_rows(figures, "objects", "from MeshEvent objects", Bound(1.5), Bound(2.0)),
        *_rows(figures, "dicts", "from plain dicts, validated", Bound(0.9), Bound(1.5)),
    ]


def _rows(figures: dict[str, Figure], kind: str, work: str, floor: Bound, aim: Bound) -> list[Row]:
    ours = figures[f"{kind}, meshlab"]
    rows = []
    for name, shown, *bounds in (
        ("SQLite", "SQLite executemany", floor, aim),
        ("LMDB", "LMDB, one transaction", None, None),
    ):
        theirs = figures[f"{kind}, {name}"]
        ratio = ours.median / theirs.median
        rows.append(Row(f"batches of {BATCH:,}, {work}", rate(ours), f"{shown} {rate(theirs)}", ratio, SPEED, *bounds))
    return rows


def _batches(events: Sequence[Any]) -> list[Sequence[Any]]:
    return [events[start : start + BATCH] for start in range(0, len(events), BATCH)]


def _sample(append: Callable[[Any], object], batches: Sequence[Any]) -> Sample:
    def sample() -> float:
        start = time.perf_counter()
        for batch in batches:
            append(batch)
        return BATCH * len(batches) / (time.perf_counter() - start)

    return sample
