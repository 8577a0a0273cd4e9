"""``wal.lock``: whatever stands in it, no frame is misplaced; and only tails are read."""

from __future__ import annotations

import gc
import os
from random import Random

import pytest

from meshlab.events import Delete
from meshlab.testing import LogBuilder
from meshlab.times import DAY, midnight
from meshlab.wal import recovery
from meshlab.wal.lock import Hint, LockFile
from meshlab.wal.paths import segment_name
from meshlab.wal.writer import Writer

NOON = midnight("20250707") + DAY // 2


@pytest.fixture
def open_writer(tmp_path, fast_files):
    clock = [NOON]

    def make():
        return Writer(tmp_path, files=fast_files, clock=lambda: clock[0])

    make.clock = clock
    return make


def lie(path, fast_files, hint):
    lock = LockFile(path, fast_files)
    lock.acquire()
    lock.write_hint(hint)
    lock.close()


def assert_sound(log, count):
    assert ([row.seq for row in log.rows], log.rejects) == (list(range(1, count + 1)), [])


LIES = [
    Hint("20250707", 0, 0, b"0" * 16),
    Hint("20250707", 10**9, 77, b"a" * 16),
    Hint("20250101", 0, 3, b"b" * 16),
    Hint("20250706", 5, 1, b"c" * 16),
]


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("hint", [*LIES, "right size, wrong seq", "right size, wrong sum"])
def test_a_hint_that_lies_is_found_out(tmp_path, read_log, fast_files, open_writer, hint, fresh):
    writer = open_writer()
    for day in range(2):
        open_writer.clock[0] = NOON + (day - 1) * DAY
        writer.append_many([Delete("a"), Delete("b")])
    size = (tmp_path / segment_name("20250707")).stat().st_size
    if hint == "right size, wrong seq":
        hint = Hint("20250707", size, 2, b"d" * 16)
    elif hint == "right size, wrong sum":
        hint = Hint("20250707", size, 4, b"e" * 16)
    lie(tmp_path / "wal.lock", fast_files, hint)
    (open_writer() if fresh else writer).append(Delete("c"))
    log = read_log(tmp_path)
    if hint.size == 10**9 and not fresh:
        assert log.classes == ["chain-gap"], "a size beyond the end looks like a file cut short: the gap shows"
        assert len(log.rows) == 5
    else:
        assert_sound(log, 5)


@pytest.mark.parametrize("what", ["missing", "empty", "short", "garbled", "bits"])
@pytest.mark.parametrize("fresh", [True, False])
def test_a_lock_file_that_tells_nothing_costs_only_a_look_at_the_tail(tmp_path, read_log, open_writer, what, fresh):
    rng = Random(7)
    path = tmp_path / "wal.lock"
    writer = open_writer()
    for _ in range(6):
        (open_writer() if fresh else writer).append(Delete("a"))
        data = path.read_bytes()
        if what == "missing":
            path.unlink()
        elif what == "bits":
            flipped = bytearray(data)
            flipped[rng.randrange(60)] ^= 1 << rng.randrange(8)
            path.write_bytes(flipped)
        else:
            path.write_bytes({"empty": b"", "short": data[:100], "garbled": rng.randbytes(256)}[what])
    log = read_log(tmp_path)
    assert_sound(log, 6)


def test_a_lock_file_restored_from_an_older_copy_is_found_out(tmp_path, read_log, open_writer):
    writer = open_writer()
    writer.append(Delete("a"))
    old = (tmp_path / "wal.lock").read_bytes()
    open_writer.clock[0] += DAY
    writer.append(Delete("b"))
    writer.append(Delete("c"))
    with open(tmp_path / "wal.lock", "r+b") as file:
        file.write(old)
    open_writer.clock[0] -= DAY
    writer.append(Delete("d"))
    assert_sound(read_log(tmp_path), 4)


def test_a_deleted_lock_file_is_made_again_and_still_excludes(tmp_path, read_log, open_writer):
    first, second = open_writer(), open_writer()
    first.append(Delete("a"))
    (tmp_path / "wal.lock").unlink()
    second.append(Delete("b"))
    first.append(Delete("c"))
    second.append(Delete("d"))
    assert_sound(read_log(tmp_path), 4)


def test_a_frame_written_without_its_hint_is_found_behind_it(tmp_path, read_log, open_writer, monkeypatch):
    """A process killed between write and hint."""
    first, second = open_writer(), open_writer()
    second.append(Delete("a"))
    monkeypatch.setattr(LockFile, "write_hint", lambda self, hint: None)
    first.append(Delete("b"))
    monkeypatch.undo()
    second.append(Delete("c"))
    assert_sound(read_log(tmp_path), 3)


@pytest.mark.parametrize("ending", [b"", b'{"timestamp":"2025-07-07T'])
def test_opening_a_big_segment_looks_at_its_last_frames_only(tmp_path, monkeypatch, open_writer, ending):
    log = LogBuilder("20250707")
    for number in range(3000):
        log.frame([Delete(f"m{number}" + "x" * 100)])
    log.raw(ending)
    log.write(tmp_path)
    size = len(log.bytes())
    looked, checked = [], []
    classify, read_frame = recovery.classify, recovery.read_frame
    monkeypatch.setattr(recovery, "classify", lambda s, c: looked.append(s.size) or classify(s, c))
    monkeypatch.setattr(recovery, "read_frame", lambda data: checked.append(len(data)) or read_frame(data))
    receipt = open_writer().append(Delete("next"))
    assert receipt.first_seq == 3001 + bool(ending)
    print(f"segment of {size} bytes: classified {sum(looked)}, frames checked {len(checked)}")
    assert sum(looked) <= 65536 and len(checked) <= 2


