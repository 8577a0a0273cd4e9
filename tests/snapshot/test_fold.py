"""The vectorised fold against a fold over dicts, and each rule of it by name."""

import json
from itertools import pairwise

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlab.dialects import DELETE, INSERT, OPS, OTHER, parse_event
from meshlab.records import FIELDS
from meshlab.snapshot import fold as fold_module
from meshlab.snapshot.fold import FOLD_COLUMNS, Fold
from meshlab.snapshot.state import State
from meshlab.tables.schema import EVENT_SCHEMA, RECORD_SCHEMA, REJECT_SCHEMA, SEGMENT_SCHEMA

BATCH_SCHEMA = pa.schema([EVENT_SCHEMA.field(name) for name in FOLD_COLUMNS])
WHOLE = {
    "concept_id": "concept:1",
    "phase_tag": 0.1,
    "amplitude": 0.5,
    "frequency": 1.0,
    "width": 0.25,
    "position": -0.0,
    "stability": 0.8,
    "creation_time": "2025-07-04T06:00:00Z",
    "last_accessed": "soon",
    "access_count": (1 << 64) - 1,
    "content": "ψ and 😀",
    "content_type": "Conversation",
    "emotional_signature": {"valence": 0.1, "arousal": 0.2, "dominance": 0.3, "trauma_indicators": ["loss"]},
    "vault_status": "Active",
    "mode": "Dark",
    "comfort_metrics": {"energy": 1.0, "stress": 0.0, "flux": 0.0, "perturbation": 0.0},
}


def batch_of(events, first=0):
    """Event dicts as the loader would give them; ``first`` numbers the lines."""
    rows = []
    for number, event in enumerate(events, first):
        parsed = parse_event(msgspec.json.encode(event))
        row = {"segment": "20250707", "offset": 100 * number, "line": number + 1, "op": OPS[parsed.op]}
        row |= {"effective_ts": number, "id": parsed.id}
        if parsed.fields is not None:
            row |= msgspec.structs.asdict(msgspec.convert(msgspec.to_builtins(parsed.fields), type(parsed.fields)))
            row["emotional_signature"] = msgspec.to_builtins(parsed.fields.emotional_signature)
            row["comfort_metrics"] = msgspec.to_builtins(parsed.fields.comfort_metrics)
        if parsed.extra:
            row["extra"] = "{" + ",".join(f"{json.dumps(k)}:{v.decode()}" for k, v in parsed.extra.items()) + "}"
        rows.append(row)
    return pa.RecordBatch.from_pylist(rows, schema=BATCH_SCHEMA)


def fold(events, base=None, cuts=(), step_bytes=1 << 40, first=0):
    folding = Fold(base, step_bytes=step_bytes)
    edges = [0, *cuts, len(events)]
    for start, stop in pairwise(edges):
        folding.add(batch_of(events[start:stop], first + start))
    return folding.finish()


def json_forms(folded):
    empty = {"rejects": REJECT_SCHEMA.empty_table(), "segments": SEGMENT_SCHEMA.empty_table()}
    return State("u1", folded.state, orphans=folded.orphans, counts=folded.counts, **empty).to_pylist()


def exact(records):
    """Bytes that tell -0.0 from 0.0 and 1 from 1.0."""
    return [msgspec.json.encode(record) for record in records]


class Reference:
    """The rules of the fold, one event after the other, over dicts of raw JSON."""

    def __init__(self):
        self.records = {}
        self.orphans = []

    def apply(self, number, event):
        parsed = parse_event(msgspec.json.encode(event))
        if parsed.op == OTHER:
            return
        if parsed.op == DELETE:
            self.records.pop(parsed.id, None)
            return
        typed = msgspec.to_builtins(parsed.fields)
        extra = {name: msgspec.json.decode(raw) for name, raw in (parsed.extra or {}).items()}
        whole = all(name in typed or name in extra for name in FIELDS)
        if parsed.op == INSERT or whole:
            self.records[parsed.id] = typed | extra
        elif parsed.id in self.records:
            self.records[parsed.id] |= typed | extra
        else:
            names = [name for name in FIELDS[1:] if name in typed or name in extra]
            self.orphans.append((number, parsed.id, names, sorted(set(extra) - set(FIELDS))))

    def json_forms(self):
        return [ordered(self.records[id]) for id in sorted(self.records)]


