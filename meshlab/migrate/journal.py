"""What a migration keeps in a store: its folder, its lock, and the journal of its steps.

    <store>/.meshlab/migrate/
      lock                  held with flock: one apply, rollback or finish at a time
      pause                 while it exists, nothing is written
      <plan id, 16 digits>/
        plan.json           the plan, as it was carried out
        journal.ndjson      one line per step, each on the medium before the next step
        staging/<attempt>/  users that are being built
        rolled-back/<uid>   directories of users that went back to the old layout

>>> place = Place(Path("/srv/mesh"), "0123456789abcdef" * 4)
>>> str(place.journal)
'/srv/mesh/.meshlab/migrate/0123456789abcdef/journal.ndjson'
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from meshlab.errors import MigrationBusy, PlanRefused, storage_errors
from meshlab.times import format_time
from meshlab.wal.files import Files, open_regular
from meshlab.wal.paths import PRIVATE
from meshlab.wal.sink import SyncedFile

BEGIN, STAGED, MOVED, FAILED = "begin", "staged", "moved", "failed"
ROLLING, GIVEN, RESTORED, ROLLED_BACK = "rolling", "given", "restored", "rolled-back"
DELETING, FINISHED = "deleting", "finished"
"""Steps; each is written down when it is done, but ``rolling`` and ``deleting``, which are about to begin."""

_ID = re.compile("[0-9a-f]{64}", re.ASCII)
_HEX = 16
_OURS = (PRIVATE, "migrate")
"""Folders whose maker may have died before it synced their names."""


TAG = "migration "
"""What the pins of migrations begin with."""


class Place(NamedTuple):
    """Where a migration keeps its files in a store."""

    store: Path
    plan_id: str

    @property
    def common(self) -> Path:
        """The folder of all migrations of the store."""
        return self.store / PRIVATE / "migrate"

    @property
    def pause(self) -> Path:
        """The file that makes everybody wait."""
        return self.common / "pause"

    @property
    def folder(self) -> Path:
        """The folder of this migration."""
        return self.common / self.plan_id[:_HEX]

    @property
    def journal(self) -> Path:
        """The journal of this migration."""
        return self.folder / "journal.ndjson"

    @property
    def plan_file(self) -> Path:
        """The plan, as it was carried out."""
        return self.folder / "plan.json"

    @property
    def staging(self) -> Path:
        """Where users are built."""
        return self.folder / "staging"

    @property
    def rate(self) -> Path:
        """Through which the processes of an apply share a rate; it means nothing when they have ended."""
        return self.folder / "rate"

    @property
    def rolled_back(self) -> Path:
        """Where the directories of users go that return to the old layout."""
        return self.folder / "rolled-back"

    @property
    def tag(self) -> str:
        """What the pin of a migrated user begins with: by it the migration knows its own."""
        return f"{TAG}{self.plan_id[:_HEX]}"


def place_of(store: str | os.PathLike[str], plan_id: str) -> Place:
    """Where the migration of a plan keeps its files.  Raises ``PlanRefused`` for an id that is none."""
    if not _ID.fullmatch(plan_id):
        raise PlanRefused(f"a plan with the id {plan_id[:80]!r}: expected 64 hex digits")
    return Place(Path(store).absolute(), plan_id)


@contextmanager
def migration_lock(place: Place, files: Files) -> Iterator[None]:
    """Make the folder of the migration, and be the only one at work in the store.

    Raises ``MigrationBusy``; the lock goes with the process.
    """
    with storage_errors("make", place.folder):
        make_folders(place.folder, files)
        files.sync_directory(place.common)
    path = place.common / "lock"
    with storage_errors("lock", path):
        fd = files.open(path, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MigrationBusy(f"{place.store}: another migration works on this store") from None
        yield
    finally:
        files.close(fd)


def make_folders(folder: Path, files: Files) -> None:
    """Make a directory and its missing parents; the names on the way are on the medium when this returns.

    A parent that may not be read, or cannot be synced, is somebody else's and was there before.
    """
    if folder.is_dir() and not {folder.name, folder.parent.name} & {*_OURS}:
        return
    if folder.parent != folder:
        make_folders(folder.parent, files)
    if not folder.is_dir():
        with suppress(FileExistsError):
            files.mkdir(folder)
    with suppress(PermissionError):
        files.sync_directory(folder.parent)


class Step(NamedTuple):
    """One line of a journal: when, what, for whom (empty: for all), and what there is to tell."""

    time: str
    step: str
    uid: str
    facts: dict[str, Any]


class Journal:
    """The steps of a migration, oldest first.

    Every line is on the medium before the next step begins, so a line that cannot be read
    is one that a crash kept from being confirmed: it counts for nothing, and the next line
    is written behind it.  Where directories stand tells what was done; the journal tells
    what was under way.  Reading a journal that is not there gives no steps, and writes nothing.
    """

    def __init__(self, place: Place, files: Files, clock: Callable[[], int]) -> None:
        self._place, self._files, self._clock = place, files, clock
        self._found: bytes | None = _read(place.journal)
        self.steps = [step for line in self._found.splitlines() if (step := _parse(line)) is not None]
        self._open_end = False

    def add(self, step: str, uid: str = "", **facts: Any) -> None:
        """Write down a step; it is on the medium when this returns.  Raises ``StorageError``."""
        entry = Step(format_time(self._clock()), step, uid, facts)
        line = msgspec.json.encode({"time": entry.time, "step": step, "uid": uid, **facts}) + b"\n"
        path = self._place.journal
        self.renew()
        with storage_errors("write", path):
            fd = self._files.open(path, os.O_WRONLY | os.O_APPEND)
            try:
                self._write(fd, b"\n" + line if self._open_end else line)
                self._files.sync(fd)
            finally:
                self._files.close(fd)
        self._open_end = False
        self.steps.append(Step(entry.time, step, uid, msgspec.to_builtins(facts)))

    def renew(self) -> None:
        """Write the journal anew, once in a run that writes, before its first line.

        When the sync of a line failed in an earlier run, the line may be seen here and not be
        on the medium; and behind a torn one, the next must begin on a line of its own.
        """
        if self._found is None:
            return
        path = self._place.journal
        temporary = path.with_name(f".{path.name}.tmp")
        with storage_errors("write", path):
            with suppress(FileNotFoundError):
                self._files.unlink(temporary)
            with SyncedFile(temporary, self._files) as sink:
                sink.write(self._found)
                if self._found and not self._found.endswith(b"\n"):
                    sink.write(b"\n")
            self._files.rename(temporary, path)
            self._files.sync_directory(path.parent)
        self._found = None

    def standing(self, uid: str) -> Step | None:
        """The last step of a user that tells where it stands; a failure leaves it where it stood."""
        mine = (step for step in reversed(self.steps) if step.uid == uid and step.step != FAILED)
        return next(mine, None)

    def _write(self, fd: int, data: bytes) -> None:
        self._open_end = True
        left = memoryview(data)
        while left:
            left = left[self._files.write(fd, left) :]


def _read(path: Path) -> bytes:
    with storage_errors("read", path):
        try:
            with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""


def _parse(line: bytes) -> Step | None:
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    time, step, uid = (row.pop(name, None) for name in ("time", "step", "uid"))
    if not (isinstance(time, str) and isinstance(step, str) and isinstance(uid, str)):
        return None
    return Step(time, step, uid, row)
