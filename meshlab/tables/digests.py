"""MD5 of many slices at once, by DuckDB."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from meshlab.tables.slices import views


class DuckDigests:
    """A ``Digests`` function (see ``wal.lines``) that uses both cores and no Python loop."""

    def __init__(self, threads: int | None = None) -> None:
        from meshlab.tables.parse import connect

        self._connection = connect(threads)

    def __call__(self, data: Any, starts: Any, stops: Any) -> Any:
        if not len(starts):
            return np.zeros(0, np.uint64)
        slices = views(data, starts, stops)
        parts = [pa.record_batch({"slice": slices.slice(low, 8192)}) for low in range(0, len(slices), 8192)]
        self._connection.register("slices", pa.Table.from_batches(parts))
        result = self._connection.sql("select md5_number_upper(slice) as digest from slices").to_arrow_table()
        self._connection.unregister("slices")
        return result.column("digest").combine_chunks().to_numpy()
