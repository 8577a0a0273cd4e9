"""``checkpoint`` folds logs, says what it did, and stops at what a person must decide."""

import csv
import fcntl
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[2] / "data" / "samples"


@pytest.fixture
def bob(meshlab, store):
    """A second user, bob, with one memory."""
    meshlab("--store", store, "append", "bob", stdin='{"Insert":{"id":"m1"}}\n')
    return store


@pytest.fixture
def damaged(store):
    """The store with one bit flipped in its second frame."""
    segment = next((store / "ann").glob("wal-*.log"))
    segment.write_bytes(segment.read_bytes().replace(b"second", b"recond"))
    return store


def rows(result):
    return json.loads(result.stdout)


def test_json_tells_what_was_folded_and_written(meshlab, store):
    size = next((store / "ann").glob("wal-*.log")).stat().st_size
    result = meshlab("--store", store, "checkpoint", "ann", "--format", "json")
    assert result.exit_code == 0, result.stderr
    (row,) = rows(result)
    assert (row["uid"], row["generation"], row["events"], row["records"]) == ("ann", 1, 4, 1)
    assert row["bytes_folded"] == size
    assert row["bytes_written"] > 0
    assert len(row["state_hash"]) == 32
    assert (store / "ann" / "snapshot.bin").exists()


def test_a_state_is_the_same_before_and_after(meshlab, store):
    before = meshlab("--store", store, "replay", "ann", "--format", "json").stdout
    meshlab("--store", store, "checkpoint", "ann")
    assert meshlab("--store", store, "replay", "ann", "--format", "json").stdout == before


def test_the_table_has_sizes_a_person_reads(meshlab, store, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    result = meshlab("--store", store, "checkpoint", "ann")
    header, _, row = result.stdout.splitlines()
    assert header.split()[:3] == ["uid", "generation", "events"]
    assert row.split()[:3] == ["ann", "1", "4"]
    assert " kB " in row
    assert "of 1 log folded into" in result.stderr


def test_a_second_checkpoint_finds_nothing_to_fold(meshlab, store):
    meshlab("--store", store, "checkpoint", "ann")
    result = meshlab("--store", store, "checkpoint", "ann")
    assert result.exit_code == 0
    assert "nothing to fold" in result.stderr


def test_all_users_or_those_named(meshlab, bob):
    result = meshlab("--store", bob, "checkpoint", "--all", "--format", "json")
    assert [row["uid"] for row in rows(result)] == ["ann", "bob"]
    result = meshlab("--store", bob, "checkpoint", "bob", "ann", "bob", "--format", "csv")
    assert [row["uid"] for row in csv.DictReader(io.StringIO(result.stdout))] == ["bob", "ann"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name users, or give --all"),
        (["ann", "--all"], "exclude each other"),
        (["--all", "--accept", "wal-20250707.log:0"], "give one UID"),
        (["ann", "--retain", "-1"], "--retain"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(arguments, message, meshlab, store):
    result = meshlab("--store", store, "checkpoint", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (store / "ann" / "snapshot.bin").exists()


def test_a_user_who_is_not_there_stops_it_before_anything_is_done(meshlab, store):
    result = meshlab("--store", store, "checkpoint", "ann", "eve")
    assert result.exit_code == 1
    assert "'eve' is not in" in result.stderr
    assert not (store / "ann" / "snapshot.bin").exists()


def test_a_dry_run_is_exit_code_2_while_there_is_something_to_fold(meshlab, store):
    result = meshlab("--store", store, "checkpoint", "ann", "--dry-run")
    assert result.exit_code == 2
    assert "would be folded" in result.stderr
    assert not (store / "ann" / "snapshot.bin").exists()
    meshlab("--store", store, "checkpoint", "ann")
    assert meshlab("--store", store, "checkpoint", "ann", "--dry-run").exit_code == 0


def test_damage_is_exit_code_2_and_names_what_would_accept_it(meshlab, damaged):
    result = meshlab("--store", damaged, "checkpoint", "ann", "--format", "json")
    assert result.exit_code == 2
    assert result.stderr.startswith("meshlab: error: ")
    (row,) = rows(result)
    assert (row["uid"], row["kind"]) == ("ann", "DamageFound")
    assert "--accept wal-" in row["hint"]


def test_damage_that_was_accepted_stops_nobody_again(meshlab, damaged):
    refused = rows(meshlab("--store", damaged, "checkpoint", "ann", "--format", "json"))[0]["hint"]
    accept = [word for word in refused.split() if word.startswith(("--accept", "wal-"))]
    result = meshlab("--store", damaged, "checkpoint", "ann", *accept, "--format", "json")
    assert result.exit_code == 0, result.stderr
    assert rows(result)[0]["accepted"] >= 1
    assert meshlab("--store", damaged, "checkpoint", "ann").exit_code == 0


def test_one_user_with_damage_does_not_keep_the_others(meshlab, damaged, bob):
    result = meshlab("--store", bob, "checkpoint", "--all", "--format", "json")
    assert result.exit_code == 2
    ann, row = rows(result)
    assert "error" in ann
    assert (row["uid"], row["generation"]) == ("bob", 1)
    assert "meshlab: error: ann: " in result.stderr


def test_a_checkpoint_under_way_refuses_a_second_one(meshlab, store):
    with open(store / "ann" / "checkpoint.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = meshlab("--store", store, "checkpoint", "ann", "--format", "json")
    assert result.exit_code == 1
    assert rows(result)[0]["kind"] == "CheckpointBusy"
    assert "under way" in result.stderr


def test_retention_is_kept_in_the_manifest(meshlab, store):
    from meshlab.snapshot.manifest import current

    meshlab("--store", store, "checkpoint", "ann", "--retain", "30")
    assert current(store / "ann", "ann").retain_days == 30


def test_a_phase_1_snapshot_needs_upgrade_and_is_kept(meshlab, tmp_path):
    from meshlab.snapshot.bincode import is_bincode

    source = next(path for path in SAMPLES.rglob("snapshot.bin") if is_bincode(path))
    shutil.copytree(source.parent, tmp_path / "old" / "ann")
    original = source.read_bytes()
    refused = meshlab("--store", "old", "checkpoint", "ann")
    assert refused.exit_code == 1
    assert "--upgrade" in refused.stderr
    assert (tmp_path / "old" / "ann" / "snapshot.bin").read_bytes() == original
    result = meshlab("--store", "old", "checkpoint", "ann", "--upgrade")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "old" / "ann" / "history" / "00000000.bin").read_bytes() == original


def test_the_name_of_phase_1_is_a_command(store):
    code = "import sys; from meshlab.__main__ import run_checkpoint; sys.argv[:] = ['mesh-checkpoint', 'ann']; "
    run = subprocess.run(
        [sys.executable, "-c", code + "run_checkpoint()"], env=_environment(store), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[2].split()[:2] == ["ann", "1"]


def _environment(store):
    import os

    return {**os.environ, "MESH_STORE": str(store)}
