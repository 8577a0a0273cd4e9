"""Power cuts on a disk that forgets: what was acknowledged is there, whatever the moment.

Each story is also told with a twin, a disk whose syncs do nothing, that must lose.
"""

from __future__ import annotations

import os
from contextlib import suppress
from random import Random

import pytest

from meshlab.events import Delete
from meshlab.testing import FailingFiles, ForgetfulFiles, PowerCut, RecordingFiles
from meshlab.times import DAY, SECOND, midnight
from meshlab.wal.paths import segment_days, segment_name
from meshlab.wal.writer import Writer
from scoreboard.twins import NoDirectorySync, NoFileSync

NOON = midnight("20250707") + DAY // 2


class CutShort(FailingFiles):
    """Stops dead at the nth operation; nothing can be done afterwards."""

    def __init__(self, inner, nth):
        super().__init__(inner, "any", nth, error=PowerCut("the power failed"), forever=True)


def names(log):
    return [row.payload.decode().split('"')[3] for row in log.rows if row.op == "delete"]


def append_over_days(root, files, acknowledged, days=3, per_day=2):
    """Two writers in turn over several days; notes what was acknowledged."""
    moments = [NOON + day * DAY + number * SECOND for day in range(days) for number in range(per_day)]
    clock = iter(moments).__next__
    writers = [Writer(root, files=files, clock=clock) for _ in range(2)]
    for number in range(len(moments)):
        name = f"m{number}"
        if number % 3:
            writers[number % 2].append(Delete(name))
            acknowledged.append(name)
        else:
            writers[number % 2].append_many([Delete(name), Delete(name + "b")])
            acknowledged += [name, name + "b"]


def heal_after_torn_tail(root, files, acknowledged):
    """A log that was left torn on an earlier day is opened and goes on."""
    log = root / segment_name("20250707")
    if not log.exists():
        append_over_days(root, files, acknowledged, days=1)
        fd = files.inner.open(log, os.O_WRONLY | os.O_APPEND)
        files.inner.write(fd, b'{"timestamp":"2025-07-07T')
        files.inner.sync(fd)
    append_over_days(root, files, acknowledged, days=2)


@pytest.mark.parametrize("story", [append_over_days, heal_after_torn_tail])
@pytest.mark.parametrize("leftover", [{}, {"keep_torn": True}, {"keep_torn": True, "holes": True, "keep_names": True}])
def test_a_power_cut_at_any_operation_keeps_all_that_was_acknowledged(tmp_path, read_log, story, leftover):
    points, kept = 0, 0
    while True:
        points += 1
        store = tmp_path / str(points)
        store.mkdir()
        root, disk, acknowledged = store / "mesh" / "user", ForgetfulFiles(), []
        files = CutShort(disk, points)
        with suppress(PowerCut, OSError):
            story(root, files, acknowledged)
        disk.crash(store, rng=Random(points), **leftover)
        found = read_log(root) if root.exists() else None
        there = names(found) if found else []
        assert there[: len(acknowledged)] == acknowledged, points
        if found:
            assert set(found.classes) <= {"torn"}, (points, found.rejects)
        kept += len(acknowledged)
        again = [*acknowledged, *there[len(acknowledged) :]]
        Writer(root, files=disk, clock=lambda: NOON + 3 * DAY).append(Delete("after"))
        disk.crash(store)
        log = read_log(root)
        assert names(log) == [*again, "after"], points
        assert set(log.classes) <= {"torn"}, (points, log.rejects)
        if not files.hits:
            break
    print(f"{story.__name__}: crash points {points}, acknowledged events checked {kept}")
    assert points > 15


@pytest.mark.parametrize("twin", [NoFileSync, NoDirectorySync])
def test_a_twin_that_skips_a_sync_loses_acknowledged_events(tmp_path, read_log, twin):
    disk, acknowledged = twin(), []
    root = tmp_path / "mesh" / "user"
    append_over_days(root, disk, acknowledged)
    disk.crash(tmp_path)
    assert (names(read_log(root)) if root.exists() else []) != acknowledged


def test_a_crash_on_day_7_reopened_on_day_8_names_the_torn_run_of_day_7(tmp_path, read_log):
    disk = ForgetfulFiles()
    writer = Writer(tmp_path, files=disk, clock=lambda: NOON)
    writer.append(Delete("kept"))
    fd = disk.open(tmp_path / segment_name("20250707"), 0o2001)
    disk.write(fd, b'{"timestamp":"2025-07-07T12:00:01.000000Z","event":{"De')
    disk.sync(fd)
    disk.crash(tmp_path)
    later = Writer(tmp_path, files=disk, clock=lambda: NOON + DAY)
    receipt = later.append(Delete("next"))
    disk.crash(tmp_path)
    log = read_log(tmp_path)
    assert segment_days(tmp_path) == ["20250707", "20250708"]
    assert (log.classes, [row.seq for row in log.rows]) == (["torn"], [1, 2, 3])
    assert log.rows[1].payload.startswith(b'{"Recovered":{"segment":"20250707","offset":')
    assert (tmp_path / segment_name("20250708")).read_bytes().startswith(b'{"timestamp"')
    assert (receipt.segment, receipt.first_seq) == ("20250708", 3)
    assert Writer(tmp_path, files=disk, clock=lambda: NOON + 2 * DAY).append(Delete("z")).first_seq == 4, "named once"


