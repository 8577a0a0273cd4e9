"""Apply: each user whole or not at all, and everything is told."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from meshlab.errors import MeshlabError, MigrationBusy, PlanRefused, PlanStale, StorageError
from meshlab.migrate import build, execution
from meshlab.migrate.build import Task, copy_file
from meshlab.migrate.execution import apply, execute
from meshlab.migrate.journal import migration_lock, place_of
from meshlab.migrate.pace import Pace, PacedFiles
from meshlab.migrate.plan import Plan, hash_input
from meshlab.migrate.sources.source import Problem
from meshlab.migrate.workers import Failed, Terms, Worker
from meshlab.snapshot.pins import pinned
from meshlab.testing import FailingFiles, RecordingFiles
from meshlab.wal.files import REAL_FILES
from scoreboard.scenes import LONG, RECORDS, Scene, tree_with_times


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path / "home").make()


def test_users_stand_in_the_store_as_they_stood_in_the_old_files(scene):
    plan, old = scene.plan(), scene.originals()
    report = scene.apply(plan)
    assert [(user.uid, user.status, user.records) for user in report.users] == [
        ("ann", "migrated", 3),
        ("bo", "migrated", 3),
    ]
    assert {record["id"]: record for record in RECORDS[:3]} == scene.records("ann")
    changed = scene.records("bo")
    assert changed[RECORDS[10]["id"]]["amplitude"] == 0.25
    assert changed[RECORDS[20]["id"]]["content"] == LONG
    assert scene.originals() == old
    assert pinned(scene.store / "ann")[1].startswith(f"migration {plan.short_id}")
    assert pa.table(report).num_rows == 2
    assert report.verdict == "2 migrated, 0 already in place, 0 failed"


def test_twice_is_harmless(scene):
    plan = scene.plan()
    scene.apply(plan)
    before = tree_with_times(scene.store / "ann")
    assert [user.status for user in scene.apply(plan).users] == ["already", "already"]
    assert tree_with_times(scene.store / "ann") == before


def test_the_store_goes_on_from_there(scene):
    plan = scene.plan()
    scene.apply(plan)
    scene.append("ann", *({"Insert": {"id": f"n{number}"}} for number in range(1000)))
    assert len(scene.records("ann")) == 1003
    assert scene.verify(plan).holds


def test_in_processes_as_in_this_one(scene):
    plan = scene.plan()
    report = scene.apply(plan, jobs=2, limit_rate=50e6)
    assert [user.status for user in report.users] == ["migrated", "migrated"]
    assert scene.verify(plan).holds


def test_a_worker_that_fails_fails_its_user_only(scene):
    plan = scene.plan()
    broken = msgspec.structs.replace(plan.users[0], state_hash="0" * 32)
    plan = msgspec.structs.replace(plan, users=[broken, plan.users[1]]).sealed()
    report = scene.apply(plan, jobs=2, keep_failed=True)
    assert [user.status for user in report.users] == ["failed", "migrated"]
    assert "expected 3 records with state hash 000" in report.users[0].error
    assert report.users[0].root.endswith("ann/user"), "what was built is there to be compared"


def test_a_worker_that_is_killed_says_how_it_ended(scene, tmp_path):
    worker = Worker(Terms(None, str(tmp_path / "pause"), str(tmp_path / "rate")))
    try:
        os.kill(worker._process.pid, signal.SIGKILL)
        task = Task(scene.plan().users[0], {}, str(tmp_path / "ann"), "reason")
        with pytest.raises(Failed, match="SIGKILL"):
            worker.run(task, lambda count: None)
        assert not worker.runs
    finally:
        worker.end()


def test_a_proof_that_fails_leaves_nothing_unless_it_is_to_be_looked_at(scene):
    plan = scene.plan()
    broken = msgspec.structs.replace(plan.users[0], records=4)
    plan = msgspec.structs.replace(plan, users=[broken, plan.users[1]]).sealed()
    report = scene.apply(plan)
    assert [(user.status, bool(user.root)) for user in report.users] == [("failed", False), ("migrated", True)]
    assert not place_of(scene.store, plan.id).staging.exists()
    (kept,) = scene.apply(plan, keep_failed=True).failed
    assert Path(kept.root, "snapshot.bin").exists()


def test_users_are_known_by_their_pin_when_the_journal_is_lost(scene):
    plan = scene.plan()
    scene.apply(plan)
    shutil.rmtree(scene.store / ".meshlab")
    assert [user.status for user in scene.apply(plan).users] == ["already", "already"]
    shutil.rmtree(scene.store / ".meshlab")
    assert scene.verify(plan).holds
    assert [user.status for user in scene.roll_back(plan).users] == ["rolled-back", "rolled-back"]


# What is refused


def test_a_plan_with_problems_is_refused(scene):
    plan = msgspec.structs.replace(scene.plan(), problems=[Problem("ann", "is cut")]).sealed()
    with pytest.raises(PlanRefused, match="ann: is cut"):
        apply(plan, without_rehearsal=True)
    assert not scene.store.exists()


def test_a_plan_that_was_not_rehearsed_is_refused(scene, tmp_path):
    plan = scene.plan()
    with pytest.raises(PlanRefused, match="has not been rehearsed"):
        apply(plan)
    with pytest.raises(PlanRefused, match="has not been rehearsed"):
        apply(plan.save(tmp_path / "plan.json"))
    assert not scene.store.exists()
    assert not apply(plan, without_rehearsal=True, jobs=1, progress=False).failed


def test_one_changed_byte_makes_the_plan_stale_and_names_the_file(scene):
    plan = scene.plan()
    path = scene.old / "bo" / "wal-20250707.log"
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    with pytest.raises(PlanStale, match=str(path)):
        scene.apply(plan)
    assert not (scene.store / "ann").exists()


def test_a_file_that_changes_meanwhile_fails_its_user_and_names_it(scene, monkeypatch):
    plan = scene.plan()
    monkeypatch.setattr(execution, "check_fresh", lambda *_, **__: None)
    path = scene.old / "mesh_snapshot.bin"
    path.write_bytes(path.read_bytes() + b"\n")
    report = scene.apply(plan)
    assert [user.status for user in report.users] == ["failed", "migrated"]
    assert str(path) in report.users[0].error
    assert not (scene.store / "ann").exists()


def test_a_directory_that_is_not_ours_fails_its_user(scene):
    plan = scene.plan()
    scene.append("ann", {"Insert": {"id": "mine"}})
    report = scene.apply(plan)
    assert [user.status for user in report.users] == ["failed", "migrated"]
    assert "is there already" in report.users[0].error
    assert list(scene.records("ann")) == ["mine"]


def test_a_directory_that_comes_meanwhile_is_left_alone(scene):
    plan = scene.plan()
    made = []

    class Files(RecordingFiles):
        def link(self, source, target):
            if not made:
                made.append((scene.store / "ann").mkdir())
            super().link(source, target)

    report = scene.apply(plan, files=Files())
    assert [user.status for user in report.users] == ["failed", "migrated"]
    assert list((scene.store / "ann").iterdir()) == []


def test_two_at_once_are_refused(scene):
    plan = scene.plan()
    with migration_lock(place_of(scene.store, plan.id), REAL_FILES), pytest.raises(MigrationBusy):
        scene.apply(plan)


def test_without_room_nothing_is_begun(scene, monkeypatch):
    monkeypatch.setattr(execution, "disk_free", lambda path: 10)
    with pytest.raises(StorageError, match="found 10"):
        scene.apply(scene.plan())
    assert not list(scene.store.glob("[a-z]*"))


@pytest.mark.parametrize("jobs", [0, -1, 1.5, "2"])
def test_jobs_are_a_number_from_1_on(scene, jobs):
    with pytest.raises(MeshlabError, match="jobs at once"):
        scene.apply(scene.plan(), jobs=jobs)


@pytest.mark.parametrize("plan_id", ["", "../x", "0" * 63])
def test_an_id_that_is_none_leads_nowhere(scene, plan_id):
    plan = msgspec.structs.replace(scene.plan(), id=plan_id)
    assert isinstance(plan, Plan)
    with pytest.raises(PlanRefused):
        scene.apply(plan)


# Disks that fail


@pytest.mark.parametrize("nth", [3, 20, 60, 90])
def test_a_full_disk_fails_users_and_leaves_nothing_half_done(scene, nth):
    plan, old = scene.plan(), scene.originals()
    full = FailingFiles(REAL_FILES, "write", nth, error=errno.ENOSPC, forever=True)
    try:
        report = scene.apply(plan, files=full)
        said = " ".join(user.error + user.hint for user in report.failed)
        moved = [user.uid for user in report.users if user.status == "migrated"]
    except StorageError as error:
        said, moved = str(error), []
    assert full.hits
    assert "No space left" in said
    assert sorted(path.name for path in scene.store.glob("[a-z]*")) == sorted(moved)
    assert scene.originals() == old
    assert not scene.apply(plan).failed
    assert scene.verify(plan).holds


def test_one_bad_user_leaves_the_other_served(scene):
    plan = scene.plan()
    report = scene.apply(plan, files=FailingFiles(REAL_FILES, "rename", 1, name="ann", error=errno.EIO))
    assert [user.status for user in report.users] == ["failed", "migrated"]
    assert "Input/output error" in report.users[0].error
    assert [user.status for user in scene.apply(plan).users] == ["migrated", "already"]


# Dry runs, pace, pause


def test_a_dry_run_writes_nothing_at_all(scene):
    plan = scene.plan()
    before = tree_with_times(scene.home)
    report = scene.apply(plan, dry_run=True)
    assert [user.status for user in report.users] == ["planned", "planned"]
    assert report.verdict.startswith("DRY RUN")
    assert tree_with_times(scene.home) == before
    scene.apply(plan)
    before = tree_with_times(scene.home)
    assert [user.status for user in scene.apply(plan, dry_run=True).users] == ["already", "already"]
    assert tree_with_times(scene.home) == before


def test_the_pause_file_holds_everything_until_it_is_gone(scene):
    plan = scene.plan()
    place = place_of(scene.store, plan.id)
    place.common.mkdir(parents=True)
    place.pause.touch()
    done = []
    thread = threading.Thread(target=lambda: done.append(scene.apply(plan)))
    thread.start()
    time.sleep(0.5)
    assert not done
    assert not (scene.store / "ann").exists()
    place.pause.unlink()
    thread.join(20)
    assert not done[0].failed


def test_a_copy_is_hashed_on_its_way(scene, tmp_path):
    source = scene.old / "mesh_snapshot.bin"
    for number, files in enumerate([REAL_FILES, RecordingFiles()]):
        found = copy_file(source, tmp_path / f"copy{number}", PacedFiles(files, Pace()))
        assert (found.size, found.sha256) == (source.stat().st_size, scene.plan().users[0].inputs[0].sha256)
        assert (tmp_path / f"copy{number}").read_bytes() == source.read_bytes()


def test_a_clone_is_read_back_for_its_hash(scene, tmp_path, monkeypatch):
    source, target = scene.old / "mesh_snapshot.bin", tmp_path / "clone"

    def clone(fd, request, source_fd):
        os.pwrite(fd, os.pread(source_fd, 1 << 20, 0)[:-1] + b"!", 0)  # as if the file changed meanwhile

    monkeypatch.setattr(build.fcntl, "ioctl", clone)
    found = copy_file(source, target, PacedFiles(REAL_FILES, Pace()))
    assert found.sha256 == hash_input(target).sha256 != hash_input(source).sha256


def test_a_link_in_the_place_of_a_file_is_refused(scene):
    plan = scene.plan()
    path = scene.old / "mesh_snapshot.bin"
    os.rename(path, scene.home / "elsewhere.bin")
    path.symlink_to(scene.home / "elsewhere.bin")
    with pytest.raises(PlanRefused):
        scene.apply(plan)


def test_a_worker_runs_no_code_of_the_directory_it_is_started_in(scene, tmp_path, monkeypatch):
    (tmp_path / "msgspec.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    plan = scene.plan()
    assert not execute(plan, scene.store, jobs=2, progress=False).failed


@pytest.mark.parametrize(("kind", "error"), [("write", errno.ENOSPC), ("sync_directory", errno.EIO)])
def test_no_user_who_is_in_the_store_is_reported_as_not_moved(tmp_path, kind, error):
    scene = Scene(tmp_path / "home", users=("ann",)).make()
    plan, before = scene.plan(), shutil.copytree(scene.home, tmp_path / "before")
    seen, nth, files = set(), 0, None
    while files is None or files.hits:
        nth += 1
        shutil.rmtree(scene.home)
        shutil.copytree(before, scene.home)
        files = FailingFiles(REAL_FILES, kind, nth, error=error)
        with suppress(StorageError):
            (user,) = scene.apply(plan, files).users
            assert (scene.store / "ann").exists() == (user.status in ("migrated", "unconfirmed")), (nth, user)
            seen.add(user.status)
            if user.status == "unconfirmed":
                assert [again.status for again in scene.apply(plan).users] == ["already"]
    assert seen == {"migrated", "failed", "unconfirmed"}


def test_the_names_of_the_folders_are_synced_whoever_made_them(scene):
    plan = scene.plan()
    (scene.store / ".meshlab" / "migrate" / plan.short_id).mkdir(parents=True)
    files = RecordingFiles()
    scene.apply(plan, files)
    synced = {done.path for done in files.operations if done.name == "sync_directory"}
    assert {scene.store, scene.store / ".meshlab", scene.store / ".meshlab" / "migrate"} <= synced
