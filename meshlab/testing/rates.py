"""Totals of logs nobody wrote: hour by hour, with the seasons, the trend and the noise of real traffic.

>>> table = totals_of(Rates(users=2, days=3), seed=1)
>>> table.schema.equals(TOTALS_SCHEMA), len(set(table["uid"].to_pylist()))
(True, 2)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from meshlab.tables.schema import TIME
from meshlab.tables.totals import TOTALS_SCHEMA
from meshlab.times import DAY, HOUR, day_of, midnight

FIRST_DAY = "20250707"
"""A Monday."""

OPS = {"insert": (0.3, 900.0), "update": (0.63, 320.0), "delete": (0.07, 180.0)}
"""Share of the events and mean bytes of a line, by op."""

_DAY_PROFILE = 0.35 + np.sin(np.pi * np.clip((np.arange(24) - 5) / 18, 0, 1)) ** 2
_WEEK_PROFILE = np.array([1.1, 1.1, 1.05, 1.05, 1.0, 0.7, 0.65])


class Planted(NamedTuple):
    """From an hour (counted from the first) on, one user does one thing ``factor`` times as often."""

    user: int
    op: str
    hour: int
    factor: float


class Rates(NamedTuple):
    """Traffic: events per day of all users, of whom each has a share by Zipf's law.

    ``trend`` is what a day adds, as a share of the first day; ``noise`` the spread of a
    user's good and bad days (standard deviation of the logarithm), ``burst`` that of the
    hours beyond chance.
    """

    users: int = 5
    days: int = 42
    events: float = 4_000.0
    trend: float = 0.01
    noise: float = 0.12
    burst: float = 0.15


def totals_of(rates: Rates, seed: int, *planted: Planted) -> pa.Table:
    """A table in ``TOTALS_SCHEMA``; the same for the same seed."""
    random = np.random.default_rng(seed)
    hours = np.arange(24 * rates.days)
    season = _DAY_PROFILE[hours % 24] / _DAY_PROFILE.mean() * _WEEK_PROFILE[hours // 24 % 7] / _WEEK_PROFILE.mean()
    shares = 1 / np.arange(1, rates.users + 1)
    shares /= shares.sum()
    parts = [TOTALS_SCHEMA.empty_table()]
    for user, share in enumerate(shares):
        days = np.exp(random.normal(0, rates.noise, rates.days) - rates.noise**2 / 2)
        mean = rates.events * share / 24 * season * (1 + rates.trend * hours / 24) * days[hours // 24]
        for op, (part, nbytes) in OPS.items():
            expected = mean * part
            for one in planted:
                if (one.user, one.op) == (user, op):
                    expected = np.where(hours >= one.hour, one.factor * expected, expected)
            noisy = expected * random.gamma(1 / rates.burst**2, rates.burst**2, len(hours))
            parts.append(_table(f"user-{user + 1:04d}", op, random.poisson(noisy), nbytes, random))
    return pa.concat_tables(parts).combine_chunks()


def _table(uid: str, op: str, counts: Any, nbytes: float, random: np.random.Generator) -> pa.Table:
    rows = np.flatnonzero(counts)
    events = counts[rows]
    size = np.round(events * nbytes + random.normal(0, 0.3 * nbytes, len(rows)) * np.sqrt(events))
    moments = midnight(FIRST_DAY) + rows * HOUR
    columns: dict[str, Any] = {
        "uid": [uid] * len(rows),
        "day": [day_of(int(moment)) for moment in moments // DAY * DAY],
        "hour": pa.array(moments).cast(TIME),
        "op": [op] * len(rows),
        "dialect": ["meshlab"] * len(rows),
        "events": events,
        "bytes": np.maximum(size, 100 * events).astype(np.int64),
        "deleted": [False] * len(rows),
    }
    return pa.table(columns, schema=TOTALS_SCHEMA)
