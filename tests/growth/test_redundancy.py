"""What could go of a log is what a plain loop says, and adds up to the files."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import meshlab
from meshlab.growth.amplification import amplification
from meshlab.growth.redundancy import DAY_SCHEMA, redundancy
from meshlab.growth.trace import trace
from meshlab.snapshot.checkpoint import CHECKPOINT_LOCK, locked
from meshlab.snapshot.contents import LEAST
from meshlab.snapshot.manifest import history_path
from meshlab.tables.load import Log
from meshlab.testing import build_store
from meshlab.timeline import log_of
from meshlab.wal.files import REAL_FILES
from meshlab.wal.paths import SNAPSHOT, segment_days, segment_size

from .past import history, log_with, standing, whole

DAMAGED = Path(__file__).parents[2] / "data" / "samples" / "damaged"
PARTS = ("no_event_bytes", "no_effect_bytes", "superseded_bytes", "duplicate_bytes", "left_bytes")


def reckoned(events, lines):
    """The same numbers from the events as they were written and the bytes of their lines."""
    stands, alive, seen, kept = standing(events), set(), set(), set()
    sums = dict.fromkeys((*PARTS, "repeated_content_bytes"), 0)
    for number, (event, nbytes) in enumerate(zip(events, lines)):
        tag, body = next(iter(event.items()))
        content = body.get("content") if tag in ("Insert", "Update") else None
        size = len(content) if isinstance(content, str) else 0
        orphan = tag == "Update" and body["id"] not in alive and not whole(body)
        sums["repeated_content_bytes"] += size if size >= LEAST and content in seen else 0
        seen.add(content)
        if number in stands:
            twice = size if size >= LEAST and content in kept else 0
            sums["duplicate_bytes"] += twice
            sums["left_bytes"] += nbytes - twice
            kept.add(content)
        else:
            sums["no_effect_bytes" if tag == "note" or orphan else "superseded_bytes"] += nbytes
        if tag == "Delete":
            alive.discard(body)
        elif tag == "Insert" or (tag == "Update" and not orphan):
            alive.add(body["id"])
    return sums


@pytest.mark.parametrize("seed", range(10, 16))
def test_sums_are_those_of_a_loop(tmp_path, seed):
    events = history(seed)
    log = Log(log_with(tmp_path / "u", events), "u")
    expected = reckoned(events, trace(log).nbytes.tolist())
    total = redundancy(log).total
    print(f"seed {seed}: {expected}")
    assert {name: total[name] for name in expected} == expected
    assert redundancy(log).users["compactable"].to_pylist() == [pytest.approx(1 - total["left_bytes"] / total["bytes"])]
    assert min(expected[name] for name in ("no_effect_bytes", "superseded_bytes", "left_bytes")) > 0


def test_some_history_says_contents_twice():
    """The loop above would agree with anything if no content came twice."""
    sums = [reckoned(history(seed), [500] * 200) for seed in range(10, 16)]
    assert any(found["duplicate_bytes"] for found in sums)
    assert all(found["repeated_content_bytes"] for found in sums)


@pytest.mark.parametrize("root", sorted(DAMAGED.glob("*/ada")), ids=lambda root: root.parent.name)
def test_parts_add_up_to_the_files(root):
    found = redundancy(log_of(root, "ada"))
    for row in found.to_pylist():
        assert sum(row[name] for name in PARTS) == row["bytes"] == segment_size(root, row["day"])
        assert row["compactable"] == pytest.approx(1 - row["left_bytes"] / row["bytes"])
    assert found.table["day"].to_pylist() == segment_days(root)


# Snapshots


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("redundancy") / "store"
    build_store(path, users=["ann", "bob"], days=6, events=1500, batch_share=0.0)
    return meshlab.open(path)


@pytest.fixture(scope="module")
def parts(store, tmp_path_factory):
    """Ann's log in a directory of its own, checkpointed day by day; the reports."""
    root = tmp_path_factory.mktemp("parts") / "store" / "ann"
    root.mkdir(parents=True)
    user, reports = meshlab.open(root.parent)["ann"], []
    for day in segment_days(store["ann"].root):
        name = f"wal-{day}.log"
        data = (store["ann"].root / name).read_bytes().splitlines(keepends=True)
        for piece in (data[:-2], data[-2:]):
            with open(root / name, "ab") as file:
                file.writelines(piece)
            reports.append(user.checkpoint(retain=0, progress=False))
    return user, reports


def manifests(root):
    return (root / SNAPSHOT).stat().st_size + sum(path.stat().st_size for path in (root / "history").iterdir())


def test_write_amplification_is_what_the_checkpoints_reported(parts):
    user, reports = parts
    told = amplification(user.root, user.uid)
    assert told.folded == sum(report.bytes_folded for report in reports)
    assert told.written == sum(report.bytes_written for report in reports) + manifests(user.root)
    assert sum(report.bytes_merged for report in reports) > 0
    assert told.ratio == pytest.approx(told.written / told.folded)


def test_what_came_before_the_oldest_manifest_is_not_counted(parts, tmp_path):
    user, reports = parts
    hidden = [history_path(user.root, generation) for generation in range(4)]
    for path in hidden:
        path.rename(tmp_path / path.name)
    try:
        told = amplification(user.root, user.uid)
        later = reports[4:]
        assert (told.since, told.folded) == (4, sum(report.bytes_folded for report in later))
        kept = manifests(user.root) - history_path(user.root, 4).stat().st_size
        assert told.written == sum(report.bytes_written for report in later) + kept
    finally:
        for path in hidden:
            (tmp_path / path.name).rename(path)


