"""``diff`` shows what came, went and changed between two moments."""

import csv
import io
import json

import pytest

from meshlab.testing.log import build_log

DAYS = [f"2025-07-0{day}T12:00:00Z" for day in range(1, 5)]


@pytest.fixture
def store(tmp_path):
    """A user, ann: two memories on the first day, a recall on the second, a delete on the third."""
    frames = [
        [{"Insert": {"id": "m1", "content": "first", "amplitude": 0.5}}, {"Insert": {"id": "m2", "content": "second"}}],
        [{"Update": {"id": "m1", "amplitude": 0.75}}],
        [{"Delete": "m2"}],
    ]
    build_log(frames, per_day=1).write(tmp_path / "store" / "ann")
    return tmp_path / "store"


def test_one_row_per_memory_with_the_fields_that_differ(meshlab, store):
    result = meshlab("--store", store, "diff", "ann", DAYS[0], DAYS[2], "--format", "json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == [
        {"id": "m1", "change": "changed", "fields": ["amplitude"]},
        {"id": "m2", "change": "removed", "fields": ["content"]},
    ]
    assert "2 memories: 1 removed, 1 changed; changed fields: amplitude (1)" in result.stderr


def test_with_fields_one_row_per_field_and_its_values(meshlab, store):
    result = meshlab("--store", store, "diff", "ann", DAYS[0], DAYS[2], "--fields", "--format", "json")
    assert json.loads(result.stdout) == [
        {"id": "m1", "change": "changed", "field": "amplitude", "before": 0.5, "after": 0.75},
        {"id": "m2", "change": "removed", "field": "content", "before": "second"},
    ]


def test_without_a_second_moment_it_is_now(meshlab, store):
    now = meshlab("--store", store, "diff", "ann", DAYS[0], "--format", "json")
    assert now.stdout == meshlab("--store", store, "diff", "ann", DAYS[0], DAYS[3], "--format", "json").stdout


def test_csv_has_values_as_json(meshlab, store):
    result = meshlab("--store", store, "diff", "ann", DAYS[1], DAYS[2], "--fields", "--format", "csv")
    assert list(csv.reader(io.StringIO(result.stdout))) == [
        ["id", "change", "field", "before", "after"],
        ["m2", "removed", "content", '"second"', ""],
    ]


def test_the_table_is_cut_where_it_is_told(meshlab, store):
    result = meshlab("--store", store, "diff", "ann", DAYS[0], "--limit", "1")
    assert len(result.stdout.splitlines()) == 3
    assert "1 more row" in result.stderr


def test_no_difference_is_said(meshlab, store):
    result = meshlab("--store", store, "diff", "ann", DAYS[2], DAYS[3])
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no difference" in result.stderr


def test_damage_in_the_log_is_exit_code_2(meshlab, store):
    segment = store / "ann" / "wal-20250702.log"
    segment.write_bytes(segment.read_bytes().replace(b"0.75", b"0.85"))
    result = meshlab("--store", store, "diff", "ann", DAYS[0])
    assert result.exit_code == 2
    assert "damaged" in result.stderr


def test_what_is_no_moment_is_refused(meshlab, store):
    assert meshlab("--store", store, "diff", "ann", "noon").exit_code == 1
