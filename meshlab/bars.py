"""How far something is that takes a while."""

from __future__ import annotations

from typing import Any


def progress_bar(what: str, total: int | None = None, unit: str = "B", *, shown: bool = True) -> Any:
    """A bar to be used with ``with``, on a terminal or in a notebook, once it has taken a second.

    ``update(count)`` moves it; when it is done it goes away.

    >>> with progress_bar("read", 10) as bar:
    ...     _ = bar.update(4)
    """
    from tqdm.auto import tqdm

    disable = None if shown else True  # None: not where nobody would see it
    return tqdm(total=total, desc=what, unit=unit, unit_scale=unit == "B", delay=1, leave=False, disable=disable)
