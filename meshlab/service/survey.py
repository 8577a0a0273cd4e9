"""What is said of a store as a whole, from names, sizes and manifests: never from a log.

A look costs about a second for ten thousand users, so it is taken now and then, and
what it found is told until the next one.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from meshlab.service.metrics import Metrics, Reading
from meshlab.service.policy import DAY, HOUR
from meshlab.service.scan import Newest, Scanner
from meshlab.times import SECOND, day_of

if TYPE_CHECKING:
    import pyarrow as pa

FORECAST_EVERY = 600.0
"""Seconds between two forecasts: each takes a tenth of a second or so."""


class Sums(NamedTuple):
    """What one look found: users, bytes of log, bytes no checkpoint has folded, checkpoints, and ages in seconds."""

    users: int = 0
    log: int = 0
    unfolded: int = 0
    checkpoints: int = 0
    ages: Mapping[tuple[str, ...], float] = {}
    seconds: float = 0.0


class Survey:
    """Looks at a store again and again; ``feed`` has what it found told as metrics."""

    def __init__(self, store: Path, *, limit: int | None = None, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._scanner = Scanner(store)
        self._limit = limit
        self._now = now
        self._foreseen = -FORECAST_EVERY
        self._layers: dict[str, Mapping[str, int]] | None = None
        self._left: Reading = None
        self.sums = Sums()
        self.written = 0
        """Bytes of layers that came since the first look."""

    def look(self) -> None:
        """Take one look; a store that is not there yet has nothing in it."""
        began = time.perf_counter()
        now = self._now()
        newest: dict[str, Newest] = {}
        users = unfolded = 0
        log: Counter[str] = Counter()
        deleted: Counter[str] = Counter()
        behind: list[float] = []
        try:
            for found in self._scanner.scan(now):
                users, unfolded = users + 1, unfolded + found.backlog.unfolded
                log.update(found.log)
                deleted.update(found.deleted)
                if found.newest is not None:
                    newest[found.backlog.uid] = found.newest
                    if found.backlog.unfolded:
                        behind.append(now - found.newest.created)
        except LookupError:
            pass
        self._count_layers(newest)
        ages: dict[tuple[str, ...], float] = (
            {("newest",): now - max(one.created for one in newest.values())} if newest else {}
        )
        ages |= {("oldest",): max(behind)} if behind else {}
        checkpoints = sum(one.generation for one in newest.values())
        if now - self._foreseen >= FORECAST_EVERY:
            self._left, self._foreseen = self._look_ahead(log, deleted, now), now
        self.sums = Sums(users, log.total(), unfolded, checkpoints, ages, time.perf_counter() - began)

    def _count_layers(self, newest: Mapping[str, Newest]) -> None:
        """Add up the layers that were not there the last time."""
        before, self._layers = self._layers, {uid: one.layers for uid, one in newest.items()}
        if before is not None:
            for uid, layers in self._layers.items():
                self.written += sum(size for name, size in layers.items() if name not in before.get(uid, ()))

    def _look_ahead(self, log: Mapping[str, int], deleted: Mapping[str, int], now: float) -> Reading:
        """Seconds until the logs have the size of the limit, by default until the disk is full."""
        if len({*log, *deleted}) < 2:
            return None
        from meshlab.growth.forecast import reach  # loads Arrow

        limit = self._limit
        if limit is None:
            free = free_bytes(self._store)
            if free is None:
                return None
            limit = sum(log.values()) + free
        left = reach(_totals(log, deleted, now), limit=max(limit, 1))
        if left is None:
            return None
        return {(name,): math.inf if days is None else days * DAY for name, days in left._asdict().items()}

    def feed(self, metrics: Metrics) -> None:
        """Have what is found told as metrics."""
        metrics.feed("meshlab_users", lambda: self.sums.users)
        metrics.feed("meshlab_wal_bytes", lambda: self.sums.log)
        metrics.feed("meshlab_unfolded_bytes", lambda: self.sums.unfolded)
        metrics.feed("meshlab_checkpoints_total", lambda: self.sums.checkpoints)
        metrics.feed("meshlab_checkpoint_age_seconds", lambda: self.sums.ages)
        metrics.feed("meshlab_checkpoint_bytes_total", lambda: self.written)
        metrics.feed("meshlab_write_amplification", lambda: _amplification(metrics, self.written))
        metrics.feed("meshlab_limit_forecast_seconds", lambda: self._left)
        metrics.feed("meshlab_survey_seconds", lambda: self.sums.seconds)
        metrics.feed("meshlab_disk_free_bytes", lambda: free_bytes(self._store))


def _totals(log: Mapping[str, int], deleted: Mapping[str, int], now: float) -> pa.Table:
    """Bytes by day as a forecast takes them; of today as far as it has gone."""
    import pyarrow as pa

    from meshlab.tables.totals import TOTALS_SCHEMA

    hour = int(now // HOUR * HOUR * SECOND)
    today = day_of(hour)
    rows = [
        {"day": day, "bytes": nbytes, "deleted": gone, "op": "", "hour": hour if day == today else None}
        for gone, days in ((False, log), (True, deleted))
        for day, nbytes in days.items()
    ]
    return pa.Table.from_pylist(rows, TOTALS_SCHEMA)


def _amplification(metrics: Metrics, layers: int) -> float | None:
    events = metrics.total("meshlab_event_bytes_total")
    return (metrics.total("meshlab_append_bytes_total") + layers) / events if events else None


def free_bytes(path: Path) -> int | None:
    """Free bytes for this process where a path is, or would be made; None when nobody can tell."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        status = os.statvfs(path)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize
