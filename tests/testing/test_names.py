"""The disk that forgets: names that were moved, linked or taken away, and not synced."""

from __future__ import annotations

import os
from random import Random

import pytest

from meshlab.testing import ForgetfulFiles


@pytest.fixture
def disk() -> ForgetfulFiles:
    return ForgetfulFiles()


def write(disk, path, data, *, sync=True):
    """Make a file through the disk; its name is left to the caller."""
    fd = disk.open(path, os.O_CREAT | os.O_WRONLY)
    disk.write(fd, data)
    if sync:
        disk.sync(fd)
    disk.close(fd)


def tree(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def outcomes(tmp_path, act, before):
    """What is left after ``act`` and a crash with names kept by chance, for many seeds."""
    seen = []
    for seed in range(40):
        root = tmp_path / str(seed)
        root.mkdir()
        for name, data in before.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_bytes(data)
        disk = ForgetfulFiles()
        act(disk, root)
        disk.crash(root, rng=Random(seed), keep_names=True)
        if tree(root) not in seen:
            seen.append(tree(root))
    return seen


def test_an_unsynced_rename_is_undone_and_the_old_target_is_back(disk, tmp_path):
    (tmp_path / "new").write_bytes(b"better")
    (tmp_path / "log").write_bytes(b"good")
    disk.rename(tmp_path / "new", tmp_path / "log")
    assert tree(tmp_path) == {"log": b"better"}
    disk.crash(tmp_path)
    assert tree(tmp_path) == {"new": b"better", "log": b"good"}


def test_a_synced_rename_stays(disk, tmp_path):
    (tmp_path / "log").write_bytes(b"good")
    write(disk, tmp_path / "new", b"better")
    disk.rename(tmp_path / "new", tmp_path / "log")
    disk.sync_directory(tmp_path)
    disk.crash(tmp_path)
    assert tree(tmp_path) == {"log": b"better"}


def test_a_rename_without_a_sync_of_the_bytes_leaves_an_empty_target(disk, tmp_path):
    (tmp_path / "log").write_bytes(b"good")
    write(disk, tmp_path / "new", b"better", sync=False)
    disk.rename(tmp_path / "new", tmp_path / "log")
    disk.sync_directory(tmp_path)
    disk.crash(tmp_path)
    assert tree(tmp_path) == {"log": b""}


def test_bytes_may_be_synced_under_the_new_name(disk, tmp_path):
    fd = disk.open(tmp_path / "new", os.O_CREAT | os.O_WRONLY)
    disk.write(fd, b"data")
    disk.rename(tmp_path / "new", tmp_path / "log")
    disk.sync(fd)
    disk.sync_directory(tmp_path)
    disk.crash(tmp_path)
    assert tree(tmp_path) == {"log": b"data"}


def test_a_new_file_renamed_and_never_synced_is_gone_under_both_names(disk, tmp_path):
    write(disk, tmp_path / "new", b"data")
    disk.rename(tmp_path / "new", tmp_path / "log")
    disk.crash(tmp_path)
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("synced", [(), ("a",), ("b",), ("a", "b"), ("b", "a")], ids=repr)
def test_a_move_between_directories_needs_the_sync_of_both(disk, tmp_path, synced):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "log").write_bytes(b"data")
    disk.rename(tmp_path / "a" / "log", tmp_path / "b" / "log")
    for name in synced:
        disk.sync_directory(tmp_path / name)
    disk.crash(tmp_path)
    assert tree(tmp_path) == {"b/log" if len(synced) == 2 else "a/log": b"data"}


def test_an_unlinked_file_comes_back_with_its_durable_bytes(disk, tmp_path):
    write(disk, tmp_path / "log", b"data")
    disk.sync_directory(tmp_path)
    fd = disk.open(tmp_path / "log", os.O_WRONLY | os.O_APPEND)
    disk.write(fd, b" more")
    (tmp_path / "log").chmod(0o600)
    disk.unlink(tmp_path / "log")
    disk.crash(tmp_path)
    assert tree(tmp_path) == {"log": b"data"}
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_synced_unlink_stays_and_the_name_is_free_for_another_file(disk, tmp_path):
    (tmp_path / "log").write_bytes(b"old")
    disk.unlink(tmp_path / "log")
    disk.sync_directory(tmp_path)
    write(disk, tmp_path / "log", b"new", sync=False)
    disk.crash(tmp_path)
    assert tree(tmp_path) == {}


def test_a_file_made_anew_under_an_unlinked_name_gives_way_to_the_old_one(disk, tmp_path):
    (tmp_path / "log").write_bytes(b"old")
    disk.unlink(tmp_path / "log")
    write(disk, tmp_path / "log", b"new")
    disk.crash(tmp_path)
    assert tree(tmp_path) == {"log": b"old"}


def test_a_file_that_bears_the_inode_of_an_unlinked_one_is_another(disk, tmp_path):
    for number in range(20):
        (tmp_path / "log").write_bytes(b"%d" % number)
        disk.unlink(tmp_path / "log")
        (tmp_path / "beside").write_bytes(b"data")
        disk.close(disk.open(tmp_path / "beside", os.O_WRONLY))
        disk.sync_directory(tmp_path)
        disk.crash(tmp_path)
        assert tree(tmp_path) == {"beside": b"data"}
        (tmp_path / "beside").unlink()


def test_an_unsynced_link_goes_and_the_first_name_stays(disk, tmp_path):
    (tmp_path / "log").write_bytes(b"data")
    disk.link(tmp_path / "log", tmp_path / "second")
    assert (tmp_path / "second").samefile(tmp_path / "log")
    disk.crash(tmp_path)
    assert tree(tmp_path) == {"log": b"data"}


