"""SQL over the log: it sees the three tables and nothing else."""

from __future__ import annotations

import pytest

from meshlab.errors import MeshlabError
from meshlab.tables import sql
from meshlab.tables.schema import EVENT_SCHEMA
from meshlab.tables.sql import query

from .logs import mixed_log


@pytest.fixture
def roots(tmp_path):
    return [(mixed_log(tmp_path / uid), uid) for uid in ("u1", "u2")]


def rows(roots, text):
    return query(roots, text, progress=False).to_pylist()


def test_events_rejects_and_segments_can_be_asked(roots):
    assert rows(roots, "select uid, op, count(*) as n from events group by all order by all")[:2] == [
        {"uid": "u1", "op": "delete", "n": 6},
        {"uid": "u1", "op": "insert", "n": 18},
    ]
    assert rows(roots, 'select "class", count(*) as n from rejects group by all') == [{"class": "not-json", "n": 4}]
    assert rows(roots, "select sum(events)::int as n from segments") == [{"n": 96}]


def test_times_are_in_utc_and_nested_fields_can_be_reached(roots):
    assert rows(roots, "select min(hour(ts)) as h from events where dialect = 'gateway'") == [{"h": 23}]
    assert rows(roots, "select count(comfort_metrics.energy) as n from events") == [{"n": 0}]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("select count(*) from events", ["op"]),
        ("select COUNT( * ), max(ts) from Events", ["ts"]),
        ("select id, nbytes from events", ["nbytes", "id"]),
        ("select * from events", EVENT_SCHEMA.names),
        ("from events", EVENT_SCHEMA.names),
        ("describe events", EVENT_SCHEMA.names),
    ],
)
def test_only_columns_that_stand_in_the_query_are_loaded(roots, monkeypatch, text, columns):
    asked = []
    real = sql.load_users
    monkeypatch.setattr(
        sql, "load_users", lambda *args, **chosen: asked.append(chosen["columns"]) or real(*args, **chosen)
    )
    rows(roots, text)
    assert asked == [list(columns)]


@pytest.mark.parametrize(
    "text",
    [
        "select * from read_csv('/etc/passwd')",
        "select * from '/etc/passwd'",
        "select * from read_text('/etc/hostname')",
        "copy (select 1) to '{tmp}/out.csv'",
        "attach '{tmp}/out.db'",
        "export database '{tmp}/out'",
        "install httpfs",
        "load httpfs",
        "set threads=1",
        "set enable_external_access=true",
        "select * from glob('/*')",
        "select getenv('HOME')",
        "select * from roots",
        "selec 1",
        "select nothing from events",
        "pragma enable_external_access",
    ],
)
def test_a_query_reaches_no_file_no_setting_and_no_variable(roots, tmp_path, text):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(MeshlabError):
        rows(roots, text.format(tmp=tmp_path))
    assert sorted(tmp_path.iterdir()) == before


def test_every_form_of_a_result_holds_the_same(roots):
    result = query(roots, "select id, access_count from events where access_count > 3 order by all", progress=False)
    table = result.to_arrow()
    assert len(result) == table.num_rows == result.to_polars().height == len(result.to_pandas())
    assert result.to_pylist() == table.to_pylist()
    assert repr(result) == f"<Result: {len(result)} rows, 2 columns>"
    assert "<table" in result._repr_html_()
    assert result.damage == 4


def test_a_query_without_tables_reads_no_log(tmp_path):
    assert rows([(tmp_path / "not there", "u1")], "select 42 as answer") == [{"answer": 42}]
