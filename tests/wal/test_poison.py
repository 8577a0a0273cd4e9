"""Writes and syncs that fail: unknown, then refused everywhere, then repaired on opening."""

from __future__ import annotations

import errno

import pytest

from meshlab.errors import MeshlabError, StorageError, WalPoisoned, WriteFailed
from meshlab.events import Delete
from meshlab.testing import FailingFiles, ForgetfulFiles, RecordingFiles
from meshlab.times import DAY, midnight
from meshlab.wal.lock import LockFile, Poison
from meshlab.wal.paths import segment_name
from meshlab.wal.writer import Writer

NOON = midnight("20250707") + DAY // 2
LOG = segment_name("20250707")


def noon() -> int:
    return NOON


def ids(log):
    return [row.payload.decode().split('"')[3] for row in log.rows if row.op == "delete"]


FAULTS = [
    pytest.param("write", {"error": errno.EIO}, id="failed write"),
    pytest.param("write", {"error": errno.ENOSPC}, id="disk full"),
    pytest.param("write", {"short": 20}, id="short write"),
    pytest.param("sync", {"error": errno.EIO}, id="failed sync"),
]


@pytest.mark.parametrize(("kind", "fault"), FAULTS)
def test_after_a_fault_every_writer_refuses_until_the_log_is_reopened(tmp_path, read_log, kind, fault):
    disk = ForgetfulFiles()
    files = FailingFiles(disk, kind, 3, name="wal-*", **fault)
    broken, other = (Writer(tmp_path, files=f, clock=noon) for f in (files, disk))
    other.append(Delete("other"))
    broken.append(Delete("a"))
    broken.append(Delete("b"))
    with pytest.raises(WriteFailed, match=LOG):
        broken.append(Delete("unknown"))
    assert files.hits == 1
    for writer in (broken, other, broken, other):
        with pytest.raises(WalPoisoned):
            writer.append(Delete("refused"))
    fresh = Writer(tmp_path, files=disk, clock=noon)
    fresh.append(Delete("after"))
    with pytest.raises(WalPoisoned):
        broken.append(Delete("refused"))
    disk.crash(tmp_path)
    log = read_log(tmp_path)
    there = ids(log)
    assert there[:3] == ["other", "a", "b"]
    assert there[3:] in (["after"], ["unknown", "after"])
    assert set(log.classes) <= {"torn"}
    assert (kind == "sync") == ("unknown" in there)
    assert ("torn" in log.classes) == ("short" in fault)


def test_reopening_writes_the_unsynced_bytes_again_and_nothing_before_them(tmp_path, read_log):
    disk = ForgetfulFiles()
    writer = Writer(tmp_path, files=FailingFiles(disk, "sync", 3, name="wal-*"), clock=noon)
    writer.append(Delete("a"))
    synced = writer.append(Delete("b"))
    with pytest.raises(WriteFailed):
        writer.append(Delete("c"))
    size = (tmp_path / LOG).stat().st_size
    files = RecordingFiles(disk)
    Writer(tmp_path, files=files, clock=noon).append(Delete("d"))
    end = synced.offset + synced.nbytes
    assert [done.size for done in files.operations if done.name == "pwrite" and done.path.name == LOG] == [size - end]
    disk.crash(tmp_path)
    assert ids(read_log(tmp_path)) == ["a", "b", "c", "d"]


def test_a_twin_that_only_syncs_again_loses_the_bytes_of_the_failed_sync(tmp_path, read_log, monkeypatch):
    """Negative control: after a failed sync the next one succeeds and the data is gone."""
    disk = ForgetfulFiles()
    writer = Writer(tmp_path, files=FailingFiles(disk, "sync", 2, name="wal-*"), clock=noon)
    writer.append(Delete("a"))
    with pytest.raises(WriteFailed):
        writer.append(Delete("b"))
    monkeypatch.setattr(Writer, "_heal", lambda self, lock, poison: lock.write_poison(None))
    Writer(tmp_path, files=disk, clock=noon).append(Delete("c"))
    disk.crash(tmp_path)
    assert read_log(tmp_path).bad, "the hole where b stood"


