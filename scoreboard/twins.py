"""Twins that are broken on purpose: each leaves out what one promise rests on."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from meshlab.snapshot import layers, manifest
from meshlab.testing import ForgetfulFiles
from meshlab.wal import classify, lock
from meshlab.wal.paths import SNAPSHOT

LEFTOVERS: dict[str, dict[str, Any]] = {
    "clean cut": {},
    "torn": {"keep_torn": True},
    "torn, holes, names by chance": {"keep_torn": True, "holes": True, "keep_names": True},
    "all bytes there, names by chance": {"keep": "*", "keep_names": True},
    "lock written back, log not": {"keep": "wal.lock"},
    "log written back, lock not": {"keep": "wal-*.log"},
}
"""What a power cut may leave of what was not synced."""


class NoFileSync(ForgetfulFiles):
    """A disk whose files are never synced."""

    def sync(self, fd: int) -> None:
        """Nothing."""


class NoDirectorySync(ForgetfulFiles):
    """A disk whose names are never synced."""

    def sync_directory(self, path: Path) -> None:
        """Nothing."""


class ManifestFirst(ForgetfulFiles):
    """A disk on which layers are synced after the manifest that names them."""

    def __init__(self) -> None:
        super().__init__()
        self._late: set[Path] = set()
        self._opened: dict[int, Path] = {}
        self._named = False

    def open(self, path: Path, flags: int) -> int:
        """Open, and sync what is late."""
        self._catch_up()
        fd = super().open(path, flags)
        self._opened[fd] = path
        return fd

    def sync(self, fd: int) -> None:
        """Sync, or, of a layer, note it for later."""
        if self._opened[fd].parent.name == "layers":
            self._late.add(self._opened[fd].parent)
        else:
            super().sync(fd)

    def sync_directory(self, path: Path) -> None:
        """Sync, or, of layers, note it for later."""
        if path.name == "layers":
            self._late.add(path)
        else:
            super().sync_directory(path)

    def rename(self, source: Path, target: Path) -> None:
        """Rename, and note that the manifest is there."""
        super().rename(source, target)
        self._named = self._named or (target.name == SNAPSHOT and bool(self._late))

    def _catch_up(self) -> None:
        if self._named:
            folders, self._late, self._named = self._late, set(), False
            for folder in folders:
                for path in folder.iterdir():
                    fd = super().open(path, os.O_RDONLY)
                    super().sync(fd)
                    self.close(fd)
                super().sync_directory(folder)


class Agreed:
    """Sums that are equal to whatever they are compared with."""

    def __eq__(self, other: object) -> Any:
        return np.ones(len(other), bool)  # type: ignore[arg-type]

    __hash__ = None  # type: ignore[assignment]


@contextmanager
def put(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Another value in place of an attribute, for a while."""
    kept = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, kept)


@contextmanager
def no_log_sums() -> Iterator[None]:
    """A reader that takes every frame for whole."""
    with put(classify, "hex_digests", lambda digests: Agreed()):
        yield


@contextmanager
def no_chain() -> Iterator[None]:
    """A reader that looks at each frame alone."""
    with put(classify, "follow", lambda links, cursor: ([], cursor)):
        yield


class _NoSum:
    """``hashlib`` with a SHA-256 that is whatever it is compared with."""

    def __getattr__(self, name: str) -> Any:
        return getattr(hashlib, name)

    def sha256(self, data: bytes = b"") -> Any:
        """A digest that holds."""
        return _Holds(data)


class _Holds:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def digest(self) -> Any:
        return _Same()

    def hexdigest(self) -> str:
        return hashlib.sha256(self._data).hexdigest()


class _Same:
    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


@contextmanager
def no_manifest_sum() -> Iterator[None]:
    """A reader of manifests that does not look at the checksum."""
    with put(manifest, "hashlib", _NoSum()):
        yield


@contextmanager
def no_layer_sums() -> Iterator[None]:
    """A reader of layers that believes their names."""
    from meshlab.snapshot import base

    with put(base, "verify_layer", lambda path, layer: None), put(layers, "verify_layer", lambda path, layer: None):
        yield


class _NoFlock:
    """``fcntl`` with locks that exclude nobody."""

    def __getattr__(self, name: str) -> Any:
        return getattr(fcntl, name)

    def flock(self, fd: int, operation: int) -> None:
        """Nothing."""


@contextmanager
def no_lock() -> Iterator[None]:
    """Writers that do not wait for each other."""
    with put(lock, "fcntl", _NoFlock()):
        yield


@contextmanager
def sound() -> Iterator[None]:
    """No twin at all."""
    yield


def either(broken: bool, twin: Callable[[], Any]) -> Any:
    """The twin, or nothing changed."""
    return twin() if broken else sound()
