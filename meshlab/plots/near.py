"""Which days an axis of time has room for: those that lie together; the others are told of.

A clock that was wrong, or a stray file, gives a day in 1970 or 9999.  Drawn, it would leave
the days one wants to see a few pixels.

>>> days = np.array([0, *range(20_000, 20_010)])
>>> shown, note = near(days)
>>> int(shown.sum()), note
(10, '1 day far away, 1970-01-01, not shown')
"""

from __future__ import annotations

from typing import Any

import numpy as np

from meshlab.times import DAY
from meshlab.wording import counted

LONGEST_GAP = 31
"""Days without anything behind which others may be far away."""

_FEW, _SHARE = 3, 0.1
"""Days that are almost nothing: so many, or this share of the longest stretch."""

_ROOM = 2
"""How many times as long as all that is drawn a gap may be."""

_TOLD = 3


def near(days: Any) -> tuple[Any, str]:
    """Which of some days (since 1970, one per row) are drawn, and what is said of those that are not.

    Left out are few days, fewer than elsewhere, beyond a gap of more than a month that
    would take most of the axis.
    """
    known = np.unique(days)
    if not len(known):
        return np.ones(0, bool), ""
    low, high = _span(known)
    return (days >= low) & (days <= high), _note(known[(known < low) | (known > high)])


def near_moments(moments: Any) -> tuple[Any, str]:
    """The same of moments (``datetime64[us]``) of events."""
    shown, note = near(moments.astype(np.int64) // DAY)
    return shown, f"events of {note}" if note else ""


def _span(known: Any) -> tuple[int, int]:
    """The first and last day drawn: of the stretches that hold many days, and of what is close to them."""
    stretches = np.split(known, np.flatnonzero(np.diff(known) > LONGEST_GAP) + 1)
    most = max(map(len, stretches))
    few = min(most - 1, max(_FEW, most * _SHARE))
    chosen = np.concatenate([some for some in stretches if len(some) > few])
    low, high = int(chosen[0]), int(chosen[-1])
    outside = sorted(known[(known < low) | (known > high)].tolist(), key=lambda day: max(low - day, day - high))
    for day in outside:
        if max(low - day, day - high) <= max(LONGEST_GAP, _ROOM * (high - low + 1)):
            low, high = min(low, day), max(high, day)
    return low, high


def _note(far: Any) -> str:
    if not len(far):
        return ""
    names = [str(day) for day in far.astype("datetime64[D]")]
    told = " and ".join(names) if len(names) < _TOLD else f"{names[0]} to {names[-1]}"
    return f"{counted(len(far), 'day')} far away, {told}, not shown"
