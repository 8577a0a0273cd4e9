"""The life of one memory: every event still in the log, what it did, and what the memory was then."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import meshlab
from meshlab.errors import NotRestorable
from meshlab.history import HISTORY_SCHEMA
from meshlab.testing import LogBuilder, strategies
from meshlab.wal.paths import segment_name

DAYS = ("20250701", "20250702", "20250703")


@pytest.fixture
def store(tmp_path):
    return meshlab.open(tmp_path)


def write(store, log):
    log.write(store.path / "ann")
    return store["ann"]


def a_life():
    log = LogBuilder(DAYS[0])
    log.frame([{"Update": {"id": "a", "width": 9}}, {"Insert": {"id": "b"}}])
    log.frame([{"Insert": {"id": "a", "width": 1, "mode": "Dark"}}])
    log.frame([{"Update": {"id": "a", "width": 2, "theme": "x"}}], day=DAYS[1])
    log.frame([{"Delete": "a"}, {"Delete": "a"}], day=DAYS[2])
    return log


def test_every_event_tells_what_it_did_and_what_the_memory_was_then(store):
    life = write(store, a_life()).history("a", progress=False)
    rows = life.to_pylist()
    assert [(row["op"], row["effect"], row["fields"], row["after"]) for row in rows] == [
        ("update", "orphan", ["width"], None),
        ("insert", "applied", ["width", "mode"], {"id": "a", "width": 1.0, "mode": "Dark"}),
        ("update", "applied", ["width", "theme"], {"id": "a", "width": 2.0, "theme": "x"}),
        ("delete", "applied", [], None),
        ("delete", "nothing", [], None),
    ]
    assert [(row["segment"], row["seq"]) for row in rows] == [
        (DAYS[0], 1), (DAYS[0], 3), (DAYS[1], 4), (DAYS[2], 5), (DAYS[2], 6)
    ]  # fmt: skip
    assert repr(life) == "<History of a of ann: 5 events, not there at the beginning of the log>"
    assert life.to_arrow().schema == HISTORY_SCHEMA
    assert isinstance(life.to_pandas(), pd.DataFrame)
    assert life.to_polars().height == len(life) == 5


def test_a_memory_that_never_was_has_no_life(store):
    life = write(store, a_life()).history("nobody", progress=False)
    assert (len(life), life.before) == (0, None)


def test_what_was_there_before_the_log_begins_is_known_from_the_snapshot(store):
    log = a_life()
    last = log.bytes(DAYS[2])
    log.replace(DAYS[2], None)
    user = write(store, log)
    user.checkpoint(retain=0, progress=False)
    log.raw(last, day=DAYS[2])
    write(store, log)
    user.checkpoint(progress=False)
    user.vacuum(apply=True)
    life = user.history("a", progress=False)
    assert life.before == {"id": "a", "width": 2.0, "mode": "Dark", "theme": "x"}
    assert [row["op"] for row in life.to_pylist()] == ["delete", "delete"]
    assert "was there in checkpoint 1" in repr(life)


def test_a_hole_in_the_log_is_stepped_over_from_a_snapshot_behind_it(store):
    log = a_life()
    user = write(store, log)
    user.checkpoint(progress=False)
    (user.root / segment_name(DAYS[1])).unlink()
    assert user.history("a", progress=False).source == "checkpoint 1"
    (user.root / segment_name(DAYS[2])).write_bytes(b"{}\n")
    with pytest.raises(NotRestorable):
        user.history("a", progress=False)


def test_html_is_escaped(store):
    log = LogBuilder()
    log.frame([{"Insert": {"id": "<b>", "content": "<script>"}}])
    page = write(store, log).history("<b>", progress=False)._repr_html_()
    assert "<script>" not in page
    assert "<b>:" not in page
    assert "&lt;script&gt;" in page


@given(st.lists(strategies.events(), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_a_life_ends_in_the_state(tmp_path_factory, events):
    log = LogBuilder()
    for event in events:
        log.frame([event])
    user = write(meshlab.open(tmp_path_factory.mktemp("life")), log)
    state = user.state(progress=False)
    for id in {event.id for event in events if hasattr(event, "id")}:
        life = user.history(id, progress=False)
        known: dict = {}
        for row in life.to_pylist():
            whole = row["op"] == "insert" or row["after"] is None or len(row["fields"]) >= 16
            known = (row["after"] or {}) if whole and row["effect"] != "orphan" else known | (row["after"] or {})
        assert json.dumps(known or None, sort_keys=True) == json.dumps(state.get(id), sort_keys=True)
