"""``verify`` accounts for every byte and ``repair`` copies what is sound."""

import json
from collections import Counter
from pathlib import Path

import pytest


@pytest.fixture
def segment(store):
    return next((store / "ann").glob("wal-*.log"))


@pytest.fixture
def damaged(store, segment):
    """The store with one bit flipped in its second frame; returns the store."""
    data = bytearray(segment.read_bytes())
    data[data.index(b"second")] ^= 1
    segment.write_bytes(data)
    return store


def test_a_sound_store_is_exit_code_0(meshlab, store, segment):
    result = meshlab("--store", store, "verify", "--format", "json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 0
    assert answer["damage"] is False
    assert answer["rejects"] == []
    assert [(row["uid"], row["events"], row["bytes"]) for row in answer["segments"]] == [
        ("ann", 4, segment.stat().st_size)
    ]


def test_damage_is_exit_code_2_and_named(meshlab, damaged, segment):
    result = meshlab("--store", damaged, "verify", "ann", "--format", "json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 2
    assert answer["damage"] is True
    (reject,) = [row for row in answer["rejects"] if row["nbytes"]]
    assert (reject["segment"], reject["line"], reject["class"]) == (segment.name[4:12], 2, "bad-sum")
    assert "recond" in reject["raw"]


def test_the_bytes_of_a_segment_are_all_accounted_for(meshlab, damaged):
    answer = json.loads(meshlab("--store", damaged, "verify", "--format", "json").stdout)
    for row in answer["segments"]:
        parts = ("event_bytes", "reject_bytes", "blank_bytes", "open_tail_bytes")
        assert sum(row[name] for name in parts) == row["bytes"]


def test_the_table_shows_segments_then_rejects(meshlab, damaged):
    result = meshlab("--store", damaged, "verify")
    assert "bad-sum" in result.stdout
    assert "1 segment, 3 events" in result.stderr


def test_csv_is_the_rejects(meshlab, damaged):
    result = meshlab("--store", damaged, "verify", "--format", "csv")
    header, *rows = result.stdout.splitlines()
    assert header == "uid,segment,line,offset,nbytes,class,reason,raw"
    assert rows


def test_a_torn_end_alone_is_exit_code_0(meshlab, store, segment):
    segment.write_bytes(segment.read_bytes()[:-10])
    result = meshlab("--store", store, "verify", "--format", "json")
    assert result.exit_code == 0
    assert [row["class"] for row in json.loads(result.stdout)["rejects"]] == ["torn"]


def test_verify_writes_nothing(meshlab, damaged):
    before = {path: path.stat().st_mtime_ns for path in damaged.rglob("*")}
    meshlab("--store", damaged, "verify")
    assert {path: path.stat().st_mtime_ns for path in damaged.rglob("*")} == before


def test_repair_copies_the_sound_events_and_says_what_it_left_out(meshlab, damaged, segment, tmp_path):
    original = segment.read_bytes()
    target = tmp_path / "repaired" / "ann"
    target.parent.mkdir()
    result = meshlab("--store", damaged, "repair", "ann", target, "--format", "json")
    assert result.exit_code == 2, result.stderr
    answer = json.loads(result.stdout)
    assert answer["events"] == 3
    assert [row["class"] for row in answer["left_out"]] == ["bad-sum"]
    assert segment.read_bytes() == original
    copy = meshlab("--store", tmp_path / "repaired", "dump", "ann")
    assert len(copy.stdout.splitlines()) == 3


@pytest.mark.parametrize("fmt", ["table", "json", "csv"])
def test_repair_that_left_out_a_torn_end_alone_is_exit_code_0(meshlab, store, segment, tmp_path, fmt):
    segment.write_bytes(segment.read_bytes()[:-10])
    result = meshlab("--store", store, "repair", "ann", tmp_path / "copy", "--format", fmt)
    assert result.exit_code == 0, result.stderr
    assert "torn" in result.stdout


def test_repair_refuses_a_target_that_is_there(meshlab, damaged, tmp_path):
    (tmp_path / "taken").mkdir()
    result = meshlab("--store", damaged, "repair", "ann", tmp_path / "taken")
    assert result.exit_code == 1
    assert "already there" in result.stderr


DAMAGED = Path(__file__).parents[2] / "data" / "samples" / "damaged"


@pytest.mark.parametrize("truth", sorted(DAMAGED.glob("*/**/truth.json")), ids=lambda path: path.parts[-2])
def test_each_disaster_of_the_samples_has_the_exit_code_it_deserves(truth, meshlab):
    told = json.loads(truth.read_text(encoding="utf-8"))
    found = meshlab("--store", truth.parent, "verify", "--format", "json")
    answer = json.loads(found.stdout)
    assert found.exit_code == (2 if told["damage"] else 0)
    assert sum(row["events"] for row in answer["segments"]) == told["readable"]
    assert Counter(row["class"] for row in answer["rejects"] if row["nbytes"]) == told["rejects"]


def test_damage_that_stopped_the_first_checkpoint_can_still_be_repaired(meshlab, damaged, tmp_path):
    assert meshlab("--store", damaged, "checkpoint", "ann").exit_code == 2
    assert meshlab("--store", damaged, "repair", "ann", tmp_path / "clean").exit_code == 2
    assert (tmp_path / "clean").is_dir()
