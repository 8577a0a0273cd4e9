"""Files that fail on purpose, and files that keep a diary."""

from __future__ import annotations

import errno
import os

import pytest

from meshlab.testing import FailingFiles, ForgetfulFiles, PowerCut, RecordingFiles

APPEND = os.O_CREAT | os.O_WRONLY | os.O_APPEND
KINDS = ["open", "close", "write", "pwrite", "sync", "sync_directory", "mkdir", "rename", "link", "unlink"]


def one_of_each(files, root):
    """One operation of every kind; returns the kinds that raised."""
    failed = []

    def attempt(kind, *args):
        try:
            return getattr(files, kind)(*args)
        except OSError:
            failed.append(kind)
            return None

    attempt("mkdir", root / "made")
    fd = attempt("open", root / "log", APPEND)
    if fd is None:
        return failed
    attempt("write", fd, b"data")
    attempt("pwrite", fd, b"data", 0)
    attempt("sync", fd)
    attempt("sync_directory", root)
    attempt("close", fd)
    attempt("link", root / "log", root / "second")
    attempt("rename", root / "log", root / "moved")
    attempt("unlink", root / ("log" if "rename" in failed else "moved"))
    return failed


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_asked_for_fails_and_no_other(kind, tmp_path):
    files = FailingFiles(ForgetfulFiles(), kind, 1)
    assert one_of_each(files, tmp_path) == [kind]
    assert files.hits == 1


def test_only_the_nth_operation_fails(tmp_path):
    files = FailingFiles(ForgetfulFiles(), "write", 3, error=errno.ENOSPC)
    fd = files.open(tmp_path / "log", APPEND)
    for number in range(1, 6):
        if number == 3:
            with pytest.raises(OSError) as caught:
                files.write(fd, b"x")
            assert caught.value.errno == errno.ENOSPC
        else:
            assert files.write(fd, b"x") == 1
    assert (files.seen, files.hits) == (5, 1)


def test_for_ever_fails_from_the_nth_on(tmp_path):
    files = FailingFiles(ForgetfulFiles(), "write", 2, forever=True)
    fd = files.open(tmp_path / "log", APPEND)
    files.write(fd, b"x")
    for _ in range(3):
        with pytest.raises(OSError):
            files.write(fd, b"x")
    assert files.hits == 3


def test_a_short_write_writes_that_many_bytes(tmp_path):
    files = FailingFiles(ForgetfulFiles(), "write", 1, short=3)
    fd = files.open(tmp_path / "log", APPEND)
    assert files.write(fd, b"12345") == 3
    assert (tmp_path / "log").read_bytes() == b"123"
    assert files.hits == 1


def test_operations_on_other_names_are_not_counted(tmp_path):
    files = FailingFiles(ForgetfulFiles(), "write", 1, name="wal-*.log")
    lock = files.open(tmp_path / "wal.lock", APPEND)
    log = files.open(tmp_path / "wal-20250701.log", APPEND)
    files.write(lock, b"hint")
    with pytest.raises(OSError):
        files.write(log, b"frame")
    assert files.hits == 1


def test_a_fault_that_is_never_reached_has_no_hits(tmp_path):
    files = FailingFiles(ForgetfulFiles(), "sync", 2)
    assert one_of_each(files, tmp_path) == []
    assert (files.seen, files.hits) == (1, 0)


def test_a_failed_sync_loses_the_bytes_for_good(tmp_path):
    disk = ForgetfulFiles()
    files = FailingFiles(RecordingFiles(disk), "sync", 1)
    fd = files.open(tmp_path / "log", APPEND)
    files.sync_directory(tmp_path)
    files.write(fd, b"data")
    with pytest.raises(OSError):
        files.sync(fd)
    files.sync(fd)
    disk.crash(tmp_path)
    assert (tmp_path / "log").read_bytes() == b""


def test_a_power_cut_stops_everything_but_closing(tmp_path):
    files = FailingFiles(ForgetfulFiles(), "any", 2, error=PowerCut(), forever=True)
    fd = files.open(tmp_path / "log", APPEND)
    with pytest.raises(PowerCut):
        files.write(fd, b"x")
    with pytest.raises(PowerCut):
        files.mkdir(tmp_path / "made")
    files.close(fd)
    assert files.hits == 2


def test_every_point_of_a_sequence_can_be_hit(tmp_path):
    points = 0
    while True:
        root = tmp_path / str(points)
        root.mkdir()
        files = FailingFiles(ForgetfulFiles(), "any", points + 1)
        one_of_each(files, root)
        if not files.hits:
            break
        points += 1
    assert points == 9


def test_the_diary_has_name_path_and_size_in_order(tmp_path):
    files = RecordingFiles(ForgetfulFiles())
    assert one_of_each(files, tmp_path) == []
    assert [done.name for done in files.operations] == [
        "mkdir", "open", "write", "pwrite", "sync", "sync_directory", "close",
        "link", "rename", "unlink",
    ]  # fmt: skip
    assert files.operations[2] == ("write", tmp_path / "log", 4)
    assert [done.path.name for done in files.operations[-3:]] == ["second", "moved", "moved"]
    assert files.names("log") == ["open", "write", "pwrite", "sync", "close"]


def test_the_diary_leaves_out_what_failed(tmp_path):
    files = RecordingFiles(FailingFiles(ForgetfulFiles(), "sync", 1))
    assert one_of_each(files, tmp_path) == ["sync"]
    assert "sync" not in files.names()
