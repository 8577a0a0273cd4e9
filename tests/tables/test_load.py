"""Loading: every byte is accounted for, and choosing early equals choosing late."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from meshlab.errors import InternalError, MeshlabError, NotFound
from meshlab.store import open as open_store
from meshlab.tables import load, reports, segment
from meshlab.tables.batches import event_batch
from meshlab.tables.events import load_user, load_users
from meshlab.tables.load import select
from meshlab.tables.parse import Parser
from meshlab.tables.schema import EVENT_SCHEMA
from meshlab.testing import LogBuilder
from meshlab.times import midnight

from .logs import DAYS, HOUR, mixed_log

NOON = midnight(DAYS[1]) + 3 * HOUR


@pytest.fixture(params=["definition", "fast path"])
def path(request, monkeypatch):
    """Both ways to parse a block."""
    if request.param == "fast path":
        monkeypatch.setattr(load, "Parser", lambda columns: Parser(columns, least_rows=1))
    return request.param


@pytest.fixture
def root(tmp_path):
    return mixed_log(tmp_path / "u1")


def table_of(root, **chosen) -> pa.Table:
    return load_user(root, "u1", progress=False, **chosen).to_arrow()


def test_all_columns_have_the_types_of_the_schema(root, path):
    table = table_of(root)
    assert table.schema == EVENT_SCHEMA
    table.validate(full=True)
    assert table.num_rows == 3 * (12 + 2 + 2)


def test_a_pass_that_has_begun_reads_segments_that_are_deleted_meanwhile(root):
    whole = table_of(root)
    batches = load_user(root, "u1", progress=False).to_batches()
    begun = [next(batches)]
    for path in sorted(root.glob("wal-*.log"))[:-1]:
        path.unlink()
    assert pa.Table.from_batches([*begun, *batches]).num_rows == whole.num_rows


def test_events_rejects_and_blanks_tile_every_segment(root, path):
    events = load_user(root, "u1", progress=False)
    for row in events.segments.to_pylist():
        parts = ("event_bytes", "reject_bytes", "blank_bytes", "open_tail_bytes")
        assert row["bytes"] == (root / f"wal-{row['segment']}.log").stat().st_size == sum(row[name] for name in parts)
        assert row["lines"] == row["events"] + row["rejects"] + row["blanks"]
    assert events.rejects.column("class").to_pylist() == ["not-json", "not-json"]
    assert events.rejects.column("raw").to_pylist()[0] == b"this is no JSON\n"


def test_offset_and_nbytes_find_the_line_and_the_columns_say_what_it_holds(root, path):
    data = {day: (root / f"wal-{day}.log").read_bytes() for day in DAYS}
    rows = table_of(root).to_pylist()
    for row in rows:
        line = data[row["segment"]][row["offset"] : row["offset"] + row["nbytes"]]
        assert line.endswith(b"\n")
        assert data[row["segment"]][: row["offset"]].count(b"\n") == row["line"] - 1
        assert row["id"] is None or row["id"].encode() in line
    first, update = rows[0], rows[3]
    assert (first["op"], first["dialect"], first["seq"], first["id"], first["content_nbytes"]) == (
        "insert", "meshlab", 1, "m0-0", 0
    )  # fmt: skip
    assert (update["amplitude"], update["access_count"], update["extra"]) == (1 / 7, 1, '{"theme":"dark"}')
    assert update["payload_nbytes"] == len(
        b'{"Update":{"id":"m0-0","amplitude":0.14285714285714285,"access_count":1,"theme":"dark"}}'
    )
    assert {row["dialect"] for row in rows} == {"meshlab", "bare", "gateway"}
    assert [row["raw"] for row in rows if row["op"] == "other"] == ['{"free":[1,"x"]}'] * 3
    assert [row["key"] for row in rows[:8]] == [None] * 6 + ["key-3"] * 2
    assert [row["seq"] for row in rows[14:16]] == [None, None]


@pytest.mark.parametrize(
    "columns", [["op"], ["ts", "nbytes"], ["id", "raw"], ["creation_ts", "extra"], ["content_nbytes"]]
)
def test_asking_for_columns_gives_just_those(root, path, columns):
    assert table_of(root, columns=columns).equals(table_of(root).select(columns))


CHOICES = {
    "since": [None, NOON, midnight(DAYS[1]) + 30 * HOUR, midnight("20260101")],
    "until": [None, NOON, midnight(DAYS[0]) - 1],
    "ops": [None, ["delete"], ["update", "other"], []],
    "ids": [None, ["m0-0", "m2-1"], []],
}


@pytest.mark.parametrize(("since", "until"), list(itertools.product(CHOICES["since"], CHOICES["until"])))
def test_choosing_rows_early_equals_choosing_them_late(root, path, since, until):
    whole = table_of(root)
    moments = whole.column("effective_ts").cast(pa.int64())
    for ops, ids in itertools.product(CHOICES["ops"], CHOICES["ids"]):
        mask = pc.greater_equal(moments, since if since is not None else -(1 << 62))
        mask = pc.and_(mask, pc.less_equal(moments, until if until is not None else 1 << 62))
        if ops is not None:
            mask = pc.and_(mask, pc.is_in(whole.column("op").cast(pa.string()), pa.array(ops, pa.string())))
        if ids is not None:
            mask = pc.and_(mask, pc.is_in(whole.column("id"), pa.array(ids, pa.string())))
        chosen = table_of(root, since=since, until=until, ops=ops, ids=ids)
        assert chosen.to_pylist() == whole.filter(mask).to_pylist()


def test_segments_that_end_before_since_are_not_read_and_give_no_finding(root):
    (root / f"wal-{DAYS[0]}.log").chmod(0o000)
    events = load_user(root, "u1", since=midnight(DAYS[2]) + 24 * HOUR, progress=False)
    assert events.segments.column("segment").to_pylist() == list(DAYS[1:])
    assert "chain-gap" not in events.rejects.column("class").to_pylist()


def test_a_gap_before_the_first_segment_read_is_still_found(tmp_path):
    log = LogBuilder("20250701")
    log.frame([{"Delete": "a"}])
    log.seq += 5
    log.frame([{"Delete": "b"}], day="20250705")
    root = log.write(tmp_path / "u1")
    assert load_user(root, "u1", since=midnight("20250705"), progress=False).rejects.num_rows == 1


def test_moments_may_be_datetimes_texts_or_numbers(root):
    moment = datetime.fromtimestamp(NOON / 1e6, UTC)
    forms = [NOON, moment, moment.replace(tzinfo=None), moment.isoformat()]
    assert {select(since=form).since for form in forms} == {NOON}


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"columns": []}, "no column is chosen (choose from uid"),
        ({"columns": ["colour"]}, "there is no column 'colour' (choose from uid"),
        ({"ops": ["upsert"]}, "there is no op 'upsert' (choose from insert"),
        ({"since": "yesterday"}, "since is 'yesterday', which is no time"),
        ({"until": 1.5}, "until is 1.5, which is no time"),
    ],
)
def test_what_cannot_be_chosen_is_refused_with_what_can(root, chosen, told):
    with pytest.raises(MeshlabError) as caught:
        load_user(root, "u1", **chosen)
    assert told in str(caught.value)


def test_a_framed_line_that_is_no_json_is_a_reject_and_still_tiles(tmp_path, path):
    log = LogBuilder("20250707")
    log.frame([{"Update": {"id": "m1", "amplitude": 1}}])
    log.frame([b'{"Update":{"id":"m1","amplitude":NaN}}'])
    log.frame([b'{"Update":{"amplitude":2,"mode":"Dark"}}'])
    events = load_user(log.write(tmp_path / "u1"), "u1", progress=False)
    assert events.to_arrow().column("op").to_pylist() == ["update", "other"]
    assert events.to_arrow().column("raw").to_pylist() == [None, '{"Update":{"amplitude":2,"mode":"Dark"}}']
    assert events.rejects.select(["class", "line"]).to_pylist() == [{"class": "not-json", "line": 2}]
    (row,) = events.segments.to_pylist()
    assert (row["events"], row["rejects"], row["bytes"]) == (2, 1, row["event_bytes"] + row["reject_bytes"])


def test_a_row_that_went_missing_is_an_internal_error_with_the_numbers(root, monkeypatch):
    monkeypatch.setattr(segment, "event_batch", lambda *args: event_batch(*args).slice(1))
    with pytest.raises(InternalError, match=r"15 events of \d+ bytes"):
        table_of(root)


def test_a_lost_byte_is_an_internal_error(root, monkeypatch):
    monkeypatch.setattr(segment, "with_failed", lambda part, failed: shorter(reports.with_failed(part, failed)))
    with pytest.raises(InternalError, match="the file has"):
        table_of(root)


def shorter(part):
    return part._replace(tally=part.tally._replace(blank_bytes=part.tally.blank_bytes - 1))


def test_a_log_without_segments_gives_no_rows(tmp_path):
    (tmp_path / "u1").mkdir()
    events = load_user(tmp_path / "u1", "u1", progress=False)
    assert (len(events), events.rejects.num_rows, events.segments.num_rows) == (0, 0, 0)
    assert events.to_arrow().schema == EVENT_SCHEMA


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(NotFound, match="nobody"):
        len(load_user(tmp_path / "nobody", "nobody", progress=False))


def test_streaming_gives_the_rows_of_the_table_in_order(tmp_path):
    log = LogBuilder("20250707")
    for number in range(50):
        log.frame([{"Update": {"id": f"m{number}", "access_count": number}}], day=f"202507{10 + number // 5:02d}")
    root = log.write(tmp_path / "u1")
    events = load_user(root, "u1", progress=False)
    streamed = list(events.to_batches())
    assert len(streamed) == 10
    assert pa.Table.from_batches(streamed).equals(events.to_arrow())
    assert len({batch.column("segment").dictionary.to_pylist()[0] for batch in streamed}) == 1


def test_several_users_stand_one_after_the_other(tmp_path):
    roots = [(mixed_log(tmp_path / uid), uid) for uid in ("u1", "u2")]
    table = load_users(roots, progress=False).to_arrow()
    assert table.column("uid").to_pylist() == ["u1"] * 48 + ["u2"] * 48
    table.validate(full=True)


def test_an_error_in_the_reading_thread_reaches_the_caller():
    def items():
        yield 1
        raise ValueError("from behind")

    with pytest.raises(ValueError, match="from behind"):
        list(segment.ahead(items()))


def test_a_segment_that_vanishes_meanwhile_is_named_as_a_storage_error(root, monkeypatch):
    monkeypatch.setattr(load, "segment_days", lambda root: [*DAYS, "20250710"])
    with pytest.raises(NotFound, match="wal-20250710"):
        table_of(root)


def test_a_segment_that_vanishes_before_a_verify_is_a_storage_error(root, monkeypatch):
    monkeypatch.setattr("meshlab.wal.paths.segment_days", lambda root: [*DAYS, "20250710"])
    with pytest.raises(NotFound, match="wal-20250710"):
        open_store(root.parent)["u1"].verify(progress=False)
