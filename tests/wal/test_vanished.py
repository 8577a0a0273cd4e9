"""A writer whose files are taken away, moved or replaced under it."""

import os
import shutil

import pytest

from meshlab.errors import MeshlabError, StorageError
from meshlab.events import Delete
from meshlab.testing import LogBuilder
from meshlab.wal.paths import LOCK
from meshlab.wal.verify import verify
from meshlab.wal.writer import Writer


def ids(root):
    found = []
    for path in sorted(root.glob("wal-*.log")):
        found += [line.split(b'"Delete":"')[1].split(b'"')[0].decode() for line in path.read_bytes().splitlines()]
    return found


def segment(root):
    (path,) = root.glob("wal-*.log")
    return path


@pytest.fixture
def writer(tmp_path):
    writer = Writer(tmp_path / "store" / "ann")
    for name in ("a", "b"):
        writer.append(Delete(name))
    yield writer
    writer.close()


def test_an_append_after_the_segment_was_deleted_is_in_the_log(writer):
    segment(writer.root).unlink()
    receipt = writer.append(Delete("c"))
    assert receipt.last_seq == 3
    assert ids(writer.root) == ["c"]
    assert [reject.kind for reject in verify(writer.root).rejects] == ["chain-gap"]


def test_an_append_after_the_directory_was_replaced_by_a_copy_is_in_the_copy(writer, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(writer.root, copy)
    for root in (writer.root, copy):  # long ago, so that the time stamps alone tell nothing
        os.utime(root, ns=(10**18, 10**18))
    writer.append(Delete("c"))
    writer.root.rename(tmp_path / "elsewhere")
    copy.rename(writer.root)
    writer.append(Delete("d"))
    assert ids(writer.root) == ["a", "b", "d"]


def test_a_writer_never_counts_below_a_seq_that_is_known_from_elsewhere(tmp_path):
    writer = Writer(tmp_path / "ann", least_seq=lambda: 7)
    assert [writer.append(Delete(name)).last_seq for name in "ab"] == [8, 9]
    writer.close()


def test_an_append_after_the_segment_was_moved_away_is_in_the_log(writer, tmp_path):
    segment(writer.root).rename(tmp_path / "elsewhere")
    writer.append(Delete("c"))
    assert ids(writer.root) == ["c"]
    assert b'"c"' not in (tmp_path / "elsewhere").read_bytes()


def test_an_append_after_the_segment_was_replaced_by_a_copy_is_in_the_copy(writer):
    path = segment(writer.root)
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    os.replace(copy, path)
    writer.append(Delete("c"))
    assert ids(writer.root) == ["a", "b", "c"]
    assert not verify(writer.root).rejects


def test_an_append_after_an_older_copy_was_restored_leaves_a_gap_to_see(writer):
    path = segment(writer.root)
    older = path.read_bytes().splitlines(keepends=True)[0]
    path.with_name("copy").write_bytes(older)
    os.replace(path.with_name("copy"), path)
    assert writer.append(Delete("c")).last_seq == 3
    assert ids(writer.root) == ["a", "c"]
    assert [reject.kind for reject in verify(writer.root).rejects] == ["chain-gap"]


def test_a_moved_lock_file_is_noticed(writer):
    (writer.root / LOCK).rename(writer.root / "old.lock")
    other = Writer(writer.root)
    other.append(Delete("c"))
    writer.append(Delete("d"))
    other.close()
    assert ids(writer.root) == ["a", "b", "c", "d"]
    assert not verify(writer.root).rejects


def test_a_deleted_directory_is_one_clear_error_and_then_a_new_log(writer):
    for path in writer.root.iterdir():
        path.unlink()
    writer.root.rmdir()
    with pytest.raises(MeshlabError):
        writer.append(Delete("c"))
    writer.append(Delete("d"))
    assert ids(writer.root) == ["d"]


@pytest.mark.parametrize("name", [LOCK, "wal-20250707.log"])
def test_a_symbolic_link_is_refused_and_its_target_left_alone(tmp_path, name):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious" * 100)
    root = tmp_path / "store" / "ann"
    root.mkdir(parents=True)
    (root / name).symlink_to(victim)
    with pytest.raises(StorageError):
        Writer(root, clock=lambda: 1751875200000000).append(Delete("a"))
    assert victim.read_bytes() == b"precious" * 100


def test_a_pipe_in_place_of_the_lock_is_refused(tmp_path):
    root = tmp_path / "store" / "ann"
    root.mkdir(parents=True)
    os.mkfifo(root / LOCK)
    with pytest.raises(StorageError):
        Writer(root).append(Delete("a"))


def test_a_seq_no_reader_takes_is_refused_before_a_byte_is_written(tmp_path):
    log = LogBuilder("20250707")
    log.seq = 10**18 - 3
    log.frame([Delete("a")])
    log.write(tmp_path)
    size = (tmp_path / "wal-20250707.log").stat().st_size
    writer = Writer(tmp_path, clock=lambda: 1751875200000000)
    receipt = writer.append(Delete("b"))
    with pytest.raises(StorageError, match="digits"):
        while True:
            receipt = writer.append(Delete("c"))
    assert receipt.last_seq == 10**18 - 1
    assert (tmp_path / "wal-20250707.log").stat().st_size > size
    assert verify(tmp_path).events >= 2
    writer.close()


def test_a_pipe_or_a_link_in_place_of_a_segment_is_not_read(tmp_path):
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        root = tmp_path / f"store{make is os.mkfifo}" / "ann"
        root.mkdir(parents=True)
        make(root / "wal-20250707.log")
        with pytest.raises(StorageError, match="wal-20250707"):
            verify(root)