def ordered(record):
    names = [name for name in FIELDS if name in record] + sorted(set(record) - set(FIELDS))
    return {name: record[name] for name in names}


floats = st.sampled_from([0.0, -0.0, 1.5, 1e300])
changed = st.fixed_dictionaries(
    {},
    optional={
        "amplitude": floats | st.sampled_from([None, "loud", 3, [1]]),
        "access_count": st.sampled_from([0, 7, (1 << 64) - 1, -1, 1 << 64, 1.5, None]),
        "content": st.sampled_from(["", "ψ", 5, None]),
        "mode": st.sampled_from(["Bright", {"odd": True}]),
        "emotional_signature": st.sampled_from([{}, {"valence": 1.0}, {"valence": None}, {"other": 1}, None]),
        "theme": st.sampled_from(["dark", None, {"a": [1, 2]}]),
        'na"me': st.sampled_from([1, 2.0]),
    },
)
ids = st.sampled_from(["m1", "m2", "m3", "ψ"])
uuids = st.sampled_from(["aaaaaaaa-0001", "aaaaaaaa-0002", "bbbbbbbb-0001"])


@st.composite
def raw_events(draw, ids=ids):
    id = draw(ids)
    kind = draw(st.sampled_from(["insert", "update", "update", "whole", "delete", "other"]))
    if kind == "other":
        return draw(st.sampled_from([42, {"Insert": {"id": ""}}, {"type": "page_view"}]))
    if kind == "delete":
        return {"Delete": id}
    record = draw(changed)
    if kind == "whole":
        record = WHOLE | record
    return {"Insert" if kind == "insert" else "Update": {"id": id} | record}


@settings(max_examples=60)
@given(st.data(), st.sampled_from([ids, uuids]))
def test_both_folds_agree_however_the_log_is_cut(data, ids):
    events = data.draw(st.lists(raw_events(ids), max_size=25))
    cut = data.draw(st.lists(st.integers(0, len(events)), max_size=3).map(sorted))
    step_bytes = data.draw(st.sampled_from([1, 1 << 40]))
    reference = Reference()
    for number, event in enumerate(events):
        reference.apply(number, event)
    folded = fold(events, cuts=cut, step_bytes=step_bytes)
    assert exact(json_forms(folded)) == exact(reference.json_forms())
    orphans = folded.orphans.to_pylist()
    found = [(o["line"] - 1, o["id"], [n for n in o["fields"] if n in FIELDS]) for o in orphans]
    assert found == [orphan[:3] for orphan in reference.orphans]
    unknown = [sorted(n for n in o["fields"] if n not in FIELDS) for o in orphans]
    assert unknown == [orphan[3] for orphan in reference.orphans]
    one_go = fold(events)
    assert folded.state.equals(one_go.state)
    assert folded.counts == one_go.counts


@given(st.lists(raw_events(), max_size=20), st.lists(raw_events(), max_size=20))
def test_a_base_stands_for_the_events_it_came_from(earlier, later):
    base = fold(earlier)
    on_base = fold(later, base.state, first=len(earlier))
    assert on_base.state.equals(fold(earlier + later).state)
    assert on_base.orphans.num_rows + base.orphans.num_rows == fold(earlier + later).orphans.num_rows


