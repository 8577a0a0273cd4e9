"""The access log: one JSON object per request, written many at a time."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TextIO

import msgspec

from meshlab.service.jsonlog import ascii_json
from meshlab.times import format_time

_EVERY = 0.05
"""Seconds for which lines are collected."""


class Line(msgspec.Struct, gc=False):
    """One request; ``ms`` from its head to its answer, ``taken`` and ``given`` are bytes of bodies."""

    client: str | None
    token: str | None
    method: str
    path: str
    uid: str | None
    status: int
    ms: float
    taken: int
    given: int
    ts: str = ""
    level: str = "info"
    event: str = "request"


_encode_lines = msgspec.json.Encoder().encode_lines


class AccessLog:
    """Lines for ``stream``; None keeps no log.  What is collected is written by ``flush`` at the latest."""

    def __init__(self, stream: TextIO | None = sys.stderr) -> None:
        self._stream = stream
        self._lines: list[Line] = []
        self._milli, self._text = -1, ""

    def note(self, line: Line) -> None:
        """One request that was answered."""
        if self._stream is None:
            return
        if not self._lines:
            asyncio.get_running_loop().call_later(_EVERY, self.flush)
        milli = time.time_ns() // 1_000_000
        if milli != self._milli:  # many are answered in one millisecond: behind one sync
            self._milli, self._text = milli, format_time(milli * 1000)
        line.ts = self._text
        self._lines.append(line)

    def flush(self) -> None:
        """Write what was collected; a log that cannot be written stops no request."""
        lines, self._lines = self._lines, []
        if not lines or self._stream is None:
            return
        text = _encode_lines(lines).decode()
        if not text.isascii() or "\x7f" in text:
            text = "".join(ascii_json(line) + "\n" for line in text.split("\n")[:-1])
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            pass
