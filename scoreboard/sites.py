"""Machines that share a bucket, for tests: each has a store, a clock and a remote of its own."""

from __future__ import annotations

import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import meshlab
from meshlab.errors import NotFound, RemoteUnavailable
from meshlab.remote.bucket import MemoryBucket
from meshlab.remote.patience import IMPATIENT, Patience
from meshlab.remote.remote import Remote
from meshlab.replay import replay
from meshlab.snapshot.checkpoint import checkpoint
from meshlab.snapshot.hashing import state_hash
from meshlab.snapshot.vacuum import vacuum
from meshlab.times import DAY, midnight
from meshlab.wal.files import REAL_FILES
from meshlab.wal.writer import Writer

NOON = midnight("20250707") + DAY // 2
SECOND = 1_000_000
LONG = "a content that is long enough to be kept apart, " * 8


class Site:
    """One machine: ``append`` and the rest act on the user ``ann`` unless told otherwise."""

    def __init__(
        self, path: Path, bucket: Any, *, now: int = NOON, patience: Patience = IMPATIENT, files: Any = REAL_FILES
    ) -> None:
        self.path, self.now, self.files = path, now, files
        self.remote = Remote(path, bucket, patience=patience, clock=lambda: self.now, files=files)

    @property
    def root(self) -> Path:
        return self.path / "ann"

    def append(self, *events: Any, uid: str = "ann") -> Any:
        """One frame of these events, a second after the one before."""
        self.now += SECOND
        self.path.mkdir(parents=True, exist_ok=True)
        writer = Writer(self.path / uid, clock=lambda: self.now, durability="os")
        try:
            return writer.append_many(list(events))
        finally:
            writer.close()

    def checkpoint(self, uid: str = "ann", **options: Any) -> Any:
        return checkpoint(self.path / uid, uid, clock=lambda: self.now, progress=False, **options)

    def vacuum(self, uid: str = "ann") -> Any:
        return vacuum(self.path / uid, uid, apply=True, clock=lambda: self.now)

    def later(self, days: float = 1) -> None:
        self.now += int(days * DAY)

    def push(self, uid: str = "ann", **options: Any) -> Any:
        """The report on one user."""
        (user,) = self.remote.push(uid, progress=False, **options).users
        return user

    def pull(self, uid: str = "ann", **options: Any) -> Any:
        (user,) = self.remote.pull(uid, progress=False, **options).users
        return user

    def prove(self, uid: str = "ann", **options: Any) -> Any:
        (user,) = self.remote.prove(uid, progress=False, **options).users
        return user

    def state(self, uid: str = "ann", at: Any = None) -> str:
        """The state hash."""
        return hash_of(self.path / uid, at)

    def copy(self, path: Path) -> Site:
        """Another machine with a copy of this disk, what it remembers of buckets included."""
        shutil.copytree(self.path, path)
        return Site(path, self.remote.bucket.inner, now=self.now, patience=self.remote.bucket.patience)


def hash_of(root: Path, at: Any = None) -> str:
    """The state hash of a user's directory."""
    return state_hash(replay(root, root.name, at, progress=False).to_arrow()).hexdigest()


def insert(id: str, content: str = "text", **fields: Any) -> dict[str, Any]:
    return {"Insert": {"id": id, "content": content, **fields}}


def update(id: str, **fields: Any) -> dict[str, Any]:
    return {"Update": {"id": id, **fields}}


def files_of(root: Path) -> dict[str, bytes]:
    """What a push keeps: all files but locks and caches."""
    kept = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not name.endswith(".lock") and not name.startswith("sealed/"):
            kept[name] = path.read_bytes()
    return kept


def grow(site: Site, step: int) -> None:
    """One step in the life of ann: events, and now and then a new day, a checkpoint, a vacuum."""
    site.append(insert(f"m{step}", LONG if step % 3 else "short", amplitude=step / 7))
    site.append(update(f"m{step // 2}", amplitude=step * 0.5), {"Delete": f"m{step - 5}"})
    if step % 2:
        site.later()
    if step % 3 == 2:
        site.checkpoint(retain=1)
    if step % 6 == 5:
        site.vacuum()


class Faulty:
    """A bucket whose ``nth`` request fails (from 1), once or for ever; ``hits`` counts the faults.

    ``lost`` puts what it then says it has not put: an answer that never came.
    """

    def __init__(self, inner: Any, nth: int = 0, *, forever: bool = False, lost: bool = False) -> None:
        self.inner, self.nth, self.forever, self.lost = inner, nth, forever, lost
        self.url = inner.url
        self.requests = self.hits = 0
        self._mutex = threading.Lock()

    def put(self, key: str, data: bytes) -> None:
        if self._due():
            if self.lost:
                self.inner.put(key, data)
            raise RemoteUnavailable(f"{self.url}: cannot put {key}: out")
        self.inner.put(key, data)

    def get(self, key: str) -> bytes:
        self._fail("get", key)
        return self.inner.get(key)

    def list(self, prefix: str) -> Any:
        self._fail("list", prefix)
        return self.inner.list(prefix)

    def delete(self, keys: Any) -> None:
        doomed = list(keys)
        if self._due():
            if self.lost:
                self.inner.delete(doomed)
            raise RemoteUnavailable(f"{self.url}: cannot delete: out")
        self.inner.delete(doomed)

    def check(self) -> None:
        self._fail("check", "")

    def _fail(self, action: str, key: str) -> None:
        if self._due():
            raise RemoteUnavailable(f"{self.url}: cannot {action} {key}: out")

    def _due(self) -> bool:
        with self._mutex:
            self.requests += 1
            due = self.requests == self.nth or (self.forever and 0 < self.nth < self.requests)
            self.hits += due
            return due


def restorable(bucket: Any, folder: Path, uid: str = "ann") -> str | None:
    """The state hash of what the bucket alone restores; None when the user is not in it."""
    site = Site(folder, bucket)
    with suppress(NotFound):
        user = site.pull(uid)
        if user.kind == "NotFound":
            return None
        assert user.status == "pulled", user
        return hash_of(folder / uid)
    return None


def copy_of(bucket: MemoryBucket) -> MemoryBucket:
    """A bucket with the same objects."""
    again = MemoryBucket(bucket.url)
    for found in bucket.list(""):
        again.put(found.key, bucket.get(found.key))
    return again


def store_of(site: Site) -> Any:
    """The store of a machine as people open it."""
    return meshlab.open(site.path)
