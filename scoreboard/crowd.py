"""Many processes that append to one user at once: nothing lost, mixed, or out of order."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

from meshlab.events import Delete
from meshlab.wal.paths import segment_days
from meshlab.wal.reader import ORIGIN, resolve, scan_segment
from meshlab.wal.writer import Writer
from scoreboard.row import Task
from scoreboard.twins import either, no_lock

PROCESSES = 8
BATCH_EVERY = 10


def work(root: Path, name: int, count: int, broken: bool) -> None:
    """Append so many numbered events; every tenth frame is a batch."""
    with either(broken, no_lock):
        writer, number = Writer(root, durability="os"), 0
        while number < count:
            size = min(4 if number % BATCH_EVERY == 0 else 1, count - number)
            writer.append_many([Delete(f"{name}-{number + more}") for more in range(size)])
            number += size
        writer.close()


def payloads(root: Path) -> tuple[list[bytes], list[int], list[str]]:
    """The JSON and the seq of every event in log order, and the classes of rejects."""
    found: list[bytes] = []
    seqs: list[int] = []
    parts, cursor = [], ORIGIN
    for day in segment_days(root):
        scan = scan_segment(root, day, cursor)
        for block in scan:
            data = bytes(block.data)
            spans = zip(block.event_start.tolist(), block.event_stop.tolist(), strict=True)
            found += [data[start:stop] for start, stop in spans]
            seqs += block.seq.tolist()
        cursor = scan.end
        parts.append(scan.part)
    return found, seqs, [reject.kind for reject in resolve(parts)]


def run(task: Task) -> None:
    """Start them all, then read the log once."""
    outcome, root, each = task.outcome, task.folder / "u", task.count // PROCESSES
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pandas", "duckdb", "scoreboard.kills", "scoreboard.crowd"])
    crew = [context.Process(target=work, args=(root, name, each, task.broken)) for name in range(PROCESSES)]
    for process in crew:
        process.start()
    for process in crew:
        process.join()
    with outcome.round("all of them", PROCESSES * each):
        assert task.broken or {process.exitcode for process in crew} == {0}, "a process failed"
        found, seqs, rejects = payloads(root)
        assert not rejects, f"rejects: {rejects[:3]}"
        assert seqs == list(range(1, PROCESSES * each + 1)), "the seqs are not one chain"
        after = [0] * PROCESSES
        for payload in found:
            name, number = map(int, payload[11:-2].split(b"-"))
            assert number == after[name], f"process {name}: {number} stands where {after[name]} should"
            after[name] += 1
        assert after == [each] * PROCESSES, "events are missing"
