"""Repair writes a cleaned copy, keeps what it left out, and never touches the original."""

import contextlib
import json
import os
from pathlib import Path
from random import Random

import pytest

from meshlab.errors import InternalError, NotFound, StorageError
from meshlab.testing import FailingFiles, ForgetfulFiles, PowerCut, WrappedFiles, build_log
from meshlab.wal import repair as repair_module
from meshlab.wal.paths import segment_days, segment_name
from meshlab.wal.repair import LEFT_OUT, repair
from meshlab.wal.verify import verify

DAYS = ("20250701", "20250702", "20250703")
REPORT = f"{LEFT_OUT}/report.ndjson"


def insert(number):
    return {"Insert": {"id": f"m{number}", "content": "x" * (number % 7)}}


def sound_log():
    """Three days of two frames each; every second frame is a batch of three."""
    frames = [[insert(number)] if number % 2 == 0 else [insert(number)] * 3 for number in range(6)]
    return build_log(frames, per_day=2)


def damaged_log():
    """Something to leave out and something blank in every segment but the last, which ends torn."""
    log = sound_log()
    first, second, third = (log.bytes(day) for day in DAYS)
    log.replace(DAYS[0], b"\n  \r\n!not json\n" + first + b"\xff\xfe\n")
    log.replace(DAYS[1], second.replace(b'"m2"', b'"mm"') + bytes(64) + b"\n\t\n")
    log.replace(DAYS[2], third[:-9])
    return log


@pytest.fixture
def root(tmp_path):
    return damaged_log().write(tmp_path / "log")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "copy"


