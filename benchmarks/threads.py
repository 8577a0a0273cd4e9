"""64 threads appending to one user, each append durable on its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import meshlab
from benchmarks.inputs import Inputs, sample_events
from benchmarks.lmdb import LmdbLog
from benchmarks.measure import Figure, Sample, interleave
from benchmarks.report import SPEED, Bound, Row, rate
from benchmarks.sqlite import SharedSqliteLog, SqliteLog
from meshlab.events import MeshEvent

THREADS = 64
PER_THREAD = 200
OTHERS_PER_THREAD = 50
"""SQLite and LMDB get fewer: they would take most of the time of the whole run."""

Append = Callable[[MeshEvent], object]


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    folder = inputs.scratch("threads")
    events = sample_events(THREADS * PER_THREAD)
    with meshlab.open(folder / "store") as store:
        figures = interleave(
            {
                "one thread": lambda: _rate([store["one"].append], events[: THREADS * 32]),
                "64 threads": lambda: _rate([store["many"].append] * THREADS, events),
                **_databases(folder, events[: THREADS * OTHERS_PER_THREAD]),
            },
            rounds,
        )
    ours = figures["64 threads"]
    best = max(("SQLite, a connection per thread", "SQLite, one shared connection"), key=lambda n: figures[n].median)
    return [
        _row(ours, figures, "one thread", "meshlab, one thread", Bound(5.0), Bound(8.0)),
        *[
            _row(ours, figures, name, name, *((Bound(4.0), Bound(8.0)) if name == best else (None, None)))
            for name in figures
            if name.startswith(("SQLite", "LMDB"))
        ],
    ]


def _row(
    ours: Figure, figures: dict[str, Figure], name: str, shown: str, floor: Bound | None, aim: Bound | None
) -> Row:
    theirs = figures[name]
    work = "append, durable, 64 threads on one user"
    return Row(work, rate(ours), f"{shown} {rate(theirs)}", ours.median / theirs.median, SPEED, floor, aim)


def _databases(folder: Path, events: Sequence[MeshEvent]) -> dict[str, Sample]:
    def per_thread() -> float:
        logs = [SqliteLog(folder / "own.db") for _ in range(THREADS)]
        try:
            return _rate([log.append for log in logs], events)
        finally:
            for log in logs:
                log.close()

    def shared() -> float:
        log = SharedSqliteLog(folder / "shared.db")
        try:
            return _rate([log.append] * THREADS, events)
        finally:
            log.close()

    def by_lmdb() -> float:
        log = LmdbLog(folder / "shared.lmdb")
        try:
            return _rate([log.append] * THREADS, events)
        finally:
            log.close()

    return {"SQLite, a connection per thread": per_thread, "SQLite, one shared connection": shared, "LMDB": by_lmdb}


def _rate(appends: Sequence[Append], events: Sequence[MeshEvent]) -> float:
    """Events per second when as many threads as there are functions share the events evenly.

    The clock runs from the moment all threads are ready until the last is done.
    """
    count = len(events) // len(appends)
    ready = threading.Barrier(len(appends) + 1)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        append = appends[number]
        mine = events[number * count : (number + 1) * count]
        ready.wait()
        try:
            for event in mine:
                append(event)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(appends))]
    for thread in threads:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    if failures:
        raise failures[0]
    return count * len(appends) / elapsed
