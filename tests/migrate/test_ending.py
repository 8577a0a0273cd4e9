"""Finish: only what is proved ends, and only what is still the plan's is deleted."""

from __future__ import annotations

import errno
import shutil

import pytest

from meshlab.errors import PlanRefused
from meshlab.snapshot.pins import pinned
from meshlab.testing import FailingFiles
from meshlab.testing.files import WrappedFiles
from meshlab.wal.files import REAL_FILES
from scoreboard.scenes import RECORDS, Scene, tree_with_times

CHANGED = {"Update": {"id": RECORDS[0]["id"], "amplitude": 0.125}}


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path / "home").make()


@pytest.fixture
def plan(scene):
    plan = scene.plan()
    assert not scene.apply(plan).failed
    return plan


def test_the_pins_go_and_the_old_files_stay(scene, plan):
    old = scene.originals()
    report = scene.finish(plan)
    assert [(user.status, user.deleted) for user in report.users] == [("finished", [])] * 2
    assert scene.originals() == old
    assert pinned(scene.store / "ann") == {}
    left = sorted(path.name for path in (scene.store / ".meshlab" / "migrate" / plan.short_id).iterdir())
    assert left == ["journal.ndjson", "plan.json"]
    assert [user.status for user in scene.finish(plan).users] == ["already", "already"]
    assert [user.status for user in scene.apply(plan).users] == ["finished", "finished"]
    with pytest.raises(PlanRefused, match="was finished at"):
        scene.verify(plan)


def test_old_files_are_deleted_only_when_told(scene, plan):
    report = scene.finish(plan, delete_originals=True)
    assert scene.originals() == {}
    assert sum(user.bytes_deleted for user in report.users) == plan.bytes_to_read
    assert len(scene.records("ann")) == 3


def test_they_may_be_deleted_later_if_they_are_still_those_of_the_plan(scene, plan):
    scene.finish(plan)
    changed = scene.old / "bo" / "snapshot.bin"
    changed.write_bytes(changed.read_bytes() + b"x")
    report = scene.finish(plan, delete_originals=True)
    assert list(scene.originals()) == ["bo/snapshot.bin"]
    assert report.users[1].kept == [f"{changed}: is not what it was in the plan"]


def test_what_does_not_hold_is_not_finished(scene, plan):
    path = scene.old / "mesh_snapshot.bin"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(PlanRefused, match=str(path)):
        scene.finish(plan, delete_originals=True)
    assert pinned(scene.store / "bo"), "nothing was touched"
    assert (scene.old / "bo" / "snapshot.bin").exists()


def test_what_was_never_applied_is_not_finished(scene):
    with pytest.raises(PlanRefused, match="never applied"):
        scene.finish(scene.plan(), delete_originals=True)
    assert not scene.store.exists()
    assert scene.originals()


def test_without_the_old_files_there_is_no_proof_and_no_end(scene, plan):
    away = scene.old.rename(scene.old.with_name("away"))
    for delete in (False, True):
        with pytest.raises(PlanRefused, match=r"mesh_snapshot\.bin"):
            scene.finish(plan, delete_originals=delete)
    away.rename(scene.old)
    assert pinned(scene.store / "ann"), "nothing was touched"
    assert not scene.roll_back(plan).failed


def test_users_who_were_never_migrated_do_not_keep_the_others_from_ending(scene):
    changed = scene.old / "bo" / "snapshot.bin"
    plan, before = scene.plan(), changed.read_bytes()
    real = scene.files

    class Meddling(WrappedFiles):
        def rename(self, source, target):
            super().rename(source, target)
            if target.name == "ann":
                changed.write_bytes(before + b"x")

    assert [user.status for user in scene.apply(plan, Meddling(real)).users] == ["migrated", "failed"]
    report = scene.finish(plan, delete_originals=True)
    assert [(user.status, user.home) for user in report.users] == [
        ("finished", "in the store"),
        ("untouched", "never migrated"),
    ]
    assert sorted(scene.originals()) == ["bo/snapshot.bin", "bo/wal-20250707.log"]


def test_what_was_written_behind_a_rollback_is_told_of_and_not_ended(scene, plan):
    scene.roll_back(plan)
    scene.append("ann", {"Insert": {"id": "late"}})
    again = scene.roll_back(plan).users[0]
    assert again.status == "already"
    assert "ann is new since the rollback: 1 line " in again.warning
    with pytest.raises(PlanRefused, match="new since the rollback"):
        scene.finish(plan)


def test_users_on_both_sides_are_not_ended(scene, plan):
    scene.append("ann", CHANGED)
    scene.append("bo", {"Insert": RECORDS[40]})
    full = FailingFiles(REAL_FILES, "rename", 1, name="bo", error=errno.ENOSPC)
    assert [user.status for user in scene.roll_back(plan, full).users] == ["rolled-back", "failed"]
    with pytest.raises(PlanRefused, match="bo is in the store, and ann was rolled back"):
        scene.finish(plan)
    assert not scene.roll_back(plan).failed
    assert {user.home for user in scene.finish(plan).users} == {"in the old layout"}


def test_what_may_not_be_deleted_is_found_before_the_way_back_is_gone(scene, plan, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(PlanRefused, match="may not be written"):
        scene.finish(plan, delete_originals=True)
    monkeypatch.undo()
    assert not scene.roll_back(plan).failed


def test_of_a_user_that_was_rolled_back_the_files_in_force_stay(scene, plan):
    scene.append("ann", CHANGED)
    scene.append("bo", {"Insert": RECORDS[40]})
    scene.roll_back(plan)
    in_force = {name: sum for name, sum in scene.originals().items() if "before-rollback" not in name}
    report = scene.finish(plan, delete_originals=True)
    assert scene.originals() == in_force
    assert all(f"before-rollback-{plan.id[:8]}" in path for user in report.users for path in user.deleted)
    assert sorted(path.name for path in scene.old.iterdir()) == ["bo", "mesh_snapshot.bin"]


def test_of_a_user_that_went_back_as_it_was_nothing_is_deleted(scene, plan):
    old = scene.originals()
    scene.roll_back(plan)
    scene.finish(plan, delete_originals=True)
    assert scene.originals() == old


@pytest.mark.parametrize("delete", [False, True])
def test_a_dry_run_writes_nothing_at_all(scene, plan, delete):
    before = tree_with_times(scene.home)
    report = scene.finish(plan, dry_run=True, delete_originals=delete)
    assert [user.status for user in report.users] == ["planned", "planned"]
    assert sum(len(user.deleted) for user in report.users) == 3 * delete
    assert tree_with_times(scene.home) == before


def test_originals_are_not_deleted_when_the_store_has_lost_what_they_hold(scene, plan):
    scene.finish(plan)
    shutil.rmtree(scene.store / "ann")
    report = scene.finish(plan, delete_originals=True)
    assert list(scene.originals()) == ["mesh_snapshot.bin"]
    assert "does not hold any more" in report.users[0].kept[0]
