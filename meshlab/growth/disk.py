"""What stands on disk while a user is checkpointed by a policy, and vacuum runs behind every checkpoint.

The rules are those of ``snapshot.vacuum``: moments of the last days of retention stay
restorable, from the newest checkpoint that is as old; what it had folded goes, but for
segments of today and yesterday; a layer stays as long as a manifest that stays names it.
Sealed copies are not counted, for they are a cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from meshlab.growth.trace import Trace
from meshlab.times import DAY, midnight


class Written(NamedTuple):
    """Bytes that one checkpoint writes: layers of what changed, layers merged from older ones, the manifest."""

    change: int
    merged: int
    manifest: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


class Held(NamedTuple):
    """A layer: its bytes, the checkpoint that wrote it, and the first one that no longer names it, if there is one."""

    nbytes: int
    since: int
    until: int | None


class Segments(NamedTuple):
    """The segments of a trace: bytes, the number of events up to the last of each, and from when on it may go (µs)."""

    nbytes: Any
    ends: Any
    old: Any

    @classmethod
    def of(cls, found: Trace) -> Segments:
        """Those of a trace."""
        nbytes = np.bincount(found.day, found.nbytes, len(found.days)).astype(np.int64) + found.spare
        ends = np.zeros(len(found.days), np.int64)
        ends[found.day] = np.arange(1, len(found) + 1)  # of repeated indices the last assignment stays
        return cls(nbytes, ends, np.array([midnight(day) + 2 * DAY for day in found.days], np.int64))

    def gone(self, stops: Any, times: Any, bases: Any) -> Any:
        """Behind which checkpoint vacuum deletes each."""
        folded = np.searchsorted(stops, self.ends)
        return np.maximum(np.searchsorted(bases, folded), np.searchsorted(times, self.old))


def peak(
    found: Trace,
    segments: Segments,
    stops: Any,
    held: Sequence[Held],
    written: Sequence[Written],
    retain_days: int,
) -> int:
    """The most bytes of log, layers and manifests at once: behind any checkpoint, before its vacuum, or at the end.

    ``stops`` are the numbers of events before each checkpoint.
    """
    count = len(stops)
    times = found.time[stops - 1]
    bases = np.searchsorted(times, times - retain_days * DAY, side="right") - 1
    log = np.append(found.ends[stops], found.ends[-1]) + found.spare_bytes
    log -= _sums(count, segments.nbytes, segments.gone(stops, times, bases) + 1, np.full(len(found.days), count))
    layers = np.array([(one.nbytes, one.since, count if one.until is None else one.until) for one in held], np.int64)
    sizes, since, dropped = layers.reshape(-1, 3).T
    names = np.array([one.manifest for one in written], np.int64)
    order = np.arange(count)
    # A manifest is dropped by the first vacuum whose base is a later one.
    return int(
        (
            log
            + _sums(count, sizes, since, np.searchsorted(bases, dropped))
            + _sums(count, names, order, np.searchsorted(bases, order + 1))
        ).max()
    )


def _sums(count: int, nbytes: Any, first: Any, last: Any) -> Any:
    """For each checkpoint and the end, the bytes of what is there from the first to the last, both included."""
    steps = np.zeros(count + 3, np.int64)
    np.add.at(steps, first, nbytes)
    np.add.at(steps, last + 1, -nbytes)
    return np.cumsum(steps)[: count + 1]
