"""Apply, rollback and finish killed anywhere, then run again, end as if nothing had happened."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meshlab.migrate.build import digest_of
from meshlab.testing import FailingFiles, ForgetfulFiles, PowerCut
from meshlab.wal.files import REAL_FILES
from scoreboard.scenes import LONG, RECORDS, Scene, fresh, killed

CHANGED = {"Update": {"id": RECORDS[0]["id"], "amplitude": 0.125}}


def half(record_id):
    """A memory that no map has a place for."""
    return {"Insert": {"id": record_id, "content": "half"}}


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path / "home").make()


@pytest.fixture(params=[("ann", "bo"), ("cy", "di")], ids="-".join)
def pair(request, tmp_path):
    """Two users of each kind of old layout in turn."""
    return Scene(tmp_path / "home", users=request.param).make()


@pytest.fixture
def before(scene, tmp_path):
    """The old layout, and no store yet; the plan is made for the place, so it fits every copy."""
    return shutil.copytree(scene.home, tmp_path / "before")


def migrated(scene, tmp_path, *events):
    """The scene after an apply, and after some events for ann."""
    plan = scene.plan()
    report = scene.apply(plan)
    assert not report.failed
    if events:
        scene.append("ann", *events)
    return plan, shutil.copytree(scene.home, tmp_path / "migrated")


def test_an_apply_killed_at_any_operation_and_resumed_ends_like_an_undisturbed_one(pair, tmp_path):
    before = shutil.copytree(pair.home, tmp_path / "before")
    plan, old = pair.plan(), pair.originals()
    pair.apply(plan)
    expected, count = pair.in_store(), 0
    for point, tried in killed(pair, before, lambda one, files: one.apply(plan, files), every=6):
        assert tried.originals() == old, point
        for uid in tried.users:
            if (tried.store / uid).exists():
                assert tried.in_store(uid) == {uid: expected[uid]}, f"all or nothing, {point}"
        report = tried.apply(plan)
        assert not report.failed, (point, report.failed)
        tried.crash(point)
        assert tried.in_store() == expected, f"what the next apply made is durable, {point}"
        assert point % 4 or tried.verify(plan).holds, point
        assert [user.status for user in tried.apply(plan).users] == ["already"] * 2
        assert tried.originals() == old, point
        staging = tried.store / ".meshlab" / "migrate" / plan.short_id / "staging"
        assert not staging.exists() or not any(path.is_file() for path in staging.rglob("*")), point
        count += 1
    print(f"apply: killed at {count} operations")
    assert count > 15


def test_a_rollback_of_logs_and_exports_killed_at_any_operation_ends_like_an_undisturbed_one(tmp_path):
    scene = Scene(tmp_path / "home", users=("cy", "di")).make()
    plan, template = migrated(scene, tmp_path)
    shutil.rmtree(template)
    for uid in scene.users:
        scene.append(uid, {"Insert": {"id": "late", "content": LONG}})
    shutil.copytree(scene.home, template)
    old, count = scene.originals(), 0
    assert [(user.status, user.left_over) for user in scene.roll_back(plan).users] == [("rolled-back", 0)] * 2
    expected = meaning(scene)
    for point, tried in killed(scene, template, lambda one, files: one.roll_back(plan, files), every=14):
        assert {*old.values()} <= {*tried.originals().values()}, point
        assert not tried.roll_back(plan).failed, point
        tried.crash(point)
        assert meaning(tried) == expected, point
        assert not [path for path in tried.old.rglob(".*") if path.is_file()], f"nothing hidden is left, {point}"
        count += 1
    assert count > 10


def meaning(scene):
    """What the old files hold, by their reader; lines of a rollback carry the time at which it was made."""
    return {
        source.uid: digest_of(source.batches(progress=False)) for source in Scene(scene.home, users=scene.users).sources
    }


class Careless(ForgetfulFiles):
    """A disk whose directories are never synced, or whose files are not."""

    def __init__(self, names=True, bytes=True):
        super().__init__()
        self.names, self.bytes = names, bytes

    def sync_directory(self, path):
        if self.names:
            super().sync_directory(path)

    def sync(self, fd):
        if self.bytes:
            super().sync(fd)


@pytest.mark.parametrize("left_out", ["names", "bytes"])
def test_without_its_syncs_an_apply_would_lose_the_user(scene, before, left_out):
    plan = scene.plan()
    tried = fresh(scene, before, Careless(**{left_out: False}))
    assert not tried.apply(plan).failed
    tried.crash()
    assert not tried.verify(plan).holds
    tried = fresh(scene, before, ForgetfulFiles())
    assert not tried.apply(plan).failed
    tried.crash()
    assert tried.verify(plan).holds


def test_a_rollback_killed_at_any_operation_and_resumed_ends_like_an_undisturbed_one(scene, tmp_path):
    plan, template = migrated(scene, tmp_path, CHANGED, half("new"))
    scene.append("bo", half("newer"))
    shutil.rmtree(template)
    shutil.copytree(scene.home, template)
    old = scene.originals()
    report = scene.roll_back(plan)
    assert [(user.status, user.originals, user.left_over) for user in report.users] == [
        ("rolled-back", "written anew", 1)
    ] * 2
    expected, count = scene.originals(), 0
    assert {old[name] for name in old} < {*expected.values()}, "every byte of the originals is still there"
    for point, tried in killed(scene, template, lambda one, files: one.roll_back(plan, files), every=8):
        held = {*tried.originals().values()}
        assert {*old.values()} <= held, f"no original byte is ever gone, {point}"
        again = tried.roll_back(plan)
        assert not again.failed, (point, again.failed)
        tried.crash(point)
        assert tried.originals() == expected, point
        assert not any((tried.store / uid).exists() for uid in tried.users), point
        assert [user.status for user in tried.roll_back(plan).users] == ["already"] * 2
        count += 1
    print(f"rollback: killed at {count} operations")
    assert count > 15


def test_taking_back_half_a_rollback_may_be_killed_too(scene, tmp_path):
    plan, _ = migrated(scene, tmp_path, CHANGED)
    scene.append("bo", half("newer"))
    old = scene.originals()
    cut = FailingFiles(REAL_FILES, "rename", 2, name="bo", error=PowerCut("behind the swap"), forever=True)
    with pytest.raises(PowerCut):
        scene.roll_back(plan, cut)
    assert scene.originals() != old, "the old files of bo have changed places"
    template, count = shutil.copytree(scene.home, tmp_path / "half"), 0
    scene.roll_back(plan)
    expected = scene.originals()
    for point, tried in killed(scene, template, lambda one, files: one.roll_back(plan, files), every=10):
        assert {*old.values()} <= {*tried.originals().values()}, point
        assert not tried.roll_back(plan).failed, point
        assert tried.originals() == expected, point
        count += 1
    assert count > 10


def test_without_its_syncs_a_rollback_or_finish_would_be_undone(scene, tmp_path):
    plan, template = migrated(scene, tmp_path, CHANGED)
    for disk, stays in ((Careless(names=False), False), (ForgetfulFiles(), True)):
        tried = fresh(scene, template, disk)
        assert not tried.roll_back(plan).failed
        tried.crash()
        assert (not (tried.store / "ann").exists()) == stays
        tried = fresh(scene, template, type(disk)(names=False) if not stays else ForgetfulFiles())
        tried.finish(plan)
        tried.crash()
        assert (not list(tried.store.glob("*/history/*.pin"))) == stays


def test_a_rollback_that_was_killed_takes_what_is_written_before_it_goes_on(scene, tmp_path):
    plan, template = migrated(scene, tmp_path, CHANGED)
    count = 0
    for point, tried in killed(scene, template, lambda one, files: one.roll_back(plan, files), every=12):
        late = {"Update": {"id": RECORDS[1]["id"], "amplitude": 0.0625}}
        if (tried.store / "ann").exists():
            tried.append("ann", late)
            expected = [0.125, 0.0625]
        else:
            expected = [0.125, RECORDS[1]["amplitude"]]
        assert not tried.roll_back(plan).failed, point
        again = Scene(tried.home, users=("ann",))
        given = {r["id"]: r for b in again.sources[0].batches(progress=False) for r in b.to_pylist()}
        assert [given[RECORDS[n]["id"]]["amplitude"] for n in (0, 1)] == expected, point
        count += 1
    assert count > 5


@pytest.mark.parametrize("delete", [False, True])
def test_a_finish_killed_at_any_operation_and_resumed_ends_like_an_undisturbed_one(scene, tmp_path, delete):
    plan, template = migrated(scene, tmp_path, CHANGED)
    expected, old = scene.in_store(), scene.originals()
    options = {"delete_originals": delete}
    count = 0
    for point, tried in killed(scene, template, lambda one, files: one.finish(plan, files, **options)):
        assert tried.in_store() == expected, point
        tried.finish(plan, **options)
        tried.crash(point)
        assert tried.in_store() == expected, point
        assert tried.originals() == ({} if delete else old), point
        assert not list(tried.store.glob("*/history/*.pin")), point
        assert [user.status for user in tried.finish(plan, **options).users] == ["already"] * 2
        count += 1
    print(f"finish: killed at {count} operations")
    assert count > 10


PROGRAM = """
import sys
from meshlab.migrate.execution import apply
print("begun", flush=True)
apply(sys.argv[1], without_rehearsal=True, jobs=2, limit_rate=float(sys.argv[2]), progress=False)
"""


def test_an_apply_whose_process_is_killed_leaves_no_worker_and_can_be_resumed(scene, tmp_path):
    plan = scene.plan()
    path = plan.save(tmp_path / "plan.json")
    here = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), "3000"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": here},
    )
    folder = scene.store / ".meshlab" / "migrate" / plan.short_id / "staging"
    deadline = time.monotonic() + 30
    while not list(folder.glob("*/*/inputs/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert workers
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(alive, workers)), "a worker ends with the process that started it"
    assert not any((scene.store / uid).exists() for uid in scene.users)
    assert not scene.apply(plan).failed
    assert scene.verify(plan).holds


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(text) for text in found.stdout.split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
