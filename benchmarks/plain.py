"""What one would write by hand: a bare append loop, a replay into a dict."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from meshlab.events import MeshEvent, encode_event


class BareLog:
    """An append-only file: one ``write`` and one ``fdatasync`` per append, nothing else."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def append_all(self, frames: Sequence[bytes]) -> float:
        """Append each durably; returns the seconds."""
        fd, write, sync = self._fd, os.write, getattr(os, "fdatasync", os.fsync)
        start = time.perf_counter()
        for frame in frames:
            write(fd, frame)
            sync(fd)
        return time.perf_counter() - start

    def close(self) -> None:
        os.close(self._fd)


class PhaseOneLog:
    """The way of phase 1: a line with a time, in a file opened and closed for each event; never a sync."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(self, event: MeshEvent) -> None:
        now = datetime.now(UTC)
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._folder / f"wal-{now:%Y%m%d}.log", "a", encoding="utf-8") as file:
            file.write(f'{{"timestamp":"{now.isoformat()}","event":{encode_event(event).decode()}}}\n')

    def close(self) -> None:
        """Nothing is open."""


def replay_by_orjson(path: Path) -> dict[str, dict[str, Any]]:
    """The live records by id, believing every line: no sum, no sequence, no orphans, no rejects."""
    import orjson

    state: dict[str, dict[str, Any]] = {}
    loads = orjson.loads
    for segment in sorted(path.glob("wal-*.log")):
        with open(segment, "rb") as file:
            for line in file:
                for op, body in loads(line)["event"].items():
                    if op == "Insert":
                        state[body["id"]] = body
                    elif op == "Delete":
                        state.pop(body, None)
                    elif body["id"] in state:
                        state[body["id"]].update(body)
    return state
