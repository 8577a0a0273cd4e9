"""Truncation: a log cut at every offset gives the acknowledged prefix, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from meshlab.events import Delete, Insert, SolitonMemory, Update
from meshlab.testing import LogBuilder, UnsyncedFiles
from meshlab.testing.reading import read_log
from meshlab.times import DAY, midnight
from meshlab.wal import writer as writers
from meshlab.wal.paths import segment_name
from scoreboard.row import Task
from scoreboard.twins import either, put

DAY_1 = "20250701"
BARE = b'{"Insert":{"id":"bare","content":"h\xc3\xa9"}}'
GATEWAY = b'{"timestamp":"2025-07-01T10:00:00Z","event":{"type":"view","tags":["a",{}]}}'


class Unit(NamedTuple):
    """What is acknowledged as one: where it ends in the file, and the events in it."""

    stop: int
    payloads: list[bytes]


def mixed_log(rng: Random | None = None) -> tuple[bytes, list[Unit]]:
    """A segment of frames and foreign lines; from a seed, or always the same."""
    log, units = LogBuilder(DAY_1), []

    def framed(*events: Any, key: str | None = None) -> None:
        start = len(log.bytes()) if log.days() else 0
        frame = log.frame(events, key=key)
        payloads = [line.split(b',"event":')[1] for line in frame.data.splitlines()]
        units.append(Unit(start + len(frame.data), [p.split(b',"key"')[0].split(b',"seq"')[0] for p in payloads]))

    def foreign(line: bytes, payload: bytes) -> None:
        log.raw(line + b"\n")
        units.append(Unit(len(log.bytes()), [payload]))

    makers = [
        lambda: framed(Insert(SolitonMemory(id="a", content='say "hi"\n'))),
        lambda: framed(Delete("b"), Update(SolitonMemory(id="a", amplitude=0.5)), Delete("c"), key="order-7"),
        lambda: foreign(BARE, BARE),
        lambda: framed({"Delete": "d"}),
        lambda: foreign(GATEWAY, b'{"type":"view","tags":["a",{}]}'),
        lambda: framed({"free": [1, 2]}, Delete("é")),
    ]
    for make in makers if rng is None else rng.choices(makers, k=rng.randint(4, 9)):
        make()
    return log.bytes(), units


def cut_at(path: Path, data: bytes, units: list[Unit], cut: int, ten: list[Delete]) -> bool:
    """Cut a log, read it, append to it, read again; whether a fragment was left."""
    path.write_bytes(data[:cut])
    (path.parent / "wal.lock").unlink(missing_ok=True)
    kept = [unit for unit in units if unit.stop - 1 <= cut]  # all of it but its newline is there
    wanted = [payload for unit in kept for payload in unit.payloads]
    whole = min(kept[-1].stop, cut) if kept else 0
    before = read_log(path.parent)
    assert before.payloads == wanted, "not the acknowledged prefix"
    assert sum(reject.nbytes for reject in before.bad) == cut - whole, "the rest is not all rejected"
    assert set(before.classes) <= {"torn"}, f"rejects: {before.classes}"
    writer = writers.Writer(path.parent, files=UnsyncedFiles(), clock=lambda: midnight(DAY_1) + DAY // 2)
    writer.append(ten[0])
    writer.append_many(ten[1:])
    writer.close()
    after = read_log(path.parent)
    assert after.acknowledged == wanted + [b'{"Delete":"%b"}' % event.id.encode() for event in ten], "the log after"
    assert len(after.rows) - len(after.acknowledged) == (whole < cut), "the recovery is not told"
    assert [(r.offset, r.kind) for r in after.rejects] == [(r.offset, "torn") for r in before.rejects], "new rejects"
    assert path.read_bytes().startswith(data[:cut]), "bytes were cut off"
    return whole < cut


def logs(seed: int) -> Iterator[tuple[bytes, list[Unit]]]:
    """The log that is always the same, then logs from the seed, without end."""
    yield mixed_log()
    rng = Random(seed)
    while True:
        yield mixed_log(rng)


def no_recovery() -> Any:
    """A writer that goes on where the file ends, whatever stands there."""
    find_end = writers.find_end

    def blind(*args: Any) -> Any:
        return find_end(*args)._replace(newline=False, torn=[])

    return put(writers, "find_end", blind)


def run(task: Task) -> None:
    """Cut at every offset of one log after the other; the twin does not look at the tail."""
    outcome, ten = task.outcome, [Delete(f"new-{number}") for number in range(10)]
    path = task.folder / segment_name(DAY_1)
    with either(task.broken, no_recovery):
        for data, units in logs(task.seed):
            steps = range(len(data) + 1)
            if task.count < len(steps):  # a slice: some of them, evenly
                steps = range(0, len(data) + 1, len(data) // task.count)
            for cut in steps:
                if outcome.checked == task.count:
                    return
                with outcome.round(f"cut at {cut}"):
                    outcome.notes["with a torn fragment"] += cut_at(path, data, units, cut, ten)
