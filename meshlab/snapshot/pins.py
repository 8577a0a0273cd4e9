"""Pins: checkpoints that a vacuum leaves alone, whatever their age, and why.

A pin is a small file beside the earlier snapshots, ``history/00000001.pin``; its text is
the reason.  While it stands, the manifest of that generation and the layers it names
stay.  A pin keeps no segment of the log: the moment of the checkpoint itself stays
restorable, not those behind it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from meshlab.errors import MeshlabError, storage_errors
from meshlab.snapshot.checkpoint import locked
from meshlab.snapshot.manifest import HISTORY, MAGIC, history_path, unpack
from meshlab.wal.files import REAL_FILES, Files
from meshlab.wal.paths import SNAPSHOT
from meshlab.wal.sink import SyncedFile

_PIN = re.compile(r"(\d{8})\.pin", re.ASCII)


def pin(root: Path, generation: int, reason: str, files: Files = REAL_FILES) -> None:
    """Keep a checkpoint until it is unpinned; it is pinned for good when this returns.

    The checkpoint must be in force or in ``history/``, and have a number above 0.  A
    second pin replaces the reason of the first.  Takes ``checkpoint.lock``, so that no
    vacuum is at work.

    Raises ``MeshlabError`` for a checkpoint that is not there, ``CheckpointBusy``,
    ``StorageError``.
    """
    path = pin_path(root, generation)
    temporary = path.with_name(f".{path.name}.tmp")
    with locked(root, files):
        if generation < 1 or not _is_there(root, generation):
            raise MeshlabError(
                f"{root}: there is no checkpoint {generation} to pin",
                hint="pin the one in force, or one that 'meshlab windows' shows",
            )
        with storage_errors("write", path):
            if not path.parent.is_dir():
                files.mkdir(path.parent)
                files.sync_directory(root)
            with suppress(FileNotFoundError):
                files.unlink(temporary)
            with SyncedFile(temporary, files) as sink:
                sink.write(reason.encode())
            files.rename(temporary, path)
            files.sync_directory(path.parent)


def unpin(root: Path, generation: int, files: Files = REAL_FILES) -> None:
    """Let a checkpoint go with its time again; without a pin, nothing.  Raises as ``pin`` does."""
    path = pin_path(root, generation)
    with locked(root, files), storage_errors("delete", path):
        with suppress(FileNotFoundError):
            files.unlink(path)
        if path.parent.is_dir():
            files.sync_directory(path.parent)


def pinned(root: Path) -> dict[int, str]:
    """The pinned checkpoints, and why.  Raises ``StorageError`` when a pin cannot be read."""
    with storage_errors("read", root / HISTORY):
        try:
            names = sorted(os.listdir(root / HISTORY))
        except FileNotFoundError:
            return {}
        found = [(int(match[1]), root / HISTORY / name) for name in names if (match := _PIN.fullmatch(name))]
        return {generation: path.read_text(encoding="utf-8", errors="replace") for generation, path in found}


def pin_path(root: Path, generation: int) -> Path:
    """Where the pin of a checkpoint stands."""
    return history_path(root, generation).with_suffix(".pin")


def _is_there(root: Path, generation: int) -> bool:
    if history_path(root, generation).exists():
        return True
    path = root / SNAPSHOT
    with storage_errors("read", path), suppress(FileNotFoundError, ValueError), open(path, "rb") as file:
        head = file.read(len(MAGIC))
        return head == MAGIC and unpack(head + file.read()).generation == generation
    return False
