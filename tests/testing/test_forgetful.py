"""The disk that forgets: what was synced stays, the rest goes."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from meshlab.testing import ForgetfulFiles
from meshlab.wal.files import Files

APPEND = os.O_CREAT | os.O_WRONLY | os.O_APPEND


@pytest.fixture
def disk() -> ForgetfulFiles:
    return ForgetfulFiles()


def synced_file(disk: ForgetfulFiles, path: Path, data: bytes) -> int:
    fd = disk.open(path, APPEND)
    disk.write(fd, data)
    disk.sync(fd)
    disk.sync_directory(path.parent)
    return fd


def naive_append(files: Files, path: Path, data: bytes) -> None:
    fd = files.open(path, APPEND)
    files.write(fd, data)
    files.close(fd)


def careful_append(files: Files, path: Path, data: bytes) -> None:
    fd = files.open(path, APPEND)
    files.write(fd, data)
    files.sync(fd)
    files.close(fd)
    files.sync_directory(path.parent)


def test_a_writer_that_never_syncs_loses_everything(disk, tmp_path):
    for number in range(10):
        naive_append(disk, tmp_path / "log", b"line %d\n" % number)
    assert (tmp_path / "log").read_bytes().count(b"\n") == 10
    disk.crash(tmp_path)
    assert not (tmp_path / "log").exists()


def test_a_writer_that_syncs_file_and_directory_loses_nothing(disk, tmp_path):
    for number in range(10):
        careful_append(disk, tmp_path / "log", b"line %d\n" % number)
    disk.crash(tmp_path)
    assert (tmp_path / "log").read_bytes().count(b"\n") == 10


def test_a_file_whose_name_was_not_synced_vanishes_with_its_synced_bytes(disk, tmp_path):
    fd = disk.open(tmp_path / "log", APPEND)
    disk.write(fd, b"data")
    disk.sync(fd)
    disk.crash(tmp_path)
    assert not (tmp_path / "log").exists()


def test_a_name_alone_keeps_an_empty_file(disk, tmp_path):
    fd = disk.open(tmp_path / "log", APPEND)
    disk.write(fd, b"data")
    disk.sync_directory(tmp_path)
    disk.crash(tmp_path)
    assert (tmp_path / "log").read_bytes() == b""


def test_the_unsynced_end_is_cut(disk, tmp_path):
    fd = synced_file(disk, tmp_path / "log", b"first")
    disk.write(fd, b"second")
    disk.crash(tmp_path)
    assert (tmp_path / "log").read_bytes() == b"first"


def test_a_sync_through_one_descriptor_covers_writes_through_all(disk, tmp_path):
    one = synced_file(disk, tmp_path / "log", b"a")
    two = disk.open(tmp_path / "log", APPEND)
    disk.write(one, b"b")
    disk.write(two, b"c")
    disk.sync(two)
    disk.write(one, b"d")
    disk.crash(tmp_path)
    assert (tmp_path / "log").read_bytes() == b"abc"


def test_an_unsynced_write_in_place_is_undone(disk, tmp_path):
    fd = synced_file(disk, tmp_path / "log", b"0123456789")
    plain = disk.open(tmp_path / "log", os.O_WRONLY)
    disk.pwrite(plain, b"AB", 2)
    disk.sync(fd)
    disk.pwrite(plain, b"XY", 6)
    disk.crash(tmp_path)
    assert (tmp_path / "log").read_bytes() == b"01AB456789"


def test_a_write_at_an_offset_of_an_appending_descriptor_lands_at_the_end(disk, tmp_path):
    fd = synced_file(disk, tmp_path / "log", b"0123")
    disk.pwrite(fd, b"AB", 0)
    disk.sync(fd)
    now = (tmp_path / "log").read_bytes()
    disk.crash(tmp_path)
    assert (tmp_path / "log").read_bytes() == now


def test_an_unsynced_truncation_is_undone(disk, tmp_path):
    synced_file(disk, tmp_path / "log", b"0123456789")
    fd = disk.open(tmp_path / "log", os.O_WRONLY | os.O_TRUNC)
    disk.write(fd, b"new")
    disk.crash(tmp_path)
    assert (tmp_path / "log").read_bytes() == b"0123456789"


def test_a_synced_truncation_stays(disk, tmp_path):
    synced_file(disk, tmp_path / "log", b"0123456789")
    fd = disk.open(tmp_path / "log", os.O_WRONLY | os.O_TRUNC)
    disk.write(fd, b"new")
    disk.sync(fd)
    disk.crash(tmp_path)
    assert (tmp_path / "log").read_bytes() == b"new"


def test_files_from_before_are_durable(disk, tmp_path):
    (tmp_path / "log").write_bytes(b"old")
    fd = disk.open(tmp_path / "log", APPEND)
    disk.write(fd, b" new")
    disk.crash(tmp_path)
    assert (tmp_path / "log").read_bytes() == b"old"


def test_a_directory_needs_the_sync_of_its_parent(disk, tmp_path):
    for name in ("kept", "lost"):
        disk.mkdir(tmp_path / name)
        synced_file(disk, tmp_path / name / "log", b"data")
        if name == "kept":
            disk.sync_directory(tmp_path)
    disk.crash(tmp_path)
    assert (tmp_path / "kept" / "log").read_bytes() == b"data"
    assert not (tmp_path / "lost").exists()


def test_a_store_made_through_the_disk_vanishes_whole(disk, tmp_path):
    disk.mkdir(tmp_path / "store")
    disk.mkdir(tmp_path / "store" / "ada")
    synced_file(disk, tmp_path / "store" / "ada" / "log", b"data")
    disk.sync_directory(tmp_path / "store")
    disk.crash(tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_failed_sync_loses_bytes_that_later_syncs_do_not_bring_back(disk, tmp_path):
    fd = synced_file(disk, tmp_path / "log", b"aaa")
    disk.write(fd, b"bbb")
    disk.drop_writes(fd)
    disk.write(fd, b"ccc")
    disk.sync(fd)
    assert (tmp_path / "log").read_bytes() == b"aaabbbccc"
    disk.crash(tmp_path)
    assert (tmp_path / "log").read_bytes() == b"aaa\0\0\0ccc"


def test_writing_lost_bytes_again_saves_them(disk, tmp_path):
    fd = synced_file(disk, tmp_path / "log", b"aaa")
    disk.write(fd, b"bbb")
    disk.drop_writes(fd)
    plain = disk.open(tmp_path / "log", os.O_WRONLY)
    disk.pwrite(plain, b"bbb", 3)
    disk.sync(plain)
    disk.crash(tmp_path)
    assert (tmp_path / "log").read_bytes() == b"aaabbb"


def test_keep_torn_leaves_a_prefix_of_what_was_appended(disk, tmp_path):
    lengths = set()
    for seed in range(40):
        path = tmp_path / f"log-{seed}"
        fd = synced_file(disk, path, b"sync")
        disk.write(fd, b"unsynced")
        disk.crash(tmp_path, rng=Random(seed), keep_torn=True)
        assert b"syncunsynced".startswith(path.read_bytes())
        lengths.add(len(path.read_bytes()))
    assert lengths == set(range(4, 13))


def test_holes_are_nul_and_never_in_synced_bytes(disk, tmp_path):
    seen = 0
    for seed in range(40):
        path = tmp_path / f"log-{seed}"
        fd = synced_file(disk, path, b"sync")
        disk.write(fd, b"unsynced")
        disk.crash(tmp_path, rng=Random(seed), keep_torn=True, holes=True)
        left = path.read_bytes()
        assert left.startswith(b"sync")
        assert all(byte in (0, whole) for byte, whole in zip(left, b"syncunsynced", strict=False))
        seen += 0 in left
    assert seen > 10


def test_keep_names_keeps_some_unsynced_names(disk, tmp_path):
    kept = 0
    for seed in range(40):
        naive_append(disk, tmp_path / f"log-{seed}", b"data")
        disk.crash(tmp_path, rng=Random(seed), keep_names=True)
        kept += (tmp_path / f"log-{seed}").exists()
    assert 5 < kept < 35


def test_a_file_written_back_by_chance_keeps_what_others_lose(disk, tmp_path):
    for name in ("log", "lock"):
        disk.write(synced_file(disk, tmp_path / name, b"old"), b" new")
    disk.crash(tmp_path, keep="lock")
    assert (tmp_path / "log").read_bytes() == b"old"
    assert (tmp_path / "lock").read_bytes() == b"old new"


def test_a_descriptor_from_before_the_crash_does_no_harm(disk, tmp_path):
    fd = synced_file(disk, tmp_path / "log", b"first")
    disk.write(fd, b"second")
    disk.crash(tmp_path)
    disk.write(fd, b"ghost")
    disk.sync(fd)
    disk.close(fd)
    assert (tmp_path / "log").read_bytes() == b"first"


def test_the_time_stamp_of_a_file_that_lost_nothing_stays(disk, tmp_path):
    synced_file(disk, tmp_path / "log", b"data")
    os.utime(tmp_path / "log", ns=(1, 1))
    disk.crash(tmp_path)
    assert (tmp_path / "log").stat().st_mtime_ns == 1


def test_what_survived_one_crash_survives_the_next(disk, tmp_path):
    synced_file(disk, tmp_path / "log", b"first")
    disk.crash(tmp_path)
    fd = disk.open(tmp_path / "log", APPEND)
    disk.write(fd, b" second")
    disk.crash(tmp_path)
    assert (tmp_path / "log").read_bytes() == b"first"


def test_a_crash_reaches_only_below_its_root(disk, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for name in ("one", "two"):
        naive_append(disk, tmp_path / name / "log", b"data")
    disk.crash(tmp_path / "one")
    assert not (tmp_path / "one" / "log").exists()
    assert (tmp_path / "two" / "log").read_bytes() == b"data"
    disk.crash(tmp_path)
    assert not (tmp_path / "two" / "log").exists()


def test_relative_and_linked_paths_are_the_same_file(disk, tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    fd = disk.open(Path("link/log"), APPEND)
    disk.write(fd, b"data")
    disk.sync(fd)
    disk.sync_directory(Path("real"))
    disk.crash(Path("link"))
    assert (tmp_path / "real" / "log").read_bytes() == b"data"
