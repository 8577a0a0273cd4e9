"""DuckDB's MD5 gives the digests hashlib gives."""

from __future__ import annotations

import random

import numpy as np

from meshlab.tables import digests
from meshlab.tables.digests import DuckDigests
from meshlab.wal.lines import PAD, md5_digests


def test_both_ways_give_the_same_digests_for_any_bytes():
    rng = random.Random(11)
    data = np.frombuffer(rng.randbytes(1 << 20) + bytes(PAD), np.uint8)
    starts = np.sort(np.array([rng.randrange(1 << 20) for _ in range(digests.LEAST_SLICES + 1000)]))
    stops = np.minimum(starts + [rng.choice([0, 1, 5, 11, 12, 13, 64, 300, 5000]) for _ in starts], 1 << 20)
    assert (DuckDigests()(data, starts, stops) == md5_digests(data, starts, stops)).all()


def test_few_slices_need_no_connection(monkeypatch):
    monkeypatch.setattr(digests, "borrow", None)
    data = np.frombuffer(b"abc" + bytes(PAD), np.uint8)
    starts, stops = np.array([0, 1]), np.array([3, 1])
    assert (DuckDigests()(data, starts, stops) == md5_digests(data, starts, stops)).all()
