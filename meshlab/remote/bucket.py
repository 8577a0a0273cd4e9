"""The contract of a bucket, and the two that need no server: a folder, and memory.

A bucket maps keys to bytes.  Whoever writes one promises six things, and
``tests/remote/test_bucket.py`` holds every bucket to them:

    put      whole or not there; done when it returns; again with the same bytes: no harm
    get      exactly the bytes of the last put; ``NotFound`` when there were none
    list     every key that was put before it began, once, in order of the keys
    delete   gone when it returns; a key that is not there is no error
    check    raises what is wrong with the bucket as a whole, such as wrong keys
    errors   ``RemoteUnavailable`` when asking again may help, else ``RemoteRefused``

No bucket retries; see ``patience``.

>>> bucket = MemoryBucket()
>>> bucket.put("data/ann/one", b"bytes")
>>> [found.key for found in bucket.list("data/")], bucket.get("data/ann/one")
(['data/ann/one'], b'bytes')
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from meshlab.errors import MeshlabError, NotFound, RemoteRefused, RemoteUnavailable
from meshlab.wal.files import REAL_FILES, Files, open_regular
from meshlab.wal.sink import SyncedFile

PAGE = 1000
"""Keys that one request lists or deletes, as S3 has it."""


class Found(NamedTuple):
    """A key, its bytes, and when it was put by the clock of the bucket (µs)."""

    key: str
    nbytes: int
    modified: int


class Bucket(Protocol):
    """What push, pull and retention ask of a bucket; all methods may be called by many threads."""

    url: str

    def put(self, key: str, data: bytes) -> None:
        """Put an object."""

    def get(self, key: str) -> bytes:
        """The bytes of an object.  Raises ``NotFound``."""

    def list(self, prefix: str) -> Iterator[Found]:
        """The objects whose key begins with ``prefix``, which ends in a slash, in order of their keys."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects."""

    def check(self) -> None:
        """Raise ``RemoteRefused`` or ``RemoteUnavailable`` when the bucket cannot be used."""


class MemoryBucket:
    """A bucket that is gone with the process: for tests, and to rehearse."""

    def __init__(self, url: str = "memory:") -> None:
        self.url = url
        self._held: dict[str, tuple[bytes, int]] = {}
        self._mutex = threading.Lock()

    def put(self, key: str, data: bytes) -> None:
        """Put an object."""
        with self._mutex:
            self._held[key] = bytes(data), time.time_ns() // 1000

    def get(self, key: str) -> bytes:
        """The bytes of an object."""
        try:
            return self._held[key][0]
        except KeyError:
            raise not_found(self.url, key) from None

    def list(self, prefix: str) -> Iterator[Found]:
        """The objects below a prefix."""
        with self._mutex:
            held = sorted((key, value) for key, value in self._held.items() if key.startswith(prefix))
        return (Found(key, len(data), modified) for key, (data, modified) in held)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects."""
        with self._mutex:
            for key in keys:
                self._held.pop(key, None)

    def check(self) -> None:
        """Nothing can be wrong with it."""


class FolderBucket:
    """A bucket that is a directory, on another disk or a mounted share; keys are paths in it.

    An object is written under a temporary name, synced, and renamed; then its name and
    those of directories that were made for it are synced.
    """

    def __init__(self, folder: Path, *, files: Files = REAL_FILES) -> None:
        self.folder = folder.absolute()
        self.url = f"file://{self.folder}"
        self._files = files
        self._named: set[Path] = set()

    def put(self, key: str, data: bytes) -> None:
        """Put an object."""
        path = self._path(key)
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        with self._errors("put", key):
            self._make(path.parent)
            try:
                with SyncedFile(temporary, self._files) as sink:
                    sink.write(data)
                self._files.rename(temporary, path)
            except BaseException:
                with suppress(OSError):
                    self._files.unlink(temporary)
                raise
            self._files.sync_directory(path.parent)

    def get(self, key: str) -> bytes:
        """The bytes of an object."""
        path = self._path(key)
        with self._errors("get", key), open(path, "rb", opener=open_regular) as file:
            return file.read()

    def list(self, prefix: str) -> Iterator[Found]:
        """The objects below a prefix.

        A put whose last sync failed leaves an object to be seen that a loss of power would
        take away: directories are synced before what is in them is told, if that may be done.
        """
        self.check()
        with self._errors("list", prefix):
            yield from sorted(self._walk(self.folder / prefix, prefix))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; directories that are empty by then go too."""
        for key in keys:
            path = self._path(key)
            with self._errors("delete", key), suppress(FileNotFoundError):
                self._files.unlink(path)
                self._files.sync_directory(path.parent)
                with suppress(OSError):
                    for folder in path.parents:
                        if folder == self.folder:
                            break
                        folder.rmdir()

    def check(self) -> None:
        """The folder must be there: a share that is not mounted must not be taken for an empty bucket."""
        if not self.folder.is_dir():
            raise RemoteRefused(f"{self.url}: there is no such directory", hint="make or mount it first")

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if any(part in ("", ".", "..") or "\0" in part or part.startswith(".") for part in parts):
            raise RemoteRefused(f"{self.url}: {key!r} is no key of ours")
        return self.folder.joinpath(*parts)

    def _make(self, folder: Path) -> None:
        """A directory and those above it, their names synced whoever made them."""
        self.check()
        for one in reversed([folder, *folder.relative_to(self.folder).parents]):
            path = self.folder / one
            if path == self.folder:
                continue
            made = not path.is_dir()
            if made:
                with suppress(FileExistsError):
                    self._files.mkdir(path)
            if made or path not in self._named:
                self._files.sync_directory(path.parent)
                self._named.add(path)

    def _walk(self, folder: Path, prefix: str) -> Iterator[Found]:
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            return
        with suppress(OSError):  # who only reads may be allowed no more than that
            self._files.sync_directory(folder)
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(folder / entry.name, f"{prefix}{entry.name}/")
                continue
            with suppress(FileNotFoundError):  # deleted meanwhile
                status = entry.stat(follow_symlinks=False)
                yield Found(prefix + entry.name, status.st_size, status.st_mtime_ns // 1000)

    def _errors(self, action: str, key: str) -> _FolderErrors:
        return _FolderErrors(self.url, action, key)


class _FolderErrors:
    """Turns what the operating system says into what a bucket says."""

    def __init__(self, url: str, action: str, key: str) -> None:
        self._where = f"{url}: cannot {action} {key}"
        self._missing = not_found(url, key)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MeshlabError) or not isinstance(error, OSError):
            return
        if isinstance(error, FileNotFoundError):
            raise self._missing from error
        refused = isinstance(error, (PermissionError, NotADirectoryError, IsADirectoryError))
        wrong = RemoteRefused if refused else RemoteUnavailable
        raise wrong(f"{self._where}: {error.strerror or error}", hint=_FULL_HINT if not refused else None) from error


_FULL_HINT = "check that disk, its mount and its free space, then run the same command again"


def not_found(url: str, key: str) -> NotFound:
    """The error for a key that is not there."""
    return NotFound(f"{url}: there is no object {key}", hint="it was deleted, or never put there whole")
