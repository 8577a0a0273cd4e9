"""One pass over one raw segment: blocks in, record batches out."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from meshlab.dialects import OPS, OTHER
from meshlab.tables.batches import Names, event_batch, take
from meshlab.tables.fields import record_fields
from meshlab.tables.parse import Parser
from meshlab.tables.reports import check_tiling, failed_rejects, with_failed
from meshlab.tables.sizes import Sizes
from meshlab.wal.chain import Cursor
from meshlab.wal.files import open_regular
from meshlab.wal.lines import Block, Digests, Reject, md5_digests
from meshlab.wal.paths import segment_name
from meshlab.wal.reader import Opener, Part, SegmentScan, scan_segment

T = TypeVar("T")

_STRETCH = 16 << 20
"""Bytes of a log per block: enough for a query to keep all cores busy, few enough for the cache."""


class Rows(NamedTuple):
    """Which rows to parse: bounds of the effective time (µs, inclusive) and ops; None means all."""

    since: int | None = None
    until: int | None = None
    ops: frozenset[str] | None = None

    def mask(self, block: Block) -> Any:
        """Rows that may be chosen; an Insert or Update can still turn out to be ``other``."""
        mask = np.ones(len(block.op), bool)
        if self.since is not None:
            mask &= block.effective >= self.since
        if self.until is not None:
            mask &= block.effective <= self.until
        if self.ops is not None and OPS[OTHER] not in self.ops:
            mask &= np.isin(block.op, [OPS.index(op) for op in self.ops])
        return mask


ALL_ROWS = Rows()


@dataclass(slots=True)
class RawSegment:
    """Reads a segment of a log, or a piece of one, from its bytes.

    Iterate ``batches``; then ``part``, ``end`` and, when the end of the chosen time was
    passed before the end of the file, ``cut`` are set.  ``sizes``, when given, is told what
    the events take, ``with_fields`` also field by field.
    """

    root: Path
    day: str
    start: Cursor
    newest: bool
    parser: Parser
    names: Names
    columns: Sequence[str]
    rows: Rows = ALL_ROWS
    digests: Digests = md5_digests
    offset: int = 0
    stop: int | None = None
    line: int = 1
    opener: Opener = open_regular
    cut: bool = False
    sizes: Sizes | None = None
    with_fields: bool = False
    _scan: SegmentScan | None = None
    _failed: list[Reject] = field(default_factory=list)
    _events: int = 0
    _event_bytes: int = 0

    def batches(self, advance: Callable[[int], Any] = lambda count: None) -> Iterator[pa.RecordBatch]:
        """The events of the chosen rows; ``advance`` is told the bytes that were read."""
        place: dict[str, Any] = {"offset": self.offset, "stop": self.stop, "line": self.line, "opener": self.opener}
        self._scan = scan_segment(
            self.root, self.day, self.start, newest=self.newest, digests=self.digests, chunk=_STRETCH, **place
        )
        told = self.offset
        for block in iter(self._scan) if self._is_small() else ahead(iter(self._scan)):
            if len(block.op) == 0:
                continue
            end = block.base + int(block.start[-1] + block.nbytes[-1])
            advance(end - told)
            told = end
            yield self._batch(take(block, self.rows.mask(block)))
            if self.rows.until is not None and block.effective[-1] > self.rows.until:
                self.cut = True
                return

    def _is_small(self) -> bool:
        """Whether it is one stretch, as most are: there is nothing to read ahead, and no need of a thread."""
        try:
            stop = os.path.getsize(self.root / segment_name(self.day)) if self.stop is None else self.stop
        except OSError:  # a vacuum may have deleted what this pass holds open
            return False
        return stop - self.offset <= _STRETCH

    def _batch(self, block: Block) -> pa.RecordBatch:
        records = self.parser.parse(block)
        if self.with_fields or "given" in self.columns:
            records = records._replace(fields=record_fields(block, records))
        if self.sizes is not None:
            self.sizes.add(block, records)
        failed = failed_rejects(block, records.failed)
        batch = event_batch(block, records, self.names, self.columns)
        self._failed += failed
        self._events += batch.num_rows
        self._event_bytes += int(block.nbytes.sum()) - sum(reject.nbytes for reject in failed)
        return batch

    @property
    def end(self) -> Cursor:
        """Where the log stands behind what was read."""
        assert self._scan is not None
        return self._scan.end

    @property
    def first(self) -> int | None:
        """The effective time of the first event (µs)."""
        assert self._scan is not None
        return self._scan.first

    @property
    def part(self) -> Part:
        """What the segment adds to the log's report."""
        assert self._scan is not None
        return with_failed(self._scan.part, self._failed)

    def check_tiling(self) -> None:
        """Raise ``InternalError`` unless all that was given out and set aside tiles the file."""
        check_tiling(self.root, self.part, self._events, self._event_bytes)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, the next two being made in a background thread meanwhile."""
    done: Any = object()
    with ThreadPoolExecutor(1, thread_name_prefix="meshlab-read") as pool:
        coming = deque(pool.submit(next, items, done) for _ in range(2))
        while (item := coming.popleft().result()) is not done:
            coming.append(pool.submit(next, items, done))
            yield item
