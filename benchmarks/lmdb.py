"""The log a user would keep in LMDB: records by sequence number, a durable transaction each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import lmdb

from benchmarks.sqlite import row_of, rows_of_dicts
from meshlab.events import MeshEvent

MAP_SIZE = 1 << 32


class LmdbLog:
    """An environment with LMDB's defaults: a commit syncs.  Threads may share it; LMDB lets one write at a time.

    Nothing is validated, and there is no time, checksum or chain.
    """

    def __init__(self, path: Path) -> None:
        self._environment = lmdb.open(str(path), map_size=MAP_SIZE)
        self._sequence = count(self._environment.stat()["entries"] + 1)

    def append(self, event: MeshEvent) -> None:
        self._put([row_of(event)])

    def append_events(self, events: Sequence[MeshEvent]) -> None:
        self._put(row_of(event) for event in events)

    def append_dicts(self, events: Sequence[Mapping[str, Any]]) -> None:
        self._put(rows_of_dicts(events))

    def _put(self, rows: Iterable[tuple[str, str]]) -> None:
        with self._environment.begin(write=True) as transaction:
            for op, record in rows:
                key = next(self._sequence).to_bytes(8, "big")
                transaction.put(key, f"{op} {record}".encode(), append=True)

    def close(self) -> None:
        self._environment.close()
