"""Rollback: the old layout again, with what was written since, and no byte lost."""

from __future__ import annotations

import errno
import json
import threading

import pyarrow as pa
import pytest

from meshlab.errors import BadUserId, PlanRefused
from meshlab.migrate import make_plan, rollback
from meshlab.testing import FailingFiles
from meshlab.wal.files import REAL_FILES
from meshlab.wal.paths import check_uid, segment_name
from scoreboard.scenes import LONG, RECORDS, Scene, tree_with_times

CHANGED = {"Update": {"id": RECORDS[0]["id"], "amplitude": 0.125}}


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path / "home").make()


@pytest.fixture
def plan(scene):
    plan = scene.plan()
    assert not scene.apply(plan).failed
    return plan


def given(scene, uid):
    """What the old files of a user say now."""
    source = next(source for source in Scene(scene.home, users=(uid,)).sources)
    return {row["id"]: row for batch in source.batches(progress=False) for row in batch.to_pylist()}


def test_old_files_nobody_wrote_past_stand_as_they_were(scene, plan):
    before = tree_with_times(scene.old)
    report = scene.roll_back(plan)
    assert [(user.status, user.originals) for user in report.users] == [("rolled-back", "as they were")] * 2
    assert tree_with_times(scene.old) == before
    assert not list(scene.store.glob("[a-z]*"))
    assert [user.status for user in scene.roll_back(plan).users] == ["already", "already"]
    assert pa.table(report).num_rows == 2


def test_a_thousand_appends_come_back_and_what_does_not_fit_is_kept_beside(scene, plan):
    old = scene.originals()
    new = [RECORDS[30 + number % 20] | {"id": f"n{number}", "content": LONG} for number in range(1000)]
    scene.append("ann", *({"Insert": record} for record in new))
    scene.append("ann", CHANGED, {"Delete": RECORDS[1]["id"]}, {"Insert": {"id": "half"}}, {"Custom": 1})
    report = scene.roll_back(plan)
    ann, bo = report.users
    assert (ann.originals, ann.left_over, bo.originals, bo.left_over) == ("written anew", 2, "as they were", 0)
    assert report.left_over == 2
    found = given(scene, "ann")
    assert len(found) == 1002
    assert found[RECORDS[0]["id"]]["amplitude"] == 0.125
    assert RECORDS[1]["id"] not in found
    assert found["n999"]["content"] == LONG
    with open(ann.kept_beside) as file:
        rows = [json.loads(line) for line in file]
    assert [row["json"] for row in rows] == [{"id": "half"}, {"Custom": 1}]
    (aside,) = ann.set_aside
    assert aside.endswith(f"mesh_snapshot.bin.before-rollback-{plan.id[:8]}")
    assert {*old.values()} <= {*scene.originals().values()}
    assert not list(scene.old.rglob(".*")), "nothing hidden is left"


def test_a_phase1_directory_changes_places_as_a_whole(scene, plan):
    scene.append("bo", {"Insert": RECORDS[40]})
    scene.roll_back(plan)
    assert [path.name for path in (scene.old / "bo").iterdir()] == ["snapshot.bin"], "an old log would undo things"
    assert RECORDS[40]["id"] in given(scene, "bo")
    aside = f"bo~before-rollback-{plan.id[:8]}"
    assert (scene.old / aside / "wal-20250707.log").exists()
    with pytest.raises(BadUserId):
        check_uid(aside)  # nobody takes it for another user


def test_a_user_that_went_back_as_it_was_can_be_applied_again(scene, plan):
    scene.roll_back(plan)
    assert [user.status for user in scene.apply(plan).users] == ["migrated", "migrated"]
    assert scene.verify(plan).holds
    scene.append("ann", CHANGED)
    assert not scene.roll_back(plan).failed
    assert given(scene, "ann")[RECORDS[0]["id"]]["amplitude"] == 0.125


def test_a_user_that_was_never_migrated_is_untouched(scene):
    report = scene.roll_back(scene.plan())
    assert [user.status for user in report.users] == ["untouched", "untouched"]


