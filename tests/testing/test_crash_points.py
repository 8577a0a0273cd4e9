"""The writer on the forgetful disk: a power cut at every operation loses nothing acknowledged."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest

from meshlab.errors import WalPoisoned, WriteFailed
from meshlab.testing import FailingFiles, ForgetfulFiles, PowerCut, WrappedFiles
from meshlab.times import DAY, midnight
from meshlab.wal.paths import segment_days
from meshlab.wal.reader import ORIGIN, resolve, scan_segment
from meshlab.wal.writer import Writer

START = midnight("20250707") + DAY - 3_000_000


class Clock:
    """A second passes at each look, so that a run crosses midnight."""

    def __init__(self):
        self.now = START

    def __call__(self):
        self.now += 1_000_000
        return self.now


def deletes(number):
    return [{"Delete": f"m{number}-{part}"} for part in range(1 + number % 2)]


def run(writer, acknowledged, count=6):
    """Append small batches; what returned is noted."""
    for number in range(count):
        writer.append_many(deletes(number))
        acknowledged += [event["Delete"] for event in deletes(number)]
    writer.close()


def read(root):
    """The ids of all deletes in the log, and the classes of its rejects."""
    end, parts, ids = ORIGIN, [], []
    for day in segment_days(root) if root.exists() else []:
        scan = scan_segment(root, day, end)
        for block in scan:
            spans = zip(block.event_start.tolist(), block.event_stop.tolist(), strict=True)
            events = [bytes(block.data[start:stop]) for start, stop in spans]
            ids += [event[11:-2].decode() for event in events if event.startswith(b'{"Delete":"')]
        end = scan.end
        parts.append(scan.part)
    return ids, {reject.kind for reject in resolve(parts)}


MODES = {
    "clean cut": {},
    "torn": {"keep_torn": True},
    "torn, holes, names by chance": {"keep_torn": True, "holes": True, "keep_names": True},
    "lock written back, log not": {"keep": "wal.lock"},
    "log written back, lock not": {"keep": "wal-*.log"},
}


@pytest.mark.parametrize("mode", MODES)
def test_a_power_cut_at_any_operation_loses_nothing_acknowledged(mode, tmp_path):
    points = 0
    while True:
        root = tmp_path / str(points) / "ada"
        disk = ForgetfulFiles()
        files = FailingFiles(disk, "any", points + 1, error=PowerCut(), forever=True)
        acknowledged = []
        with suppress(PowerCut):
            run(Writer(root, files=files, clock=Clock()), acknowledged)
        if not files.hits:
            break
        disk.crash(tmp_path, rng=Random(points), **MODES[mode])
        assert_recovers(root, disk, acknowledged)
        points += 1
    assert points > 15


def assert_recovers(root, disk, acknowledged):
    """All that was acknowledged is read, in order, then new appends, again after another crash."""
    before, classes = read(root)
    assert before[: len(acknowledged)] == acknowledged
    assert len(before) - len(acknowledged) <= 2
    assert classes <= {"torn"}
    writer = Writer(root, files=disk, clock=Clock())
    writer.append_many([{"Delete": "after-1"}, {"Delete": "after-2"}])
    disk.crash(root.parent.parent)
    after, classes = read(root)
    assert after == [*before, "after-1", "after-2"]
    assert classes <= {"torn"}


def test_what_was_only_written_is_lost(tmp_path):
    disk = ForgetfulFiles()
    acknowledged = []
    run(Writer(tmp_path / "ada", files=disk, clock=Clock(), durability="os"), acknowledged)
    assert read(tmp_path / "ada")[0] == acknowledged
    disk.crash(tmp_path)
    assert read(tmp_path / "ada")[0] == []


def test_a_second_process_syncs_the_name_its_dead_creator_did_not(tmp_path):
    disk = ForgetfulFiles()
    creator = Writer(
        tmp_path / "ada", files=FailingFiles(disk, "sync_directory", 1, error=PowerCut(), forever=True), clock=Clock()
    )
    with pytest.raises(PowerCut):
        creator.append({"Delete": "m1"})
    Writer(tmp_path / "ada", files=disk, clock=Clock()).append({"Delete": "m2"})
    disk.crash(tmp_path)
    assert "m2" in read(tmp_path / "ada")[0]


def test_after_a_failed_sync_reopening_saves_what_the_page_cache_only_showed(tmp_path):
    disk = ForgetfulFiles()
    files = FailingFiles(disk, "sync", 2, name="wal-*.log")
    writer = Writer(tmp_path / "ada", files=files, clock=lambda: START)
    writer.append({"Delete": "m1"})
    with pytest.raises(WriteFailed):
        writer.append({"Delete": "m2"})
    assert files.hits == 1
    with pytest.raises(WalPoisoned):
        writer.append({"Delete": "m3"})
    Writer(tmp_path / "ada", files=disk, clock=lambda: START).append({"Delete": "m4"})
    disk.crash(tmp_path)
    ids, classes = read(tmp_path / "ada")
    assert (ids[0], ids[-1], classes) == ("m1", "m4", set())


@pytest.mark.parametrize("skipped", ["sync", "sync_directory"])
def test_a_writer_that_skips_a_sync_is_caught(skipped, tmp_path):
    disk = ForgetfulFiles()
    files = WrappedFiles(disk)
    setattr(files, skipped, lambda _: None)
    acknowledged = []
    run(Writer(tmp_path / "ada", files=files, clock=Clock()), acknowledged)
    assert read(tmp_path / "ada")[0] == acknowledged
    disk.crash(tmp_path)
    assert read(tmp_path / "ada")[0] == []