def test_a_synced_link_outlives_the_first_name_and_has_the_same_bytes(disk, tmp_path):
    write(disk, tmp_path / "log", b"data")
    disk.link(tmp_path / "log", tmp_path / "second")
    fd = disk.open(tmp_path / "second", os.O_WRONLY | os.O_APPEND)
    disk.write(fd, b" lost")
    disk.sync_directory(tmp_path)
    disk.unlink(tmp_path / "log")
    disk.crash(tmp_path)
    assert tree(tmp_path) == {"log": b"data", "second": b"data"}


def test_a_link_does_not_replace(disk, tmp_path):
    for name in ("log", "taken"):
        (tmp_path / name).write_bytes(name.encode())
    with pytest.raises(FileExistsError):
        disk.link(tmp_path / "log", tmp_path / "taken")
    disk.crash(tmp_path)
    assert tree(tmp_path) == {"log": b"log", "taken": b"taken"}


def test_two_names_of_one_file_are_both_kept_by_a_rename(disk, tmp_path):
    (tmp_path / "log").write_bytes(b"data")
    disk.link(tmp_path / "log", tmp_path / "second")
    disk.rename(tmp_path / "log", tmp_path / "second")
    disk.sync_directory(tmp_path)
    disk.crash(tmp_path)
    assert tree(tmp_path) == {"log": b"data", "second": b"data"}


def made_folder(disk, root):
    """A new directory with one file whose name was synced and one whose name was not."""
    disk.mkdir(root / "made")
    write(disk, root / "made" / "named", b"data")
    disk.sync_directory(root / "made")
    write(disk, root / "made" / "unnamed", b"data")


def test_a_moved_directory_takes_its_files_along_but_not_those_never_named(disk, tmp_path):
    made_folder(disk, tmp_path)
    disk.rename(tmp_path / "made", tmp_path / "moved")
    disk.sync_directory(tmp_path)
    disk.crash(tmp_path)
    assert tree(tmp_path) == {"moved/named": b"data"}


def test_names_in_a_moved_directory_are_synced_under_its_new_name(disk, tmp_path):
    made_folder(disk, tmp_path)
    disk.rename(tmp_path / "made", tmp_path / "moved")
    disk.sync_directory(tmp_path / "moved")
    disk.sync_directory(tmp_path)
    disk.crash(tmp_path)
    assert tree(tmp_path) == {"moved/named": b"data", "moved/unnamed": b"data"}


def test_a_directory_moved_back_by_a_crash_loses_what_was_never_named_in_it(disk, tmp_path):
    made_folder(disk, tmp_path)
    disk.sync_directory(tmp_path)
    disk.rename(tmp_path / "made", tmp_path / "moved")
    write(disk, tmp_path / "moved" / "later", b"data")
    disk.crash(tmp_path)
    assert tree(tmp_path) == {"made/named": b"data"}


def test_a_replaced_empty_directory_is_back(disk, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "log").write_bytes(b"data")
    (tmp_path / "empty").mkdir()
    disk.rename(tmp_path / "full", tmp_path / "empty")
    assert tree(tmp_path) == {"empty/log": b"data"}
    disk.crash(tmp_path)
    assert tree(tmp_path) == {"full/log": b"data"}
    assert list((tmp_path / "empty").iterdir()) == []


def test_an_unlinked_symbolic_link_is_back(disk, tmp_path):
    (tmp_path / "log").write_bytes(b"data")
    (tmp_path / "door").symlink_to("log")
    disk.unlink(tmp_path / "door")
    disk.crash(tmp_path)
    assert os.readlink(tmp_path / "door") == "log"


def test_by_chance_a_rename_survives_whole_or_not_at_all(tmp_path):
    def replace(disk, root):
        disk.rename(root / "new", root / "log")

    old, new = {"new": b"better", "log": b"good"}, {"log": b"better"}
    assert sorted(outcomes(tmp_path, replace, old), key=len) == [new, old]


def test_by_chance_no_rename_survives_without_the_file_it_moved(tmp_path):
    def make_and_replace(disk, root):
        write(disk, root / "new", b"better")
        disk.rename(root / "new", root / "log")

    seen = outcomes(tmp_path, make_and_replace, {"log": b"good"})
    assert sorted(seen, key=repr) == [{"log": b"better"}, {"log": b"good", "new": b"better"}, {"log": b"good"}]


def test_by_chance_unlinks_of_several_names_survive_each_for_itself(tmp_path):
    def unlink(disk, root):
        for name in ("a", "b"):
            disk.unlink(root / name)

    before = {"a": b"1", "b": b"2"}
    assert len(outcomes(tmp_path, unlink, before)) == 4


def test_a_removal_beside_the_seam_is_not_brought_back(disk, tmp_path):
    (tmp_path / "log").write_bytes(b"data")
    disk.rename(tmp_path / "log", tmp_path / "moved")
    (tmp_path / "moved").unlink()
    disk.crash(tmp_path)
    assert tree(tmp_path) == {}


def test_what_survived_one_crash_is_durable_for_the_next(disk, tmp_path):
    (tmp_path / "log").write_bytes(b"data")
    disk.rename(tmp_path / "log", tmp_path / "moved")
    disk.sync_directory(tmp_path)
    disk.crash(tmp_path)
    disk.unlink(tmp_path / "moved")
    disk.crash(tmp_path)
    disk.crash(tmp_path)
    assert tree(tmp_path) == {"moved": b"data"}
