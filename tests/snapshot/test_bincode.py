"""Phase-1 snapshots: real files, round trips, and every way a file can lie."""

import io
import json
import math
import os
import struct
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.errors import NotFound, SnapshotError, StorageError
from meshlab.records import CONTENT_TYPES, FIELDS, MODES, VAULT_STATUSES
from meshlab.snapshot import layout, window
from meshlab.snapshot.bincode import is_bincode, read_bincode, write_bincode
from meshlab.snapshot.entries import fits_map, map_entries, misfit, write_map
from meshlab.tables.schema import RECORD_SCHEMA
from meshlab.times import parse_time

DATA = Path(__file__).resolve().parents[2] / "data" / "samples" / "phase1"
EXPECTED = Path(__file__).resolve().parents[1] / "data" / "phase1-expected.json"
SNAPSHOTS = sorted(DATA.glob("*/snapshot.bin")) + [DATA / "mesh_snapshot.bin"]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
times = st.sampled_from(
    ["2025-07-04T06:00:00Z", "2025-07-04T06:06:06.970544Z", "2025-07-04T06:06:06.970544123Z", "soon"]
)
doubles = st.integers(0, (1 << 64) - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])


def records(ids=texts):
    plain = dict.fromkeys(("phase_tag", "amplitude", "frequency", "width", "position", "stability"), doubles)
    feelings = dict.fromkeys(("valence", "arousal", "dominance"), doubles)
    comforts = dict.fromkeys(("energy", "stress", "flux", "perturbation"), doubles)
    fields = {
        "id": ids,
        "concept_id": texts,
        **plain,
        "creation_time": times,
        "last_accessed": times,
        "access_count": st.integers(0, (1 << 64) - 1),
        "content": texts,
        "content_type": st.sampled_from(CONTENT_TYPES),
        "emotional_signature": st.fixed_dictionaries(feelings | {"trauma_indicators": st.lists(texts, max_size=3)}),
        "vault_status": st.sampled_from(VAULT_STATUSES),
        "mode": st.sampled_from(MODES),
        "comfort_metrics": st.fixed_dictionaries(comforts),
    }
    return st.fixed_dictionaries(fields)


def record(id="m1", **changes):
    value = dict.fromkeys(("concept_id", "content"), "x") | dict.fromkeys(("creation_time", "last_accessed"), "soon")
    value |= dict.fromkeys(("phase_tag", "amplitude", "frequency", "width", "position", "stability"), 0.5)
    value |= {"id": id, "access_count": 1, "content_type": "Conversation", "vault_status": "Active", "mode": "Dark"}
    value["emotional_signature"] = dict.fromkeys(("valence", "arousal", "dominance"), 0.0) | {
        "trauma_indicators": ["loss"]
    }
    value["comfort_metrics"] = dict.fromkeys(("energy", "stress", "flux", "perturbation"), 1.0)
    return value | changes


def table_of(path, **options):
    return pa.Table.from_batches(list(read_bincode(path, progress=False, **options)), RECORD_SCHEMA)


def rows_of(path, **options):
    return table_of(path, **options).select(list(FIELDS)).to_pylist()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "snapshot.bin"


def refusal(path, data):
    path.write_bytes(data)
    with pytest.raises(SnapshotError) as caught:
        rows_of(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda p: str(p.relative_to(DATA)))
def test_real_snapshots_come_back_byte_for_byte(path):
    assert is_bincode(path)
    assert write_bincode(rows_of(path)) == path.read_bytes()


def test_the_single_file_snapshot_holds_the_expected_records():
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    rows = {row["id"]: row for row in rows_of(DATA / "mesh_snapshot.bin")}
    assert len(rows) == 122
    assert rows == expected["15009280-3996-4b8e-ae6d-36c44a9ce5d9"]


@given(st.lists(records(), max_size=6, unique_by=lambda r: r["id"]), st.integers(1, 4))
def test_any_records_round_trip_bit_for_bit(tmp_path_factory, rows, batch_rows):
    path = tmp_path_factory.mktemp("bincode") / "snapshot.bin"
    path.write_bytes(write_bincode(rows))
    table = table_of(path, batch_rows=batch_rows)
    assert all(chunk.num_rows <= batch_rows for chunk in table.to_batches())
    assert write_bincode(table.select(list(FIELDS)).to_pylist()) == path.read_bytes()
    expected = [parse_time(row["creation_time"]) for row in rows]
    assert table["creation_ts"].cast(pa.int64()).to_pylist() == expected
    assert table["extra"].null_count == len(rows)


@pytest.mark.parametrize("size", [8, 64, 300])
def test_records_longer_than_the_window_are_read(path, monkeypatch, size):
    monkeypatch.setattr(window, "WINDOW", size)
    rows = [record(f"m{i}", content="ψ" * (i * 37)) for i in range(20)]
    path.write_bytes(write_bincode(rows))
    assert rows_of(path) == rows


