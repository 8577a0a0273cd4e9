"""Finish: only what is proved ends, and only what is still the plan's is deleted."""

from __future__ import annotations

import pytest

from meshlab.errors import PlanRefused
from meshlab.snapshot.pins import pinned

from .scenes import RECORDS, Scene, tree_with_times

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
    assert [user.status for user in scene.apply(plan).users] == ["already", "already"]
    assert "finished" in scene.verify(plan).users[0].problem


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


def test_old_files_that_are_gone_already_stop_nobody(scene, plan):
    (scene.old / "mesh_snapshot.bin").unlink()
    assert [user.status for user in scene.finish(plan).users] == ["finished", "finished"]


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
