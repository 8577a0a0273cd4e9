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


ALL = EVENT_SCHEMA.names


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("select count(*) from events", ["uid"]),
        ("select COUNT( * ), max(ts) from Events", ["ts"]),
        ("select id, nbytes from events -- not raw", ["nbytes", "id"]),
        ("select id from events where op = 'insert' order by seq", ["seq", "op", "id"]),
        ("select comfort_metrics.energy from events", ["comfort_metrics"]),
        ("select count(columns('.*_ts')) from events", ["effective_ts", "creation_ts", "last_accessed_ts"]),
        ("select a.id from events a join events b using (seq)", ["seq", "id"]),
        ("select #3 from events", ["offset"]),
        ("select b from events as e(a, b)", ["segment"]),
        ("select uid, raw from rejects", ["uid"]),
        ("describe events", ["uid"]),
        ("select * from events", ALL),
        ("from events", ALL),
        ("table events", ALL),
        ("summarize events", ALL),
        ("select max(e) from events e", ALL),
        ("select count(distinct events) from events", ALL),
        ("select count(*) from (from events union from events)", ALL),
        ("select count(*) from (from events intersect from events)", ALL),
        ("select count(*) from (from events except from events)", ALL),
        ("select count(*) from (select distinct * from events)", ALL),
        ("select count(*) from events a natural join events b", ALL),
        ("pivot events on op using count(*)", ALL),
        ("explain select id from events", ALL),
    ],
)
def test_only_columns_that_the_query_reads_are_loaded(roots, monkeypatch, text, columns):
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
        "select count(*) as n from (from events union from events)",
        "select count(*) as n from (from events union all from events)",
        "select count(*) as n from (from events intersect from events)",
        "select count(*) as n from (from events except select * from events where op = 'insert')",
        "select count(distinct events) as n from events",
        "select count(distinct e) as n from events e where e.op <> 'insert'",
        "select count(*) as n from (select distinct * from events)",
        "select count(*) as n from events a natural join events b",
        "select count(*) as n from events a semi join events b on a = b",
        "select count(*) as n from (from events group by all)",
        "pivot events on op using count(*)",
        "pivot events on op",
        "select count(*) as n from (pivot events on op using count(*))",
        "select count(*) as n from events pivot (count(*) for op in ('insert', 'delete'))",
        "select count(*) as n from (unpivot (select seq, nbytes from events) on columns(*))",
        "select #2, #3 from events order by all",
        "select b, i from events as e(a, b, c, d, e, f, g, h, i) order by all",
        "select (select max(ts) from events) as n",
        "with e as (from events) select count(*) as n from e where exists (from e f where f.seq = e.seq - 1)",
        'select op, lag(id) over (partition by uid order by segment, "offset") as n from events order by all',
        "select * from query_table('events') order by all",
        "select column_name, column_type from (describe events)",
        'select column_name, approx_unique, "count" from (summarize events)',
    ],
)
def test_a_query_gives_what_it_gives_over_all_columns(roots, monkeypatch, text):
    pruned = sorted(rows(roots, text), key=str)
    monkeypatch.setattr(sql, "_columns", lambda kind, text: list(EVENT_SCHEMA.names))
    assert pruned == sorted(rows(roots, text), key=str) != []


@pytest.mark.parametrize("text", ["select 1; select 2", "from events; drop view events", "select 1;;select 2;"])
def test_several_statements_are_refused(roots, text):
    with pytest.raises(MeshlabError, match="holds 2 statements, expected one"):
        rows(roots, text)


@pytest.mark.parametrize(("text", "answer"), [("select 1 as a;", [{"a": 1}]), ("-- nothing", [])])
def test_one_statement_or_none_is_fine(roots, text, answer):
    assert rows(roots, text) == answer


def test_nothing_is_spilled_into_the_working_directory(roots):
    assert rows(roots, "select current_setting('temp_directory') as folder") == [{"folder": ""}]


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
