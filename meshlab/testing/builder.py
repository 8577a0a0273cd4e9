"""Stores of any size, the same bytes for the same seed.

>>> import tempfile
>>> built = build_store(tempfile.mkdtemp(), users=2, days=3, events=100)
>>> built.events, sorted(built.users)
(100, ['ada', 'bela'])
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np

from meshlab.errors import MeshlabError
from meshlab.testing.traffic import Mix, Traffic, moments, stamps
from meshlab.times import DAY, day_of
from meshlab.wal.frame import NO_SUM, write_frame
from meshlab.wal.paths import check_uid, segment_name

BUFFER = 1 << 20
BENCHMARK_DAY = "20250701"
BENCHMARK_UID = "bench"

NAMES = ("ada", "bela", "chiara", "dmitri", "esi", "farid", "greta", "hana", "ines", "joao", "kofi", "lena")

Progress = Callable[[int], object]
"""Called with the number of events written since the last call."""


class BuiltStore(NamedTuple):
    """What was built: events per user, bytes in all, events by kind (``recall`` and ``seal`` are updates).

    >>> built = BuiltStore(Path("store"), {"ada": 3}, 3, 1_200, {"insert": 1, "recall": 2})
    >>> built.kinds["recall"] / built.events > 0.6
    True
    """

    path: Path
    users: dict[str, int]
    events: int
    nbytes: int
    kinds: dict[str, int]


def build_store(
    path: str | os.PathLike[str],
    *,
    users: int | Sequence[str] = 6,
    days: int = 10,
    events: int = 4000,
    seed: int = 1,
    first_day: str = "20250701",
    recall_share: float = 0.6,
    delete_share: float = 0.06,
    seal_share: float = 0.04,
    batch_share: float = 0.03,
    key_share: float = 0.02,
    progress: Progress | None = None,
) -> BuiltStore:
    """Write a realistic store: few users are very busy, few memories very popular.

    Traffic follows day and night, weekdays and weekends.  ``recall_share`` of the
    events are recalls, partial updates of amplitude, stability, last_accessed and
    access_count; the shares not given to recall, delete or seal are inserts.
    ``batch_share`` of the frames hold two to twelve events, the rest one; ``key_share``
    of them carry an idempotency key.

    Raises ``MeshlabError`` when the numbers make no sense or the folder is not empty.

    >>> import tempfile
    >>> build_store(tempfile.mkdtemp(), users=["ann"], days=2, events=20).users
    {'ann': 20}
    """
    root = Path(path)
    names = list(users) if not isinstance(users, int) else _names(users)
    mix = Mix(recall_share, delete_share, seal_share)
    _check(names, days, events, mix)
    _make_empty(root)
    counts = dict(zip(names, _shares(len(names), events), strict=True))
    kinds: Counter[str] = Counter()
    nbytes = 0
    for uid, count in counts.items():
        traffic = Traffic(_seed(seed, uid, "traffic"), mix)
        log = _UserLog(root / uid, traffic, Frames(batch_share, key_share), Random(_seed(seed, uid, "frames")))
        nbytes += log.fill(moments(count, first_day, days, _seed(seed, uid, "moments")), progress)
        kinds.update(traffic.counts)
    return BuiltStore(root, counts, events, nbytes, dict(kinds))


def build_benchmark_log(
    path: str | os.PathLike[str], events: int = 1_000_000, seed: int = 1, *, progress: Progress | None = None
) -> Path:
    """One user (``bench``), one segment, single-line frames of 440 bytes on average.

    30 % Insert, 63 % Update (recalls), 7 % Delete: a million events make about 440 MB.
    Returns the segment's path.

    >>> import tempfile
    >>> build_benchmark_log(tempfile.mkdtemp(), events=10).name
    'wal-20250701.log'
    """
    root = Path(path)
    _make_empty(root)
    traffic = Traffic(_seed(seed, BENCHMARK_UID, "traffic"), Mix(0.63, 0.07, 0.0), sentences=(1, 2), late_share=0.0)
    log = _UserLog(root / BENCHMARK_UID, traffic, Frames(0.0, 0.0), Random(0))
    log.fill(moments(events, BENCHMARK_DAY, 1, _seed(seed, BENCHMARK_UID, "moments")), progress)
    return root / BENCHMARK_UID / segment_name(BENCHMARK_DAY)


class Frames(NamedTuple):
    """Shares of the frames that are batches, and that carry a key."""

    batch_share: float
    key_share: float


class _UserLog:
    """One user's segments, written frame by frame with the chain kept."""

    def __init__(self, root: Path, traffic: Traffic, frames: Frames, random: Random) -> None:
        self.root = root
        self.traffic = traffic
        self.frames = frames
        self.random = random
        self.seq = 1
        self.prev = NO_SUM

    def fill(self, times: Any, progress: Progress | None) -> int:
        """Write an event at each moment; returns the bytes written."""
        self.root.mkdir()
        size = 0
        for day, these in _by_day(times):
            with open(self.root / segment_name(day), "wb", buffering=BUFFER) as file:
                for data in self._frames(these, progress):
                    size += file.write(data)
        return size

    def _frames(self, times: Any, progress: Progress | None) -> Iterator[bytes]:
        event = self.traffic.event
        clock = stamps(times)
        done = 0
        for stamp in clock:
            more = islice(clock, self._batch() - 1)
            events = [event(stamp), *(event(stamp) for _ in more)]
            frame = write_frame(events, stamp, seq=self.seq, prev=self.prev, key=self._key())
            self.seq, self.prev = frame.last_seq + 1, frame.sum
            yield frame.data
            done += len(events)
            if progress is not None and done >= 10_000:
                progress(done)
                done = 0
        if progress is not None and done:
            progress(done)

    def _batch(self) -> int:
        if self.frames.batch_share and self.random.random() < self.frames.batch_share:
            return 2 + int(self.random.random() * 11)
        return 1

    def _key(self) -> bytes | None:
        if self.frames.key_share and self.random.random() < self.frames.key_share:
            return b"req-%016x" % self.random.getrandbits(64)
        return None


def _by_day(times: Any) -> Iterator[tuple[str, Any]]:
    days = times // DAY
    cuts = np.flatnonzero(np.diff(days)) + 1
    for these in np.split(times, cuts):
        if len(these):
            yield day_of(int(these[0])), these


def _names(count: int) -> list[str]:
    return [NAMES[number] if number < len(NAMES) else f"user-{number + 1:04d}" for number in range(count)]


def _shares(users: int, events: int) -> list[int]:
    """Events per user by Zipf's law, at least one each, adding up to ``events``."""
    weights = [1 / rank for rank in range(1, users + 1)]
    spare = events - users
    counts = [1 + int(spare * weight / sum(weights)) for weight in weights]
    counts[0] += events - sum(counts)
    return counts


def _seed(seed: int, uid: str, purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{uid}/{purpose}".encode()).digest()[:8], "big")


def _check(names: list[str], days: int, events: int, mix: Mix) -> None:
    for uid in names:
        check_uid(uid)
    if not names or days < 1 or events < len(names):
        raise MeshlabError(
            f"cannot build {events} events for {len(names)} users over {days} days",
            hint="give at least one user, one day and one event for each user",
        )
    if min(mix) < 0 or sum(mix) > 1:
        raise MeshlabError(
            f"the shares {tuple(mix)} are no shares", hint="each is 0 to 1; what is left of 1 are inserts"
        )


def _make_empty(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    if next(root.iterdir(), None) is not None:
        raise MeshlabError(f"{root} is not empty", hint="name a folder that does not exist yet")
