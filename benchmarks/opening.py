"""Appending to a segment of 2 GB beside an empty one, and opening the writer there."""

from __future__ import annotations

import os
import statistics
import time
from itertools import cycle
from pathlib import Path

from benchmarks.inputs import Inputs, clock_in, sample_events
from benchmarks.measure import Figure, figure, tell
from benchmarks.report import TIME, Bound, Row, seconds
from benchmarks.verify import peak_row
from meshlab.events import MeshEvent
from meshlab.testing.builder import BENCHMARK_DAY
from meshlab.times import format_time
from meshlab.wal.frame import NO_SUM, write_frame
from meshlab.wal.paths import LOCK, segment_name
from meshlab.wal.writer import Writer

SIZE = 2 * 10**9
BATCH = 1000
CONTENT = "The lattice keeps what was said. " * 120
APPENDS = 100
ROUNDS = 16
OPENINGS = 5


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    folder = inputs.scratch("opening")
    big, empty = folder / "big", folder / "empty"
    build_big_segment(big, SIZE)
    opening, bytes_read = _open_cold(big)
    latencies, appended = _append_in_turn(big, empty, rounds * ROUNDS)
    ours, theirs = (_percentiles(latencies[name]) for name in ("big", "empty"))
    work = "append to a 2 GB segment, p50 (p5-p95)"
    return [
        Row(
            work,
            seconds(ours),
            f"to an empty one {seconds(theirs)}",
            ours.median / theirs.median,
            TIME,
            Bound(1.1, most=True),
        ),
        Row(
            "open the writer and append there, page cache and hint dropped",
            seconds(opening),
            f"reads {bytes_read / 1e6:.2f} MB of {SIZE / 1e6:,.0f}",
            bytes_read / SIZE * 100,
            "{:.3f} % read",
            Bound(1.0, most=True),
        ),
        peak_row(folder, "big", f"verify, peak memory, {SIZE / 1e6:,.0f} MB", appended),
    ]


def build_big_segment(root: Path, size: int) -> None:
    """A valid segment of at least ``size`` bytes in frames of 1,000 big events."""
    root.mkdir()
    events = [b'{"Insert":{"id":"m%d","content":"%b"}}' % (number, CONTENT.encode()) for number in range(BATCH)]
    stamp = format_time(clock_in(BENCHMARK_DAY)())
    seq, prev, written = 1, NO_SUM, 0
    with open(root / segment_name(BENCHMARK_DAY), "wb", buffering=0) as file:
        while written < size:
            frame = write_frame(events, stamp, seq=seq, prev=prev)
            written += file.write(frame.data)
            seq, prev = frame.last_seq + 1, frame.sum
        os.fsync(file.fileno())


def _open_cold(root: Path) -> tuple[Figure, float]:
    """Seconds from a new writer to its first acknowledged append, and the bytes its process read meanwhile."""
    event = sample_events(1)[0]
    samples, read = [], []
    for _ in range(OPENINGS):
        (root / LOCK).unlink(missing_ok=True)
        _drop_from_cache(root / segment_name(BENCHMARK_DAY))
        writer = Writer(root, clock=clock_in(BENCHMARK_DAY))
        before, start = _bytes_read(), time.perf_counter()
        writer.append(event)
        samples.append(time.perf_counter() - start)
        read.append(_bytes_read() - before)
        writer.close()
    tell(f"  opening {samples}, bytes read {read}")
    return figure(samples), statistics.median(read)


def _drop_from_cache(path: Path) -> None:
    """Ask the kernel to forget the pages of a file, where there is a way to."""
    if hasattr(os, "posix_fadvise"):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def _bytes_read() -> int:
    """Bytes this process made the disk deliver, reads through a memory map included (Linux; else 0)."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes:"))


def _append_in_turn(big: Path, empty: Path, rounds: int) -> tuple[dict[str, list[float]], int]:
    """Seconds of each append, in short rounds of alternating order, and the events the big log then holds.

    The first round counts for nothing: both writers open their files in it.
    """
    writers = {name: Writer(root, clock=clock_in(BENCHMARK_DAY)) for name, root in (("big", big), ("empty", empty))}
    latencies: dict[str, list[float]] = {name: [] for name in writers}
    events = cycle(sample_events(1000))
    for number in range(-1, rounds):
        for name in sorted(writers, reverse=bool(number % 2)):
            measured = [_append(writers[name], next(events)) for _ in range(APPENDS)]
            if number >= 0:
                latencies[name] += measured
    last = writers["big"].append(next(events)).last_seq
    for writer in writers.values():
        writer.close()
    return latencies, last


def _append(writer: Writer, event: MeshEvent) -> float:
    start = time.perf_counter()
    writer.append(event)
    return time.perf_counter() - start


def _percentiles(samples: list[float]) -> Figure:
    cuts = statistics.quantiles(samples, n=20)
    return Figure(statistics.median(samples), cuts[0], cuts[-1])
