"""Verify: the store holds what the old files hold, at any time until the end."""

from __future__ import annotations

import pyarrow as pa
import pytest

from meshlab.migrate.proof import since_migration
from meshlab.snapshot.checkpoint import checkpoint
from meshlab.snapshot.vacuum import vacuum
from meshlab.times import DAY
from meshlab.wal.writer import Writer
from scoreboard.scenes import NOON, RECORDS, Scene, tree_with_times


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path / "home").make()


@pytest.fixture
def plan(scene):
    plan = scene.plan()
    assert not scene.apply(plan).failed
    return plan


def problems(scene, plan):
    return {user.uid: user.problem for user in scene.verify(plan).users if not user.holds}


def test_it_holds_right_after_an_apply_and_reading_writes_nothing(scene, plan):
    before = tree_with_times(scene.home)
    report = scene.verify(plan)
    assert report.holds
    assert report.verdict == "holds: 6 records of 2 users are in the store; 0 events since"
    assert pa.table(report)["state_hash"].to_pylist() == [user.state_hash for user in plan.users]
    assert tree_with_times(scene.home) == before


def test_it_holds_after_writes_checkpoints_and_vacuums(scene, plan):
    root = scene.store / "ann"
    for day in range(1, 6):
        now = NOON + day * 20 * DAY
        writer = Writer(root, clock=lambda now=now: now)
        writer.append_many([{"Insert": {"id": f"n{day}"}}, {"Delete": RECORDS[day % 3]["id"]}])
        writer.close()
        checkpoint(root, "ann", retain=1, progress=False, clock=lambda now=now: now)
        vacuum(root, "ann", apply=True, clock=lambda now=now: now)
    assert len(list(root.glob("wal-*.log"))) < 5
    report = scene.verify(plan)
    assert report.holds, report.users
    assert [user.events_since for user in report.users] == [10, 0]
    assert len(scene.records("ann")) == 5


def test_a_changed_or_missing_original_is_named(scene, plan):
    path = scene.old / "mesh_snapshot.bin"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    (scene.old / "bo" / "snapshot.bin").unlink()
    found = problems(scene, plan)
    assert str(path) in found["ann"]
    assert "bo/snapshot.bin" in found["bo"]
    assert scene.verify(plan).verdict.startswith("does not hold for 2 of 2 users")


def test_a_flipped_byte_in_a_layer_is_found(scene, plan):
    layer = next((scene.store / "ann" / "layers").glob("*.parquet"))
    data = bytearray(layer.read_bytes())
    data[len(data) // 2] ^= 1
    layer.write_bytes(data)
    assert layer.name in problems(scene, plan)["ann"]
    assert "bo" not in problems(scene, plan)


def test_a_user_that_is_not_there_or_not_ours_does_not_hold(scene, plan):
    (scene.store / "ann").rename(scene.home / "ann")
    assert "not migrated" in problems(scene, plan)["ann"]
    scene.append("ann", {"Insert": {"id": "other"}})
    assert "expected the pin" in problems(scene, plan)["ann"]


def test_before_an_apply_nothing_holds(scene):
    plan = scene.plan()
    assert not scene.verify(plan).holds
    assert not scene.store.exists()


def test_what_came_since_is_counted_by_what_it_does(scene, plan):
    scene.append("ann", {"Insert": {"id": "x"}}, {"Delete": "x"}, {"Custom": {"about": "nothing"}})
    found = since_migration(scene.store / "ann", "ann")
    assert found[:3] == (3, 1, [])
    checkpoint(scene.store / "ann", "ann", progress=False)
    with next((scene.store / "ann").glob("wal-*.log")).open("ab") as file:
        file.write(b"{damage\n")
    found = since_migration(scene.store / "ann", "ann")
    assert (found.events, found.others, len(found.damage)) == (3, 1, 1)
