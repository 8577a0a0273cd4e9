"""The log's files with a watch on them: how long syncs take."""

from __future__ import annotations

import time

from meshlab.service.metrics import Metrics
from meshlab.wal.files import Files


class MeasuredFiles(Files):
    """Real files whose syncs are measured."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def sync(self, fd: int) -> None:
        """Sync, and tell how long it took."""
        began = time.perf_counter()
        super().sync(fd)
        self._metrics.observe("meshlab_fsync_seconds", time.perf_counter() - began)
