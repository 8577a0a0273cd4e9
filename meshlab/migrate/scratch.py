"""Where a rehearsal works: a fresh directory that goes when it is over."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from meshlab.errors import NotFound, PlanRefused, storage_errors
from meshlab.migrate.plan import Plan
from meshlab.wal.paths import PRIVATE

_PREFIX = "rehearsal-"
_LOCK = "in-use"


@contextmanager
def scratch_folder(plan: Plan, scratch: str | os.PathLike[str] | None, *, keep: bool = False) -> Iterator[Path]:
    """A fresh directory for a rehearsal of a plan; it is deleted on the way out, unless ``keep``.

    It is made below ``scratch``, else in the folder of the migration in the store, else,
    when there is no store yet, beside where the store will be.  What a rehearsal that was
    killed has left there is deleted first.  Raises ``NotFound``, ``StorageError``,
    ``PlanRefused``.
    """
    parent = _parent(plan, scratch)
    _refuse_inside(plan, parent)
    made = _make_missing(parent)
    try:
        _sweep(parent, plan.short_id)
        with storage_errors("write", parent):
            folder = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}{plan.short_id}-", dir=parent))
        try:
            fd = _hold(folder)
            try:
                yield folder
            finally:
                if fd is not None:
                    os.close(fd)
        finally:
            if keep:
                (folder / _LOCK).unlink(missing_ok=True)  # without it nobody takes the folder for a killed one's
            else:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        for one in reversed(made):
            with suppress(OSError):  # something else is in it by now
                one.rmdir()


def _parent(plan: Plan, scratch: str | os.PathLike[str] | None) -> Path:
    if scratch is not None:
        folder = Path(os.path.abspath(scratch))
        if not folder.parent.is_dir():
            raise NotFound(f"{folder.parent} does not exist", hint="name a directory for the scratch copy")
        return folder
    store = Path(plan.store)
    if store.is_dir():
        return store / PRIVATE / "migrate" / plan.short_id
    return next(one for one in store.parents if one.is_dir())


def _refuse_inside(plan: Plan, folder: Path) -> None:
    """A scratch copy inside a source would be taken for a part of it."""
    for user in plan.users:
        held = {Path(one.path).parent for one in user.inputs} if len(user.inputs) > 1 else set()
        if folder in held:
            raise PlanRefused(f"{folder}: the scratch copy would stand in the source", hint="name another --scratch")


def _make_missing(folder: Path) -> list[Path]:
    """Make a directory and its missing parents; those that were made, outermost first."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    with storage_errors("make", folder):
        for one in reversed(missing):
            with suppress(FileExistsError):
                os.mkdir(one)
        os.listdir(folder)
    return missing[::-1]


def _hold(folder: Path) -> int | None:
    """Mark a scratch directory as in use, for as long as this process lives."""
    with storage_errors("write", folder):
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def _sweep(parent: Path, plan_id: str) -> None:
    """Delete scratch directories of the same plan that no living process holds."""
    for folder in parent.glob(f".{_PREFIX}{plan_id}-*"):
        with suppress(OSError):
            fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(fd)
