"""Codes and order of ids, against the obvious way."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.snapshot import codes
from meshlab.snapshot.codes import encode_ids, sort_ids

any_ids = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), max_size=30)
even_ids = st.lists(st.text("ab", min_size=11, max_size=11), max_size=40)
types = st.sampled_from([pa.string(), pa.large_string()])


@given(any_ids | even_ids, types)
def test_codes_count_ids_in_order_of_first_appearance(ids, kind):
    found, firsts = encode_ids(pa.array(ids, kind))
    order = list(dict.fromkeys(ids))
    assert found.tolist() == [order.index(id) for id in ids]
    assert firsts.tolist() == [ids.index(id) for id in order]


@given(any_ids | even_ids, types)
def test_sorting_is_by_bytes(ids, kind):
    ids = list(dict.fromkeys(ids))
    assert [ids[row] for row in sort_ids(pa.array(ids, kind))] == sorted(ids)


@given(st.integers(0, 3), even_ids)
def test_a_slice_of_a_column_is_read_from_its_own_start(skip, ids):
    column = pa.array(["x" * 11] * skip + ids, pa.string()).slice(skip)
    assert encode_ids(column)[0].tolist() == encode_ids(pa.array(ids, pa.string()))[0].tolist()


def test_ids_that_share_a_fingerprint_are_still_told_apart(monkeypatch):
    monkeypatch.setattr(codes, "_fingerprint", lambda words: np.zeros(len(words[0]), np.uint64))
    assert encode_ids(pa.array(["aaaaaaaa-1", "aaaaaaaa-2", "aaaaaaaa-1"]))[0].tolist() == [0, 1, 0]


@pytest.mark.parametrize("ids", [[], ["a"], ["a" * 8], ["a" * 128], ["a" * 129]])
def test_short_long_and_no_ids_are_fine(ids):
    assert encode_ids(pa.array(ids, pa.string()))[0].tolist() == list(range(len(ids)))
    assert sort_ids(pa.array(ids, pa.string())).tolist() == list(range(len(ids)))
