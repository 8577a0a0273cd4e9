"""Every byte is put down to something, and the sums are the sizes of the files."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import meshlab
from meshlab.errors import DamageFound, MeshlabError
from meshlab.growth.attribution import (
    ATTRIBUTION_SCHEMA,
    DELETED,
    ENVELOPE,
    IN_TIME,
    KEYS,
    NO_HOUR,
    NO_ID,
    Attribution,
    attribute,
)
from meshlab.snapshot.checkpoint import checkpoint
from meshlab.snapshot.vacuum import vacuum
from meshlab.tables.totals import BLANKS, FIELD_TOTALS_SCHEMA, ID_TOTALS_SCHEMA, REJECTS
from meshlab.times import DAY, midnight
from meshlab.wal.paths import segment_days

from .odd import HOSTILE, ODD, at, rows

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
STORES = [SAMPLES / name for name in ("store", "gateway", "phase1")]
DAMAGED = sorted(path for path in (SAMPLES / "damaged").iterdir() if path.is_dir())
LATER = midnight("20250901")


@pytest.fixture(params=[*STORES, *DAMAGED], ids=lambda path: path.name)
def store(request, tmp_path):
    shutil.copytree(request.param, tmp_path / "store", ignore=shutil.ignore_patterns("sealed", "*.lock"))
    return meshlab.open(tmp_path / "store")


def size_of(store):
    """Bytes of all segments, deleted ones not counted."""
    return sum(path.stat().st_size for path in store.path.glob("*/wal-*.log"))


def sums(store):
    growth = store.growth(progress=False)
    return {key: growth.by(key).bytes for key in KEYS}


def everywhere(size):
    return dict.fromkeys(KEYS, size)


def freed(store):
    """Checkpoint with all damage accepted, and vacuum when it is long ago; the bytes that went."""
    for uid in store.users():
        root = store[uid].root
        steps = {"upgrade": True, "retain": 0, "progress": False}
        try:
            checkpoint(root, uid, clock=lambda: LATER, **steps)
        except DamageFound as damage:
            checkpoint(root, uid, accept=damage.places, clock=lambda: LATER, **steps)
        vacuum(root, uid, apply=True, clock=lambda: LATER + 9 * DAY)


def test_every_key_adds_up_to_the_files_also_sealed_and_after_a_vacuum(store):
    whole, segments = size_of(store), [segment_days(store[uid].root) for uid in store.users()]
    assert sums(store) == everywhere(whole)
    for uid in store.users():
        store[uid].seal()
    assert sums(store) == everywhere(whole)
    freed(store)
    left = size_of(store)
    assert sums(store) == everywhere(left)
    growth = store.growth(progress=False)
    assert {key: pc.sum(growth.by(key).table["deleted_bytes"]).as_py() for key in KEYS} == everywhere(whole - left)
    assert (left < whole) == any(len(days) > 1 for days in segments)
    assert (DELETED in growth.by("field").table["key"].to_pylist()) == (left < whole)
    print(f"{store.path.parent.name}: {whole:,} bytes, {left:,} after the vacuum")


def test_the_sums_tell_when_a_byte_is_missing(tmp_path):
    """The test above would not be worth much if sums agreed with any files."""
    shutil.copytree(SAMPLES / "gateway", tmp_path / "store")
    store = meshlab.open(tmp_path / "store")
    found = sums(store)
    (path,) = store.path.glob("*/wal-*.log")
    path.write_bytes(path.read_bytes() + b"\n")
    assert found == everywhere(size_of(store) - 1)
    assert sums(store) == everywhere(size_of(store))


def test_rejects_and_blank_lines_are_rows_of_their_own_by_every_key(tmp_path):
    root = tmp_path / "store" / "ann"
    root.mkdir(parents=True)
    (root / "wal-20250707.log").write_text('{"Delete":"m1"}\n\n\nno event\n')
    growth = meshlab.open(tmp_path / "store").growth(progress=False)
    for key in KEYS:
        found = {row["key"]: (row["bytes"], row["events"]) for row in growth.by(key).to_pylist()}
        assert found.pop(REJECTS) == (9, 1)
        assert found.pop(BLANKS) == (2, 2)
        ((_, (nbytes, _)),) = found.items()
        assert nbytes == 16


def test_what_has_no_id_hour_or_field_says_so(tmp_path):
    root = tmp_path / "store" / "ann"
    root.mkdir(parents=True)
    (root / "wal-20250707.log").write_text('{"note":1}\n')
    growth = meshlab.open(tmp_path / "store").growth(progress=False)
    named = {key: growth.by(key).table["key"].to_pylist() for key in ("id", "field")}
    assert named == {"id": [NO_ID], "field": [ENVELOPE]}
    assert attribute(rows(("20250707", "other", 1, 11)), "hour").table["key"].to_pylist() == [NO_HOUR]


def test_fields_and_their_envelope_are_the_bytes_of_the_line(tmp_path):
    store = meshlab.open(tmp_path)
    store["ann"].append({"Insert": {"id": "m1", "content": "the sea"}})
    found = {row["key"]: row["bytes"] for row in store.growth(progress=False).by("field").to_pylist()}
    assert (found["id"], found["content"]) == (len('"id""m1"'), len('"content""the sea"'))
    assert sum(found.values()) == size_of(store)


# Order and shares


def test_the_largest_come_first_and_days_and_hours_in_order_of_time():
    table = rows(
        (at(2025, 7, 8, 3), "insert", 1, 10), (at(2025, 7, 7, 9), "update", 1, 90), ("20250706", REJECTS, 1, 5)
    )
    assert attribute(table, "op").table["key"].to_pylist() == ["update", "insert", REJECTS]
    assert attribute(table, "day").table["key"].to_pylist() == ["20250707", "20250708", REJECTS]
    assert attribute(table, "hour").table["key"].to_pylist() == ["03:00", "09:00", REJECTS]
    assert IN_TIME == ("day", "hour")


def test_shares_add_up_to_one_and_cumulate():
    found = attribute(rows((at(2025), "insert", 1, 75), (at(2025), "delete", 1, 25)), "op").table
    assert found["share"].to_pylist() == [0.75, 0.25]
    assert found["cumulative"].to_pylist() == [0.75, 1.0]


def test_the_top_keeps_the_sum():
    table = pa.concat_tables([rows((at(2025), "insert", 1, 10 * number), uid=f"u{number}") for number in range(1, 8)])
    found = attribute(table, "user")
    top = found.top(2)
    assert top.table["key"].to_pylist() == ["u7", "u6", "(5 others)"]
    assert top.bytes == found.bytes
    assert top.table["cumulative"].to_pylist()[-1] == pytest.approx(1)
    assert found.top(7) is found
    with pytest.raises(MeshlabError, match="top 0"):
        found.top(0)


def test_an_unknown_key_is_told_with_those_there_are():
    with pytest.raises(MeshlabError, match="'colour'") as told:
        attribute(rows(), "colour")
    assert "dialect" in told.value.hint


@pytest.mark.parametrize("key", ["field", "id"])
def test_keys_that_need_more_than_totals_say_what_to_do(key):
    with pytest.raises(MeshlabError) as told:
        attribute(rows(), key)
    assert f"by('{key}')" in told.value.hint


@pytest.mark.parametrize("name", ODD)
def test_odd_totals_add_up(name):
    table = ODD[name]
    nothing = {"fields": FIELD_TOTALS_SCHEMA.empty_table(), "ids": ID_TOTALS_SCHEMA.empty_table()}
    for key in KEYS:
        found = attribute(table, key, **nothing)
        assert found.table.schema.equals(ATTRIBUTION_SCHEMA)
        if key != "id":
            assert found.bytes == (pc.sum(table["bytes"]).as_py() or 0)
        assert repr(found).startswith("<Attribution of ")


def test_hostile_names_are_shown_as_text(tmp_path):
    store = meshlab.open(tmp_path)
    store["ann"].append_many([{"Insert": {"id": name, name: 1}} for name in HOSTILE])
    growth = store.growth(progress=False)
    for key in ("id", "field"):
        found = growth.by(key)
        assert set(HOSTILE) <= set(found.table["key"].to_pylist())
        assert "\n" not in repr(found)
        page = found._repr_html_()
        assert "<script" not in page
        assert "\x1b" not in page + repr(found)
        assert "&lt;script&gt;" in page
    hostile = Attribution("user", attribute(rows((at(2025), "insert", 1, 9), uid=HOSTILE[0]), "user").table, rows())
    assert "<script" not in hostile._repr_html_()