def tree(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def left_out(target):
    return [json.loads(line) for line in (target / REPORT).read_bytes().splitlines()]


def test_a_sound_log_is_copied_byte_for_byte(tmp_path, target):
    root = sound_log().write(tmp_path / "log")
    report = repair(root, target)
    assert tree(target) == tree(root) | {REPORT: b""}
    assert (report.target, report.events, report.left_out, report.left_out_bytes) == (target, 12, [], 0)
    assert report.bytes == sum(len(data) for data in tree(root).values())


def test_of_every_segment_the_bytes_copied_left_out_and_blank_are_its_size(root, target):
    repair(root, target)
    rows = left_out(target)
    tallies = {tally.segment: tally for tally in verify(root).tallies}
    assert segment_days(target) == list(DAYS)
    for day in DAYS:
        gone = sum(row["bytes"] for row in rows if row["segment"] == day)
        copied = (target / segment_name(day)).stat().st_size
        assert copied + gone + tallies[day].blank_bytes == (root / segment_name(day)).stat().st_size
    assert sum(tally.blank_bytes for tally in tallies.values()) == 7


def test_the_report_lists_each_reject_in_log_order(root, target):
    report = repair(root, target)
    rows = left_out(target)
    assert [(row["segment"], row["class"]) for row in rows] == [
        (DAYS[0], "not-json"),
        (DAYS[0], "not-utf8"),
        (DAYS[1], "bad-sum"),
        (DAYS[1], "nul-run"),
        (DAYS[2], "torn"),
        (DAYS[2], "torn"),
        (DAYS[2], "torn"),
    ]
    assert [(reject.segment, reject.offset, reject.nbytes) for reject in report.left_out] == [
        (row["segment"], row["offset"], row["bytes"]) for row in rows
    ]
    assert report.left_out_bytes == sum((target / LEFT_OUT / f"wal-{day}.bin").stat().st_size for day in DAYS)


def test_a_gap_in_the_chain_stays_a_finding_in_the_copy(root, target):
    repair(root, target)
    gaps = [reject.kind for reject in verify(target).rejects]
    assert gaps == ["chain-gap"]


def test_a_last_event_without_its_newline_gets_one(tmp_path, target):
    log = sound_log()
    whole = log.bytes(DAYS[2])
    log.replace(DAYS[2], whole[:-1])
    report = repair(log.write(tmp_path / "log"), target)
    assert (report.events, report.left_out) == (12, [])
    assert (target / segment_name(DAYS[2])).read_bytes() == whole


def test_repairing_the_copy_again_changes_nothing(root, target, tmp_path):
    repair(root, target)
    again = repair(target, tmp_path / "again")
    assert again.left_out == []
    assert {name: data for name, data in tree(target).items() if "/" not in name} == {
        name: data for name, data in tree(tmp_path / "again").items() if "/" not in name
    }


def test_the_snapshot_is_copied_as_it_is(root, target):
    snapshot = bytes(range(256)) * 3
    (root / "snapshot.bin").write_bytes(snapshot)
    repair(root, target)
    assert (target / "snapshot.bin").read_bytes() == snapshot


def test_files_that_are_no_part_of_the_log_stay_behind(root, target):
    (root / "wal-20250799.log").write_bytes(b"no such day\n")
    (root / "notes.txt").write_bytes(b"mine\n")
    repair(root, target)
    assert sorted(name for name in tree(target) if "/" not in name) == [segment_name(day) for day in DAYS]


def test_an_empty_log_gives_an_empty_copy(tmp_path, target):
    (tmp_path / "log").mkdir()
    report = repair(tmp_path / "log", target)
    assert (report.events, report.bytes) == (0, 0)
    assert tree(target) == {REPORT: b""}


def taken_by_directory(target):
    target.mkdir()


def taken_by_file(target):
    target.write_bytes(b"mine")


def taken_by_dangling_link(target):
    target.symlink_to(target.with_name("nowhere"))


@pytest.mark.parametrize("take", [taken_by_directory, taken_by_file, taken_by_dangling_link])
def test_a_target_that_is_there_is_refused(root, target, tmp_path, take):
    take(target)
    before = sorted(tmp_path.rglob("*")), tree(tmp_path)
    with pytest.raises(StorageError, match="already there"):
        repair(root, target)
    assert (sorted(tmp_path.rglob("*")), tree(tmp_path)) == before


@pytest.mark.parametrize("inside", ["copy", "deeper/copy"])
def test_a_target_inside_the_log_is_refused(root, inside):
    before = sorted(root.rglob("*"))
    with pytest.raises(StorageError, match="inside the log"):
        repair(root, root / inside)
    assert sorted(root.rglob("*")) == before


def test_a_target_that_leads_into_the_log_through_a_link_is_refused(root, tmp_path):
    (tmp_path / "door").symlink_to(root)
    before = sorted(root.rglob("*"))
    with pytest.raises(StorageError, match="inside the log"):
        repair(root, tmp_path / "door" / "copy")
    assert sorted(root.rglob("*")) == before


def test_parents_of_the_target_are_made(root, tmp_path):
    target = tmp_path / "new" / "place" / "copy"
    assert repair(root, target).target == target
    assert segment_days(target) == list(DAYS)


def test_a_log_that_is_not_there_is_not_found_and_leaves_no_target(tmp_path, target):
    with pytest.raises(NotFound, match="nobody"):
        repair(tmp_path / "nobody", target)
    assert sorted(tmp_path.iterdir()) == []


class Interrupted(BaseException):
    """Stands for Ctrl-C at a chosen place."""


@pytest.mark.parametrize("step", ["_copy_events", "_keep_left_out", "_sync_tree", "_check"])
@pytest.mark.parametrize("error", [Interrupted(), OSError(28, os.strerror(28))], ids=["interrupt", "disk full"])
def test_an_interrupted_repair_leaves_no_target_and_can_be_repeated(root, target, tmp_path, monkeypatch, step, error):
    before = tree(root)

    def stop(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(repair_module, step, stop)
        with pytest.raises(Interrupted if isinstance(error, Interrupted) else StorageError):
            repair(root, target)
    assert sorted(tmp_path.iterdir()) == [root]
    assert tree(root) == before
    assert repair(root, target).events == verify(root).events


@pytest.mark.parametrize("chances", [{}, {"keep_torn": True, "holes": True, "keep_names": True}], ids=["cut", "torn"])
def test_a_power_cut_at_any_operation_leaves_the_whole_copy_or_no_target(tmp_path, chances):
    whole, point = None, 0
    while whole is None:
        point += 1
        place = tmp_path / str(point)
        root, target = damaged_log().write(place / "log"), place / "new" / "copy"
        before = tree(root)
        disk = ForgetfulFiles()
        files = FailingFiles(disk, "any", point, error=PowerCut(), forever=True)
        with contextlib.suppress(PowerCut):
            repair(root, target, files=files)
            whole = tree(target)
        disk.crash(place, rng=Random(point), **chances)
        assert tree(root) == before
        if target.exists():
            assert tree(target) == (whole or reference(tmp_path))
        assert target.exists() or (files.hits and repair(root, target).events)
    assert point > 20


def reference(tmp_path):
    """What a repair that nothing stopped writes."""
    if not (tmp_path / "reference").exists():
        repair(damaged_log().write(tmp_path / "source"), tmp_path / "reference")
    return tree(tmp_path / "reference")


@pytest.mark.parametrize("skipped", ["sync", "sync_directory"])
def test_a_repair_that_skips_a_sync_is_caught(root, target, tmp_path, skipped):
    disk = ForgetfulFiles()
    files = WrappedFiles(disk)
    setattr(files, skipped, lambda _: None)
    repair(root, target, files=files)
    whole = tree(target)
    disk.crash(tmp_path)
    assert not target.exists() or tree(target) != whole


def test_what_a_killed_repair_left_is_replaced(root, target):
    scratch = target.with_name("copy.unfinished")
    scratch.mkdir()
    (scratch / segment_name("20240101")).write_bytes(b"half a copy")
    repair(root, target)
    assert not scratch.exists()
    assert segment_days(target) == list(DAYS)


@pytest.mark.parametrize("inside", ["", "ann"])
def test_a_log_that_stands_where_the_unfinished_copy_goes_is_not_deleted(tmp_path, inside):
    root = damaged_log().write(tmp_path / "copy.unfinished" / inside)
    before = tree(tmp_path)
    with pytest.raises(StorageError, match="would replace"):
        repair(root, tmp_path / "copy")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("place", ["log", "elsewhere", "nowhere"])
def test_a_link_where_the_unfinished_copy_goes_is_not_followed(root, target, tmp_path, place):
    (tmp_path / "elsewhere").mkdir()
    target.with_name("copy.unfinished").symlink_to(tmp_path / place)
    before = sorted(tmp_path.rglob("*")), tree(tmp_path)
    with pytest.raises(StorageError, match=r"copy\.unfinished"):
        repair(root, target)
    assert (sorted(tmp_path.rglob("*")), tree(tmp_path)) == before


@pytest.mark.parametrize("target", [".", "..", "/"])
def test_a_target_without_a_name_is_refused(root, target):
    with pytest.raises(StorageError, match="already there"):
        repair(root, Path(target))


def test_a_file_where_the_unfinished_copy_goes_is_kept(root, target):
    target.with_name("copy.unfinished").write_bytes(b"mine")
    with pytest.raises(StorageError, match=r"copy\.unfinished"):
        repair(root, target)
    assert target.with_name("copy.unfinished").read_bytes() == b"mine"


def test_a_copy_that_does_not_read_back_is_withheld(root, target, tmp_path, monkeypatch):
    monkeypatch.setattr(repair_module, "_copy_events", lambda block, copy: None)
    with pytest.raises(InternalError, match="holds 0 events, expected"):
        repair(root, target)
    assert sorted(tmp_path.iterdir()) == [root]


def test_progress_counts_the_bytes_of_the_events(root, target):
    steps = []
    repair(root, target, progress=steps.append)
    assert sum(steps) == sum(tally.event_bytes for tally in verify(root).tallies)
