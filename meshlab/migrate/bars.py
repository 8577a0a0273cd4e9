"""How far a migration is: a bar on a terminal or in a notebook, or whoever asked is told.

>>> with open_bar(print, "check", 10) as bar:
...     bar.update(4)
check 0 10
check 4 10
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meshlab.bars import progress_bar

Progress = bool | Callable[[str, int, int], object]
"""Whether to show bars; or who is told instead: what is done, and how much of how much of it."""


def open_bar(progress: Progress, what: str, total: int, unit: str = "B") -> Any:
    """A bar to be used with ``with``; ``update(count)`` moves it, ``n`` is where it stands."""
    if callable(progress):
        return _Told(progress, what, total)
    return progress_bar(what, total, unit, shown=progress)


class _Told:
    """What a bar does, as far as a migration needs it, for a function."""

    def __init__(self, told: Callable[[str, int, int], object], what: str, total: int) -> None:
        self._told, self._what, self._total = told, what, total
        self.n = 0
        self.update(0)

    def update(self, count: int) -> None:
        """So much more is done."""
        self.n += count
        self._told(self._what, self.n, self._total)

    def close(self) -> None:
        """Nothing more comes."""

    def __enter__(self) -> _Told:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
