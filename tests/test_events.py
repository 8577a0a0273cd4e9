"""Events: what may be written, what lines mean, and both ways round."""

from __future__ import annotations

import datetime
import decimal
import json
from collections import OrderedDict
from contextlib import suppress
from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.dialects import DELETE, INSERT, OTHER, UPDATE, OutsideFrame, parse_event, parse_line, parse_record
from meshlab.errors import BadEvent
from meshlab.events import (
    Delete,
    Insert,
    NotJson,
    Other,
    SolitonMemory,
    Update,
    decode_event,
    encode_event,
    encode_events,
)
from meshlab.records import EmotionalSignature
from meshlab.testing import strategies

INFINITY = float("inf")
UNCHECKED = EmotionalSignature(valence=float("nan"))


plain = (strategies.memories() | strategies.changes()).map(lambda memory: msgspec.structs.replace(memory, extra=None))
"""Memories without unknown fields."""


@given(strategies.events())
def test_what_is_encoded_decodes_to_the_same_event(event):
    assert decode_event(encode_event(event)) == event


@given(strategies.events())
def test_the_dict_form_encodes_to_the_same_bytes(event):
    data = encode_event(event)
    value = json.loads(data)
    if isinstance(value, dict):
        assert json.loads(encode_event(value)) == value
        assert encode_event(MappingProxyType(value)) == encode_event(OrderedDict(value)) == encode_event(value)


@given(strategies.memories())
def test_a_memory_survives_its_dict_form(memory):
    assert SolitonMemory.from_dict(memory.to_dict()) == memory


@given(strategies.events())
def test_an_encoded_event_is_one_line_of_utf8_without_control_characters(event):
    data = encode_event(event)
    data.decode()
    assert not any(byte < 0x20 for byte in data)


REFUSED = {
    "no id": {"Insert": {"amplitude": 1.0}},
    "empty id": {"Insert": {"id": ""}},
    "null id": {"Update": {"id": None}},
    "number as id": {"Update": {"id": 7}},
    "record is a list": {"Insert": ["id"]},
    "NaN": {"Update": {"id": "a", "amplitude": float("nan")}},
    "infinity": {"Update": {"id": "a", "width": INFINITY}},
    "NaN in an unknown field": {"Update": {"id": "a", "x": [float("nan")]}},
    "NaN in a nested field": {"Update": {"id": "a", "comfort_metrics": {"flux": -INFINITY}}},
    "NaN in a free event": {"note": {"deep": [float("nan")]}},
    "surrogate": {"Insert": {"id": "a", "content": "\ud800"}},
    "surrogate as name": {"Insert": {"id": "a", "\udfff": 1}},
    "surrogate in Delete": {"Delete": "\ud800"},
    "text for a number": {"Update": {"id": "a", "amplitude": "1"}},
    "number for text": {"Update": {"id": "a", "content": 1}},
    "fraction for a count": {"Update": {"id": "a", "access_count": 1.5}},
    "true for a count": {"Update": {"id": "a", "access_count": True}},
    "negative count": {"Update": {"id": "a", "access_count": -1}},
    "count of 65 bits": {"Update": {"id": "a", "access_count": 1 << 64}},
    "bytes": {"Insert": {"id": "a", "content": b"x"}},
    "a date": {"Insert": {"id": "a", "creation_time": datetime.datetime(2025, 7, 7)}},
    "a decimal in an unknown field": {"Insert": {"id": "a", "x": decimal.Decimal(1)}},
    "a set": {"note": {1, 2}},
    "a number as name": {"note": {1: 2}},
    "a number as name of a field": {"Insert": {"id": "a", 1: 2}},
    "NaN in a signature that was not checked": {"Update": {"id": "a", "emotional_signature": UNCHECKED}},
    "unknown name in a signature": {"Insert": {"id": "a", "emotional_signature": {"joy": 1.0}}},
    "empty Delete": {"Delete": ""},
    "Delete without id": {"Delete": {"id": ""}},
    "Delete with more": {"Delete": {"id": "a", "x": 1}},
    "Recovered": {"Recovered": {"segment": "20250707"}},
    "Recovered as Other": Other({"Recovered": None}),
    "Insert without id as Other": Other({"Insert": {}}),
    "a list": [1],
    "a text": "event",
    "nothing": None,
    "too deep": {"note": json.loads("[" * 300 + "]" * 300)},
}  # fmt: skip


@pytest.mark.parametrize("event", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize(
    "form", [lambda event: event, lambda event: OrderedDict(event) if type(event) is dict else event]
)
def test_an_event_that_is_not_valid_is_refused(event, form):
    with pytest.raises(BadEvent):
        encode_event(form(event))


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""},
        {"id": "a", "amplitude": float("nan")},
        {"id": "a", "amplitude": "x"},
        {"id": "a", "access_count": -1},
        {"id": "a", "extra": {"amplitude": 1}},
        {"id": "a", "extra": {"x": INFINITY}},
        {"id": "a", "extra": [1]},
        {"id": "\ud800"},
        {"id": "a", "emotional_signature": UNCHECKED},
        {"id": "a", "content": msgspec.Raw(b'\n"x"')},
    ],
)
def test_a_memory_that_is_not_valid_cannot_be_made(fields):
    with pytest.raises(BadEvent):
        SolitonMemory(**fields)


