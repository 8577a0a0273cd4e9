"""Long contents: each is kept once, and comes back as it was."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.errors import SnapshotError
from meshlab.snapshot import contents
from meshlab.snapshot.contents import LEAST, TEXTS, Contents, digests_in, encode, read_texts, write_texts
from meshlab.snapshot.layers import FAN, read_records
from meshlab.snapshot.manifest import CONTENTS, RECORDS, layer_path
from scoreboard.stories import LONG, Shop, insert, state, update

EDGES = [
    None, "", "\0", "\0\0", "\0" + "a" * 64, "\0\0" + "0" * 63, "x" * 254, "x" * 255, "x" * 256, "é" * 127, "é" * 128,
    "\0" + "y" * 254, "\0" + "y" * 255, "\0" * 300, "\U0001f600" * 64, "\U0001f600" * 63 + "abc",
]  # fmt: skip


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path / "mesh" / "u")


def texts_of(shop):
    """What the contents layers in force hold."""
    layers = shop.manifest.of_kind(CONTENTS)
    return read_texts(layer_path(shop.root, layer) for layer in layers)["text"].to_pylist()


def codes_of(shop):
    return {
        row["id"]: row["content"]
        for layer in shop.manifest.of_kind(RECORDS)
        for row in read_records(layer_path(shop.root, layer), ["id", "content"]).to_pylist()
    }


@given(st.lists(st.sampled_from(EDGES) | st.text(st.characters(exclude_categories=["Cs"]), max_size=300)))
def test_codes_stand_for_the_contents_they_were_made_of(contents):
    codes, texts = encode(pa.array(contents, pa.string()))
    long = [content for content in contents if content is not None and len(content.encode()) >= LEAST]
    assert sorted(texts["text"].to_pylist()) == sorted(set(long))
    assert Contents().decode(codes, texts).to_pylist() == contents
    digests = [None if c not in long else hashlib.sha256(c.encode()).digest() for c in contents]
    assert digests_in(codes).to_pylist() == digests


def test_codes_of_slices_stand_for_the_contents_of_slices():
    codes, texts = encode(pa.array([*EDGES, *EDGES], pa.string()).slice(5, 20))
    assert Contents().decode(codes, texts).to_pylist() == [*EDGES, *EDGES][5:25]
    assert Contents().decode(codes.slice(3, 9), texts).to_pylist() == [*EDGES, *EDGES][8:17]


@pytest.mark.parametrize("few", [0, 1 << 40])
def test_few_contents_and_many_are_named_by_the_same_digests(monkeypatch, few):
    monkeypatch.setattr(contents, "_FEW_BYTES", few)
    _, texts = encode(pa.array([text for text in EDGES if text is not None] * 3))
    assert texts.num_rows == 5
    for row in texts.to_pylist():
        assert row["digest"] == hashlib.sha256(row["text"].encode()).digest()


def test_contents_are_found_in_several_layers_and_what_is_in_none_is_an_error(tmp_path):
    whole = [f"{LONG}{number}" for number in range(30)]
    codes, texts = encode(pa.array(whole))
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.arrow")
        with paths[-1].open("wb") as sink:
            assert write_texts(sink, texts.slice(10 * number, 10)) == 10
    assert Contents(lambda: paths).decode(codes).to_pylist() == whole
    assert Contents(lambda: paths[1:]).missing(texts).num_rows == 10
    assert Contents(lambda: paths).missing(texts).schema == TEXTS
    with pytest.raises(SnapshotError, match=r"SHA-256 [0-9a-f]{64} is in no contents layer"):
        Contents(lambda: paths[1:]).decode(codes)


def test_255_bytes_stay_in_the_record_and_256_are_kept_apart(shop):
    contents = {f"m{number:02}": content for number, content in enumerate(EDGES) if content is not None}
    shop.append(*(insert(id, content) for id, content in contents.items()))
    shop.checkpoint()
    assert {id: record["content"] for id, record in shop.records().items()} == contents
    assert sorted(texts_of(shop)) == sorted(content for content in contents.values() if len(content.encode()) >= 256)
    codes = codes_of(shop)
    assert {id for id, code in codes.items() if len(code) == 65 and code[0] == "\0" and code[1] != "\0"} == {
        id for id, content in contents.items() if len(content.encode()) >= 256
    }


def test_equal_contents_are_stored_once_and_the_saving_is_right_to_the_byte(shop):
    a, b = "é" * 150, "b" * 500
    shop.append(insert("m1", a), insert("m2", a), insert("m3", a), insert("m4", "x" * 255), insert("m5", "x" * 255))
    assert shop.checkpoint().bytes_saved == 2 * 300
    shop.append(insert("m6", a), insert("m7", b), update("m1", mode="Dark"), update("m2", content=b))
    assert shop.checkpoint().bytes_saved == 300 + 500, "m6 and one of m7 and m2; m1 has got no content"
    shop.append(insert("m8", b), {"Delete": "m8"})
    assert shop.checkpoint().bytes_saved == 0, "a record that is gone again saves nothing"
    assert sorted(texts_of(shop)) == sorted([a, b])


def test_a_content_of_a_record_that_is_gone_again_is_not_written(shop):
    shop.append(insert("m1", LONG), {"Delete": "m1"}, insert("m2", LONG + "2"), update("m2", content="short"))
    assert shop.checkpoint().records == 1
    assert shop.manifest.of_kind(CONTENTS) == []


def test_contents_layers_are_merged_and_nothing_is_lost(shop):
    merged = 0
    for number in range(FAN + 3):
        shop.append(insert(f"m{number:02}", f"{LONG}{number}"))
        before = len(shop.manifest.of_kind(CONTENTS)) if number else 0
        shop.checkpoint()
        merged += len(shop.manifest.of_kind(CONTENTS)) <= before
    assert merged
    assert sorted(texts_of(shop)) == sorted(f"{LONG}{number}" for number in range(FAN + 3))
    assert len(state(shop.root)) == FAN + 3