def test_memory_is_bounded_whatever_the_size_of_the_file(path, monkeypatch):
    monkeypatch.setattr(window, "WINDOW", 1 << 16)
    path.write_bytes(write_bincode(record(f"m{i}", content="x" * 1000) for i in range(4000)))
    tracemalloc.start()
    try:
        held = pa.total_allocated_bytes()
        for batch in read_bincode(path, progress=False):
            assert pa.total_allocated_bytes() - held < 20 * window.WINDOW
            assert batch.nbytes < 2 * window.WINDOW
        assert tracemalloc.get_traced_memory()[1] < 20 * window.WINDOW < path.stat().st_size / 3
    finally:
        tracemalloc.stop()


def test_nan_and_infinities_are_numbers(path):
    path.write_bytes(write_bincode([record(phase_tag=math.nan, amplitude=math.inf, width=-math.inf)]))
    (row,) = rows_of(path)
    assert math.isnan(row["phase_tag"])
    assert (row["amplitude"], row["width"]) == (math.inf, -math.inf)


def test_an_empty_map_has_no_records(path):
    path.write_bytes(write_bincode([]))
    assert rows_of(path) == []


def test_a_file_cut_at_any_byte_is_refused(path):
    data = write_bincode([record("m1"), record("m2", content="écho")])
    for size in range(len(data)):
        refusal(path, data[:size])


def test_a_cut_file_is_refused_in_any_window(path, monkeypatch):
    monkeypatch.setattr(window, "WINDOW", 50)
    data = write_bincode([record("m1"), record("m2")])
    for size in range(0, len(data), 7):
        refusal(path, data[:size])


def test_the_refusal_names_path_byte_record_expected_and_found(path):
    data = write_bincode([record("m1"), record("m2")])
    message = refusal(path, data[:-1])
    assert f"byte {len(data) - 8}, record 2: expected 8 bytes of comfort_metrics.perturbation, found 7" in message


def test_bytes_after_the_last_record_are_refused(path):
    data = write_bincode([record()])
    assert f"byte {len(data)}" in refusal(path, data + b"\0")
    assert "found 1 more byte" in refusal(path, data + b"\0")


def lengths_in(data):
    """Offsets of every length in a file of one record."""
    offsets = [0, 8]
    at = 8
    for name, size in layout.LAYOUT:
        if size > 0:
            at += size
            continue
        offsets.append(at)
        (length,) = struct.unpack_from("<Q", data, at)
        at += 8
        if name.endswith("trauma_indicators"):
            offsets.append(at)
            (length,) = struct.unpack_from("<Q", data, at)
            at += 8
        at += length
    assert at == len(data)
    return sorted(set(offsets))


@pytest.mark.parametrize("lie", [1 << 31, 1 << 32, (1 << 61) + 1, 1 << 63, (1 << 64) - 1], ids=hex)
def test_a_lying_length_is_refused_and_takes_no_memory(path, lie):
    data = write_bincode([record()])
    for offset in lengths_in(data):
        broken = bytearray(data)
        struct.pack_into("<Q", broken, offset, lie)
        tracemalloc.start()
        try:
            refusal(path, bytes(broken))
            assert tracemalloc.get_traced_memory()[1] < 2 * window.WINDOW
        finally:
            tracemalloc.stop()


def test_a_length_off_by_one_never_goes_unnoticed(path):
    data = write_bincode([record("m1"), record("m2")])
    for offset in lengths_in(write_bincode([record("m1")])):
        for change in (-1, 1):
            broken = bytearray(data)
            struct.pack_into("<Q", broken, offset, struct.unpack_from("<Q", data, offset)[0] + change)
            refusal(path, bytes(broken))


def test_a_key_that_differs_from_its_record_is_refused(path):
    data = write_bincode([record("m1"), record("m2")])
    at = data.rindex(b"m2")
    message = refusal(path, data[:at] + b"m3" + data[at + 2 :])
    assert "record 2: expected the key to be the id 'm3', found 'm2'" in message


def test_a_key_that_comes_twice_is_refused_and_both_records_named(path):
    data = write_bincode([record("m1"), record("m2"), record("m1")])
    message = refusal(path, data)
    assert "record 3: expected a key of its own, found b'm1' again, the key of record 1" in message


def test_equal_hashes_are_not_equal_keys(path, monkeypatch):
    monkeypatch.setattr(window, "hash", lambda text: 7, raising=False)
    path.write_bytes(write_bincode([record("m1"), record("m2")]))
    assert len(rows_of(path)) == 2
    assert "the key of record 1" in refusal(path, write_bincode([record("m1"), record("m2"), record("m1")]))


@pytest.mark.parametrize("field", ["concept_id", "content", "creation_time", "loss"])
def test_text_that_is_not_utf8_is_refused_at_its_byte(path, field):
    marked = record("m2", emotional_signature=record()["emotional_signature"] | {"trauma_indicators": ["", "QQQQ"]})
    if field != "loss":
        marked = record("m2", **{field: "QQQQ"})
    data = write_bincode([record("m1"), marked])
    at = data.index(b"QQQQ")
    message = refusal(path, data[: at + 1] + b"\xff" + data[at + 2 :])
    assert f"byte {at + 1}, record 2: expected UTF-8" in message