def test_without_checkpoints_nothing_was_written(store):
    told = amplification(store["bob"].root, "bob")
    assert (told.written, told.folded, told.ratio) == (0, 0, None)
    (row,) = redundancy(log_of(store["bob"].root, "bob")).users.to_pylist()
    assert row["unfolded_bytes"] == row["bytes"]
    assert (row["freed_now_bytes"], row["write_amplification"]) == (0, None)
    assert 0 < row["replay_seconds"] < row["open_seconds"]


def test_what_is_folded_is_told_from_what_is_not(parts):
    user, _ = parts
    before = redundancy(log_of(user.root, user.uid))
    assert before.total["unfolded_bytes"] == 0
    size = segment_size(user.root, segment_days(user.root)[-1])
    user.append({"Insert": {"id": "new", "content": "x" * 500}})
    found = redundancy(log_of(user.root, user.uid))
    (row,), (old,) = found.users.to_pylist(), before.users.to_pylist()
    added = row["bytes"] - old["bytes"]
    assert (row["unfolded_bytes"], row["unfolded_events"], old["unfolded_events"]) == (added, 1, 0)
    assert added > 500
    assert size > 0
    assert row["replay_seconds"] > old["replay_seconds"] == 0.0


def test_what_vacuum_would_free_is_what_its_dry_run_says(parts):
    user, _ = parts
    (row,) = redundancy(log_of(user.root, user.uid)).users.to_pylist()
    dry = user.vacuum()
    assert row["freed_now_bytes"] == dry.bytes_freed > 0
    segments = sum(fate.nbytes for fate in dry.segments if fate.goes)
    assert segments <= row["freed_later_bytes"] < row["bytes"]


def test_beside_a_checkpoint_it_is_not_known_what_vacuum_would_free(parts):
    user, _ = parts
    with locked(user.root, REAL_FILES):
        found = redundancy(log_of(user.root, user.uid))
    (row,) = found.users.to_pylist()
    assert row["freed_now_bytes"] is None
    assert row["write_amplification"] > 0
    assert "would free is not known" in " ".join(found.notes)


def test_no_lock_is_made_to_find_out(parts, tmp_path):
    user, _ = parts
    root = shutil.copytree(user.root, tmp_path / "ann")
    (root / CHECKPOINT_LOCK).unlink()
    before = sorted(path.name for path in root.iterdir())
    assert "would free is not known" in " ".join(redundancy(log_of(root, "ann")).notes)
    assert sorted(path.name for path in root.iterdir()) == before


def test_a_snapshot_that_cannot_be_read_leaves_the_log_counted(store, tmp_path):
    root = log_with(tmp_path / "u", history(1))
    (root / SNAPSHOT).write_bytes(b"MESHSNAP and then nothing")
    found = redundancy(log_of(root, "u"))
    assert found.total["bytes"] == sum(segment_size(root, day) for day in segment_days(root))
    assert "nothing is known" in " ".join(found.notes)
    assert found.users["freed_now_bytes"].to_pylist() == [None]


def test_reading_leaves_the_store_as_it_was(store):
    before = {path: path.stat().st_mtime_ns for path in store.path.rglob("*")}
    redundancy([log_of(store[uid].root, uid) for uid in store.users()])
    assert {path: path.stat().st_mtime_ns for path in store.path.rglob("*")} == before


# All together


def test_users_stand_beside_each_other(store):
    logs = [log_of(store[uid].root, uid) for uid in store.users()]
    found = redundancy(logs)
    assert found.users["uid"].to_pylist() == ["ann", "bob"]
    assert found.total["bytes"] == sum(redundancy(log).total["bytes"] for log in logs)
    with ThreadPoolExecutor(2) as pool:
        assert redundancy(logs, executor=pool).table.equals(found.table)


def test_a_result_shows_itself(store):
    found = redundancy(log_of(store["ann"].root, "ann"))
    assert repr(found).startswith("<Redundancy of 1 user: ")
    assert "superseded" in found._repr_html_()
    assert found.to_pandas().columns.tolist() == DAY_SCHEMA.names


def test_an_empty_store_has_nothing_that_could_go(tmp_path):
    found = redundancy([])
    assert (found.compactable, found.table.num_rows) == (0.0, 0)
    (tmp_path / "u").mkdir()
    assert redundancy(Log(tmp_path / "u", "u")).total["bytes"] == 0


def test_one_event_is_all_that_is_left(tmp_path):
    root = log_with(tmp_path / "u", [{"Insert": {"id": "a"}}])
    (row,) = redundancy(Log(root, "u")).to_pylist()
    assert row["left_bytes"] == row["bytes"] > 0
    assert row["compactable"] == 0.0


def test_only_other_events_have_no_effect(tmp_path):
    root = log_with(tmp_path / "u", [{"note": 1}, {"note": 2}])
    (row,) = redundancy(Log(root, "u")).to_pylist()
    assert (row["no_effect_bytes"], row["left_bytes"]) == (row["bytes"], 0)
