"""Plans and reports as files: written whole, over nothing that somebody may need."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from meshlab.errors import MeshlabError, PlanRefused, StorageError, storage_errors
from meshlab.wal.files import REAL_FILES, Files, open_regular
from meshlab.wal.sink import SyncedFile

_LARGEST = 1 << 30
"""Bytes of a plan file: more is something else."""


def replace_file(path: Path, data: bytes, files: Files = REAL_FILES) -> Path:
    """Put a plan or report in place of an earlier one; on disk when it returns.  Raises ``StorageError``."""
    _refuse_other(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage_errors("write", path):
        with suppress(FileNotFoundError):
            files.unlink(temporary)
        try:
            with SyncedFile(temporary, files) as sink:
                sink.write(data)
            files.rename(temporary, path)
        except BaseException:
            with suppress(OSError):
                files.unlink(temporary)
            raise
        files.sync_directory(path.absolute().parent)
    return path


class _Ours(msgspec.Struct):
    id: str
    tool: str
    format: int


def _refuse_other(path: Path) -> None:
    """Raise ``StorageError`` when a file stands there that is neither a plan nor a report."""
    if not os.path.lexists(path):
        return
    try:
        msgspec.json.decode(read_small_file(path, "a plan"), type=_Ours)
    except (MeshlabError, msgspec.MsgspecError, ValueError, RecursionError):
        raise StorageError(
            f"{path}: expected nothing, or an earlier plan or report, found another file", hint="give another name"
        ) from None


def read_small_file(path: str | os.PathLike[str], what: str) -> bytes:
    """The bytes of a regular file of at most 1 GiB.  Raises ``NotFound``, ``StorageError``, ``PlanRefused``."""
    with storage_errors("read", path):
        fd = open_regular(path, os.O_RDONLY)
        with os.fdopen(fd, "rb") as file:
            if (size := os.fstat(fd).st_size) > _LARGEST:
                raise PlanRefused(f"{os.fspath(path)}: expected {what}, at most {_LARGEST:,} bytes, found {size:,}")
            return file.read()