@pytest.mark.parametrize("field", ["content_type", "vault_status", "mode"])
def test_an_unknown_variant_is_refused(path, field):
    data = bytearray(write_bincode([record("m1"), record("m2")]))
    tail = len(data) - 40
    at = {"vault_status": tail, "mode": tail + 4, "content_type": tail - 8 - 4 - 8 - 24 - 4}[field]
    struct.pack_into("<I", data, at, 9)
    assert f"byte {at}, record 2: expected a {field} variant below" in refusal(path, bytes(data))


def test_a_manifest_is_not_bincode_and_a_missing_file_is_said_so(path):
    path.write_bytes(b"MESHSNAP rest")
    assert not is_bincode(path)
    with pytest.raises(NotFound, match="missing"):
        is_bincode(path.with_name("missing"))
    with pytest.raises(NotFound, match="missing"):
        list(read_bincode(path.with_name("missing")))


@pytest.mark.parametrize(
    "wrong",
    [
        {"theme": "dark"},
        {"mode": "Dim"},
        {"access_count": -1},
        {"access_count": 1 << 64},
        {"amplitude": None},
        {"content": 5},
        {"content": "\ud800"},
        {"comfort_metrics": {"energy": 1.0}},
    ],
    ids=str,
)
def test_what_the_format_cannot_hold_is_refused_with_its_record(wrong):
    with pytest.raises(SnapshotError, match="record 'm1'"):
        write_bincode([record(**wrong)])


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"theme": "dark"}, "the format has no field 'theme'"),
        ({"mode": "Dim"}, "the format has no mode 'Dim'"),
        ({"amplitude": None}, "no amplitude is given"),
        ({"comfort_metrics": {"energy": 1.0}}, r"no comfort_metrics\.stress is given"),
    ],
    ids=str,
)
def test_the_refusal_names_the_field(wrong, reason):
    with pytest.raises(SnapshotError, match=f"record 'm1' does not fit the bincode format: {reason}"):
        write_bincode([record("m0"), record(**wrong)])


def batch_of(*rows):
    return pa.RecordBatch.from_pylist(list(rows), schema=RECORD_SCHEMA)


NO_ROOM = [
    ({"extra": '{"theme":"dark","b":1}'}, "the format has no field 'b'"),
    ({"amplitude": None, "extra": '{"amplitude":"big"}'}, "the amplitude given does not fit its type"),
    ({"mode": None}, "no mode is given"),
    ({"vault_status": "Open"}, "the format has no vault_status 'Open'"),
    ({"comfort_metrics": None}, "no comfort_metrics is given"),
    ({"emotional_signature": {"valence": 1.0}}, "no emotional_signature.arousal is given"),
    (
        {"emotional_signature": {"valence": 1.0, "arousal": 0.0, "dominance": 0.0, "trauma_indicators": ["a", None]}},
        "no emotional_signature.trauma_indicators is given",
    ),
]


def test_what_fits_and_what_does_not_is_told_beforehand():
    rows = [record("m0"), *(record(**wrong) for wrong, _ in NO_ROOM), record("m9")]
    batch = batch_of(record("before"), *rows).slice(1)
    assert fits_map(batch).to_pylist() == [True, *[False] * len(NO_ROOM), True]
    assert [misfit(batch, row) for row in range(len(rows))] == ["", *(reason for _, reason in NO_ROOM), ""]
    with pytest.raises(SnapshotError, match=r"record 'm1'.*no field 'b'"):
        map_entries(batch)


@given(st.lists(records(), max_size=6, unique_by=lambda r: r["id"]), st.integers(0, 3), st.integers(0, 3))
def test_any_slice_of_a_batch_is_written_as_its_records(rows, low, high):
    part = batch_of(*rows).slice(low, high)
    sink = io.BytesIO()
    assert write_map(sink, [part], part.num_rows) == len(sink.getvalue())
    assert sink.getvalue() == write_bincode(rows[low : low + high])


def test_a_map_of_another_number_of_records_is_refused():
    with pytest.raises(SnapshotError, match="expected 3 records, found 2"):
        write_map(io.BytesIO(), [batch_of(record("m1")), batch_of(record("m2"))], 3)


@pytest.mark.parametrize("read", [is_bincode, lambda path: list(read_bincode(path, progress=False))])
def test_neither_a_link_nor_a_pipe_is_read(read, path, tmp_path):
    path.write_bytes(write_bincode([record()]))
    (tmp_path / "link.bin").symlink_to(path)
    os.mkfifo(tmp_path / "pipe.bin")
    for name in ("link.bin", "pipe.bin"):
        with pytest.raises(StorageError, match=name):
            read(tmp_path / name)
