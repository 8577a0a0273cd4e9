"""All rows, and how they are run: each part in a process of its own, the control behind it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from scoreboard import (
    clocks,
    commands,
    crowd,
    cuts,
    flips,
    frames,
    histories,
    kills,
    outages,
    points,
    power,
    requests,
    uids,
)
from scoreboard.row import Enough, Outcome, Row, Task

EVERY = 1_000_000
"""More rounds than a row of every operation has."""

MEMORY, ROOM = Path("/dev/shm"), 2 << 30

SAFE = "whole before or after, and durable when done"


def _points(name: str, promise: str, play: type[points.Play], twin: str, quick: int, errors: int = 1) -> Row:
    run = partial(points.run, play=play, twin=points.TWINS[twin], errors=errors)
    return Row(name, promise, run, twin, EVERY, quick, control=40)


ROWS = [
    Row("kills", "SIGKILL of forked processes loses nothing acknowledged", kills.run,
        "acknowledges before it writes", 10_000, 6, control=8, parts=4),
    Row("commands", "SIGKILL of commands loses nothing acknowledged", commands.run,
        "what it writes stays in its memory", 500, 2, control=2, parts=2),
    Row("power", "a power cut loses nothing acknowledged", power.run,
        "no fsync, no directory sync", 5_000, 40, parts=2),
    _points("append", f"crash and error at every operation of a first append: {SAFE}", points.Append,
            "no fsync", 20, errors=4),
    _points("rotate", f"... of appends that begin a day: {SAFE}", points.Rotate, "no directory sync", 20, errors=4),
    _points("checkpoint", f"... of a checkpoint: {SAFE}", points.Checkpoint, "manifest before layers", 2),
    _points("merge", f"... of a checkpoint that merges: {SAFE}", points.Merge, "manifest before layers", 2),
    _points("vacuum", f"... of a vacuum: {SAFE}", points.Vacuum, "no fsync", 2),
    _points("migrate", f"... of a migration: {SAFE}", points.Migrate, "no directory sync", 2),
    _points("rollback", f"... of a rollback: {SAFE}", points.RollBack, "no directory sync", 2),
    _points("push", f"... of a push: {SAFE}", points.Push, "no fsync", 2),
    Row("cuts", "a log cut at any offset gives the acknowledged prefix and goes on", cuts.run,
        "does not look at the tail", 20_000, 60, control=30, parts=2),
    Row("flips-log", "a flipped bit of a log is seen", flips.log_flips, "no checksum", 60_000, 120, parts=4),
    Row("flips-manifest", "a flipped bit of a manifest gives no wrong answer", flips.manifest_flips,
        "no checksum", 20_000, 60, control=120),
    Row("flips-layers", "a flipped bit of a layer gives no wrong answer", flips.layer_flips,
        "no checksum", 20_000, 60, control=80),
    Row("frames", "dropped, repeated and swapped frames and days are seen", frames.run, "no chain", 2_000, 70),
    Row("crowd", "8 processes on one user lose, mix and reorder nothing", crowd.run, "no lock", 800_000, 1_600,
        control=8_000),
    Row("clocks", "clocks that jump leave one chain in order", clocks.run, "believes its clock", 1_000, 200),
    Row("uids", "a hostile user id gets nowhere outside of its directory", uids.run, "no check of ids", 2_000, 90),
    Row("requests", "malformed HTTP is answered and leaves no trace", requests.run,
        "expects JSON", 10_000, 110, control=60),
    Row("outages", "an object store that fails at any request restores before or after", outages.run,
        "image before blocks", EVERY, 20),
    Row("histories", "a log means what a dict says, whatever was done to it", histories.run,
        "no fsync, no directory sync", 100_000, 100, control=150, parts=4),
]  # fmt: skip


class Result(NamedTuple):
    """A row that was run: what came of it and of its control."""

    row: Row
    seed: int
    seconds: float
    outcome: Outcome
    control: Outcome

    @property
    def green(self) -> bool:
        """Whether the row held and its control did not."""
        return not self.outcome.failures and self.outcome.checked > 0 and bool(self.control.failures)

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.outcome.failures:
            return "FAILS"
        return "holds" if self.green else "CONTROL PASSES"


def rows_of(names: Iterable[str]) -> list[Row]:
    """The rows of these names, in the order of the board."""
    wanted = set(names)
    return [row for row in ROWS if row.name in wanted]


def scratch() -> Path | None:
    """Where stores are made: in memory, if the machine has room there; None is the usual place for temporary files.

    No row needs a real disk: a SIGKILL takes nothing from the page cache, and power fails on a ``ForgetfulFiles``.
    """
    with suppress(OSError):
        if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM:
            return MEMORY
    return None


def play(name: str, count: int, seed: int, broken: bool = False) -> tuple[Outcome, float]:
    """Run a row or its control in a folder of its own; what came of it, and the seconds it took."""
    (row,) = rows_of([name])
    folder, began = Path(tempfile.mkdtemp(prefix=f"scoreboard-{name}-", dir=scratch())), time.monotonic()
    outcome = Outcome(once=broken)
    (folder / "work").mkdir()
    try:
        with suppress(Enough):
            row.run(Task(count, seed, folder / "work", broken, outcome))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome, time.monotonic() - began


def control_of(row: Row, seed: int) -> Outcome:
    """What came of the broken twin."""
    return play(row.name, row.control or row.quick, seed, broken=True)[0]


def run(rows: list[Row], counts: dict[str, int], seed: int, jobs: int) -> Iterator[Result]:
    """Run rows and controls in processes; yields each result when all of it is there."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        waiting: dict[Future[tuple[Outcome, float]], tuple[str, bool]] = {}
        left: dict[str, int] = {}
        found = {row.name: [Outcome(), Outcome(), 0.0] for row in rows}
        for row in sorted(rows, key=lambda row: -row.parts):  # the long ones first
            shares = _shares(counts[row.name], row.parts)
            left[row.name] = len(shares) + 1
            for number, share in enumerate(shares):
                waiting[pool.submit(play, row.name, share, seed + number)] = (row.name, False)
            waiting[pool.submit(play, row.name, row.control or row.quick, seed, True)] = (row.name, True)
        for done in as_completed(waiting):
            name, broken = waiting[done]
            outcome, seconds = _outcome(done)
            found[name][broken] = found[name][broken].add(outcome)  # type: ignore[union-attr]
            found[name][2] += seconds
            left[name] -= 1
            if not left[name]:
                (row,) = rows_of([name])
                yield Result(row, seed, found[name][2], found[name][0], found[name][1])  # type: ignore[arg-type]


def _shares(count: int, parts: int) -> list[int]:
    """A count in equal parts, of at least some rounds each."""
    parts = max(1, min(parts, count // 50))
    return [count // parts + (number < count % parts) for number in range(parts)]


def _outcome(done: Future[tuple[Outcome, float]]) -> tuple[Outcome, float]:
    try:
        return done.result()
    except Exception as error:  # the row itself broke, which is no success of a control either
        return Outcome(0, [f"could not be run: {type(error).__name__}: {error}"]), 0.0
