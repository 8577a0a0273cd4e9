"""Log records as JSON lines: one object per record, for journals and the programs that read them.

>>> record = logging.LogRecord("meshlab", logging.INFO, "", 0, "started", None, None)
>>> record.created, record.fields = 1751875200.137, {"workers": 1}
>>> JsonFormatter().format(record)
'{"ts":"2025-07-07T08:00:00.137000Z","level":"info","event":"started","workers":1}'
"""

from __future__ import annotations

import logging
from typing import Any, TextIO

import msgspec

from meshlab.times import SECOND, format_time


class JsonFormatter(logging.Formatter):
    """Time, level, what happened, and the fields given as ``extra={"fields": …}``."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line of ASCII-safe JSON."""
        line: dict[str, Any] = {
            "ts": format_time(round(record.created * SECOND)),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return ascii_json(msgspec.json.encode(line, enc_hook=str).decode())


def json_logger(name: str, stream: TextIO, *, level: int = logging.INFO) -> logging.Logger:
    """The logger of that name, writing JSON lines to the stream and nowhere else."""
    logger = logging.getLogger(name)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level)
    return logger


def ascii_json(text: str) -> str:
    """The same JSON with everything beyond printable ASCII as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if " " <= char <= "~" else _escape(char) for char in text)


def _escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))