@given(st.lists(raw_events(), max_size=20))
def test_wide_offsets_change_nothing(events):
    narrow = fold(events).state
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold_module, "_CHUNK_BYTES", 0)
        wide = fold(events, cuts=(len(events) // 2,), step_bytes=1).state
    assert wide.schema == narrow.schema
    assert wide.to_pylist() == narrow.to_pylist()


def test_an_update_with_all_seventeen_fields_needs_no_record_before_it():
    folded = fold([{"Update": {"id": "m1"} | WHOLE}])
    assert exact(json_forms(folded)) == exact([{"id": "m1"} | WHOLE])
    assert folded.orphans.num_rows == 0


def test_a_whole_update_drops_unknown_fields_that_it_does_not_give():
    folded = fold([{"Insert": {"id": "m1", "theme": "dark"}}, {"Update": {"id": "m1"} | WHOLE}])
    assert "theme" not in json_forms(folded)[0]


def test_a_partial_update_replaces_a_nested_field_as_a_whole():
    folded = fold([{"Insert": {"id": "m1"} | WHOLE}, {"Update": {"id": "m1", "comfort_metrics": {"flux": 2.0}}}])
    assert json_forms(folded)[0]["comfort_metrics"] == {"flux": 2.0}


def test_null_means_not_given_for_a_known_field_and_is_kept_for_an_unknown_one():
    folded = fold(
        [{"Insert": {"id": "m1", "content": "a", "theme": 1}}, {"Update": {"id": "m1", "content": None, "theme": None}}]
    )
    assert json_forms(folded) == [{"id": "m1", "content": "a", "theme": None}]


def test_an_update_after_a_delete_is_an_orphan_and_an_insert_brings_the_id_back():
    events = [
        {"Insert": {"id": "m1", "content": "a"}},
        {"Delete": "m1"},
        {"Update": {"id": "m1", "content": "b", "theme": "dark"}},
        {"Insert": {"id": "m1", "mode": "Dark"}},
        {"Update": {"id": "m1", "amplitude": 1.0}},
    ]
    folded = fold(events)
    assert json_forms(folded) == [{"id": "m1", "amplitude": 1.0, "mode": "Dark"}]
    (orphan,) = folded.orphans.to_pylist()
    assert (orphan["segment"], orphan["offset"], orphan["line"], orphan["id"]) == ("20250707", 200, 3, "m1")
    assert orphan["fields"] == ["content", "theme"]


def test_a_delete_of_an_unknown_id_does_nothing():
    folded = fold([{"Delete": "m1"}])
    assert (folded.state.num_rows, folded.orphans.num_rows, folded.counts.deletes) == (0, 0, 1)


def test_a_value_that_does_not_fit_keeps_its_raw_json_until_a_later_value_fits():
    events = [
        {"Insert": {"id": "m1", "amplitude": 0.5}},
        {"Update": {"id": "m1", "amplitude": "loud"}},
        {"Update": {"id": "m1", "amplitude": 0.75}},
    ]
    misfit = fold(events[:2])
    assert misfit.state["amplitude"].to_pylist() == [None]
    assert misfit.state["extra"].to_pylist() == ['{"amplitude":"loud"}']
    fits = fold(events)
    assert fits.state["amplitude"].to_pylist() == [0.75]
    assert fits.state["extra"].to_pylist() == [None]


def test_raw_values_of_unknown_fields_are_never_rewritten():
    text = '{"b":1.0e+2, "a":"\\u00e9"}'
    batch = batch_of([{"Insert": {"id": "m1"}}])
    batch = batch.set_column(batch.schema.get_field_index("extra"), BATCH_SCHEMA.field("extra"), pa.array([text]))
    folding = Fold()
    folding.add(batch)
    assert folding.finish().state["extra"].to_pylist() == ['{"a":"\\u00e9","b":1.0e+2}']


def test_times_are_projected_from_the_text_that_stands():
    events = [
        {"Insert": {"id": "m1", "creation_time": "1970-01-01T00:00:01Z", "last_accessed": "soon"}},
        {"Update": {"id": "m1", "last_accessed": "1970-01-01T01:00:00.000002+01:00"}},
        {"Insert": {"id": "m2", "creation_time": "soon"}},
    ]
    state = fold(events).state
    assert state["creation_ts"].cast(pa.int64()).to_pylist() == [1_000_000, None]
    assert state["last_accessed_ts"].cast(pa.int64()).to_pylist() == [2, None]


def test_the_state_is_sorted_by_id_and_counts_say_what_was_folded():
    folded = fold([{"Insert": {"id": id}} for id in ("b", "ψ", "a", "😀")] + [{"Update": {"id": "c"}}, "free text"])
    assert folded.state["id"].to_pylist() == ["a", "b", "ψ", "😀"]
    assert folded.counts == (6, 4, 1, 0, 1, 1)


def test_a_base_without_events_is_the_state():
    base = fold([{"Insert": {"id": id} | WHOLE} for id in ("m2", "m1")]).state
    assert Fold(base).finish().state.equals(base)
    assert Fold().finish().state.schema == RECORD_SCHEMA
    assert Fold().finish().state.num_rows == 0


def test_a_fold_can_go_on_after_it_was_finished():
    folding = Fold()
    folding.add(batch_of([{"Insert": {"id": "m1"}}]))
    assert folding.finish().state.num_rows == 1
    folding.add(batch_of([{"Insert": {"id": "m2"}}]))
    assert folding.finish().state.num_rows == 2
