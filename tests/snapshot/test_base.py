"""The records a manifest stands for: all, and those of some ids."""

from __future__ import annotations

import pyarrow as pa
import pytest

from meshlab.errors import SnapshotError
from meshlab.snapshot import contents, layers
from meshlab.snapshot.base import Base
from meshlab.snapshot.hashing import row_hashes
from meshlab.snapshot.manifest import CONTENTS, Manifest, current, history, layer_path
from meshlab.snapshot.seed import seed
from meshlab.tables.schema import RECORD_SCHEMA
from scoreboard.stories import LONG, Shop, insert, update


@pytest.fixture
def shop(tmp_path):
    shop = Shop(tmp_path / "mesh" / "u")
    shop.append(insert("m1", LONG, last_accessed="2025-07-07T01:02:03Z"), insert("m2", LONG), insert("m3"))
    shop.checkpoint()
    shop.append(update("m1", amplitude=0.5, theme="dark"), {"Delete": "m2"}, insert("m4", LONG * 2))
    shop.checkpoint()
    shop.append(insert("m2", "back"), {"Delete": "m3"})
    shop.checkpoint()
    return shop


def ids(table):
    return table["id"].to_pylist()


def test_nothing_is_an_empty_table(tmp_path):
    base = Base.open(tmp_path, Manifest(uid="u"))
    assert base.state().equals(RECORD_SCHEMA.empty_table())
    assert base.lookup(pa.array(["m1"])).num_rows == 0


def test_the_state_is_the_newest_row_of_every_record_that_lives(shop):
    table = Base.open(shop.root, shop.manifest).state()
    assert table.schema == RECORD_SCHEMA
    assert ids(table) == ["m1", "m2", "m4"]
    first = table.slice(0, 1).to_pylist()[0]
    assert (first["content"], first["amplitude"], first["extra"]) == (LONG, 0.5, '{"theme":"dark"}')
    assert first["last_accessed_ts"].isoformat() == "2025-07-07T01:02:03+00:00"
    assert table["content"].to_pylist()[1:] == ["back", LONG * 2]


@pytest.mark.parametrize("rows", [1, 2, 65_536])
def test_the_state_comes_in_batches_too(shop, rows):
    base = Base.open(shop.root, shop.manifest)
    batches = list(base.batches(rows=rows))
    assert all(0 < batch.num_rows <= rows and batch.schema == RECORD_SCHEMA for batch in batches)
    assert pa.Table.from_batches(batches).combine_chunks().equals(base.state().combine_chunks())
    assert list(Base.open(shop.root, Manifest(uid="u")).batches()) == []


def test_memory_is_bounded_however_many_records_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(layers, "_HELD_ROWS", 256)
    monkeypatch.setattr(contents, "_PART", 1 << 16)
    rows = [{"id": f"m{number:05d}", "content": f"{number:05d}" * 200} for number in range(3_000)]
    source = pa.RecordBatch.from_pylist(rows, schema=RECORD_SCHEMA)
    report = seed(tmp_path / "u", "u", [source], progress=False)
    base, held, count = Base.open(tmp_path / "u", current(tmp_path / "u", "u")), pa.total_allocated_bytes(), 0
    for batch in base.batches(rows=100):
        count += batch.num_rows
        assert pa.total_allocated_bytes() - held < source.nbytes / 3
    assert count == report.records == 3_000


def test_some_records_are_looked_up_with_codes_and_hashes(shop):
    base = Base.open(shop.root, shop.manifest)
    found = base.lookup(pa.array(["m4", "m3", "m1", "nobody", "m2"])).sort_by("id")
    assert ids(found) == ["m1", "m2", "m4"], "deleted ones are not there"
    assert [len(code) for code in found["content"].to_pylist()] == [65, 4, 65]
    assert found["hash"].combine_chunks().equals(row_hashes(base.state()))
    assert ids(base.lookup(pa.array(["m3"]))) == []


def test_every_earlier_generation_still_has_its_own_records(shop):
    states = [ids(Base.open(shop.root, entry.manifest).state()) for entry in history(shop.root, "u")]
    assert states == [[], ["m1", "m2", "m3"], ["m1", "m3", "m4"]]


def test_a_damaged_layer_of_contents_stops_who_needs_it(shop):
    layer = shop.manifest.of_kind(CONTENTS)[0]
    path = layer_path(shop.root, layer)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    base = Base.open(shop.root, shop.manifest)
    assert ids(base.lookup(pa.array(["m1"]))) == ["m1"]
    with pytest.raises(SnapshotError, match=path.name):
        base.state()
