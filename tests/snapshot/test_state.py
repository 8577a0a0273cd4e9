"""A state in every form it is asked for."""

import json
import math
import struct

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from meshlab.snapshot.fold import ORPHAN_SCHEMA, Counts
from meshlab.snapshot.state import State
from meshlab.tables.schema import RECORD_SCHEMA, REJECT_SCHEMA, SEGMENT_SCHEMA

NO_COUNTS = Counts(0, 0, 0, 0, 0, 0)
ROWS = [
    {
        "id": "m1",
        "phase_tag": -0.0,
        "amplitude": 5e-324,
        "access_count": (1 << 64) - 1,
        "creation_time": "2025-07-04T06:00:00.123456789Z",
        "emotional_signature": {"valence": 0.1, "trauma_indicators": []},
        "comfort_metrics": {"energy": None},
        "extra": '{"mode":5,"theme":{"a":[1,2.0,null]}}',
    },
    {"id": "m2", "phase_tag": 0.1, "content": "ψ", "access_count": (1 << 63) + 1},
    {"id": "ψ"},
]


def state_of(rows, *, uid="u1", rejects=(), orphans=0):
    return State(
        uid,
        pa.Table.from_pylist(rows, schema=RECORD_SCHEMA),
        orphans=pa.Table.from_pylist([{"id": "x"}] * orphans, schema=ORPHAN_SCHEMA),
        rejects=pa.Table.from_pylist([{"class": kind} for kind in rejects], schema=REJECT_SCHEMA),
        segments=SEGMENT_SCHEMA.empty_table(),
        counts=NO_COUNTS,
    )


def bits(number):
    return struct.pack("<d", number)


def test_the_json_form_has_given_fields_in_order_with_unknown_and_misfit_values():
    first, second, third = state_of(ROWS).to_pylist()
    assert list(first) == [
        "id",
        "phase_tag",
        "amplitude",
        "creation_time",
        "access_count",
        "emotional_signature",
        "mode",
        "comfort_metrics",
        "theme",
    ]
    assert first["emotional_signature"] == {"valence": 0.1, "trauma_indicators": []}
    assert first["comfort_metrics"] == {}
    assert (first["mode"], first["theme"]) == (5, {"a": [1, 2.0, None]})
    assert first["creation_time"] == "2025-07-04T06:00:00.123456789Z"
    assert second == {"id": "m2", "phase_tag": 0.1, "access_count": (1 << 63) + 1, "content": "ψ"}
    assert third == {"id": "ψ"}


def test_the_json_form_names_what_json_has_no_number_for():
    feelings = {"valence": math.inf, "arousal": 0.5}
    rows = [
        {"id": "m1", "amplitude": math.nan, "width": -math.inf, "emotional_signature": feelings},
        {"id": "m2", "width": 1.0},
    ]
    state = state_of(rows)
    first, second = state.to_pylist()
    named = {"valence": "Infinity", "arousal": 0.5}
    assert first == {"id": "m1", "amplitude": "NaN", "width": "-Infinity", "emotional_signature": named}
    assert second == {"id": "m2", "width": 1.0}
    assert state.get("m1") == first
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert math.isnan(state.to_arrow()["amplitude"][0].as_py()), "only the JSON form has names"


def test_pandas_keeps_floats_bit_for_bit_and_counts_exactly():
    frame = state_of(ROWS).to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert [bits(x) for x in frame["phase_tag"][:2]] == [bits(-0.0), bits(0.1)]
    assert bits(frame["amplitude"][0]) == bits(5e-324)
    assert math.isnan(frame["amplitude"][1])
    assert frame["access_count"].dtype == pd.UInt64Dtype()
    assert frame["access_count"][:2].tolist() == [(1 << 64) - 1, (1 << 63) + 1]
    assert frame["access_count"][2] is pd.NA


def test_polars_and_arrow_take_the_state_as_it_is():
    state = state_of(ROWS)
    assert state.to_polars()["access_count"].to_list() == [(1 << 64) - 1, (1 << 63) + 1, None]
    assert pl.DataFrame(state)["id"].to_list() == ["m1", "m2", "ψ"]
    assert pa.table(state).equals(state.to_arrow())


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_memories_are_found_by_id(count):
    state = state_of(ROWS[:count])
    for row, record in enumerate(ROWS):
        assert (record["id"] in state) is (row < count)
        assert (state.get(record["id"]) is not None) is (row < count)
    assert "m0" not in state
    assert "zz" not in state
    assert 5 not in state
    assert len(state) == count
    assert [state.get(row["id"]) for row in ROWS[:count]] == state.to_pylist()


def test_the_repr_is_one_line_and_says_when_the_log_is_damaged():
    assert repr(state_of(ROWS)) == "<State of u1: 3 live memories>"
    assert repr(state_of(ROWS[:1], orphans=1)) == "<State of u1: 1 live memory, 1 orphan>"
    assert repr(state_of(ROWS, rejects=["torn"], orphans=2)) == "<State of u1: 3 live memories, 2 orphans>"
    damaged = state_of(ROWS, rejects=["torn", "bad-sum"])
    assert damaged.damage == 1
    assert repr(damaged) == "<State of u1: 3 live memories, 1 damaged or missing pieces in the log (see .rejects)>"


def test_html_is_small_and_escaped():
    text = state_of(ROWS, uid="<b>&")._repr_html_()
    assert "&lt;b&gt;&amp;" in text
    assert len(text) < 5000