def test_old_files_that_changed_since_are_not_hidden(scene, plan):
    path = scene.old / "mesh_snapshot.bin"
    path.write_bytes(path.read_bytes() + b"x")
    scene.append("ann", CHANGED)
    before = scene.originals()
    report = scene.roll_back(plan)
    assert [user.status for user in report.users] == ["failed", "rolled-back"]
    assert str(path) in report.users[0].error
    assert scene.originals() == before
    assert scene.records("ann")[RECORDS[0]["id"]]["amplitude"] == 0.125


def test_damage_in_the_log_stops_it_until_it_is_accepted(scene, plan):
    scene.append("ann", CHANGED)
    (segment,) = (scene.store / "ann").glob("wal-*.log")
    place = f"{segment.name}:{segment.stat().st_size}"
    with segment.open("ab") as file:
        file.write(b"{damage\n")
    scene.append("ann", {"Insert": RECORDS[40]})
    foreseen = scene.roll_back(plan, dry_run=True).users[0]
    failed = scene.roll_back(plan).users[0]
    for user in (foreseen, failed):
        assert user.status == "failed"
        assert f"--accept ann/{place}" in user.hint
    report = scene.roll_back(plan, accept={"ann": [place]})
    assert [user.status for user in report.users] == ["rolled-back", "already"]
    assert RECORDS[40]["id"] in given(scene, "ann")


def test_what_is_written_while_it_works_is_not_lost(scene, plan, monkeypatch):
    scene.append("ann", CHANGED)
    late = [{"Insert": RECORDS[40]}]
    prepare = rollback._Rollback._prepare

    def busy(self, user, root):
        ready = prepare(self, user, root)
        if late and user.uid == "ann":
            scene.append("ann", late.pop())
        return ready

    monkeypatch.setattr(rollback._Rollback, "_prepare", busy)
    assert not scene.roll_back(plan).failed
    assert RECORDS[40]["id"] in given(scene, "ann")


def test_a_program_that_never_stops_writing_is_told_to(scene, plan, monkeypatch):
    prepare, numbers = rollback._Rollback._prepare, iter(range(100))

    def busy(self, user, root):
        ready = prepare(self, user, root)
        if user.uid == "ann":
            scene.append("ann", {"Insert": {"id": f"n{next(numbers)}"}})
        return ready

    monkeypatch.setattr(rollback._Rollback, "_prepare", busy)
    old = scene.originals()
    report = scene.roll_back(plan)
    assert [user.status for user in report.users] == ["failed", "rolled-back"]
    assert "keep writing" in report.users[0].error
    assert scene.originals() == old
    assert len(scene.records("ann")) == 6


def test_a_program_without_the_lock_that_comes_too_late_is_told_of(scene, plan):
    class Intruder(FailingFiles):
        def rename(self, source, target):
            if target.parent.name == "rolled-back" and target.name == "ann":
                with (source / segment_name("20250720")).open("ab") as file:
                    file.write(b'{"Insert":{"id":"late"}}\n')
            super().rename(source, target)
            if target.parent.name == "rolled-back" and target.name == "bo":
                (scene.store / "bo").mkdir()

    ann, bo = scene.roll_back(plan, files=Intruder(nth=0)).users
    assert "without the lock" in ann.warning
    assert ann.moved_to in ann.warning
    assert "anew" in bo.warning
    scene.finish(plan)
    assert (scene.store / ".meshlab" / "migrate" / plan.short_id / "rolled-back" / "ann").exists(), "it is kept"


@pytest.mark.parametrize("nth", [1, 10, 40])
def test_a_full_disk_changes_nothing_and_says_so(scene, plan, nth):
    scene.append("ann", CHANGED)
    old, now = scene.originals(), scene.in_store()
    full = FailingFiles(REAL_FILES, "write", nth, error=errno.ENOSPC, forever=True)
    try:
        report = scene.roll_back(plan, files=full)
        assert report.failed
        said = report.failed[0].error
    except OSError as error:
        said = str(error)
    assert "No space left" in said
    assert scene.originals() == old
    assert scene.in_store(*[uid for uid in scene.users if (scene.store / uid).exists()]).items() <= now.items()
    assert not scene.roll_back(plan).failed
    assert given(scene, "ann")[RECORDS[0]["id"]]["amplitude"] == 0.125


