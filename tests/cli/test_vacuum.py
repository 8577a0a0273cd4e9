"""``vacuum`` says which files go and why, and deletes only when it is told."""

import csv
import io
import json

import pytest

from meshlab.testing.log import build_log


@pytest.fixture
def store(meshlab, tmp_path):
    """A user, ann, with five days of log, folded, of which no past moment is to be kept."""
    inserts = [[{"Insert": {"id": f"m{at}", "content": "x" * 300}}] for at in range(10)]
    build_log(inserts, per_day=2).write(tmp_path / "store" / "ann")
    result = meshlab("--store", "store", "checkpoint", "ann", "--retain", "0")
    assert result.exit_code == 0, result.stderr
    return tmp_path / "store"


def segments(store):
    return sorted(path.name for path in (store / "ann").glob("wal-*.log"))


def test_a_dry_run_is_exit_code_2_and_deletes_nothing(meshlab, store):
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    result = meshlab("--store", store, "vacuum", "ann")
    assert result.exit_code == 2
    assert "would be deleted: --apply does it" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


def test_the_table_has_every_segment_and_why(meshlab, store):
    lines = meshlab("--store", store, "vacuum", "ann").stdout.splitlines()
    shown = {line.split()[1]: line for line in lines[2:] if line.startswith("segment")}
    assert sorted(shown) == segments(store)
    assert " goes " in shown["wal-20250701.log"]
    assert "stays  the newest segment" in shown["wal-20250705.log"]


def test_applied_it_deletes_what_it_had_said(meshlab, store):
    before = meshlab("--store", store, "replay", "ann", "--format", "json").stdout
    planned = json.loads(meshlab("--store", store, "vacuum", "ann", "--format", "json").stdout)
    doomed = [row["name"] for row in planned["segments"] if row["goes"]]
    result = meshlab("--store", store, "vacuum", "ann", "--apply", "--format", "json")
    assert result.exit_code == 0, result.stderr
    assert doomed
    assert not set(doomed) & set(segments(store))
    answer = json.loads(result.stdout)
    assert answer["applied"] is True
    assert answer["bytes_freed"] == planned["bytes_freed"] > 0
    assert answer["ledger"]["events"] == 2 * len(doomed)
    assert f"ledger: {2 * len(doomed)} events" in result.stderr
    assert meshlab("--store", store, "replay", "ann", "--format", "json").stdout == before


def test_afterwards_there_is_nothing_left_to_do(meshlab, store):
    meshlab("--store", store, "vacuum", "ann", "--apply")
    result = meshlab("--store", store, "vacuum", "ann")
    assert result.exit_code == 0
    assert "nothing to delete" in result.stderr
    assert segments(store) == ["wal-20250705.log"]


def test_csv_has_every_file(meshlab, store):
    result = meshlab("--store", store, "vacuum", "ann", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert {row["kind"] for row in rows} == {"segment", "layer", "snapshot"}
    assert {row["fate"] for row in rows} == {"goes", "stays"}
    assert all(row["reason"] and int(row["bytes"]) > 0 for row in rows)


def test_without_a_checkpoint_nothing_goes(meshlab, tmp_path):
    build_log([[{"Delete": "a"}], [{"Delete": "b"}]], per_day=1).write(tmp_path / "store" / "bob")
    result = meshlab("--store", "store", "vacuum", "bob", "--apply")
    assert result.exit_code == 0
    assert "'meshlab checkpoint' comes first" in result.stderr
    assert len(list((tmp_path / "store" / "bob").glob("wal-*.log"))) == 2


def test_of_several_users_there_is_a_row_for_each(meshlab, store):
    build_log([[{"Delete": "a"}], [{"Delete": "b"}]], per_day=1).write(store / "bob")
    planned = meshlab("--store", store, "vacuum", "ann", "bob", "--format", "json")
    assert planned.exit_code == 2 and len(segments(store)) == 5
    ann, bob = json.loads(planned.stdout)
    assert (ann["uid"], bob["uid"], bob["files"]) == ("ann", "bob", 0)
    done = meshlab("--store", store, "vacuum", "--all", "--apply")
    assert done.exit_code == 0, done.stderr
    assert f"deleted {ann['files']} files of 2 users" in done.stderr
    assert segments(store) == ["wal-20250705.log"]


def test_who_is_meant_must_be_said(meshlab, store):
    assert "--all" in meshlab("--store", store, "vacuum").stderr
    assert "exclude each other" in meshlab("--store", store, "vacuum", "ann", "--all").stderr
