"""What changed between two states: as a comparison record by record says, and shown safely."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import meshlab
from meshlab.diff import DIFF_SCHEMA, Diff
from meshlab.snapshot.fold import Fold
from meshlab.snapshot.state import State
from meshlab.tables.events import load_user
from meshlab.tables.schema import REJECT_SCHEMA
from meshlab.testing import LogBuilder, strategies
from meshlab.times import midnight

NOON = midnight("20250701") + 12 * 3_600_000_000


def state_of(root, events):
    """The state some events come to, in a log of their own."""
    log = LogBuilder()
    for event in events:
        log.frame([event])
    if not log.days():
        log.raw(b"")
    fold = Fold()
    for batch in load_user(log.write(root), "u1", progress=False).to_batches():
        fold.add(batch)
    state, orphans, counts = fold.finish()
    return State("u1", state, orphans=orphans, rejects=REJECT_SCHEMA.empty_table(), segments=None, counts=counts)


def insert(id, **fields):
    return {"Insert": {"id": id, **fields}}


def told(diff):
    return [(row["id"], row["change"], row["field"], row.get("before"), row.get("after")) for row in diff.to_pylist()]


def test_records_that_came_went_or_changed_field_by_field(tmp_path):
    before = state_of(tmp_path / "a", [insert("a", width=1), insert("b", mode="Dark"), insert("c", width=1, theme="x")])
    after = state_of(
        tmp_path / "b", [insert("b", mode="Bright", width=2), insert("c", width=1, theme="x"), insert("d")]
    )
    diff = Diff(before, after)
    assert told(diff) == [
        ("a", "removed", "width", 1.0, None),
        ("b", "changed", "width", None, 2.0),
        ("b", "changed", "mode", "Dark", "Bright"),
        ("d", "added", "id", None, "d"),
    ]
    assert diff.counts == {"added": 1, "removed": 1, "changed": 1}
    assert diff.fields == {"width": 1, "mode": 1}
    assert repr(diff) == "<Diff of u1: 1 added, 1 removed, 1 changed>"
    assert diff.to_arrow().schema == DIFF_SCHEMA
    assert isinstance(diff.to_pandas(), pd.DataFrame)
    assert diff.to_polars().height == len(diff) == pa.table(diff).num_rows == 4
    assert diff


def test_nothing_changed_is_said(tmp_path):
    state = state_of(tmp_path, [insert("a", width=1)])
    diff = Diff(state, state)
    assert not diff
    assert (len(diff), repr(diff)) == (0, "<Diff of u1: no difference>")


def test_a_value_that_fits_and_one_that_does_not_are_one_change(tmp_path):
    before = state_of(tmp_path / "a", [insert("a", width=1, flag=True)])
    after = state_of(tmp_path / "b", [b'{"Insert":{"id":"a","width":"wide"}}'])
    assert told(Diff(before, after)) == [("a", "changed", "width", 1.0, "wide"), ("a", "changed", "flag", True, None)]


def test_zero_and_minus_zero_differ_and_lists_are_compared_element_by_element(tmp_path):
    def feels(*marks):
        return {"emotional_signature": {"valence": 0.0, "trauma_indicators": list(marks)}}

    before = state_of(
        tmp_path / "a", [insert("a", width=0.0), insert("b", **feels("x\x1fy", "z")), insert("c", **feels("x"))]
    )
    after = state_of(
        tmp_path / "b", [insert("a", width=-0.0), insert("b", **feels("x", "y\x1fz")), insert("c", **feels("x"))]
    )
    assert [row[:3] for row in told(Diff(before, after))] == [
        ("a", "changed", "width"),
        ("b", "changed", "emotional_signature"),
    ]


def test_html_is_escaped_and_short(tmp_path):
    before = state_of(tmp_path / "a", [])
    after = state_of(tmp_path / "b", [insert(f"<b>{n}", content="<script>" * 50) for n in range(30)])
    page = Diff(before, after)._repr_html_()
    assert "<script>" not in page
    assert "<b>0" not in page
    assert "&lt;b&gt;0" in page
    assert "and 10 more" in page
    assert "table" not in Diff(before, before)._repr_html_()


def plain(before, after):
    """The same by a loop over the JSON forms."""
    old, new = ({row["id"]: row for row in state.to_pylist()} for state in (before, after))
    rows = set()
    for id in old.keys() | new.keys():
        change = "added" if id not in old else "removed" if id not in new else "changed"
        ours, theirs = old.get(id, {}), new.get(id, {})
        for name in (ours.keys() | theirs.keys()) - {"id"}:
            pair = [side.get(name, KeyError) for side in (ours, theirs)]
            if repr(pair[0]) != repr(pair[1]):
                rows.add((id, change, name, repr(pair[0]), repr(pair[1])))
    return rows


@given(st.lists(strategies.events(), max_size=8), st.lists(strategies.events(), max_size=8), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_diff_is_what_a_comparison_record_by_record_says(tmp_path_factory, first, second, goes_on):
    folder = tmp_path_factory.mktemp("diff")
    before = state_of(folder / "a", first)
    after = state_of(folder / "b", first + second if goes_on else second)
    found = {
        (row["id"], row["change"], row["field"], *(repr(row.get(side, KeyError)) for side in ("before", "after")))
        for row in Diff(before, after).to_pylist()
        if row["field"] != "id"
    }
    assert found == plain(before, after)


@pytest.fixture
def user(tmp_path):
    user = meshlab.open(tmp_path)["ann"]
    log = LogBuilder()
    log.frame([insert("a", width=1)], time=NOON)
    log.frame([{"Update": {"id": "a", "width": 2}}], time=NOON + 5)
    log.write(tmp_path / "ann")
    user.checkpoint(progress=False)
    log.frame([{"Delete": "a"}], time=NOON + 9)
    log.write(tmp_path / "ann")
    return user


def test_a_user_tells_what_changed_between_two_moments(user):
    assert told(user.diff(NOON, NOON + 5)) == [("a", "changed", "width", 1.0, 2.0)]
    assert told(user.diff(NOON + 5)) == [("a", "removed", "width", 2.0, None)]
    assert told(user.diff(0, "20250701:0")) == [("a", "added", "width", None, 1.0)]
