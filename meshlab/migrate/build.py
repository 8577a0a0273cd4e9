"""Building one user in staging: copy the old files, build from the copies, prove, pin, sync.

Nothing outside the staging folder is written.  What stands there when ``build_user``
returns is a user's directory, whole and on the medium, that needs nothing but its name.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.errors import InternalError, MeshlabError, PlanStale, StorageError, storage_errors
from meshlab.migrate.pace import PacedFiles
from meshlab.migrate.plan import Input, PlannedUser
from meshlab.migrate.sources.folded import manifest_of
from meshlab.migrate.sources.source import source_of
from meshlab.snapshot.base import Base
from meshlab.snapshot.hashing import StateHash, row_hashes
from meshlab.snapshot.manifest import Manifest
from meshlab.snapshot.pins import pin
from meshlab.snapshot.ranges import rest
from meshlab.wal.files import Files, open_regular
from meshlab.wal.sink import SyncedFile

INPUTS, USER = "inputs", "user"
"""What a staging folder of a user holds: copies of the old files, and the new directory."""

FAILURES = (MeshlabError, OSError, MemoryError, pa.ArrowException)
"""What one user may fail of while the others go on."""

_CLONE = 0x40049409
"""``FICLONE``: a second file over the same blocks, on file systems that can (Linux)."""

_STEP = 4 << 20


class Task(msgspec.Struct, frozen=True):
    """What to build: a user of a plan, where, and what its pin says."""

    user: PlannedUser
    accept: dict[str, list[str]]
    folder: str
    reason: str


class Built(msgspec.Struct, frozen=True):
    """A user in staging: bytes read of the old files and written in all, and how long it took."""

    records: int
    state_hash: str
    bytes_read: int
    bytes_written: int
    seconds: float


class Digest(NamedTuple):
    """What records come to: how many, and their state hash."""

    records: int
    state_hash: str

    def __str__(self) -> str:
        return f"{self.records:,} records with state hash {self.state_hash}"


class NotProved(InternalError):
    """What was built is not what the plan expects."""

    default_hint = "nothing was moved; 'meshlab migrate rehearse' compares both sides record by record"


def build_user(task: Task, files: PacedFiles, clock: Callable[[], int]) -> Built:
    """Build a user in ``task.folder``, whose parent exists.

    Raises ``PlanStale`` when a file is no longer that of the plan, ``NotProved``, and
    what the source raises.
    """
    started, spent = time.monotonic(), files.pace.spent
    user, folder = task.user, Path(task.folder)
    source = source_of(user, task.accept)
    with storage_errors("write", folder):
        files.mkdir(folder)
        copies = _copy_inputs(user, folder / INPUTS, files)
    root = folder / USER
    with storage_errors("build", root):
        source.relocated(folder / INPUTS, copies).build(root, copies, files, clock)
    found = _prove(user, root)
    pin(root, 1, task.reason, files)
    with storage_errors("write", folder):
        sync_tree(folder / INPUTS, files)  # names that were moved from there have left it for good
        remove_tree(folder / INPUTS, files)
        sync_tree(root, files)
    return Built(
        found.records,
        found.state_hash,
        user.bytes_to_read,
        files.pace.spent - spent,
        time.monotonic() - started,
    )


def _prove(user: PlannedUser, root: Path) -> Digest:
    """Compute the state hash anew, from the layers as they were written."""
    manifest = manifest_of(root, user.uid)
    found, expected = digest_of_layers(root, manifest), Digest(user.records, user.state_hash)
    if found != expected:
        raise NotProved(f"{user.uid}: expected {expected}, as in the old files, found {found} in the new layout")
    if manifest.generation != 1 or rest(root, manifest):
        raise NotProved(f"{user.uid}: expected all of the log in generation 1, found {manifest.generation}")
    return found


def digest_of(batches: Iterable[pa.RecordBatch], without: Collection[str] = ()) -> Digest:
    """Count and hash records, in bounded memory; those of some ids left out."""
    left_out = pa.array(sorted(without), pa.string())
    records, total = 0, StateHash.EMPTY
    for batch in batches:
        if len(left_out):
            batch = batch.filter(pc.invert(pc.is_in(batch["id"], left_out)))
        records += batch.num_rows
        total = total.add(row_hashes(batch))
    return Digest(records, total.hexdigest())


def digest_of_layers(root: Path, manifest: Manifest, without: Collection[str] = ()) -> Digest:
    """Count and hash the records of a manifest, from its layers."""
    return digest_of(Base.open(root, manifest).batches(), without)


# Copies


def _copy_inputs(user: PlannedUser, folder: Path, files: PacedFiles) -> list[Path]:
    """Copy the files of a user, at their names below ``base``, and compare them with the plan."""
    files.mkdir(folder)
    copies = []
    for one in user.inputs:
        target = folder / Path(one.path).relative_to(user.base)
        _make_below(folder, target.parent, files)
        found = copy_file(Path(one.path), target, files)
        if (found.size, found.sha256) != (one.size, one.sha256):
            raise PlanStale(
                f"{one.path}: expected {one.size:,} bytes with SHA-256 {one.sha256}, "
                f"found {found.size:,} bytes with SHA-256 {found.sha256}",
                hint="it changed since the plan was made: stop its writers, make the plan anew and rehearse it",
            )
        copies.append(target)
    return copies


def _make_below(top: Path, folder: Path, files: Files) -> None:
    if folder != top and not folder.is_dir():
        _make_below(top, folder.parent, files)
        files.mkdir(folder)


def copy_file(source: Path, target: Path, files: PacedFiles) -> Input:
    """Copy a regular file; returns the size and SHA-256 of what is in the copy.

    Where the file system can, the copy shares the blocks of the original, and is read
    back for its hash.
    """
    with storage_errors("read", source), os.fdopen(open_regular(source, os.O_RDONLY), "rb", buffering=0) as held:
        mode = stat.S_IMODE(os.fstat(held.fileno()).st_mode) & 0o777 | _OWNER
        if files.is_real and _clone(held.fileno(), target, files):
            os.chmod(target, mode)
            with open(target, "rb", buffering=0) as copy:
                return _hashed(source, copy.read, files)
        with storage_errors("write", target), SyncedFile(target, files) as sink:
            while data := held.read(_STEP):
                sink.write(data)
            os.chmod(target, mode)
            return Input(str(source), sink.size, sink.hexdigest())


_OWNER = 0o600
"""What a log must allow that is to be written on."""


def _clone(fd: int, target: Path, files: PacedFiles) -> bool:
    """Make the target a clone; False when the file system cannot, and nothing is there then."""
    copy = files.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    try:
        fcntl.ioctl(copy, _CLONE, fd)
        files.sync(copy)
        return True
    except OSError:
        files.unlink(target)
        return False
    finally:
        files.close(copy)


def _hashed(source: Path, read: Callable[[int], bytes], files: PacedFiles) -> Input:
    total, size = hashlib.sha256(), 0
    while data := read(_STEP):
        files.pace.spend(len(data))
        total.update(data)
        size += len(data)
    return Input(str(source), size, total.hexdigest())


# Trees


def sync_tree(root: Path, files: Files) -> None:
    """Bring everything below a directory to the medium, bytes and names.  Raises ``StorageError`` for a link."""
    for folder, names, held in os.walk(root, topdown=False):
        for name in (*held, *names):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise StorageError(f"{path}: expected a file or a directory, found something else")
            if stat.S_ISREG(mode):
                files.sync_file(path)
        files.sync_directory(Path(folder))


def remove_tree(root: Path, files: Files) -> None:
    """Delete a directory with everything in it, if it is there; a link is deleted, not followed."""
    for folder, names, held in os.walk(root, topdown=False):
        for name in held:
            files.unlink(Path(folder, name))
        for name in names:
            path = Path(folder, name)
            if path.is_symlink():
                files.unlink(path)
            else:
                path.rmdir()
    with suppress(FileNotFoundError):
        root.rmdir()


def size_of_tree(root: Path) -> int:
    """Bytes of all files below a directory."""
    return sum(path.lstat().st_size for path in root.rglob("*") if path.is_file())


def explain(error: BaseException) -> tuple[str, str]:
    """An error as two lines for a report: what happened, and what to do."""
    if isinstance(error, MeshlabError):
        return error.message, error.hint
    if isinstance(error, MemoryError):
        return "out of memory", "run with fewer --jobs; nothing was moved"
    return f"{type(error).__name__}: {error}", "nothing was moved; run it again"
