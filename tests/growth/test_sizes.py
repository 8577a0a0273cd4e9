"""The sizes of layers and manifests that were not written are near those of the ones that are."""

import numpy as np
import pyarrow as pa
import pytest

import meshlab
from meshlab.growth.sizes import measured, records_of, synthetic
from meshlab.snapshot.contents import LEAST
from meshlab.snapshot.layers import LAYER_SCHEMA, read_records
from meshlab.snapshot.manifest import CONTENTS, RECORDS, Manifest, current, layer_path, pack
from meshlab.tables.load import Log
from meshlab.testing import build_store
from meshlab.timeline import log_of


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    path = tmp_path_factory.mktemp("sizes") / "store"
    build_store(path, users=["ann"], days=2, events=3000, recall_share=0.3)
    return meshlab.open(path)["ann"]


@pytest.fixture(scope="module")
def sizes(user):
    return measured(records_of(log_of(user.root, user.uid)))


@pytest.fixture(scope="module")
def snapshot(user, sizes):
    user.checkpoint(progress=False)
    return current(user.root, user.uid)


def test_a_layer_of_records_weighs_what_was_reckoned(user, sizes, snapshot):
    (layer,) = snapshot.of_kind(RECORDS)
    codes = read_records(layer_path(user.root, layer), ["content"])["content"].to_pylist()
    lengths = np.array([LEAST if code and code[0] == "\0" else len((code or "").encode()) for code in codes])
    reckoned = sizes.records(layer.rows, 0, float(sizes.content_bytes(lengths).sum()))
    print(f"records: reckoned {reckoned:,}, written {layer.nbytes:,}")
    assert reckoned == pytest.approx(layer.nbytes, rel=0.05)


def test_a_layer_of_contents_weighs_what_was_reckoned(user, sizes, snapshot):
    (layer,) = snapshot.of_kind(CONTENTS)
    texts = pa.ipc.open_file(layer_path(user.root, layer)).read_all()["text"].to_pylist()
    assert sizes.contents(len(texts), sum(len(text.encode()) for text in texts)) == pytest.approx(
        layer.nbytes, rel=0.01
    )
    parts = [sizes.contents(10, 5000), sizes.contents(20, 9000)]
    assert sizes.joined(parts) == pytest.approx(sizes.contents(30, 14_000), abs=2)


def test_a_manifest_weighs_what_was_reckoned(sizes, snapshot):
    counts = [len(snapshot.of_kind(kind)) for kind in (RECORDS, CONTENTS)]
    reckoned = sizes.snapshot(*counts, len(snapshot.folded), len(snapshot.last_orphans))
    assert reckoned == pytest.approx(len(pack(snapshot)), rel=0.15)
    assert reckoned > 1.5 * len(pack(Manifest(uid="ann"))), "and not what any manifest does"


def test_tombstones_weigh_less_than_records(sizes):
    assert 0 < sizes.gone < sizes.records(101, 0, 0) - sizes.records(100, 0, 0)
    assert sizes.records(100, 50, 0) > sizes.records(100, 0, 0)


def test_nothing_weighs_nothing(sizes):
    assert (sizes.records(0, 0, 0), sizes.contents(0, 0)) == (0, 0)


def test_behind_the_largest_sample_sizes_go_on_growing(sizes):
    half, whole = sizes.records(500_000, 0, 0), sizes.records(1_000_000, 0, 0)
    assert whole == pytest.approx(2 * half, rel=0.02)


def test_records_come_from_a_layer_once_there_is_one(user, snapshot):
    sample = records_of(Log(user.root, user.uid))
    assert sample.num_rows == snapshot.records
    assert (
        sample["hash"].to_pylist()
        == read_records(layer_path(user.root, snapshot.of_kind(RECORDS)[0]))["hash"].to_pylist()
    )


@pytest.mark.parametrize("spoil", ["no log", "a damaged snapshot"])
def test_records_are_made_up_where_there_are_none_to_be_read(tmp_path, spoil):
    (tmp_path / "u").mkdir()
    if spoil == "a damaged snapshot":
        (tmp_path / "u" / "snapshot.bin").write_bytes(b"MESHSNAP and then nothing")
    sample = records_of(Log(tmp_path / "u", "u"))
    assert sample.equals(synthetic())
    assert sample.schema == LAYER_SCHEMA