def test_healing_rewrites_the_poisoned_segment_and_all_newer_ones(tmp_path, read_log):
    files = RecordingFiles(ForgetfulFiles())
    for day in range(3):
        Writer(tmp_path, files=files, clock=lambda day=day: NOON + day * DAY).append(Delete(f"m{day}"))
    lock = LockFile(tmp_path / "wal.lock", files)
    lock.acquire()
    lock.write_poison(Poison("20250708", 40))
    lock.close()
    files.operations.clear()
    sizes = [(tmp_path / segment_name(day)).stat().st_size for day in ("20250708", "20250709")]
    Writer(tmp_path, files=files, clock=lambda: NOON + 2 * DAY).append(Delete("d"))
    written = [(done.path.name[4:12], done.size) for done in files.operations if done.name == "pwrite"]
    assert written == [("20250708", sizes[0] - 40), ("20250709", sizes[1])]
    assert (ids(read_log(tmp_path)), read_log(tmp_path).bad) == (["m0", "m1", "m2", "d"], [])


def test_of_two_poisons_the_one_nearer_the_beginning_stays(tmp_path, fast_files):
    writer = Writer(tmp_path, files=fast_files, clock=noon)
    end = writer.append(Delete("a")).nbytes
    lock = LockFile(tmp_path / "wal.lock", fast_files)
    lock.acquire()
    for day, expected in (
        ("20250708", Poison("20250708", 0)),
        ("20250707", Poison("20250707", end)),
        ("20250709", Poison("20250707", end)),
    ):
        writer._poison(lock, day, "a test")
        assert lock.read()[1] == expected
    lock.close()


def test_a_heal_that_fails_leaves_the_poison_for_the_next(tmp_path, read_log):
    disk = ForgetfulFiles()
    writer = Writer(tmp_path, files=FailingFiles(disk, "sync", 1, name="wal-*"), clock=noon)
    with pytest.raises(WriteFailed):
        writer.append(Delete("a"))
    healer = Writer(tmp_path, files=FailingFiles(disk, "sync", 1, name="wal-*"), clock=noon)
    with pytest.raises(StorageError):
        healer.append(Delete("b"))
    healer.append(Delete("c"))
    disk.crash(tmp_path)
    assert ids(read_log(tmp_path)) == ["a", "c"]


def test_a_full_disk_leaves_what_was_acknowledged_and_says_so(tmp_path, read_log):
    files = FailingFiles(kind="write", nth=4, name="wal-*", error=errno.ENOSPC, forever=True)
    writer = Writer(tmp_path, files=files, clock=noon)
    for name in "abc":
        writer.append(Delete(name))
    with pytest.raises(WriteFailed, match=r"No space left on device.*free space"):
        writer.append(Delete("d"))
    log = read_log(tmp_path)
    assert (ids(log), log.rejects) == (["a", "b", "c"], [])


@pytest.mark.parametrize("kind", ["mkdir", "open", "pwrite"])
def test_a_log_that_cannot_be_made_is_an_error_with_the_path_and_can_be_tried_again(tmp_path, read_log, kind):
    root = tmp_path / "store" / "user"
    writer = Writer(root, files=FailingFiles(kind=kind, nth=1, error=errno.ENOSPC), clock=noon)
    with pytest.raises(MeshlabError, match=r"store.*No space left"):
        writer.append(Delete("a"))
    writer.append(Delete("b"))
    assert ids(read_log(root)) == ["b"]


def test_refusing_a_thousand_times_piles_nothing_up(tmp_path):
    writer = Writer(tmp_path, files=FailingFiles(kind="write", nth=1, name="wal-*"), clock=noon)
    with pytest.raises(WriteFailed):
        writer.append(Delete("a"))
    depths = []
    for _ in range(1000):
        with pytest.raises(WalPoisoned) as caught:
            writer.append(Delete("a"))
        depths.append(len(caught.traceback))
    assert max(depths) == min(depths)


def test_a_lock_file_written_short_is_an_error_of_the_disk_and_the_next_append_writes_it_whole(tmp_path, read_log):
    files = FailingFiles(ForgetfulFiles(), "pwrite", 1, name="wal.lock", short=3)
    writer = Writer(tmp_path / "u", files=files, clock=noon)
    with pytest.raises(StorageError, match=r"wal\.lock"):
        writer.append(Delete("a"))
    assert files.hits == 1
    writer.append(Delete("b"))
    assert ids(read_log(tmp_path / "u")) == ["b"]