def test_files_given_back_are_read_before_they_are_put_in_place(scene, plan, monkeypatch):
    scene.append("ann", CHANGED)
    monkeypatch.setattr(rollback, "digest_of", lambda *_: (0, ""))
    old = scene.originals()
    report = scene.roll_back(plan)
    assert "read back" in report.users[0].error
    assert scene.originals() == old


def test_a_dry_run_writes_nothing_at_all(scene, plan):
    scene.append("ann", CHANGED)
    before = tree_with_times(scene.home)
    report = scene.roll_back(plan, dry_run=True)
    assert [(user.status, user.originals, user.events_since) for user in report.users] == [
        ("planned", "written anew if the state has changed", 1),
        ("planned", "as they were", 0),
    ]
    assert tree_with_times(scene.home) == before


def test_after_the_end_there_is_no_way_back(scene, plan):
    scene.finish(plan)
    with pytest.raises(PlanRefused, match="no way back"):
        scene.roll_back(plan)


def test_a_rollback_waits_while_the_pause_file_is_there(tmp_path):
    scene = Scene(tmp_path / "home").make()
    plan = scene.plan()
    scene.apply(plan)
    scene.append("ann", {"Delete": RECORDS[0]["id"]})
    pause = scene.store / ".meshlab" / "migrate" / "pause"
    pause.touch()
    done = threading.Event()
    thread = threading.Thread(target=lambda: (scene.roll_back(plan), done.set()))
    thread.start()
    assert not done.wait(0.5)
    assert (scene.store / "ann").exists()
    pause.unlink()
    assert done.wait(30)
    thread.join()
    assert not (scene.store / "ann").exists()


def test_what_a_rollback_set_aside_is_no_source_and_stops_no_plan(tmp_path):
    scene = Scene(tmp_path / "home", users=("bo",)).make()
    plan = scene.plan()
    scene.apply(plan)
    scene.append("bo", {"Delete": RECORDS[20]["id"]}, {"Insert": {"id": "half"}})
    scene.roll_back(plan)
    again = make_plan(scene.old, tmp_path / "newer", progress=False)
    assert again.problems == []
    assert [user.uid for user in again.users] == ["bo"]
    assert "set aside by a rollback" in [left.what for left in again.left]


def test_new_files_of_the_old_layout_have_the_modes_of_those_they_stand_for(scene, plan):
    (scene.old / "mesh_snapshot.bin").chmod(0o600)
    (scene.old / "bo").chmod(0o700)
    scene.append("ann", CHANGED)
    scene.append("bo", {"Delete": RECORDS[20]["id"]})
    assert not scene.roll_back(plan).failed
    modes = {name: (scene.old / name).stat().st_mode & 0o777 for name in ("mesh_snapshot.bin", "bo")}
    assert modes == {"mesh_snapshot.bin": 0o600, "bo": 0o700}


def test_no_writer_waits_for_a_pause_while_old_files_change_places(scene, plan):
    scene.append("ann", CHANGED)
    pause = scene.store / ".meshlab" / "migrate" / "pause"

    class Pausing(FailingFiles):
        def rename(self, source, target):
            super().rename(source, target)
            if "before-rollback" in target.name:
                pause.touch()
            if target.parent.name == "rolled-back" and target.name == "ann":
                pause.unlink()

    assert not scene.roll_back(plan, files=Pausing(nth=0)).failed


def test_no_hidden_folder_stays(scene, plan):
    scene.append("ann", CHANGED)
    assert not scene.roll_back(plan).failed
    assert [path.name for path in scene.old.rglob(".*")] == []


def test_a_dry_run_and_a_rollback_refuse_the_same(scene, plan):
    path = scene.old / "mesh_snapshot.bin"
    path.write_bytes(path.read_bytes() + b"x")
    said = [scene.roll_back(plan, dry_run=dry).users[0].status for dry in (True, False)]
    assert said == ["failed", "failed"]
