"""The access log: one JSON object per request, written many at a time."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, TextIO

import msgspec

from meshlab.service.jsonlog import ascii_json
from meshlab.times import format_time

_EVERY = 0.05
"""Seconds for which lines are collected."""

_encode = msgspec.json.Encoder().encode


class AccessLog:
    """Lines for ``stream``; None keeps no log.  What is collected is written by ``flush`` at the latest."""

    def __init__(self, stream: TextIO | None = sys.stderr) -> None:
        self._stream = stream
        self._lines: list[dict[str, Any]] = []

    def note(self, line: dict[str, Any]) -> None:
        """One request that was answered."""
        if self._stream is None:
            return
        if not self._lines:
            asyncio.get_running_loop().call_later(_EVERY, self.flush)
        self._lines.append({"ts": format_time(time.time_ns() // 1000), "level": "info", "event": "request", **line})

    def flush(self) -> None:
        """Write what was collected; a log that cannot be written stops no request."""
        lines, self._lines = self._lines, []
        if not lines or self._stream is None:
            return
        text = "".join(ascii_json(_encode(line).decode()) + "\n" for line in lines)
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            pass
