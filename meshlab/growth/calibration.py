"""What a replay costs on this machine: measured once per process, on logs made for it.

A replay takes ``setup + event · events + byte · bytes + record · records`` seconds: the
events behind the snapshot and the bytes of their contents, the records in its layers.
Four replays tell the four: of next to nothing, of many small events, of fewer with long
contents, and of a snapshot with nothing behind it.
"""

from __future__ import annotations

import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from meshlab.replay import replay
from meshlab.snapshot.checkpoint import checkpoint
from meshlab.wal.writer import Writer

_SMALL, _LARGE = 24_000, 2000
"""Events of the two logs: each several megabytes, since short logs are read at another pace."""

_WORDS = "lorem ipsum dolor sit amet " * 150
_BATCH = 4000
_UID = "probe"


class Costs(NamedTuple):
    """Seconds of a replay: at all, for each event, byte of a content in them, and record in layers."""

    setup: float
    event: float
    byte: float
    record: float

    def log(self, events: Any, contents: Any) -> Any:
        """Seconds to fold so many events with contents of so many bytes: what a checkpoint saves."""
        return self.event * events + self.byte * contents

    def replay(self, events: int, contents: int, records: int) -> float:
        """Seconds to open a user: layers of so many records, and so much log behind them."""
        return self.setup + self.record * records + float(self.log(events, contents))


@lru_cache(maxsize=1)
def costs() -> Costs:
    """What replays cost here; takes about a second the first time.

    Raises ``StorageError`` or ``OSError`` when there is no room for a few megabytes of temporary files.
    """
    with tempfile.TemporaryDirectory(prefix="meshlab-") as folder:
        return _measured(Path(folder))


def _measured(folder: Path) -> Costs:
    _write(folder / "none", [_recall(0)])
    _seconds(folder / "none")  # a process is slow the first time
    setup = _seconds(folder / "none")
    _write(folder / "small", [_recall(number) for number in range(_SMALL)])
    event = max(0.0, _seconds(folder / "small") - setup) / _SMALL
    _write(folder / "large", [_document(number) for number in range(_LARGE)])
    byte = max(0.0, _seconds(folder / "large") - setup - event * _LARGE) / (_LARGE * len(_WORDS))
    checkpoint(folder / "large", _UID, progress=False)
    return Costs(setup, event, byte, max(0.0, _seconds(folder / "large") - setup) / _LARGE)


def _write(root: Path, events: list[dict[str, Any]]) -> None:
    writer = Writer(root, durability="os")
    for low in range(0, len(events), _BATCH):
        writer.append_many(events[low : low + _BATCH])
    writer.close()


def _seconds(root: Path) -> float:
    started = time.perf_counter()
    replay(root, _UID, progress=False)
    return time.perf_counter() - started


def _recall(number: int) -> dict[str, Any]:
    """A small event; the first about an id has to set the record, for orphans are folded at another pace."""
    change = {"id": f"{number % 997:036d}", "amplitude": 1 / (number + 1), "access_count": number}
    stamp = {"stability": 0.8, "last_accessed": "2025-07-01T10:00:00.000000Z"}
    return {"Insert" if number < 997 else "Update": change | stamp}


def _document(number: int) -> dict[str, Any]:
    return {"Insert": {"id": f"{number:036d}", "amplitude": 0.5, "content": f"{number} {_WORDS}"}}
