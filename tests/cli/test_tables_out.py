"""``load``, ``sql``, ``stats`` and ``seal``: the log as tables."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def answer(result, code=0):
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout)


def test_load_writes_every_event_and_says_how_many(meshlab, store, tmp_path):
    done = answer(meshlab("--store", store, "load", "-o", "events.parquet", "--format", "json"))
    assert (done["out"], done["events"], done["rejects"]) == ("events.parquet", 4, 0)
    table = pq.read_table(tmp_path / "events.parquet")
    assert table.column("op").to_pylist() == ["insert", "insert", "update", "delete"]
    assert done["bytes"] == (tmp_path / "events.parquet").stat().st_size


def test_load_takes_the_events_asked_for(meshlab, store, tmp_path):
    meshlab("--store", store, "load", "ann", "--op", "update", "--op", "delete", "--id", "m1", "-o", "events.arrow")
    with pa.OSFile(str(tmp_path / "events.arrow")) as file:
        assert pa.ipc.open_file(file).read_all().column("op").to_pylist() == ["update"]


def test_load_takes_times(meshlab, store):
    done = answer(
        meshlab("--store", store, "load", "--until", "2020-01-01T00:00:00Z", "-o", "e.csv", "--format", "json")
    )
    assert done["events"] == 0


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_time_that_is_none_is_refused(option, meshlab, store, tmp_path):
    result = meshlab("--store", store, "load", option, "yesterday", "-o", "events.csv")
    assert result.exit_code == 1
    assert "yesterday" in result.stderr
    assert not (tmp_path / "events.csv").exists()


@pytest.mark.parametrize("out", ["events.xlsx", "events", "nowhere/events.csv"])
def test_a_target_that_cannot_be_written_is_refused_before_the_work(out, meshlab, store):
    result = meshlab("--store", store, "load", "-o", out)
    assert result.exit_code == 1
    assert result.stderr.startswith("meshlab: error: ")


def test_load_of_a_damaged_log_carries_on_with_exit_code_2(meshlab, store):
    segment = next((store / "ann").glob("wal-*.log"))
    segment.write_bytes(segment.read_bytes().replace(b'"second"', b'"zecond"'))
    done = answer(meshlab("--store", store, "load", "-o", "events.csv", "--format", "json"), code=2)
    assert done["events"] == 3
    assert done["rejects"] >= 1


def test_sql_sees_events_rejects_and_segments(meshlab, store):
    query = "select op, count(*) as n, sum(nbytes) as bytes from events group by op order by op"
    rows = answer(meshlab("--store", store, "sql", query, "--format", "json"))
    assert [(row["op"], row["n"]) for row in rows] == [("delete", 1), ("insert", 2), ("update", 1)]
    assert all(isinstance(row["bytes"], int) for row in rows)
    assert answer(meshlab("--store", store, "sql", "select count(*) as n from rejects", "--format", "json")) == [
        {"n": 0}
    ]
    (row,) = answer(meshlab("--store", store, "sql", "select sum(events) as n from segments", "--format", "json"))
    assert row == {"n": 4}


def test_sql_csv_keeps_the_columns_of_an_empty_result(meshlab, store):
    result = meshlab("--store", store, "sql", "select id, op from events where false", "--format", "csv")
    assert result.stdout == "id,op\n"


@pytest.mark.parametrize("query", ["selct 1", "select * from nowhere", "select nope from events", ""])
def test_wrong_sql_is_one_error(query, meshlab, store):
    result = meshlab("--store", store, "sql", query)
    assert result.exit_code == 1
    assert result.stderr.startswith("meshlab: error: ")
    assert len(result.stderr.splitlines()) == 2


def test_stats_count_each_user(meshlab, store):
    meshlab("--store", store, "append", "bob", stdin='{"Delete":"m1"}\n')
    rows = answer(meshlab("--store", store, "stats", "--format", "json"))
    assert [(row["uid"], row["events"]) for row in rows] == [("ann", 4), ("bob", 1)]
    assert [row["uid"] for row in answer(meshlab("--store", store, "stats", "bob", "--format", "json"))] == ["bob"]


def test_today_is_not_sealed_and_finished_days_are(meshlab, store):
    assert answer(meshlab("--store", store, "seal", "--format", "json")) == []
    (store / "ann" / "wal-20250101.log").write_bytes(b'{"Delete":"m1"}\n')
    rows = answer(meshlab("--store", store, "seal", "--format", "json"))
    assert [(row["uid"], row["segment"]) for row in rows] == [("ann", "20250101")]


def test_sql_over_a_damaged_log_carries_on_with_exit_code_2(meshlab, store):
    segment = next((store / "ann").glob("wal-*.log"))
    segment.write_bytes(segment.read_bytes().replace(b'"second"', b'"zecond"'))
    result = meshlab("--store", store, "sql", "select class from rejects where nbytes > 0", "--format", "json")
    assert answer(result, code=2) == [{"class": "bad-sum"}]
    assert "damaged" in result.stderr


def test_stats_of_a_damaged_log_end_with_exit_code_2_and_of_a_torn_one_with_0(meshlab, store):
    segment = next((store / "ann").glob("wal-*.log"))
    data = segment.read_bytes()
    segment.write_bytes(data[:-10])
    (row,) = answer(meshlab("--store", store, "stats", "--format", "json"))
    assert (row["rejects"], row["damage"]) == (1, 0)
    segment.write_bytes(data.replace(b'"second"', b'"zecond"'))
    result = meshlab("--store", store, "stats", "--format", "json")
    (row,) = answer(result, code=2)
    assert row["damage"] >= 1
    assert "damaged" in result.stderr