def test_a_long_torn_line_is_found_without_reading_the_whole_segment(tmp_path, read_log, monkeypatch, open_writer):
    log = LogBuilder("20250707")
    for number in range(20_000):
        log.frame([Delete(f"m{number}" + "x" * 50)])
    torn = b'{"timestamp":"2025-07-07T10:00:00.000000Z","event":{"Insert":{"id":"' + b"x" * 150_000
    log.raw(torn)
    log.write(tmp_path)
    looked = []
    classify = recovery.classify
    monkeypatch.setattr(recovery, "classify", lambda s, c: looked.append(s.size) or classify(s, c))
    assert open_writer().append(Delete("next")).first_seq == 20_002
    assert sum(looked) < len(log.bytes()) / 2
    assert [(r.kind, r.nbytes) for r in read_log(tmp_path).rejects] == [("torn", len(torn) + 1)]


def test_a_torn_batch_longer_than_the_first_look_is_named_as_a_whole(tmp_path, read_log, open_writer):
    log = LogBuilder("20250707")
    log.frame([Delete("a")])
    start = len(log.bytes())
    log.frame([Delete("m" * 500) for _ in range(400)])
    log.replace("20250707", log.bytes()[:-10])
    log.write(tmp_path)
    open_writer().append(Delete("b"))
    found = read_log(tmp_path)
    assert set(found.classes) == {"torn"}
    assert (found.rejects[0].offset, len(found.rejects), found.rows[-1].seq) == (start, 400, 3)


def test_after_damage_seq_goes_on_beyond_what_the_damaged_frame_claims(tmp_path, read_log, open_writer):
    for claimed, replacement in ((b'"seq":3', b'"seq":9'), (b'"seq":3', b'"seq":1')):
        log = LogBuilder("20250707")
        for name in "abc":
            log.frame([Delete(name)])
        log.replace("20250707", log.bytes().replace(claimed, replacement))
        log.write(tmp_path)
        (tmp_path / "wal.lock").unlink(missing_ok=True)
        receipt = open_writer().append(Delete("next"))
        assert receipt.first_seq == (10 if replacement.endswith(b"9") else 4)
        assert sorted(read_log(tmp_path).classes) == ["bad-sum", "chain-gap"]


def test_a_recovered_frame_is_written_once_however_often_the_log_is_opened(tmp_path, read_log, open_writer):
    log = LogBuilder("20250705")
    log.frame([Delete("a")])
    log.raw(b'{"timestamp":"2025')
    log.write(tmp_path)
    for _ in range(3):
        open_writer().append(Delete("b"))
        open_writer.clock[0] += DAY
    found = read_log(tmp_path)
    assert [row.op for row in found.rows] == ["delete", "other", "delete", "delete", "delete"]
    assert found.classes == ["torn"]
    assert not (tmp_path / segment_name("20250707")).read_bytes().startswith(b"\n")


def test_the_lock_files_descriptors_do_not_pile_up(tmp_path, fast_files, open_writer):
    gc.collect()  # what earlier tests left open may go at any time
    before = len(os.listdir("/dev/fd"))
    for _ in range(20):
        writer = open_writer()
        writer.append(Delete("a"))
        writer.close()
    assert len(os.listdir("/dev/fd")) == before


def test_behind_repeated_frames_the_next_ones_are_not_taken_for_repeated_too(tmp_path, read_log, open_writer):
    log = LogBuilder("20250707")
    for name in "abcdef":
        log.frame([Delete(name)])
    log.raw(b"".join(frame.data for frame in log.frames[1:4]))
    log.write(tmp_path)
    writer = open_writer()
    assert writer.append(Delete("new")).first_seq == 7
    with open(tmp_path / segment_name("20250707"), "ab") as file:
        file.write(log.frames[2].data)
    assert writer.append(Delete("newer")).first_seq == 8
    found = read_log(tmp_path)
    assert [row.seq for row in found.rows] == list(range(1, 9))
    assert found.classes == ["duplicate-frame"] * 4


def test_behind_a_day_copied_under_a_later_name_the_next_frames_count_on(tmp_path, read_log, open_writer):
    log = LogBuilder("20250704")
    for number, name in enumerate("abcdef"):
        log.frame([Delete(name)], day=f"2025070{4 + number // 2}")
    log.raw(log.bytes("20250704"), day="20250707")
    log.write(tmp_path)
    assert open_writer().append(Delete("new")).first_seq == 7
    found = read_log(tmp_path)
    assert ([row.seq for row in found.rows], found.classes) == (list(range(1, 8)), ["duplicate-frame"] * 2)


def test_behind_a_long_repeated_stretch_the_hint_tells_how_far_the_log_had_come(tmp_path, read_log, open_writer):
    log = LogBuilder("20250707")
    for number in range(9_000):
        log.frame([Delete(f"m{number}")])
    log.write(tmp_path)
    assert open_writer().append(Delete("new")).first_seq == 9_001
    path = tmp_path / segment_name("20250707")
    with path.open("ab") as file:
        file.write(log.bytes()[: -2 * len(log.frames[-1].data)])
    assert open_writer().append(Delete("newer")).first_seq == 9_002
    found = read_log(tmp_path)
    assert [row.seq for row in found.rows] == list(range(1, 9_003))
    assert found.classes == ["duplicate-frame"] * 8_998
