"""Layers: how they are written, verified and merged."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meshlab.errors import SnapshotError
from meshlab.snapshot.layers import (
    FAN,
    GROUP_ROWS,
    LAYER_SCHEMA,
    LayerFolder,
    choose_merge,
    merge_records,
    newest_rows,
    read_records,
    rows_with_ids,
    verify_layer,
    write_records,
)
from meshlab.snapshot.manifest import CONTENTS, RECORDS, Layer
from meshlab.testing import ForgetfulFiles, RecordingFiles

KIB = 1 << 10


def rows(live=(), gone=(), concept="c"):
    """A table of a layer: live ids with a concept, and deleted ones."""
    found = [{"id": id, "concept_id": concept, "hash": b"h" * 16, "gone": False} for id in live]
    found += [{"id": id, "gone": True} for id in gone]
    return pa.Table.from_pylist(sorted(found, key=lambda row: row["id"].encode()), schema=LAYER_SCHEMA)


def told(table):
    return [(row["id"], None if row["gone"] else row["concept_id"]) for row in table.to_pylist()]


@pytest.fixture
def folder(tmp_path):
    made = LayerFolder(tmp_path, ForgetfulFiles())
    made.prepare()
    return made


def add(folder, *tables, kind=RECORDS):
    return folder.add(kind, lambda sink: write_records(sink, tables))


# Writing


def test_a_layer_is_named_by_its_bytes_and_bounded_by_its_ids(folder):
    layer = add(folder, rows("ac"), rows("m", gone="z"))
    assert (layer.rows, layer.first, layer.last) == (4, "a", "z")
    assert layer.nbytes == folder.path_of(layer).stat().st_size == folder.nbytes
    verify_layer(folder.path_of(layer), layer)
    assert told(read_records(folder.path_of(layer))) == [("a", "c"), ("c", "c"), ("m", "c"), ("z", None)]


def test_the_same_rows_make_the_same_layer_which_is_kept_once(folder):
    first, second = add(folder, rows("ab")), add(folder, rows("ab"))
    assert first == second
    assert os.listdir(folder.path) == [folder.path_of(first).name]


def test_tables_of_any_size_fill_groups_of_rows(folder, monkeypatch):
    monkeypatch.setattr("meshlab.snapshot.layers.GROUP_ROWS", 4)
    layer = add(folder, rows("abc"), rows("d"), rows(), rows("efghijklm"), rows("n"))
    with pq.ParquetFile(folder.path_of(layer)) as file:
        assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [4, 4, 4, 2]
    assert [id for id, _ in told(read_records(folder.path_of(layer)))] == list("abcdefghijklmn")


def test_no_rows_are_no_layer(folder):
    assert add(folder, rows()) is None
    assert os.listdir(folder.path) == []


def test_a_layer_has_its_name_when_it_is_synced_and_the_name_is_synced_next(tmp_path):
    files = RecordingFiles(ForgetfulFiles())
    folder = LayerFolder(tmp_path, files)
    folder.prepare()
    add(folder, rows("ab"))
    steps = [step.name for step in files.operations if step.name != "write"]
    assert steps == ["mkdir", "sync_directory", "open", "sync", "close", "rename", "sync_directory"]


def test_discarding_removes_what_was_made_here_and_nothing_else(tmp_path, folder):
    old = add(folder, rows("a"))
    again = LayerFolder(tmp_path, ForgetfulFiles())
    assert add(again, rows("a")) == old
    add(again, rows("b"))
    again.discard()
    assert os.listdir(folder.path) == [folder.path_of(old).name]


def test_preparing_removes_what_is_temporary_and_leaves_layers(tmp_path, folder):
    layer = add(folder, rows("a"))
    (folder.path / ".1-1.tmp").write_bytes(b"half")
    folder.prepare()
    assert os.listdir(folder.path) == [folder.path_of(layer).name]


@pytest.mark.parametrize("error", [ValueError("refused"), OSError(28, "full")])
def test_a_writer_that_fails_leaves_no_file(folder, error):
    def write(sink):
        write_records(sink, [rows("abc")])
        raise error

    with pytest.raises((type(error), OSError)):
        folder.add(RECORDS, write)
    assert (os.listdir(folder.path), folder.written) == ([], [])


# Verifying


def test_a_layer_is_compared_with_its_name_once_and_again_when_it_was_replaced(folder):
    layer = add(folder, rows("ab"))
    path = folder.path_of(layer)
    verify_layer(path, layer)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))
    with pytest.raises(SnapshotError, match="its bytes are not those"):
        verify_layer(path, layer)
    path.write_bytes(data[:-1])
    with pytest.raises(SnapshotError, match=rf"expected {len(data)} bytes, found {len(data) - 1}"):
        verify_layer(path, layer)
    path.unlink()
    with pytest.raises(SnapshotError, match="missing"):
        verify_layer(path, layer)


# Reading


def test_the_newest_row_of_each_id_counts():
    tables = [rows("abc", concept="old"), rows("b", gone="c", concept="new"), rows("c", concept="newest")]
    assert told(newest_rows(tables, drop_gone=True)) == [("a", "old"), ("b", "new"), ("c", "newest")]
    assert told(newest_rows(tables[:2], drop_gone=True)) == [("a", "old"), ("b", "new")]
    assert told(newest_rows(tables[:2], drop_gone=False)) == [("a", "old"), ("b", "new"), ("c", None)]


def test_rows_of_some_ids_come_from_every_row_group(folder):
    ids = [f"m{number:06}" for number in range(2 * GROUP_ROWS + 10)]
    layer = add(folder, rows(ids))
    wanted = [ids[0], ids[GROUP_ROWS - 1], ids[GROUP_ROWS], ids[-1]]
    found = rows_with_ids(folder.path_of(layer), pa.array([*wanted, "nobody"]))
    assert found["id"].to_pylist() == wanted


# Merging


@pytest.mark.parametrize("drop_gone", [True, False])
def test_merging_in_pieces_gives_the_newest_row_of_each_id_in_order(folder, monkeypatch, drop_gone):
    monkeypatch.setattr("meshlab.snapshot.layers.GROUP_ROWS", 3)
    monkeypatch.setattr("meshlab.snapshot.layers._HELD_ROWS", 2)
    names = [*"abcdefghij", "é", "\uffff", "\U0001f600", "\U0001f600x"]
    tables = [
        rows(names, concept="one"), rows(names[2:7:2], gone=names[7:9], concept="two"),
        rows([], gone=["a", "\U0001f600"]), rows(["\uffff", "zz", names[7]], gone=["zzz"], concept="four"),
    ]  # fmt: skip
    paths = [folder.path_of(add(folder, table)) for table in tables]
    parts = list(merge_records(paths, drop_gone=drop_gone))
    assert len(parts) > 3
    expected = newest_rows(tables, drop_gone=drop_gone)
    assert told(pa.concat_tables(parts)) == told(expected)
    assert [row for row in told(expected) if row[1] is None] == ([] if drop_gone else [
        ("a", None), ("i", None), ("zzz", None), ("\U0001f600", None)
    ])  # fmt: skip


def layers(*sizes, kind=RECORDS):
    return [Layer(str(number), kind, 1, size) for number, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], None),
        ([100], None),
        ([100] * (FAN // 2), None),
        ([100] * (FAN // 2 + 1), slice(0, 5)),
        ([900 * KIB, *[100 * KIB] * (FAN - 1)], None),
        ([900 * KIB, *[100 * KIB] * FAN], slice(1, 9)),
        ([100_000 * KIB, 900 * KIB, *[100 * KIB] * FAN], slice(2, 10)),
        ([100_000 * KIB, *[1] * FAN], slice(1, 9)),
        ([800 * KIB, 300 * KIB, 300 * KIB, 300 * KIB, 1], slice(0, 5)),
    ],
)
def test_neighbours_of_one_size_are_merged_and_the_oldest_only_when_the_others_are_as_large(sizes, expected):
    assert choose_merge(layers(*sizes)) == expected


def test_large_layers_of_contents_are_not_rewritten_nor_the_oldest_for_its_age():
    assert choose_merge(layers(*[100] * FAN, kind=CONTENTS), 1 << 20) is None
    assert choose_merge(layers(*[100] * (FAN + 1), kind=CONTENTS), 1 << 20) == slice(1, FAN + 1)
    assert choose_merge(layers(*[2 << 20] * 50, kind=CONTENTS), 1 << 20) is None


@pytest.mark.parametrize("base", [0, 10 << 20, 1 << 30])
@pytest.mark.parametrize("delta", [20 * KIB, 10 << 20])
def test_a_hundred_equal_deltas_are_rewritten_few_times_and_the_base_once_per_doubling(base, delta):
    """The worst case, in which no delta replaces anything, so that a merged layer is as large as its parts."""
    stack = layers(base) if base else []
    written, bases = 0, []
    for _ in range(100):
        stack += layers(delta)
        written += delta
        while (run := choose_merge(stack)) is not None:
            size = sum(layer.nbytes for layer in stack[run])
            if run.start == 0 and stack[0].nbytes > delta:
                bases.append((stack[0].nbytes, size))
            stack[run] = layers(size)
            written += size
    assert sum(layer.nbytes for layer in stack) == base + 100 * delta
    assert all(new >= 2 * old for old, new in bases), "the base was rewritten before it doubled"
    assert written - sum(min(old, base) for old, _ in bases) < 6 * 100 * delta
    assert len(stack) < 3 * FAN
    print(f"base {base >> 20} MiB, deltas of {delta >> 10} KiB: {written / (100 * delta):.2f} times the change")
