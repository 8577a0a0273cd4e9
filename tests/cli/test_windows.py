"""``windows`` and ``replay --at``: which moments can be restored, and those moments."""

import csv
import io
import json

import pytest

from meshlab.testing.log import build_log


@pytest.fixture
def store(tmp_path):
    """A user, ann, with a new memory a day."""
    build_log([[{"Insert": {"id": f"m{at}"}}] for at in range(5)], per_day=1).write(tmp_path / "store" / "ann")
    return tmp_path / "store"


@pytest.fixture
def with_hole(meshlab, store, tmp_path):
    """The store after a checkpoint at its end, and the segment of the third day gone."""
    meshlab("--store", store, "checkpoint", "ann")
    (store / "ann" / "wal-20250703.log").unlink()
    return store


def test_a_whole_log_is_one_window_without_ends(meshlab, store):
    result = meshlab("--store", store, "windows", "ann", "--format", "json")
    assert result.exit_code == 0, result.stderr
    (window,) = json.loads(result.stdout)
    assert (window["start"], window["end"], window["hole_before"]) == (None, None, None)


def test_the_table_says_beginning_and_now(meshlab, store):
    row = meshlab("--store", store, "windows", "ann").stdout.splitlines()[2]
    assert row.split()[:4] == ["ann", "(the", "beginning)", "(now)"]


def test_without_a_name_all_users_are_shown(meshlab, with_hole):
    build_log([[{"Delete": "m1"}]]).write(with_hole / "bob")
    shown = json.loads(meshlab("--store", with_hole, "windows", "--format", "json").stdout)
    assert [row["uid"] for row in shown] == ["ann", "ann", "bob"]
    told = meshlab("--store", with_hole, "windows").stderr
    assert "ann: not restorable before" in told and "bob" not in told


def test_a_missing_day_is_a_hole_with_its_reason(meshlab, with_hole):
    result = meshlab("--store", with_hole, "windows", "ann", "--format", "json")
    before, after = json.loads(result.stdout)
    assert before["start"] is None
    assert before["end"] < after["start"]
    assert "wal-20250703.log is missing" in after["hole_before"]
    told = meshlab("--store", with_hole, "windows", "ann").stderr
    assert "not restorable before 2025-07-0" in told
    assert "wal-20250703.log is missing" in told


def test_csv_has_a_row_per_window(meshlab, with_hole):
    result = meshlab("--store", with_hole, "windows", "ann", "--format", "csv")
    before, after = csv.DictReader(io.StringIO(result.stdout))
    assert before["start"] == after["end"] == ""


@pytest.mark.parametrize(
    ("at", "ids"),
    [
        ("2025-07-02T12:00:00Z", ["m0", "m1"]),
        ("2025-07-04T00:00:01Z", ["m0", "m1", "m2", "m3"]),
        ("20250703:0", ["m0", "m1", "m2"]),
        ("2024-01-01T00:00:00Z", []),
    ],
)
@pytest.mark.parametrize("checkpoint", [False, True])
def test_replay_shows_the_memories_of_a_moment(at, ids, checkpoint, meshlab, store):
    if checkpoint:
        meshlab("--store", store, "checkpoint", "ann")
    result = meshlab("--store", store, "replay", "ann", "--at", at, "--format", "json")
    assert result.exit_code == 0, result.stderr
    assert [row["id"] for row in json.loads(result.stdout)] == ids


def test_a_moment_in_a_hole_is_an_error_that_names_the_nearest(meshlab, with_hole):
    result = meshlab("--store", with_hole, "replay", "ann", "--at", "2025-07-03T12:00:00Z")
    assert result.exit_code == 1
    assert "wal-20250703.log is missing" in result.stderr
    assert "2025-07-03T00:00:00.999999Z before it" in result.stderr
    assert "2025-07-05T00:00:01.000000Z after it" in result.stderr


@pytest.mark.parametrize("at", ["yesterday", "2025-07-99T00:00:00Z", "20250703", ""])
def test_what_is_no_moment_is_refused(at, meshlab, store):
    result = meshlab("--store", store, "replay", "ann", "--at", at)
    assert result.exit_code == 1
    assert "hint: " in result.stderr
