"""Real processes: many at once, killed at any moment, and readers beside them."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random

import pytest

import meshlab
from meshlab.events import Delete
from meshlab.testing import LogBuilder
from meshlab.times import day_of
from meshlab.wal.paths import segment_days, segment_name
from meshlab.wal.reader import scan_segment
from meshlab.wal.writer import Writer, wall_clock
from scoreboard.sampling import EVERY

PACKAGE = Path(meshlab.__file__).parent.parent
HEAD = "import sys, threading; from pathlib import Path; from meshlab.wal.writer import Writer\n"
APPEND_FOREVER = (
    HEAD
    + """
writer = Writer(Path(sys.argv[1]))
while True:
    receipt = writer.append_many([{"Delete": "x" * 300}] * 3)
    print(receipt.last_seq, flush=True)
"""
)
EIGHT_THREADS = (
    HEAD
    + """
from meshlab.events import Delete
writer, name = Writer(Path(sys.argv[1])), sys.argv[2]
def work(thread):
    for step in range(25):
        event = f"{name}-{thread}-{step}"
        receipt = writer.append(Delete(event)) if step % 5 else writer.append_many([Delete(event), Delete(event + "b")])
        sys.stdout.write(f"{receipt.first_seq} {receipt.offset} {event}\\n")
threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
)


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    )


def test_two_processes_with_eight_threads_each_lose_and_mix_nothing(tmp_path, read_log):
    root = tmp_path / "user"
    processes = [start(EIGHT_THREADS, root, name) for name in ("p", "q")]
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    log = read_log(root)
    rows = {row.seq: row for row in log.rows}
    assert (log.rejects, sorted(rows)) == ([], list(range(1, 2 * 8 * 30 + 1)))
    receipts = [line.split() for out, _ in results for line in out.splitlines()]
    assert len(receipts) == 2 * 8 * 25
    for seq, offset, event in receipts:
        assert rows[int(seq)].payload == b'{"Delete":"%b"}' % event.encode()
        assert rows[int(seq)].offset == int(offset)
    print(f"events by two processes of eight threads: {len(rows)}")


def test_lines_appended_without_the_lock_beside_two_processes_are_all_there(tmp_path, read_log):
    root = tmp_path / "user"
    Writer(root).append(Delete("first"))
    processes = [start(EIGHT_THREADS, root, name) for name in ("p", "q")]
    count = 0
    while any(process.poll() is None for process in processes):
        with open(root / segment_name(segment_days(root)[-1]), "ab", buffering=0) as file:
            file.write(b'{"Delete":"foreign-%d"}\n' % count)
        count += 1
        time.sleep(0.002)
    assert [process.wait(120) for process in processes] == [0, 0]
    for process in processes:
        process.communicate()
    log = read_log(root)
    foreign = [row.payload for row in log.rows if row.dialect == "bare"]
    assert foreign == [b'{"Delete":"foreign-%d"}' % number for number in range(count)]
    assert [row.seq for row in log.rows if row.seq] == list(range(1, 2 * 8 * 30 + 2))
    assert log.rejects == []
    print(f"foreign lines in between: {count}")


def test_a_writer_killed_again_and_again_keeps_every_printed_seq(tmp_path, read_log):
    root, rng = tmp_path / "user", Random(20250707)
    printed, kills = 0, 30 if EVERY else 8
    for _ in range(kills):
        process = start(APPEND_FOREVER, root)
        assert process.stdout is not None
        for _ in range(rng.randint(1, 12)):
            line = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = process.communicate(timeout=60)[0]
        lines = [text for text in [line, *rest.splitlines(keepends=True)] if text.endswith("\n")]
        printed = max(printed, int(lines[-1]))
    Writer(root).append(Delete("after"))
    log = read_log(root)
    assert [row.seq for row in log.rows] == list(range(1, len(log.rows) + 1))
    assert len(log.rows) > printed
    assert set(log.classes) <= {"torn"}
    print(f"kills: {kills} (seed 20250707), acknowledged: {printed}, in the log: {len(log.rows)}")


