"""How much the tests try: a slice, or all of it with ``MESHLAB_EVERY=1`` in the environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

EVERY = os.environ.get("MESHLAB_EVERY") == "1"
"""Whether every kill, request, outage and bit is tried, which takes many minutes."""


def one_in(parts: int, items: Sequence[T]) -> Sequence[T]:
    """One item in so many, always the same ones; or every one.

    >>> list(one_in(3, range(7))) if not EVERY else [0, 3, 6]
    [0, 3, 6]
    """
    return items if EVERY else items[::parts]
