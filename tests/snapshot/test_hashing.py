"""The state hash against a record written down in plain Python, and what it promises."""

import hashlib
import json
import math
import re
import struct
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlab.dialects import parse_event
from meshlab.errors import SnapshotError
from meshlab.records import FIELDS
from meshlab.snapshot import hashing
from meshlab.snapshot.hashing import DIGEST, StateHash, state_hash
from meshlab.tables.schema import RECORD_FIELDS, RECORD_SCHEMA
from meshlab.testing.strategies import json_values, numbers, texts

FORMAT = (Path(__file__).resolve().parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
STRANGE_NANS = [struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in (0x7FF8 << 48 | 7, 0xFFF8 << 48)]


def row_hashes(table):
    """The hashes in plain Python and by a query, which agree."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "FEW", 0)
        by_query = hashing.row_hashes(table)
        patch.setattr(hashing, "FEW", 1 << 40)
        plain = hashing.row_hashes(table)
    assert plain.equals(by_query)
    return plain


# The reference ------------------------------------------------------------------------


def written(fields):
    """Fields by name as the bytes that are hashed; a raw JSON value is bytes."""
    encoded = sorted((name.encode(), written_value(value)) for name, value in fields.items() if value is not None)
    return b"".join(b"%d:%s %d:%s" % (len(name), name, len(value), value) for name, value in encoded)


def written_value(value):
    match value:
        case bytes():
            return value
        case str():
            return value.encode()
        case int():
            return b"%d" % value
        case float():
            bits = 0x7FF8 << 48 if math.isnan(value) else struct.unpack("<q", struct.pack("<d", value))[0]
            return b"%d" % bits
        case list() | tuple():
            items = [item.encode() for item in value]
            return b"".join(b"%d:%s" % (len(item), item) for item in items)
        case dict():
            return written(value)


def digest(record):
    """The MD5 of a record: typed fields, and raw JSON by name."""
    fields, extra = record
    return hashlib.md5(written(fields | extra)).digest()


def reference(records):
    total = sum(int.from_bytes(digest(record), "little") for record in records) % (1 << 128)
    return total.to_bytes(16, "little").hex()


def table_of(records, space=""):
    rows = [fields | {"extra": extra_text(extra, space)} for fields, extra in records]
    return pa.Table.from_pylist(rows, schema=RECORD_SCHEMA)


def extra_text(extra, space=""):
    entries = [f"{space}{json.dumps(name)}{space}:{space}{raw.decode()}{space}" for name, raw in extra.items()]
    return "{" + ",".join(entries) + "}" if entries else None


def test_the_reference_writes_a_record_as_the_format_says():
    fields = {"id": "m1", "amplitude": -0.0, "comfort_metrics": {"flux": math.nan}, "content": ""}
    assert written(fields | {"theme": b'"x"'}) == (
        b"9:amplitude 20:-9223372036854775808"
        b"15:comfort_metrics 29:4:flux 19:9221120237041090560"
        b'7:content 0:2:id 2:m15:theme 3:"x"'
    )


# Both agree ---------------------------------------------------------------------------

floats = numbers() | st.sampled_from([math.inf, -math.inf, math.nan, *STRANGE_NANS])
counts = st.sampled_from([0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]) | st.integers(0, (1 << 64) - 1)
raws = st.sampled_from([b"1.0e+2", b'"\\u00e9"', b"[1, 2]", b'{"a" : 1}', b"null", b'""', '"ψ😀"'.encode()])
raws |= json_values().map(msgspec.json.encode)


def values_of(kind):
    if pa.types.is_struct(kind):
        return st.fixed_dictionaries({}, optional={field.name: values_of(field.type) | st.none() for field in kind})
    if pa.types.is_list(kind):
        return st.lists(texts(6), max_size=3)
    return {pa.string(): texts(), pa.float64(): floats, pa.uint64(): counts}[kind]


@st.composite
def records(draw):
    """Typed fields, and beside them unknown fields and values that do not fit."""
    parts = {field.name: values_of(field.type) | st.none() for field in RECORD_FIELDS}
    fields = draw(st.fixed_dictionaries({}, optional=parts)) | {"id": draw(texts(8))}
    names = st.sampled_from([*FIELDS, "a", "zz", "content ", "contentment"]) | texts(6)
    extra = draw(st.just({}) | st.dictionaries(names, raws, max_size=4))
    return {name: value for name, value in fields.items() if name not in extra}, extra


@settings(max_examples=60)
@given(st.lists(records(), max_size=6), st.sampled_from(["", " ", "\n\t"]))
def test_row_hashes_are_those_of_the_reference(records, space):
    table = table_of(records, space)
    hashes = row_hashes(table)
    assert hashes.type == DIGEST
    assert hashes.to_pylist() == [digest(record) for record in records]
    assert StateHash.EMPTY.add(hashes).hexdigest() == reference(records)


@settings(max_examples=20)
@given(st.lists(records(), min_size=2, max_size=9), st.data())
def test_how_a_table_is_cut_changes_nothing(records, data):
    table = table_of(records)
    cut = data.draw(st.integers(0, len(records)))
    pieces = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    start = data.draw(st.integers(0, len(records)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "_SLICE_ROWS", data.draw(st.integers(1, 5)))
        patch.setattr(hashing, "_BATCH_ROWS", data.draw(st.integers(1, 5)))
        patch.setattr(hashing, "_BATCH_BYTES", data.draw(st.sampled_from([1, 20, 1000])))
        assert row_hashes(pieces).to_pylist() == [digest(record) for record in records]
        assert row_hashes(table.slice(start)).to_pylist() == [digest(record) for record in records[start:]]


def test_many_records_keep_their_order():
    records = [({"id": f"m{n}", "content": "ψ" * (n % 50), "access_count": n}, {}) for n in range(20_000)]
    records[7777][1]["theme"] = b"1"
    assert row_hashes(table_of(records)).to_pylist() == [digest(record) for record in records]


def test_columns_of_wider_types_and_batches_hash_alike():
    records = [({"id": "m1", "content": "ψ", "emotional_signature": {"trauma_indicators": ["a"]}}, {"theme": b"1"})]
    table = table_of(records)
    signature = pa.struct([("valence", pa.float64()), ("arousal", pa.float64()), ("dominance", pa.float64())])
    signature = pa.struct([*signature, pa.field("trauma_indicators", pa.large_list(pa.large_string()))])
    wide = {pa.string(): pa.large_string(), RECORD_FIELDS.field("emotional_signature").type: signature}
    wider = table.cast(pa.schema([(field.name, wide.get(field.type, field.type)) for field in table.schema]))
    (batch,) = table.to_batches()
    assert row_hashes(wider) == row_hashes(batch) == row_hashes(table)


def test_other_columns_are_ignored_and_time_projections_are_other_columns():
    table = table_of([({"id": "m1", "creation_time": "soon"}, {})])
    without = table.drop_columns(["creation_ts", "last_accessed_ts"]).append_column("n", pa.array([1]))
    assert row_hashes(without) == row_hashes(table)


# The format cannot drift --------------------------------------------------------------

WHOLE = {
    "id": "0b5f-ψ",
    "concept_id": "concept:1",
    "phase_tag": 0.1,
    "amplitude": 5e-324,
    "frequency": 1.0,
    "width": 1.7976931348623157e308,
    "position": -0.0,
    "stability": 0.0,
    "creation_time": "2025-07-04T06:00:00.123456789Z",
    "last_accessed": "soon",
    "access_count": (1 << 64) - 1,
    "content": "ψ and 😀\x00, then 7:content 1:x",
    "content_type": "",
    "emotional_signature": {"valence": -0.5, "arousal": 0.0, "dominance": 1.0, "trauma_indicators": ["loss", "", "é"]},
    "vault_status": "Active",
    "mode": "Dark",
    "comfort_metrics": {"energy": 1.0, "stress": 0.0, "flux": 0.25, "perturbation": -1.0},
}
VECTORS = [
    ({"id": "m1"}, {}, "12c600fdbab2c57368a57e295b5447e6"),
    (
        {"id": "m1", "content": "", "comfort_metrics": {}, "emotional_signature": {"trauma_indicators": []}},
        {},
        "75ef90c88fbe1bcf07611e4d3cf13546",
    ),
    (
        {"id": "m1", "amplitude": math.inf, "width": math.nan, "position": -math.inf},
        {},
        "2f860ef1872724e0775e4938fba58dcd",
    ),
    (
        {"id": "m1"},
        {"amplitude": b'"loud"', "theme": b"1.0e+2", "": b"null", "é": b'"\\u00e9"'},
        "b26c3bdef2b38f40266935587e4c074a",
    ),
    (WHOLE, {}, "3db7e586cfa3eb042dce625328d63ba6"),
    (WHOLE, {"aa": b"[1, 2]", "zz": b'{"a" : 1}'}, "875665f31045445472ea12f27b1e243c"),
]


@pytest.mark.parametrize(("fields", "extra", "expected"), VECTORS)
def test_the_hash_of_a_record_stays_what_it_was(fields, extra, expected):
    assert reference([(fields, extra)]) == expected
    assert state_hash(table_of([(fields, extra)])).hexdigest() == expected


def test_the_example_of_the_format_is_worked_out_right():
    section = FORMAT.split("\n## State hash\n")[1].split("\n## ")[0]
    lines = re.search(r"^```json\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[1].splitlines()
    texts = re.search(r"^```text\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[1].splitlines()
    first, second, both = re.findall(r"`([0-9a-f]{32})`", section)
    records = [parsed(line) for line in lines]
    assert [written(fields | extra) for fields, extra in records] == [text.encode() for text in texts]
    assert [digest(record).hex() for record in records] == [first, second]
    assert state_hash(table_of(records)) == StateHash.parse(both)


def parsed(line):
    """The typed fields and the rest of a record as its JSON is read."""
    event = parse_event(b'{"Insert":%s}' % line.encode())
    return msgspec.to_builtins(event.fields), {name: bytes(raw) for name, raw in (event.extra or {}).items()}


# What it promises ---------------------------------------------------------------------


@settings(max_examples=20)
@given(st.lists(records(), max_size=5), st.lists(records(), max_size=5), st.randoms())
def test_hashes_add_up_in_any_order(some, others, random):
    both = [*some, *others]
    random.shuffle(both)
    one, other = row_hashes(table_of(some)), row_hashes(table_of(others))
    whole = state_hash(table_of(both))
    assert StateHash.EMPTY.add(one).add(other) == StateHash.EMPTY.add(pa.chunked_array([other, one], DIGEST)) == whole
    assert whole.remove(other) == state_hash(table_of(some))
    assert whole.remove(one).remove(other) == StateHash.EMPTY
    assert StateHash.EMPTY.remove(one).add(one) == StateHash.EMPTY


def test_sums_carry_from_limb_to_limb_and_wrap_around():
    ones = pa.array([b"\xff" * 16] * 3, DIGEST)
    assert StateHash.EMPTY.add(ones).hexdigest() == "fd" + "ff" * 15
    assert StateHash.EMPTY.remove(ones).hexdigest() == "03" + "00" * 15
    assert StateHash.EMPTY.add(ones.slice(1, 1)).hexdigest() == "ff" * 16
    carried = pa.array([b"\xff" * 4 + b"\x00" * 12, b"\x01" + b"\x00" * 15], DIGEST)
    assert StateHash.EMPTY.add(carried).hexdigest() == "00000000" + "01" + "00" * 11


def test_no_records_have_the_empty_hash():
    assert row_hashes(RECORD_SCHEMA.empty_table()) == pa.array([], DIGEST)
    assert state_hash(RECORD_SCHEMA.empty_table()) == StateHash.EMPTY == StateHash.parse("0" * 32)


def test_the_hash_of_one_record_prints_as_its_md5():
    assert state_hash(table_of([({"id": "m1"}, {})])).hexdigest() == hashlib.md5(b"2:id 2:m1").hexdigest()


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "G" * 32, "AB" * 16, "0" * 32 + "\n", "٣" * 32])
def test_a_text_that_is_no_hash_is_refused(text):
    with pytest.raises(SnapshotError, match="32 hex digits"):
        StateHash.parse(text)


@given(st.integers(0, (1 << 128) - 1).map(StateHash))
def test_a_hash_is_read_as_it_was_printed(value):
    assert StateHash.parse(value.hexdigest()) == value


def test_what_is_no_row_hash_is_not_added():
    with pytest.raises(TypeError, match="row hashes"):
        StateHash.EMPTY.add(pa.array([b"x"]))
    with pytest.raises(TypeError, match="row hashes"):
        StateHash.EMPTY.add(pa.array([None], DIGEST))


STRUCTS = [name for name in FIELDS if isinstance(WHOLE[name], dict)]
PLACES = [(name,) for name in FIELDS] + [(name, part) for name in STRUCTS for part in WHOLE[name]]


def other_value(value):
    """A value as near as can be."""
    match value:
        case str():
            return value + " "
        case int():
            return value - 1
        case float():
            return -value if value == 0 else math.nextafter(value, 0)
        case list():
            return ["".join(value)]
        case dict():
            return {}


def with_value(place, value):
    name, *part = place
    return WHOLE | {name: WHOLE[name] | {part[0]: value} if part else value}


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_every_field_counts_by_value_and_by_presence(place):
    value = WHOLE[place[0]] if len(place) == 1 else WHOLE[place[0]][place[1]]
    variants = [(WHOLE, {}), (with_value(place, other_value(value)), {}), (with_value(place, None), {})]
    variants.append((with_value((place[0],), None), {place[0]: b'"misfit"'}))
    hashes = row_hashes(table_of(variants)).to_pylist()
    assert len(set(hashes)) == 4


NEIGHBOURS = [
    ({"content": ""}, {}),
    ({"mode": ""}, {}),
    ({"comfort_metrics": {}}, {}),
    ({"comfort_metrics": {"flux": 0.0}}, {}),
    ({"comfort_metrics": {"stress": 0.0}}, {}),
    ({"emotional_signature": {}}, {}),
    ({"emotional_signature": {"trauma_indicators": []}}, {}),
    ({"emotional_signature": {"trauma_indicators": [""]}}, {}),
    ({"emotional_signature": {"trauma_indicators": ["", ""]}}, {}),
    ({"emotional_signature": {"trauma_indicators": ["0:"]}}, {}),
    ({"amplitude": 0.0}, {}),
    ({"amplitude": -0.0}, {}),
    ({"width": 0.0}, {}),
    ({"creation_time": "2025-07-04T06:00:00Z"}, {}),
    ({"creation_time": "2025-07-04T06:00:00.0Z"}, {}),
    ({}, {}),
    ({}, {"theme": b"null"}),
    ({}, {"theme": b"1"}),
    ({}, {"theme": b"1.0"}),
    ({}, {"theme": b'"\\u00e9"'}),
    ({}, {"theme": '"é"'.encode()}),
    ({}, {"amplitude": b'"0"'}),
]


def test_records_that_differ_in_little_differ_in_hash():
    table = table_of([({"id": "m1"} | fields, extra) for fields, extra in NEIGHBOURS])
    assert len(set(row_hashes(table).to_pylist())) == len(NEIGHBOURS)


def test_a_text_and_a_misfit_of_the_same_bytes_are_not_told_apart():
    table = table_of([({"id": "m1", "content": "5"}, {}), ({"id": "m1"}, {"content": b"5"})])
    assert len(set(row_hashes(table).to_pylist())) == 1


def test_all_nans_are_one():
    table = table_of([({"id": "m1", "amplitude": nan}, {}) for nan in (math.nan, *STRANGE_NANS)])
    assert len(set(row_hashes(table).to_pylist())) == 1
