"""The past a forecast stands on: bytes of whole days in a row, and of the one under way.

>>> import pyarrow as pa
>>> from meshlab.tables.totals import TOTALS_SCHEMA
>>> rows = [{"day": f"2025070{day}", "op": "insert", "bytes": 10 * day, "deleted": False} for day in (1, 2, 4)]
>>> Past.of(pa.Table.from_pylist(rows, TOTALS_SCHEMA)).whole.tolist()
[10.0, 20.0, 0.0, 40.0]
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.dialects import OPS
from meshlab.times import DAY, midnight
from meshlab.wording import counted

LONGEST_PAST = 120
"""Days of the past that are looked at, the last."""


class Past(NamedTuple):
    """Bytes of whole days in a row, oldest first, and of the one after them as far as it went.

    ``first`` is the first day (since 1970); ``share`` of a usual day lies before the end of
    the partial one, 0 when there is none; ``left_out`` counts other days with bytes.
    """

    first: int
    whole: Any
    partial: float
    share: float
    left_out: int

    @property
    def gaps(self) -> list[str]:
        """What is to be said of days that play no part."""
        told = f"{counted(self.left_out, 'day')} beyond a gap or more than {LONGEST_PAST} days back left out"
        return [told] if self.left_out else []

    @classmethod
    def of(cls, totals: pa.Table) -> Past | None:
        """The last days with no gap of more than a month, more than one if there are such.

        The last one is partial unless its last hour has bytes.
        """
        day = _days(totals)
        if not len(day):
            return None
        nbytes = totals["bytes"].to_numpy()
        known = np.unique(day)
        stretches = np.split(known, np.flatnonzero(np.diff(known) > _LONGEST_GAP) + 1)
        chosen = next((some for some in reversed(stretches) if len(some) > 1), stretches[-1])
        last = int(chosen[-1])
        first = max(int(chosen[0]), last - LONGEST_PAST)
        kept = (day >= first) & (day <= last)
        counts = np.bincount(day[kept] - first, nbytes[kept], last - first + 1)
        share = _share_of_day(totals, day == last, kept & (day != last))
        left_out = int(((known < first) | (known > last)).sum())
        if share >= 1.0:
            return cls(first, counts, 0.0, 0.0, left_out)
        return cls(first, counts[:-1], float(counts[-1]), share, left_out)

    @property
    def weekday(self) -> int:
        """The day of the week of the first day, from Monday."""
        return (self.first + 3) % 7


_LONGEST_GAP = 31


def _days(totals: pa.Table) -> Any:
    """The day of each row, since 1970: of its hour, else of its segment."""
    segments = totals["day"].combine_chunks().dictionary_encode()
    midnights = np.array([midnight(name) for name in segments.dictionary.to_pylist()], np.int64)
    segment = midnights[segments.indices.to_numpy()] if len(midnights) else np.zeros(0, np.int64)
    hour = totals["hour"].cast(pa.int64())
    moment = np.where(pc.is_valid(hour).to_numpy(), pc.fill_null(hour, 0).to_numpy(), segment)
    return moment // DAY


def _share_of_day(totals: pa.Table, last: Any, before: Any) -> float:
    """How much of a usual day lies before the end of the last hour of the last one; 1 when it is over."""
    hours = pc.hour(totals["hour"])
    end = pc.max(hours.filter(pa.array(last))).as_py()
    if end is None or end == 23:
        return 1.0
    is_event = pc.is_in(totals["op"], pa.array(OPS)).to_numpy() & before & pc.is_valid(hours).to_numpy()
    profile = np.bincount(pc.fill_null(hours, 0).to_numpy()[is_event], totals["bytes"].to_numpy()[is_event], 24)
    return float(profile[: end + 1].sum() / profile.sum()) if profile.sum() else (end + 1) / 24