@pytest.mark.parametrize("number", [1 << 70, -(1 << 64), 10**30])
def test_an_unknown_whole_number_of_any_size_stays_whole(number):
    event = Update(SolitonMemory(id="a", extra={"x": number}))
    assert str(number).encode() in encode_event(event)
    assert decode_event(encode_event(event)) == event


def as_dict(event):
    """The dict form of a tagged event; others as they are."""
    value = json.loads(encode_event(event))
    return value if isinstance(value, dict) and value else event


@given(st.lists(strategies.events(), max_size=6))
def test_a_batch_is_encoded_like_its_events_one_by_one(events):
    expected = [encode_event(event) for event in events]
    assert encode_events(events) == expected
    dicts = [as_dict(event) for event in events]
    assert encode_events(dicts) == [encode_event(event) for event in dicts]
    assert encode_events(events + dicts) == encode_events(events) + encode_events(dicts)


@given(st.lists(st.builds(Insert, plain) | st.builds(Update, plain) | st.builds(Delete, strategies.ids()), max_size=6))
def test_a_batch_of_known_fields_has_the_same_bytes_as_objects_and_as_dicts(events):
    expected = [encode_event(event) for event in events]
    dicts = [as_dict(event) for event in events]
    assert encode_events(events) == encode_events(dicts) == [encode_event(event) for event in dicts] == expected


@pytest.mark.parametrize(
    "event",
    [
        {"Insert": {"id": "a", "x": None}},
        {"Insert": {"id": "a", "amplitude": None, "width": 1, "position": decimal.Decimal("0.5")}},
        {"Update": {"id": "a", "access_count": (1 << 64) - 1}},
        {"Update": SolitonMemory(id="a")},
        {"Update": OrderedDict(id="a", content="b\nc")},
        {"Delete": {"id": "a"}},
        {"Delete": "a", "x": 1},
        {"Insert": {"id": "a"}, "Update": {"id": "a"}},
        {},
        Other({"Insert": {"id": "a"}}),
        MappingProxyType({"Insert": {"id": "a"}}),
        Insert(SolitonMemory(id="a", extra={"extra": "b"})),
    ],
)
@pytest.mark.parametrize("beside", [Delete("b"), {"Delete": "b"}, {"Update": {"id": "b", "content": "\n"}}])
def test_an_unusual_event_in_a_batch_is_encoded_like_alone(event, beside):
    assert encode_events([beside, event]) == [encode_event(beside), encode_event(event)]


@pytest.mark.parametrize("event", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("beside", [Delete("b"), {"Delete": "b"}])
def test_a_batch_with_an_event_that_is_not_valid_is_refused_and_names_it(event, beside):
    with pytest.raises(BadEvent, match="event 1 of the batch"):
        encode_events([beside, event, beside])


def test_a_memory_in_a_dict_is_written_like_its_event():
    memory = SolitonMemory(id="a", extra={"theme": "dark"})
    assert encode_event({"Insert": memory}) == encode_event(Insert(memory)) == b'{"Insert":{"id":"a","theme":"dark"}}'


@pytest.mark.parametrize("value", [{"Delete": "a", "x": 1}, {"Insert": {"id": "a"}, "x": {}}, {"Recovered": 1, "x": 1}])
def test_a_tag_with_other_names_beside_it_is_written_so_that_no_fast_path_takes_it(value):
    data = encode_event(value)
    assert json.loads(data) == value
    assert not data.startswith((b'{"Insert":', b'{"Delete":', b'{"Recovered":'))
    assert parse_event(data).op == OTHER


@pytest.mark.parametrize(
    ("raw", "op", "key"),
    [
        (b'{"Insert":{"id":"a"}}', INSERT, "a"),
        (b' { "Update" : {"id":"a"} } ', UPDATE, "a"),
        (b'{"Delete":"a"}', DELETE, "a"),
        (b'{"Delete":{"id":"a"}}', DELETE, "a"),
        (b'{"Delete":{"id":"a","why":1}}', DELETE, "a"),
        (b'{"\\u0049nsert":{"id":"a"}}', INSERT, "a"),
        (b'{"Insert":{"id":"a","id":"b"}}', INSERT, "b"),
        (b'{"Insert":{"id":"a"},"Insert":{"id":"b"}}', INSERT, "b"),
        (b'{"Insert":{"id":""}}', OTHER, None),
        (b'{"Insert":{"id":7}}', OTHER, None),
        (b'{"Insert":{}}', OTHER, None),
        (b'{"Insert":[]}', OTHER, None),
        (b'{"Insert":{"id":"a"},"x":1}', OTHER, None),
        (b'{"Delete":""}', OTHER, None),
        (b'{"Delete":7}', OTHER, None),
        (b'{"Upsert":{"id":"a"}}', OTHER, None),
        (b"[1]", OTHER, None),
        (b"null", OTHER, None),
    ],
)
def test_a_tagged_event_needs_a_usable_id_else_it_is_other(raw, op, key):
    parsed = parse_event(raw)
    assert (parsed.op, parsed.id) == (op, key)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"NaN", b"[1,]", b'{"a":1,}', b"01", b"+1", b"1e400", b'"\\ud800"', b'"\xff"', b"'a'", b"{} {}",
        b'{"Insert":{"id":"a","x":NaN}}', b'{"Delete":"a"}x', b'{"Insert":{"id":"a"}', b"[" * 300 + b"]" * 300,
        b'{"Update":{"id":"a","x":-1e999}}', b'{"Delete":{"id":"a","x":Infinity}}', b'"\t"',
    ],
)  # fmt: skip
def test_what_is_not_strict_json_is_not_read(raw):
    with pytest.raises(NotJson):
        parse_event(raw)
    with pytest.raises(BadEvent):
        decode_event(raw)