def test_the_previous_segment_is_synced_before_the_first_frame_of_a_new_one(tmp_path):
    files = RecordingFiles(ForgetfulFiles())
    clock = [NOON]
    writer = Writer(tmp_path, durability="os", files=files, clock=lambda: clock[0])
    writer.append(Delete("a"))
    assert "sync" not in files.names("wal-*")
    clock[0] += DAY
    writer.append(Delete("b"))
    writes = [done for done in files.operations if done.name in ("write", "sync") and done.path.name.startswith("wal-")]
    assert [(done.name, done.path.name[4:12]) for done in writes] == [
        ("write", "20250707"),
        ("sync", "20250707"),
        ("write", "20250708"),
    ]


def test_frames_of_an_older_day_are_synced_though_a_foreign_writer_began_the_new_one(tmp_path):
    files = RecordingFiles(ForgetfulFiles())
    Writer(tmp_path, durability="os", files=files, clock=lambda: NOON).append(Delete("a"))
    (tmp_path / segment_name("20250708")).write_bytes(b'{"Delete":"foreign"}\n')
    Writer(tmp_path, files=files, clock=lambda: NOON + DAY).append(Delete("b"))
    operations = [(done.name, done.path.name[4:12]) for done in files.operations if done.name in ("write", "sync")]
    assert operations.index(("sync", "20250707")) < operations.index(("write", "20250708"))


@pytest.mark.parametrize("disk", [ForgetfulFiles, NoDirectorySync])
@pytest.mark.parametrize("point", range(1, 12))
def test_the_creator_is_killed_before_it_syncs_names_and_another_process_acknowledges(tmp_path, read_log, disk, point):
    """Whoever made the files, the one who acknowledges has synced the names."""
    disk = disk()
    root = tmp_path / "parent" / "user"
    creator = Writer(root, files=CutShort(disk, point), clock=lambda: NOON)
    with pytest.raises((PowerCut, OSError)):
        creator.append(Delete("a"))
    Writer(root, files=disk, clock=lambda: NOON + SECOND).append(Delete("b"))
    disk.crash(tmp_path)
    survived = root.exists() and "b" in names(read_log(root))
    assert survived == (type(disk) is ForgetfulFiles)


def test_two_processes_across_midnight_keep_both_days_through_a_power_cut(tmp_path, read_log):
    disk = ForgetfulFiles()
    edge = midnight("20250708")
    early = Writer(tmp_path, files=disk, clock=lambda: edge - 1)
    late = Writer(tmp_path, files=disk, clock=lambda: edge + SECOND - 1)
    for number, writer in enumerate((early, late, early, late)):
        writer.append(Delete(f"m{number}"))
    disk.crash(tmp_path)
    log = read_log(tmp_path)
    assert (names(log), log.rejects) == (["m0", "m1", "m2", "m3"], [])
    assert [row.segment for row in log.rows] == ["20250707", "20250708", "20250708", "20250708"]


def test_opening_syncs_nothing_it_need_not(tmp_path):
    files = RecordingFiles(ForgetfulFiles())
    writer = Writer(tmp_path, files=files, clock=lambda: NOON)
    for number in range(5):
        writer.append(Delete(f"m{number}"))
    assert files.names("wal-20250707.log") == ["open", *["write", "sync"] * 5]
    assert files.names().count("sync_directory") == 3


def test_a_parent_that_cannot_be_synced_is_no_obstacle_but_a_user_directory_is(tmp_path, read_log):
    import errno

    from meshlab.errors import WriteFailed

    root = tmp_path / "above" / "store" / "user"
    root.mkdir(parents=True)
    files = FailingFiles(kind="sync_directory", name="above", error=errno.EACCES)
    Writer(root, files=files, clock=lambda: NOON).append(Delete("a"))
    assert files.hits == 1
    files = FailingFiles(kind="sync_directory", name="user", error=errno.EACCES)
    with pytest.raises(WriteFailed):
        Writer(root, files=files, clock=lambda: NOON).append(Delete("b"))


@pytest.mark.parametrize("cut", [10, 40, 130])
def test_a_torn_day_is_named_again_when_the_frame_that_named_it_was_torn_too(tmp_path, read_log, cut):
    """Three days: a torn end, a recovery of it that is torn itself, and a writer that names both."""
    Writer(tmp_path, clock=lambda: NOON).append(Delete("a"))
    with (tmp_path / segment_name("20250707")).open("ab") as log:
        log.write(b'{"timestamp":"2025-07-07T12:00:00.000000Z","e')
    Writer(tmp_path, clock=lambda: NOON + DAY).append(Delete("lost"))
    second = tmp_path / segment_name("20250708")
    (recovered, _) = second.read_bytes().splitlines()
    second.write_bytes(recovered[:-cut])
    (tmp_path / "wal.lock").unlink()
    Writer(tmp_path, clock=lambda: NOON + 2 * DAY).append(Delete("b"))
    log = read_log(tmp_path)
    assert names(log) == ["a", "b"]
    assert log.classes == ["torn", "torn"]
    Writer(tmp_path, clock=lambda: NOON + 2 * DAY).append(Delete("c"))
    assert len(read_log(tmp_path).rows) - len(log.rows) == 1, "named once"
