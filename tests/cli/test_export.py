"""Files appear whole or not at all, in the format their suffix names."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from meshlab.cli.export import BadTarget, check_target, write_file
from meshlab.errors import StorageError
from meshlab.tables.schema import EVENT_SCHEMA, REJECT_SCHEMA


@pytest.fixture
def batches():
    rows = [
        {
            "uid": f"user-{number}",
            "id": "m1",
            "access_count": 2**64 - 1,
            "amplitude": 0.1 + number,
            "content": 'a,"b"\nc',
            "emotional_signature": {"valence": 0.5, "trauma_indicators": ["x,y"]},
            "ts": 1_751_875_200_137_000,
        }
        for number in range(2)
    ]
    return [pa.RecordBatch.from_pylist([row], schema=EVENT_SCHEMA) for row in rows]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_columnar_files_read_back_equal(suffix, batches, tmp_path):
    path = tmp_path / f"events{suffix}"
    assert write_file(path, EVENT_SCHEMA, batches) == 2
    read = pq.read_table(path) if suffix == ".parquet" else pa.ipc.open_file(path.read_bytes()).read_all()
    assert read.to_pylist() == pa.Table.from_batches(batches).to_pylist()


def test_csv_has_a_column_for_each_member_of_a_struct(batches, tmp_path):
    write_file(tmp_path / "events.csv", EVENT_SCHEMA, batches)
    table = csv.read_csv(tmp_path / "events.csv", parse_options=csv.ParseOptions(newlines_in_values=True))
    row = table.to_pylist()[1]
    assert row["uid"] == "user-1"
    assert row["content"] == 'a,"b"\nc'
    assert row["emotional_signature.valence"] == 0.5
    assert row["emotional_signature.trauma_indicators"] == '["x,y"]'


def test_bytes_that_are_not_text_are_escaped_in_csv(tmp_path):
    batch = pa.RecordBatch.from_pylist([{"raw": b"\xff{"}], schema=REJECT_SCHEMA)
    write_file(tmp_path / "rejects.csv", REJECT_SCHEMA, [batch])
    assert rb"\xff{" in (tmp_path / "rejects.csv").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(batches, tmp_path):
    path = tmp_path / "events.parquet"
    path.write_bytes(b"old")

    def failing():
        yield batches[0]
        raise StorageError("the log went away")

    with pytest.raises(StorageError, match="the log went away"):
        write_file(path, EVENT_SCHEMA, failing())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_suffix_is_refused_with_the_ones_there_are(tmp_path):
    with pytest.raises(BadTarget, match=r"\.parquet, \.arrow or \.csv"):
        check_target(tmp_path / "events.xlsx")


def test_a_directory_in_place_of_the_file_is_refused(tmp_path):
    (tmp_path / "events.csv").mkdir()
    with pytest.raises(StorageError, match="it is a directory"):
        check_target(tmp_path / "events.csv")


def test_a_missing_directory_is_refused(tmp_path):
    with pytest.raises(StorageError, match="no directory"):
        check_target(tmp_path / "nowhere" / "events.csv")
