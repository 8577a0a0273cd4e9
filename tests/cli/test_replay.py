"""``replay`` shows the memories that live, in the form each reader wants."""

import csv
import io
import json

import pyarrow.parquet as pq
import pytest

M1 = {"id": "m1", "amplitude": 0.75, "access_count": 2, "content": "first"}


def test_json_is_the_form_of_the_log(meshlab, store):
    result = meshlab("--store", store, "replay", "ann", "--format", "json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == [M1]


def test_the_table_shows_a_few_fields_and_a_count(meshlab, store):
    result = meshlab("--store", store, "replay", "ann")
    header, _, row = result.stdout.splitlines()
    assert header.split()[:3] == ["id", "content", "amplitude"]
    assert row.split()[:3] == ["m1", "first", "0.75"]
    assert "1 memory" in result.stderr


def test_csv_has_every_field_and_leaves_out_what_is_not_given(meshlab, store):
    result = meshlab("--store", store, "replay", "ann", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert {name: value for name, value in row.items() if value} == {name: str(value) for name, value in M1.items()}
    assert "comfort_metrics" in row


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv"])
def test_the_state_goes_to_a_file(suffix, meshlab, store, tmp_path):
    result = meshlab("--store", store, "replay", "ann", "-o", f"state.{suffix}")
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert "1 memory written to state." in result.stderr
    assert (tmp_path / f"state.{suffix}").stat().st_size > 0


def test_parquet_holds_the_floats_bit_for_bit(meshlab, store, tmp_path):
    meshlab("--store", store, "append", "ann", stdin='{"Insert":{"id":"m3","amplitude":0.1}}\n')
    meshlab("--store", store, "replay", "ann", "-o", "state.parquet")
    assert pq.read_table(tmp_path / "state.parquet").to_pylist()[1]["amplitude"].hex() == (0.1).hex()


def test_orphans_are_said(meshlab, store):
    meshlab("--store", store, "append", "ann", stdin='{"Update":{"id":"gone","amplitude":1}}\n')
    result = meshlab("--store", store, "replay", "ann")
    assert result.exit_code == 0
    assert "1 orphan" in result.stderr


def test_damage_is_exit_code_2_and_the_rest_is_shown(meshlab, store):
    segment = next((store / "ann").glob("wal-*.log"))
    segment.write_bytes(segment.read_bytes().replace(b'"second"', b'"zecond"'))
    result = meshlab("--store", store, "replay", "ann", "--format", "json")
    assert result.exit_code == 2
    assert json.loads(result.stdout) == [M1]
    assert "bad-sum" in result.stderr


def test_escape_sequences_in_content_do_not_reach_the_terminal(meshlab, store):
    meshlab("--store", store, "append", "ann", stdin='{"Insert":{"id":"\\u001b[2J","content":"\\u009b31m\\u202e"}}\n')
    for fmt in ("table", "json"):
        result = meshlab("--store", store, "replay", "ann", "--format", fmt)
        assert not {"\x1b", "\x9b"} & set(result.stdout), fmt
