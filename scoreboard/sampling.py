"""How much the tests try: a slice, or all of it with ``MESHLAB_EVERY=1`` in the environment."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

EVERY = os.environ.get("MESHLAB_EVERY") == "1"
"""Whether every kill, request, outage and bit is tried, which takes many minutes."""

DAY = int(time.time() // 86_400)
"""Days since 1970: which slice has its turn."""


def in_turn(items: Sequence[T], parts: int, day: int = DAY) -> Sequence[T]:
    """One item in so many, others each day, so that all have had their turn after ``parts`` days; or every one.

    >>> [list(in_turn(range(7), 3, day)) for day in range(3)] if not EVERY else [[0, 3, 6], [1, 4], [2, 5]]
    [[0, 3, 6], [1, 4], [2, 5]]
    """
    return items if EVERY else items[day % parts :: parts]
