"""Frames and days that are dropped, repeated, swapped or exchanged: the chain tells."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from meshlab.testing import LogBuilder, build_log
from meshlab.testing.reading import read_log
from meshlab.wal.frame import Frame
from meshlab.wal.paths import segment_name
from scoreboard.row import Task
from scoreboard.twins import either, no_chain

Frames = list[Frame]


def dropped(frames: Frames, at: int) -> Frames:
    """Without one frame that has one behind it."""
    return frames[:at] + frames[at + 1 :]


def repeated(frames: Frames, at: int) -> Frames:
    """One frame twice."""
    return frames[: at + 1] + frames[at:]


def swapped(frames: Frames, at: int) -> Frames:
    """Two neighbours in each other's place."""
    return [*frames[:at], frames[at + 1], frames[at], *frames[at + 2 :]]


def repeated_later(frames: Frames, at: int) -> Frames:
    """One frame once more at the end."""
    return [*frames, frames[at]]


FRAME_FAULTS: dict[str, Callable[[Frames, int], Frames]] = {
    "frame dropped": dropped,
    "frame repeated": repeated,
    "frames swapped": swapped,
    "frame repeated later": repeated_later,
}


def day_dropped(log: LogBuilder, at: int) -> None:
    """A day that has one behind it is gone."""
    log.replace(log.days()[at], None)


def day_repeated(log: LogBuilder, at: int) -> None:
    """A day stands under the name of the next one, in front of what that holds."""
    day, after = log.days()[at : at + 2]
    log.replace(after, log.bytes(day) + log.bytes(after))


def days_swapped(log: LogBuilder, at: int) -> None:
    """Two days in each other's place."""
    one, other = log.days()[at : at + 2]
    first, second = log.bytes(one), log.bytes(other)
    log.replace(one, second)
    log.replace(other, first)


DAY_FAULTS: dict[str, Callable[[LogBuilder, int], None]] = {
    "day dropped": day_dropped,
    "day repeated": day_repeated,
    "days swapped": days_swapped,
}


def run(task: Task) -> None:
    """One fault in each log; the twin looks at every frame alone."""
    outcome, rng = task.outcome, Random(task.seed)
    kinds = [*FRAME_FAULTS, *DAY_FAULTS]
    with either(task.broken, no_chain):
        for number in range(task.count):
            kind = kinds[number % len(kinds)]
            with outcome.round(f"log {number}, {kind}"):
                _one(task, kind, rng, number)
            outcome.notes[kind] += 1


def _one(task: Task, kind: str, rng: Random, number: int) -> None:
    count = rng.randint(6, 20)
    sizes = [rng.randint(1, 3) for _ in range(count)]
    events = [[{"Delete": f"m{at}-{part}"} for part in range(size)] for at, size in enumerate(sizes)]
    log = build_log(events, per_day=rng.randint(2, 3) if kind in DAY_FAULTS else None)
    if kind in DAY_FAULTS:
        DAY_FAULTS[kind](log, rng.randrange(len(log.days()) - 1))
        root = log.write(task.folder / str(number))
    else:
        root = task.folder / str(number)
        root.mkdir()
        changed = FRAME_FAULTS[kind](log.frames, rng.randrange(count - 1))
        (root / segment_name(log.day)).write_bytes(b"".join(frame.data for frame in changed))
    found = read_log(root)
    assert found.rejects, "not seen"
    assert set(found.classes) <= {"chain-gap", "duplicate-frame"}, found.classes
    seqs = [row.seq for row in found.rows]
    assert seqs == sorted(set(seqs)), "an event was applied twice, or backwards"
