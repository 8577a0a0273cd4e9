"""Replay of the bytes older programs left, and of logs with holes in their story."""

import json
import struct
from pathlib import Path

import pandas as pd
import pytest

from meshlab.dialects import DELETE, parse_line
from meshlab.errors import NotFound, SnapshotError, StorageError
from meshlab.records import FIELDS
from meshlab.replay import replay
from meshlab.snapshot.bincode import write_bincode

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
PHASE1 = SAMPLES / "phase1"
EXPECTED = json.loads((Path(__file__).parent / "data" / "phase1-expected.json").read_text(encoding="utf-8"))
(GATEWAY,) = (SAMPLES / "gateway").iterdir()
FLOATS = ("phase_tag", "amplitude", "frequency", "width", "position", "stability")


def bits(value):
    """The value with floats as their bits, so that equal means equal bit for bit."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, dict):
        return {name: bits(item) for name, item in value.items()}
    return value


def state_of(root, uid="u1"):
    return replay(root, uid, progress=False)


def log(root, *events, day="20250707"):
    lines = [json.dumps(event, ensure_ascii=False) for event in events]
    (root / f"wal-{day}.log").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return root


@pytest.mark.parametrize("uid", sorted(EXPECTED))
def test_phase_1_replays_to_the_expected_records_bit_for_bit(uid):
    state = state_of(PHASE1 / uid, uid)
    records = {record["id"]: record for record in state.to_pylist()}
    assert bits(records) == bits(EXPECTED[uid])
    assert [list(record) for record in records.values()] == [list(FIELDS)] * len(records)
    assert state.orphans.num_rows == 0
    assert state.rejects.num_rows == 0
    assert repr(state) == f"<State of {uid}: {len(records)} live memories>"


@pytest.mark.parametrize("uid", sorted(EXPECTED))
def test_phase_1_is_the_same_in_pandas(uid):
    frame = state_of(PHASE1 / uid, uid).to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["access_count"].dtype == "uint64"
    for row in frame.to_dict("records"):
        record = EXPECTED[uid][row["id"]]
        for name in FLOATS:
            assert bits(row[name]) == bits(record[name])
        for name in ("concept_id", "creation_time", "last_accessed", "content", "content_type", "vault_status", "mode"):
            assert row[name] == record[name]
        assert row["access_count"] == record["access_count"]
        assert bits(row["comfort_metrics"]) == bits(record["comfort_metrics"])
        signature = dict(
            row["emotional_signature"], trauma_indicators=list(row["emotional_signature"]["trauma_indicators"])
        )
        assert bits(signature) == bits(record["emotional_signature"])


def test_the_gateways_log_replays_with_its_orphans_and_unknown_fields():
    state = state_of(GATEWAY, GATEWAY.name)
    assert len(state) == 10
    assert state.counts.events == 53
    assert state.counts.others == 6
    assert state.rejects.num_rows == 0
    assert state.orphans.num_rows == state.counts.orphans == 3
    parsed = [parse_line(line).event for line in (GATEWAY / "wal-20250707.log").read_bytes().splitlines()]
    deleted = {event.id for event in parsed if event.op == DELETE}
    assert sum(id in deleted for id in state.orphans["id"].to_pylist()) == 2
    assert any("theme" in record for record in state.to_pylist())


def test_an_orphan_can_be_found_in_its_file():
    state = state_of(GATEWAY, GATEWAY.name)
    for orphan in state.orphans.to_pylist():
        data = (GATEWAY / f"wal-{orphan['segment']}.log").read_bytes()
        line = data[orphan["offset"] :].split(b"\n")[0]
        event = json.loads(line)["event"]
        assert event["Update"]["id"] == orphan["id"]
        assert set(orphan["fields"]) == set(event["Update"]) - {"id"}
        assert data[: orphan["offset"]].count(b"\n") + 1 == orphan["line"]


def test_a_snapshot_is_older_than_the_whole_log(tmp_path):
    whole = EXPECTED[min(EXPECTED)]
    first, second = [whole[id] for id in sorted(whole)[:2]]
    (tmp_path / "snapshot.bin").write_bytes(write_bincode([second, first]))
    log(tmp_path, {"Update": {"id": first["id"], "mode": "Dark", "theme": 1}}, {"Delete": second["id"]}, day="20250101")
    assert state_of(tmp_path).to_pylist() == [first | {"mode": "Dark", "theme": 1}]


def test_a_snapshot_without_a_log_is_the_state(tmp_path):
    record = next(iter(EXPECTED[min(EXPECTED)].values()))
    (tmp_path / "snapshot.bin").write_bytes(write_bincode([record]))
    assert state_of(tmp_path).to_pylist() == [record]


def test_an_empty_directory_is_an_empty_state(tmp_path):
    state = state_of(tmp_path)
    assert len(state) == 0
    assert state.to_pylist() == []
    assert repr(state) == "<State of u1: 0 live memories>"


def test_a_record_lives_on_across_days(tmp_path):
    log(tmp_path, {"Insert": {"id": "m1", "content": "a"}}, day="20250701")
    log(tmp_path, {"Update": {"id": "m1", "content": "b"}}, day="20250703")
    state = state_of(tmp_path)
    assert state.get("m1") == {"id": "m1", "content": "b"}
    assert state.segments["segment"].to_pylist() == ["20250701", "20250703"]


def test_damage_shows_in_the_repr_and_stops_nothing(tmp_path):
    log(tmp_path, {"Insert": {"id": "m1"}})
    path = tmp_path / "wal-20250707.log"
    path.write_bytes(b"!broken\n" + path.read_bytes())
    state = state_of(tmp_path)
    assert state.to_pylist() == [{"id": "m1"}]
    assert state.rejects["class"].to_pylist() == ["not-json"]
    assert "damaged" in repr(state)


def test_a_torn_end_is_no_damage(tmp_path):
    log(tmp_path, {"Insert": {"id": "m1"}}, {"Insert": {"id": "m2"}})
    path = tmp_path / "wal-20250707.log"
    path.write_bytes(path.read_bytes()[:-6])
    state = state_of(tmp_path)
    assert state.to_pylist() == [{"id": "m1"}]
    assert repr(state) == "<State of u1: 1 live memory>"


def test_a_cut_manifest_is_refused_and_what_the_log_gives_is_told(tmp_path):
    log(tmp_path, {"Insert": {"id": "m1"}})
    (tmp_path / "snapshot.bin").write_bytes(b"MESHSNAP\x01")
    with pytest.raises(SnapshotError, match=r"snapshot\.bin.*the file is cut.*restorable are the moments"):
        state_of(tmp_path)
    assert replay(tmp_path, "u1", "2026-01-01T00:00:00Z", progress=False).to_pylist() == [{"id": "m1"}]


@pytest.mark.parametrize("folder", ["history", "layers"])
def test_checkpoints_without_a_snapshot_are_never_an_empty_state(tmp_path, folder):
    (tmp_path / folder).mkdir()
    assert len(state_of(tmp_path)) == 0
    (tmp_path / folder / "1.bin").write_bytes(b"x")
    with pytest.raises(SnapshotError, match=f"beside the files in {folder}"):
        state_of(tmp_path)


def test_a_damaged_snapshot_stops_the_replay(tmp_path):
    log(tmp_path, {"Insert": {"id": "m1"}})
    (tmp_path / "snapshot.bin").write_bytes(b"\x01" + bytes(7))
    with pytest.raises(SnapshotError, match="byte 0"):
        state_of(tmp_path)


def test_a_directory_named_like_the_snapshot_is_said_so(tmp_path):
    (tmp_path / "snapshot.bin").mkdir()
    with pytest.raises(StorageError, match="a directory stands where a file should be"):
        state_of(tmp_path)


def test_a_user_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="nobody"):
        state_of(tmp_path / "nobody")
