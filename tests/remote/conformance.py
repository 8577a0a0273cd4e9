"""What every bucket must do, as checks that take an empty one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from meshlab.errors import NotFound

KEYS = [
    "data/ann/wal-20250707.log/0-5-" + "ab" * 32,
    "data/ann/layers/" + "cd" * 32 + ".parquet/0-8388608-" + "ef" * 32,
    "data/a.b_c-D9/history/00000007.bin/0-1-" + "01" * 32,
    "images/ann/00000001-0000000000000000-0123abcd-" + "23" * 32,
    "remote/0123456789abcdef",
]
BODIES = [b"", b"\0", b"bytes\r\n\xff", bytes(range(256)) * 4096]


def gives_what_was_put(bucket: Any) -> None:
    for key, body in zip(KEYS, [*BODIES, b"x"]):
        bucket.put(key, body)
    assert [bucket.get(key) for key in KEYS] == [*BODIES, b"x"]


def takes_the_same_put_again(bucket: Any) -> None:
    for _ in range(2):
        bucket.put(KEYS[0], b"same")
    assert bucket.get(KEYS[0]) == b"same"
    assert [found.key for found in bucket.list("data/")] == [KEYS[0]]


def gives_the_last_put(bucket: Any) -> None:
    bucket.put(KEYS[0], b"first, and longer")
    bucket.put(KEYS[0], b"second")
    assert bucket.get(KEYS[0]) == b"second"


def does_not_know_what_was_not_put(bucket: Any) -> None:
    bucket.put(KEYS[0], b"x")
    for key in (KEYS[1], KEYS[0][:-1], KEYS[0] + "0"):
        with pytest.raises(NotFound, match="there is no object"):
            bucket.get(key)


def lists_what_was_put_in_order(bucket: Any) -> None:
    keys = [f"data/ann/{name}/0-{at}-x" for at, name in enumerate(["b", "a-", "a", "a0", "ab"])]
    for key in [*keys, "data/anna/a/0-1-x", "data/an/a/0-1-x", "images/ann/x"]:
        bucket.put(key, b"12345"[: len(key) % 5])
    found = list(bucket.list("data/ann/"))
    assert [one.key for one in found] == sorted(keys)
    assert [one.nbytes for one in found] == [len(one.key) % 5 for one in found]
    assert all(one.modified > 1_700_000_000_000_000 for one in found)
    assert {one.key for one in bucket.list("data/")} >= set(keys)
    assert list(bucket.list("nobody/")) == []


def lists_more_than_a_page(bucket: Any) -> None:
    keys = [f"data/ann/log/{number:05d}" for number in range(1203)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: bucket.put(key, b"x"), keys))
    assert [found.key for found in bucket.list("data/ann/")] == keys


def deletes(bucket: Any) -> None:
    for key in KEYS:
        bucket.put(key, b"x")
    bucket.delete(KEYS[:2])
    bucket.delete([KEYS[0], "data/nobody/log/0-1-x"])
    bucket.delete([])
    assert [found.key for found in bucket.list("data/")] == [KEYS[2]]
    with pytest.raises(NotFound):
        bucket.get(KEYS[0])
    bucket.put(KEYS[0], b"again")
    assert bucket.get(KEYS[0]) == b"again"


def serves_many_at_once(bucket: Any) -> None:
    bodies = {f"data/u{number}/log/0-1-x": bytes([number]) * (number * 999) for number in range(40)}
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda pair: bucket.put(*pair), bodies.items()))
        assert dict(zip(bodies, pool.map(bucket.get, bodies))) == bodies


def says_that_it_is_fine(bucket: Any) -> None:
    bucket.check()
    bucket.put(KEYS[-1], b"x")
    bucket.check()
    assert bucket.url


CHECKS: list[Callable[[Any], None]] = [
    gives_what_was_put,
    takes_the_same_put_again,
    gives_the_last_put,
    does_not_know_what_was_not_put,
    lists_what_was_put_in_order,
    lists_more_than_a_page,
    deletes,
    serves_many_at_once,
    says_that_it_is_fine,
]