@pytest.fixture
def half_written(tmp_path):
    """A log whose last frame is only half there, and the frame's other half."""
    log = LogBuilder("20250707")
    log.frame([Delete("a")])
    frame = log.frame([Delete("b"), Delete("c"), Delete("d")])
    rest = 200
    log.replace("20250707", log.bytes()[:-rest])
    log.write(tmp_path)
    (tmp_path / "wal.lock").touch()
    return tmp_path, len(frame.data) - rest, frame.data[-rest:]


def scan(root):
    result = scan_segment(root, "20250707", newest=True)
    return [row for block in result for row in block.start], result.part


def test_half_a_frame_under_the_lock_is_the_open_tail_and_torn_once_the_lock_is_free(half_written):
    root, half, _ = half_written
    with open(root / "wal.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows, part = scan(root)
        assert (len(rows), part.rejects, part.tally.open_tail_bytes) == (1, [], half)
        assert (part.tally.lines, part.tally.pieces) == (1, 0)
    rows, part = scan(root)
    assert (len(rows), part.tally.open_tail_bytes) == (1, 0)
    assert sum(reject.nbytes for reject in part.rejects) == half


def test_an_open_tail_behind_a_glued_line_counts_the_line_once(tmp_path, read_log):
    log = LogBuilder("20250707")
    log.raw(b'{"Delete":"a"}{"timestamp":"2025')
    log.write(tmp_path)
    with open(tmp_path / "wal.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        part = scan(tmp_path)[1]
    assert (part.tally.lines, part.tally.events, part.tally.rejects, part.tally.pieces) == (1, 1, 0, 0)
    assert part.tally.open_tail_bytes == len(b'{"timestamp":"2025')


def test_a_frame_completed_while_it_is_read_is_no_reject(half_written, monkeypatch):
    root, half, rest = half_written
    from meshlab.wal import reader

    read_whole = reader._read_whole

    def complete(file, at, size, chunk):
        with open(root / segment_name("20250707"), "ab") as log:
            log.write(rest)
        return read_whole(file, at, size, chunk)

    monkeypatch.setattr(reader, "_read_whole", complete)
    rows, part = scan(root)
    assert (len(rows), part.rejects, part.tally.open_tail_bytes) == (1, [], half)
    monkeypatch.undo()
    rows, part = scan(root)
    assert (len(rows), part.rejects, part.tally.open_tail_bytes) == (4, [], 0)


def test_damage_at_the_end_stays_a_reject_beside_a_live_writer(half_written):
    root, _, rest = half_written
    with open(root / segment_name("20250707"), "ab") as log:
        log.write(rest.replace(b'"Delete"', b'"Delebe"'))
    with open(root / "wal.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert scan(root)[1].rejects != []


def test_a_reader_beside_a_live_writer_sees_a_growing_prefix_and_no_reject(tmp_path, read_log):
    root = tmp_path / "user"
    writer = Writer(root, durability="os")
    batch = [Delete("x" * 5000)] * 200
    writer.append_many(batch)
    stop = threading.Event()

    def work():
        while not stop.is_set():
            writer.append_many(batch)

    thread = threading.Thread(target=work)
    thread.start()
    looks, open_tails, last = 0, 0, 0
    try:
        while looks < 40:
            log = read_log(root, check=False)
            assert log.rejects == []
            assert [row.seq for row in log.rows] == list(range(1, len(log.rows) + 1))
            assert len(log.rows) >= last and len(log.rows) % 200 == 0
            last = len(log.rows)
            open_tails += log.parts[-1].tally.open_tail_bytes > 0
            looks += 1
            if last > 15_000:
                break
    finally:
        stop.set()
        thread.join(60)
    print(f"looks beside a writer: {looks}, with an open tail: {open_tails}, events: {last}")


def test_a_reader_without_write_permission_needs_no_lock_file(tmp_path, read_log):
    log = LogBuilder(day_of(wall_clock()))
    log.frame([Delete("a")])
    log.write(tmp_path)
    assert len(read_log(tmp_path).rows) == 1
    assert not (tmp_path / "wal.lock").exists()
