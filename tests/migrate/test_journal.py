"""The journal: a step that was written down is there, whatever a crash leaves behind it."""

from __future__ import annotations

import errno

import pytest

from meshlab.errors import MigrationBusy, PlanRefused, StorageError
from meshlab.migrate.journal import BEGIN, FAILED, MOVED, STAGED, Journal, migration_lock, place_of
from meshlab.testing import FailingFiles, ForgetfulFiles
from meshlab.wal.files import REAL_FILES
from scoreboard.scenes import CRASHES, clock

ID = "0123456789abcdef" * 4


@pytest.fixture
def place(tmp_path):
    place = place_of(tmp_path / "store", ID)
    with migration_lock(place, REAL_FILES):
        pass
    return place


def steps(place, files=REAL_FILES):
    return [(step.step, step.uid) for step in Journal(place, files, clock).steps]


def test_steps_are_read_as_they_were_written(place):
    journal = Journal(place, REAL_FILES, clock)
    journal.add(BEGIN, plan=ID)
    journal.add(STAGED, "ann", records=3)
    journal.add(FAILED, "ann", error="no")
    again = Journal(place, REAL_FILES, clock)
    assert again.steps == journal.steps
    assert again.standing("ann").facts == {"records": 3}, "a failure leaves a user where it stood"
    assert again.standing("bo") is None


@pytest.mark.parametrize("way", CRASHES)
def test_a_step_is_on_the_medium_when_add_returns(place, way):
    disk = ForgetfulFiles()
    for number in range(3):
        Journal(place, disk, clock).add(MOVED, f"u{number}")
        disk.crash(place.store.parent, **CRASHES[way])
        assert len(steps(place, disk)) == number + 1


@pytest.mark.parametrize(
    "tail", [b'{"time":"x","st', b"\0" * 40, b"\0" * 40 + b"\n", b"\xff\n", b"[]\n", b'{"step":1}\n']
)
def test_what_a_crash_left_unfinished_counts_for_nothing(place, tail):
    Journal(place, REAL_FILES, clock).add(STAGED, "ann")
    with place.journal.open("ab") as file:
        file.write(tail)
    assert steps(place) == [(STAGED, "ann")]
    Journal(place, REAL_FILES, clock).add(MOVED, "ann")
    assert steps(place) == [(STAGED, "ann"), (MOVED, "ann")]


def test_a_line_whose_sync_failed_is_written_anew_before_anything_is_built_on_it(place):
    disk = ForgetfulFiles()
    journal = Journal(place, disk, clock)
    journal.add(BEGIN)
    journal = Journal(place, FailingFiles(disk, "sync", 2, error=errno.EIO), clock)
    with pytest.raises(StorageError):
        journal.add(STAGED, "ann")  # the page cache shows it, the medium has not got it
    Journal(place, disk, clock).add(MOVED, "ann")
    disk.crash(place.store.parent)
    assert steps(place) == [(BEGIN, ""), (STAGED, "ann"), (MOVED, "ann")]


def test_a_journal_goes_on_after_a_full_disk(place):
    journal = Journal(place, FailingFiles(REAL_FILES, "write", 2, short=5), clock)
    journal.add(BEGIN)
    full = FailingFiles(REAL_FILES, "write", 3, error=errno.ENOSPC)
    journal = Journal(place, full, clock)
    journal.add(STAGED, "ann")
    with pytest.raises(StorageError, match="No space left"):
        journal.add(MOVED, "ann")
    journal.add(MOVED, "ann")
    assert steps(place) == [(BEGIN, ""), (STAGED, "ann"), (MOVED, "ann")]


def test_reading_writes_nothing(tmp_path):
    place = place_of(tmp_path / "store", ID)
    assert Journal(place, REAL_FILES, clock).steps == []
    assert list(tmp_path.iterdir()) == []


def test_one_migration_at_a_time(place):
    with migration_lock(place, REAL_FILES), pytest.raises(MigrationBusy), migration_lock(place, REAL_FILES):
        pass
    with migration_lock(place, REAL_FILES):
        pass


@pytest.mark.parametrize("name", ["", "x" * 64, "../" + "0" * 61, "0" * 65])
def test_an_id_that_is_none_is_refused(tmp_path, name):
    with pytest.raises(PlanRefused):
        place_of(tmp_path, name)
