"""A run: one row per user, bad ones included; partitions that are skipped when they are of the same input."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import meshlab
from meshlab.errors import MeshlabError, NotFound, StorageError
from meshlab.fleet import attribution, folder, task, work
from meshlab.fleet import fleet as front
from meshlab.fleet.fleet import Fleet
from meshlab.fleet.folder import SUMMARY, Folder, told_path
from meshlab.fleet.work import Answer
from meshlab.growth.attribution import KEYS
from meshlab.snapshot.hashing import state_hash

from .conftest import SPLIT, USERS

pytestmark = pytest.mark.usefixtures("many_tasks")

FEW = ["ada", "bela", "bad", "nobody", "user-0030"]


def here(store, **options):
    return Fleet(store, 1, split=SPLIT, progress=False, **options)


def test_every_user_has_a_row_and_a_bad_one_tells_why(store):
    run = here(store).verify()
    assert run.to_arrow()["uid"].to_pylist() == meshlab.open(store).users() and len(run) == USERS + 1
    (bad,) = run.failed.to_pylist()
    assert (bad["uid"], bad["kind"], bad["ok"]) == ("bad", "StorageError", False)
    assert "wal-20250707.log" in bad["message"] and bad["hint"]
    assert "bad" not in run.table("segments")["uid"].to_pylist()
    assert "1 failed" in repr(run) and "wal-20250707.log" in run._repr_html_()


def test_the_figures_are_those_of_the_user_alone(store):
    opened, fleet = meshlab.open(store), here(store)
    states = {row["uid"]: row for row in fleet.state(FEW).to_pylist()}
    windows = {row["uid"]: row for row in fleet.windows(FEW).to_pylist()}
    grown = fleet.growth(FEW)
    counts = {row["uid"]: row for row in fleet.stats(FEW).to_pylist()}
    wasted = {row["uid"]: row for row in fleet.redundancy(FEW[:2]).to_pylist()}
    for uid in ("ada", "bela", "user-0030"):
        state = opened[uid].state(progress=False)
        assert (states[uid]["live"], states[uid]["state_hash"]) == (
            len(state), state_hash(state.to_arrow()).hexdigest()
        )  # fmt: skip
        assert windows[uid]["windows"] == len(opened[uid].windows())
        assert {name: counts[uid][name] for name in fleet.stats(uid).job.figures.names} == opened[uid].stats()
        totals = opened[uid].growth(progress=False).totals
        assert grown.totals.filter(pc.equal(grown.totals["uid"], uid)).to_pylist() == totals.to_pylist()
    assert wasted["ada"]["compactable"] == opened["ada"].growth(progress=False).redundancy().compactable
    assert states["nobody"]["kind"] == windows["nobody"]["kind"] == "NotFound"
    assert states["bad"]["kind"] == "StorageError" and windows["bad"]["windows"] == 1  # which reads no log


def test_loaded_events_are_those_of_the_store(sound):
    run = here(sound).load()
    assert run.table("events").to_pylist() == meshlab.open(sound).events(progress=False).to_arrow().to_pylist()
    chosen = here(sound).load(["ada", "bela"], columns=["uid", "id", "op"], ops=["delete"])
    told = meshlab.open(sound).events(["ada", "bela"], columns=["uid", "id", "op"], ops=["delete"], progress=False)
    assert chosen.table("events").to_pylist() == told.to_arrow().to_pylist() != []


def test_sums_of_all_users_are_those_of_the_store(sound):
    ours, theirs = here(sound).growth(), meshlab.open(sound).growth(progress=False)
    for key in ("user", "day", "hour", "op", "dialect"):
        assert ours.by(key).to_pylist() == theirs.by(key).to_pylist()
        assert ours.by(key).bytes == sum(row["bytes"] for row in ours.to_pylist())
    assert ours.by("op").plot() and ours.by("hour").plot()
    for key in set(KEYS) - {"user", "day", "hour", "op", "dialect"}:
        with pytest.raises(MeshlabError, match="fleet"):
            ours.by(key)


def test_what_a_failing_user_had_in_the_events_goes(sound, tmp_path, monkeypatch):
    """Alone in a task, among others, and in pieces."""

    def broken(uid, reading, options):
        if uid in ("ada", "user-0030"):
            raise StorageError(f"{uid}: no")
        return joined(uid, reading, options)

    job = front.LOAD
    joined = job.join
    broken_job = job._replace(of_user=lambda call: broken(call.uid, job.of_pieces(call), call.options), join=broken)
    monkeypatch.setitem(work.JOBS, "load", broken_job)
    monkeypatch.setattr(front, "LOAD", broken_job)
    monkeypatch.setattr(front, "can_be_cut", lambda job, options: True)
    for users, split in ((["ada"], 1 << 30), (["ada"], 1), (["bela", "user-0030", "user-0031"], 1 << 30)):
        run = Fleet(sound, 1, split=split, progress=False).load(users)
        left = set(run.table("events")["uid"].to_pylist())
        assert left == set(users) - {"ada", "user-0030"}
        assert run.failed["uid"].to_pylist() == [uid for uid in users if uid in ("ada", "user-0030")]


def test_a_run_in_the_same_folder_does_what_is_missing(sound, tmp_path):
    out = tmp_path / "out"
    first = here(sound).load(out=out)
    told = {path.name: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    again = here(sound).load(out=out)
    assert again.course.skipped == first.course.tasks - sum(1 for task in again._tasks if _is_join(out, task))
    assert {path.name: path.stat().st_mtime_ns for path in (out / "parts").iterdir()} == told
    victim = first._tasks[-1]
    told_path(out, victim).unlink()
    third = here(sound).load(out=out)
    assert third.course.skipped == again.course.skipped - 1
    assert third.table("events").equals(first.table("events")) and third.to_arrow().equals(first.to_arrow())


def _is_join(out, task):
    """Whether a task is what the pieces of a user come to: it has tables and no events."""
    return not (out / "parts" / f"{task}.events.parquet").exists()


def test_what_is_damaged_or_changed_is_done_again(sound, tmp_path):
    out = tmp_path / "out"
    first = here(sound).growth(out=out)
    path = told_path(out, first._tasks[0])
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert here(sound).growth(out=out).course.skipped == first.course.tasks - 1
    victim = next((sound / "user-0032").glob("wal-*.log"))
    before = victim.stat()
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))
    try:
        changed = here(sound).growth(out=out)
    finally:
        os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changed.course.skipped == first.course.tasks - 1
    assert changed.to_arrow().equals(first.to_arrow())
    with pytest.raises(StorageError, match="not there any more"):
        first.by("op")
    names = {path.name.split(".")[0] for path in (out / "parts").iterdir()}
    assert names == set(changed._tasks)  # and what is of no use any more went


def test_partitions_with_a_failure_are_tried_again(store, tmp_path):
    out = tmp_path / "out"
    assert here(store).verify(out=out).failed.num_rows == 1
    (store / "bad" / "wal-20250707.log").rmdir()
    second = here(store).verify(out=out)
    assert second.failed.num_rows == 0 and second.course.skipped
    assert pq.read_table(out / SUMMARY).equals(second.to_arrow())


def test_a_folder_of_anything_else_is_refused(sound, tmp_path):
    here(sound).growth(["ada"], out=tmp_path / "out")
    with pytest.raises(MeshlabError, match="another run: growth"):
        here(sound).verify(["ada"], out=tmp_path / "out")
    here(sound).load(["ada"], columns=["id"], out=tmp_path / "load")
    with pytest.raises(MeshlabError, match="another run"):
        here(sound).load(["ada"], columns=["op"], out=tmp_path / "load")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(MeshlabError, match="not empty"):
        here(sound).verify(["ada"], out=tmp_path / "full")


def test_a_folder_of_other_users_is_refused_and_stays_as_it_is(sound, tmp_path):
    first = here(sound).growth(["ada", "bela"], out=tmp_path / "out")
    for others in (["chiara"], ["ada"], None):
        with pytest.raises(MeshlabError, match="another run: growth"):
            here(sound).growth(others, out=tmp_path / "out")
    assert first.totals.num_rows
    assert here(sound).growth(["bela", "ada"], out=tmp_path / "out").failed.num_rows == 0


def test_two_runs_at_once_do_not_use_one_folder(sound, tmp_path):
    here(sound).verify(["ada"], out=tmp_path / "out")
    told = json.loads((tmp_path / "out" / "job.json").read_bytes())
    with (
        Folder(tmp_path / "out", {name: told[name] for name in ("job", "options", "place", "users")}),
        pytest.raises(MeshlabError, match="another run is using this folder"),
    ):
        here(sound).verify(["ada"], out=tmp_path / "out")
    assert here(sound).verify(["ada"], out=tmp_path / "out").course.skipped


def test_partitions_of_another_version_or_without_their_tables_are_made_anew(sound, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(folder, "_MADE_BY", "meshlab 0")
    here(sound).growth(["ada"], out=out)
    monkeypatch.undo()
    assert here(sound).growth(["ada"], out=out).course.skipped == 0
    with Folder(tmp_path / "other", {}) as other:
        other.keep("0" * 20, Answer([{"uid": "ada", "ok": True}], [], {}))
        assert other.done("0" * 20, []) and other.done("0" * 20, ["totals"]) is None


def test_what_was_vacuumed_is_looked_at_again(tmp_path):
    ada = meshlab.open(tmp_path / "store")["ada"]
    for name in ("m1", "m2"):
        ada.append({"Insert": {"id": name}})
        ada.checkpoint(progress=False)
    for job in ("windows", "state", "growth"):
        assert getattr(here(tmp_path / "store"), job)(out=tmp_path / job).course.skipped == 0
        assert getattr(here(tmp_path / "store"), job)(out=tmp_path / job).course.skipped == 1
    before = here(tmp_path / "store").windows().table("windows")
    for path in (ada.root / "history").iterdir():
        path.unlink()
    after = here(tmp_path / "store").windows(out=tmp_path / "windows").table("windows")
    assert after.equals(here(tmp_path / "store").windows().table("windows")) and not after.equals(before)
    assert here(tmp_path / "store").state(out=tmp_path / "state").course.skipped == 0


def test_a_run_over_many_users_adds_nobody_up_twice(sound, monkeypatch):
    run, summed, rows = here(sound).growth(), attribution._summed, []

    def counting(table, keys):
        rows.append(table.num_rows)
        return summed(table, keys)

    monkeypatch.setattr(attribution, "_HELD", 1)
    monkeypatch.setattr(attribution, "_summed", counting)
    assert run.by("user").bytes and run.changes() is not None
    assert len(run.parts("totals")) > 2 and sum(rows) == 2 * run.totals.num_rows


def test_a_temporary_folder_goes_with_its_run(sound):
    run = here(sound).verify(["ada"])
    path = run.path
    assert path.is_dir()
    del run
    assert not path.exists()


def test_threads_of_an_executor_will_do(sound):
    with ThreadPoolExecutor(2) as pool:
        run = meshlab.open(sound).fleet(pool, progress=False).growth()
    assert run.to_arrow().equals(here(sound).growth().to_arrow())


def test_checkpoint_and_vacuum_work_on_the_store_itself(sound, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "WORTH", 10.0)
    copy = tmp_path / "copy"
    for uid in ("ada", "user-0030"):
        shutil.copytree(sound / uid, copy / uid)
    fleet = here(copy)
    planned = fleet.checkpoint(dry_run=True).to_pylist()
    done = fleet.checkpoint(retain=3).to_pylist()
    assert [row["events"] for row in planned] == [row["events"] for row in done] != [0, 0]
    assert all((copy / row["uid"] / "snapshot.bin").exists() for row in done)
    again = fleet.checkpoint()
    assert again.to_arrow()["bytes_folded"].to_pylist() == [0, 0]  # never skipped: it looks again
    assert again.course.tasks == 2  # so that a task that is lost tells of one user only
    assert fleet.vacuum().to_arrow()["applied"].to_pylist() == [False, False]


def test_what_cannot_be_done_is_said(sound, tmp_path):
    with pytest.raises(NotFound):
        here(tmp_path / "nowhere").verify()
    with pytest.raises(MeshlabError, match="bucket"):
        here(sound).prove()
    (tmp_path / "bucket").mkdir()
    with pytest.raises(MeshlabError, match="copies"):
        here(f"file://{tmp_path}/bucket").checkpoint()
    with pytest.raises(MeshlabError, match="can do no work"):
        Fleet(sound, object(), progress=False).verify(["ada"])
    with pytest.raises(MeshlabError, match="no table"):
        here(sound).state(["ada"]).table("events")
