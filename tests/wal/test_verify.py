"""Verification reads everything, believes nothing and changes nothing."""

import fcntl
import os

import pytest

from meshlab.errors import NotFound, StorageError
from meshlab.testing import build_log
from meshlab.wal.chain import ORIGIN
from meshlab.wal.paths import LOCK, segment_name
from meshlab.wal.reader import CHUNK
from meshlab.wal.verify import LogScan, is_damage, verify
from meshlab.wal.writer import Writer

DAYS = ("20250701", "20250702", "20250703")


def three_days():
    return build_log([[{"Delete": f"m{number}"}] for number in range(12)], per_day=4)


@pytest.fixture
def root(tmp_path):
    return three_days().write(tmp_path / "log")


def change(root, day, edit):
    path = root / segment_name(day)
    path.write_bytes(edit(path.read_bytes()))


def stamps(root):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [root, *root.rglob("*")]}


def test_a_sound_log_has_no_rejects_and_ends_where_its_writer_stood(tmp_path):
    log = three_days()
    found = verify(log.write(tmp_path / "log"))
    assert (found.events, found.rejects, found.damage) == (12, [], [])
    assert (found.end.seq, found.end.sum) == (log.seq, log.prev)
    assert [tally.segment for tally in found.tallies] == list(DAYS)
    assert found.bytes == sum(len(log.bytes(day)) for day in DAYS)


def test_an_empty_log_has_nothing_and_ends_at_the_origin(tmp_path):
    found = verify(tmp_path)
    assert (found.events, found.bytes, found.rejects, found.end) == (0, 0, [], ORIGIN)


def test_an_empty_segment_is_no_damage(root):
    (root / segment_name("20250704")).touch()
    found = verify(root)
    assert found.rejects == []
    assert (found.tallies[-1].bytes, found.events) == (0, 12)


def test_a_torn_last_frame_is_listed_but_is_no_damage(root):
    change(root, DAYS[2], lambda data: data[:-5])
    found = verify(root)
    assert [reject.kind for reject in found.rejects] == ["torn"]
    assert found.damage == []
    assert found.events == 11


def test_a_frame_cut_in_an_older_segment_is_damage(root):
    change(root, DAYS[1], lambda data: data[:-5])
    found = verify(root)
    assert found.damage
    assert {reject.segment for reject in found.damage} <= {DAYS[1], DAYS[2]}
    assert found.events == 11


def test_a_frame_lost_between_two_segments_is_a_gap(root):
    change(root, DAYS[1], lambda data: b"".join(data.splitlines(keepends=True)[:-1]))
    (gap,) = verify(root).rejects
    assert (gap.kind, gap.segment, gap.line, gap.nbytes) == ("chain-gap", DAYS[2], 1, 0)
    assert is_damage(gap)


def test_segments_in_the_wrong_files_are_damage(root):
    first, second = (root / segment_name(day) for day in DAYS[:2])
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    assert verify(root).damage


def test_a_line_begun_is_an_open_tail_while_the_log_is_locked_and_torn_afterwards(tmp_path):
    root = tmp_path / "log"
    writer = Writer(root)
    writer.append_many([{"Delete": "a"}, {"Delete": "b"}])
    path = next(root.glob("wal-*.log"))
    with open(path, "ab") as half_written:
        half_written.write(b'{"timestamp":"2025-')
    before = stamps(root)
    with open(root / LOCK, "rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = verify(root)
    assert (found.events, found.rejects) == (2, [])
    assert found.tallies[-1].open_tail_bytes == 19
    assert [reject.kind for reject in verify(root).rejects] == ["torn"]
    assert stamps(root) == before
    writer.close()


def test_verify_changes_nothing_and_leaves_no_file_open(root):
    change(root, DAYS[1], lambda data: data.replace(b"m5", b"m\x00"))
    before, descriptors = stamps(root), opened(root)
    assert verify(root).damage
    assert stamps(root) == before
    assert opened(root) == descriptors


def opened(root):
    """The files of a log that this process has open."""
    links = (f"/dev/fd/{name}" for name in os.listdir("/dev/fd"))
    return sorted(target for link in links if os.path.lexists(link) and str(root) in (target := os.readlink(link)))


def test_progress_counts_every_byte_of_a_sound_log(root):
    steps = []
    found = verify(root, progress=steps.append)
    assert sum(steps) == found.bytes


def test_a_user_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="nobody"):
        verify(tmp_path / "nobody")


def test_a_directory_where_a_segment_should_be_is_named(root):
    (root / segment_name("20250705")).mkdir()
    with pytest.raises(StorageError, match="wal-20250705"):
        verify(root)


def test_a_scan_gives_the_blocks_in_the_order_of_the_days(root):
    log = LogScan(root)
    assert [block.segment for block in log] == list(DAYS)
    assert [part.tally.events for part in log.parts] == [4, 4, 4]
    assert log.end.seq == 12
    assert max(part.tally.bytes for part in log.parts) < CHUNK