def test_a_record_keeps_misfits_and_unknown_fields_raw():
    raw = b'{"id":"a","amplitude":"high","access_count":-1,"theme":{"x": 1.50},"mode":"Bright","width":null,"y":null}'
    fields, extra = parse_record(raw)
    assert (fields.id, fields.amplitude, fields.access_count, fields.mode) == ("a", None, None, "Bright")
    assert extra == {"amplitude": b'"high"', "access_count": b"-1", "theme": b'{"x": 1.50}', "y": b"null"}


@pytest.mark.parametrize(
    ("raw", "amplitude", "extra"),
    [
        (b'{"id":"a","amplitude":1,"amplitude":2}', 2.0, None),
        (b'{"id":"a","amplitude":"x","amplitude":2}', 2.0, None),
        (b'{"id":"a","amplitude":2,"amplitude":"x"}', None, {"amplitude": b'"x"'}),
        (b'{"id":"a","amplitude":7}', 7.0, None),
        (b'{"id":"a","amplitude":null}', None, None),
        (b'{"id":"a","amplitude":true}', None, {"amplitude": b"true"}),
        (b'{"id":"a","z":1,"z":2}', None, {"z": b"2"}),
    ],
)
def test_of_a_repeated_name_the_last_wins(raw, amplitude, extra):
    fields, rest = parse_record(raw)
    assert (fields.amplitude, rest) == (amplitude, extra)


@pytest.mark.parametrize("raw", [b"[]", b"7", b"{}", b'{"id":null}', b'{"id":""}', b'{"ID":"a"}'])
def test_a_record_without_a_usable_id_is_none(raw):
    assert parse_record(raw) == (None, None)


def test_a_signature_with_an_unknown_part_is_a_misfit_as_a_whole():
    fields, extra = parse_record(b'{"id":"a","emotional_signature":{"valence":1.0,"joy":2}}')
    assert (fields.emotional_signature, extra) == (None, {"emotional_signature": b'{"valence":1.0,"joy":2}'})


def test_an_event_with_a_misfit_decodes_to_other_with_the_value_as_read():
    assert decode_event(b'{"Update":{"id":"a","amplitude":"x"}}') == Other({"Update": {"id": "a", "amplitude": "x"}})


@pytest.mark.parametrize(
    ("line", "dialect", "time"),
    [
        (b'{"timestamp":"2025-07-07T08:00:00","event":42}', "gateway", "2025-07-07T08:00:00"),
        (b'{"event":{"Delete":"a"},"timestamp":"t"}\r\n', "gateway", "t"),
        (b'{"timestamp":7,"event":1}', "gateway", None),
        (b'{"Insert":{"id":"a"}}', "bare", None),
        (b'{"Insert":{}}', "other", None),
        (b'{"timestamp":"t","event":1,"more":2}', "other", None),
        (b'{"timestamp":"t"}', "other", None),
        (b'{"seq":1}', "other", None),
        (b"7", "other", None),
    ],
)
def test_a_line_outside_a_frame_has_a_dialect(line, dialect, time):
    parsed = parse_line(line)
    assert (parsed.dialect, parsed.time) == (dialect, time)


@pytest.mark.parametrize(
    "line",
    [
        b'{"timestamp":"t","event":1,"seq":1}',
        b'{"seq":1,"event":{"Delete":"a"}}',
        b'{"timestamp":"t","event":1,"sep":1,"n":1,"prev":"0","sum":"0"}',
        b'{"timestamp":"2025-07-01T00:00:02.000000Z","event":{"Delete":"x"},"req":2}',
    ],
)
def test_a_line_with_the_fields_of_a_frame_is_not_read_alone(line):
    with pytest.raises(OutsideFrame):
        parse_line(line)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_and_nothing_else(data):
    for read in (parse_event, parse_line):
        with suppress(NotJson, OutsideFrame):
            read(data)
