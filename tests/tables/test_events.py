"""The result object: every form holds the same rows, and showing it reads nothing."""

from __future__ import annotations

import re
import sys

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from meshlab.errors import MeshlabError
from meshlab.tables.events import json_form, load_user, load_users
from meshlab.tables.tabular import to_pandas
from meshlab.testing import LogBuilder

from .logs import mixed_log

BIG = 2**64 - 1


@pytest.fixture
def root(tmp_path):
    return mixed_log(tmp_path / "u1")


@pytest.fixture
def events(root):
    return load_user(root, "u1", progress=False)


def test_showing_a_result_that_was_not_read_touches_no_file(tmp_path):
    events = load_user(tmp_path / "not there", "u1", progress=False)
    assert repr(events) == "<Events of u1, not read yet>"
    assert "not read yet" in events._repr_html_()


def test_showing_a_result_tells_rows_and_damage(events):
    events.to_arrow()
    assert repr(events) == "<Events of u1: 48 rows, 34 columns, 2 damaged or missing pieces (see .rejects)>"
    page = events._repr_html_()
    assert [cell for cell in re.findall(r"<td [^>]*>(.*?)</td>", page) if cell in ("insert", "18")] == ["insert", "18"]
    assert len(page) < 20_000


def test_markup_in_a_user_id_is_shown_as_text(root):
    assert "<code>&lt;b&gt;</code>" in load_user(root, "<b>", progress=False)._repr_html_()


def test_pandas_keeps_every_integer_and_every_text(tmp_path):
    log = LogBuilder()
    log.frame([{"Update": {"id": "m1", "access_count": BIG}}, {"Update": {"id": "m2"}}])
    frame = load_user(log.write(tmp_path / "u1"), "u1", progress=False).to_pandas()
    assert frame.access_count.tolist() == [BIG, pd.NA]
    assert frame.access_count.dtype == "UInt64"
    assert frame.seq.tolist() == [1, 2]


def test_integers_without_gaps_stay_plain_numpy():
    assert to_pandas(pa.table({"n": pa.array([1, 2])})).n.dtype == "int64"


def test_polars_duckdb_and_pandas_read_the_stream_protocol(events):
    table = events.to_arrow()
    assert pl.DataFrame(events)["id"].to_list() == table.column("id").to_pylist()
    assert events.to_polars().height == len(events) == 48
    assert pd.DataFrame.from_arrow(events).id.tolist() == table.to_pandas().id.tolist()
    assert duckdb.connect().from_arrow(events).aggregate("count(*)").to_arrow_table()[0].to_pylist() == [48]


def test_polars_missing_is_told(events, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MeshlabError, match="pip install polars"):
        events.to_polars()


def test_rows_as_dicts_hold_what_was_given_and_unknown_fields_by_name(events):
    rows = events.to_pylist()
    assert rows == list(events)
    assert {name: rows[3][name] for name in ("id", "op", "theme", "access_count")} == {
        "id": "m0-0", "op": "update", "theme": "dark", "access_count": 1
    }  # fmt: skip
    assert "mode" not in rows[3]
    assert "extra" not in rows[3]


def test_a_misfit_shows_as_it_was_written_and_empty_lists_stay():
    row = {
        "id": "x",
        "amplitude": None,
        "extra": '{"amplitude":"5"}',
        "emotional_signature": {"valence": None, "trauma_indicators": []},
    }
    assert json_form(row) == {"id": "x", "amplitude": "5", "emotional_signature": {"trauma_indicators": []}}


def test_reading_the_rejects_first_reads_the_log_once(events, monkeypatch):
    assert events.rejects.num_rows == 2
    monkeypatch.setattr("meshlab.tables.load.RawSegment", None)
    assert len(events) == 48


def test_an_abandoned_pass_leaves_the_reports_of_the_finished_one(events):
    rows = sum(batch.num_rows for batch in events.to_batches())
    before = (events.rejects, events.segments, events.damage)
    next(events.to_batches())
    assert (events.rejects, events.segments, events.damage) == before
    assert (rows, events.rejects.num_rows, events.segments.num_rows) == (48, 2, 3)


def test_reports_after_a_first_pass_that_was_abandoned_are_complete(events):
    next(events.to_batches())
    assert (events.rejects.num_rows, events.segments.num_rows) == (2, 3)


def test_a_torn_tail_is_no_damage(tmp_path):
    log = LogBuilder()
    log.frame([{"Delete": "m1"}])
    log.raw(b'{"timestamp":"2025-07')
    events = load_user(log.write(tmp_path / "u1"), "u1", progress=False)
    assert (events.rejects.column("class").to_pylist(), events.damage) == (["torn"], 0)


def test_no_users_give_an_empty_table():
    assert len(load_users([])) == 0
    assert load_users([]).rejects.num_rows == 0
    assert "0 users" in repr(load_users([]))
