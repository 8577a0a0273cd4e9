"""Clocks that jump by seconds, days and years: one chain, one order, no older day touched."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from meshlab.events import Delete
from meshlab.testing import UnsyncedFiles
from meshlab.testing.reading import read_log
from meshlab.times import DAY, SECOND, midnight
from meshlab.wal import writer as writers
from meshlab.wal.paths import segment_days, segment_name
from scoreboard.row import Task
from scoreboard.twins import either

NOON = midnight("20250707") + DAY // 2
EARLIEST, LATEST = midnight("19700102"), midnight("20991231")
JUMPS = (SECOND, -SECOND, 60 * SECOND, -3600 * SECOND, DAY, -DAY, 3 * DAY, -40 * DAY, 400 * DAY, -4000 * DAY, 0, 0)
JUMPS_PER_LOG = 20


@contextmanager
def believes_its_clock() -> Iterator[None]:
    """The twin: a writer that writes into the day its clock tells."""

    def first(*values: Any, **options: Any) -> Any:
        return max(*values, **options) if len(values) == 1 else values[0]

    writers.max = first  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del writers.max  # type: ignore[attr-defined]


def jump_about(root: Path, rng: Random, count: int) -> None:
    """Two writers, each with a clock that jumps before every append; then a look at the log."""
    clocks = [NOON, NOON]
    crew = [writers.Writer(root, files=UnsyncedFiles(), clock=lambda at=at: clocks[at]) for at in (0, 1)]  # type: ignore[misc]
    newest, old = "", {}
    for number in range(count):
        at = rng.randrange(2)
        clocks[at] = min(max(clocks[at] + rng.choice(JUMPS), EARLIEST), LATEST)
        receipt = crew[at].append(Delete(f"m{number}"))
        assert receipt.segment >= newest, f"written into {receipt.segment}, behind {newest}"
        newest = receipt.segment
        for day in segment_days(root):
            size = (root / segment_name(day)).stat().st_size
            assert day == newest or old.get(day, size) == size, f"{day} has grown"
            old[day] = size
    for writer in crew:
        writer.close()
    log = read_log(root)
    assert not log.rejects, f"rejects: {log.classes}"
    assert [row.payload for row in log.rows] == [b'{"Delete":"m%d"}' % number for number in range(count)], "the order"
    assert [row.seq for row in log.rows] == list(range(1, count + 1)), "the chain"
    times = [row.effective for row in log.rows]
    assert times == sorted(times), "effective time falls"


def run(task: Task) -> None:
    """Some jumps in each log."""
    outcome, rng = task.outcome, Random(task.seed)
    with either(task.broken, believes_its_clock), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a segment days ahead of the clock is told as a warning
        while outcome.checked < task.count:
            count = min(JUMPS_PER_LOG, task.count - outcome.checked)
            with outcome.round(f"log {outcome.checked}", count):
                jump_about(task.folder / "u", rng, count)
            shutil.rmtree(task.folder / "u", ignore_errors=True)
