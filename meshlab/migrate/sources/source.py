"""What a migration reads: one user's memories in one of the older layouts.

    map       ``mesh_snapshot.bin``, a bincode map from id to record
    phase1    a directory with a bincode ``snapshot.bin`` and days of bare event lines
    scoped    ``<id>.wal`` with its rotated parts and ``<id>.checkpoint[.gz]``
    export    JSON: a list of records, or a map from id to record

A source knows its files and its uid, and reads nothing before it is asked to.
"""

from __future__ import annotations

import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import pyarrow as pa

from meshlab.errors import StorageError, storage_errors
from meshlab.migrate.sources.notes import Notes
from meshlab.wal.files import Files

if TYPE_CHECKING:
    from meshlab.migrate.plan import PlannedUser


SET_ASIDE = "before-rollback-"
"""In the names of old files and directories that a rollback has replaced; they are nobody's source."""

_LEFT_BESIDE = re.compile(r".+\.left-over(-\d+)?\.ndjson", re.DOTALL)
"""Names of the lists in which a rollback tells what the old layout could not hold."""

MEND = "mend the file or take it from a copy, then make the plan anew"
"""What to do about damage in a file that nothing but itself can restore."""


class Problem(NamedTuple):
    """Something that keeps a plan from being applied, or a file it does not take: where, what, and what to do."""

    where: str
    what: str
    hint: str = ""


def problem_at(where: Path | str, what: str, hint: str = "") -> Problem:
    """A problem whose words do not begin with the path they stand behind.

    >>> problem_at("/old/ann.bin", "/old/ann.bin: byte 8: cut").what
    'byte 8: cut'
    >>> problem_at("/old/ann", "cannot list /old/ann: Permission denied").what
    'cannot list: Permission denied'
    """
    text = re.sub(rf"\A(cannot [a-z ]+) {re.escape(str(where))}: ", r"\1: ", what.removeprefix(f"{where}: "))
    return Problem(str(where), text, hint)


def told_of_rollback(name: str) -> str:
    """What a file or directory is that a rollback left beside the old files; an empty text for any other.

    >>> told_of_rollback("ann.bin.left-over.ndjson")
    'the list of what a rollback could not give back'
    """
    if re.search(rf"[.~]{SET_ASIDE}[0-9a-f]{{8}}", name):
        return "set aside by a rollback"
    return "the list of what a rollback could not give back" if _LEFT_BESIDE.fullmatch(name) else ""


class LeftOver(NamedTuple):
    """What an old format cannot hold: the memory or event, why, and its JSON."""

    id: str
    reason: str
    json: str


@dataclass(frozen=True)
class Source(ABC):
    """One user's memories in an older layout.

    ``paths`` are its files, ``base`` the directory their names are told from.
    """

    kind: ClassVar[str]
    uid: str
    base: Path
    paths: tuple[Path, ...]
    accept: tuple[str, ...] = ()
    """Damage an operator has accepted, as ``wal-20250707.log:1234``."""
    _told: list[list[str]] = field(default_factory=list, init=False, repr=False, compare=False)
    """The notes of the last reading that came to its end."""

    def batches(self, *, progress: bool = True) -> Iterator[pa.RecordBatch]:
        """The live records in ``RECORD_SCHEMA``, each id once.

        Memory is bounded by the live records that a log speaks of (for a scoped log their
        fields several times over), not by the size of the files; long contents of a log
        wait in a temporary file, at most as large as the log.

        Raises ``MeshlabError`` for anything that is not as it should be; nothing a
        batch says is to be used before the iterator has ended.
        """
        notes = Notes()
        Source.glance(self)
        for batch in self._records(notes, progress):
            if batch.num_rows:
                notes.look(batch)
                yield batch
        self._told[:] = [notes.lines()]

    @abstractmethod
    def _records(self, notes: Notes, progress: bool) -> Iterator[pa.RecordBatch]:
        """What ``batches`` gives; what a person should know goes into ``notes``."""

    def glance(self) -> None:
        """Look at the beginnings of the files, and raise ``MeshlabError`` for what is wrong with them."""
        for path in self.paths:
            require_regular(path)

    @abstractmethod
    def build(self, root: Path, inputs: Sequence[Path], files: Files, clock: Callable[[], int]) -> None:
        """Make ``root`` the user's directory in the new layout, with everything folded into generation 1.

        ``inputs`` are copies of ``paths`` that belong to the migration: they may be
        renamed into ``root``.
        """

    @abstractmethod
    def give_back(self, root: Path, folder: Path, files: Files) -> list[LeftOver]:
        """Write what the user's directory ``root`` holds now as files of the old layout into ``folder``.

        Everything in ``root`` is folded.  The new files stand at their names below
        ``base``; an old file without a new one is to go.  Returns what does not fit.
        """

    def notes(self) -> list[str]:
        """What a person should know of this source besides its records; reads it if nobody has.

        Floats that are not finite, torn tails, operations about unknown ids and the like.
        """
        if not self._told:
            for _ in self.batches(progress=False):
                pass
        return list(self._told[0])

    @abstractmethod
    def smallest(self) -> dict[str, bytes]:
        """The files of a user of this kind with one memory, by their names: what every user costs is measured by it."""

    @abstractmethod
    def operations(self) -> list[str]:
        """What the migration does for this user, one line a step."""

    @abstractmethod
    def misnamed(self) -> str | None:
        """Why ``paths`` cannot be files of this kind, by their names alone; None when they can."""

    def relocated(self, base: Path, paths: Sequence[Path]) -> Source:
        """The same source over other files."""
        return replace(self, base=base, paths=tuple(paths))


class Found(NamedTuple):
    """What stands under a path: sources, what is wrong, and files nobody knows."""

    sources: list[Source]
    problems: list[Problem]
    left: list[Problem]


def require_regular(path: Path) -> None:
    """Refuse what is no regular file: a symbolic link, a pipe, a device.  Raises ``StorageError``, ``NotFound``."""
    with storage_errors("read", path):
        kind = irregular(os.lstat(path).st_mode)
    if kind:
        raise StorageError(f"{path}: expected a regular file, found {kind}", hint=NOT_FOLLOWED)


def irregular(mode: int) -> str:
    """What a file mode stands for if it is no regular file; an empty text if it is one.

    >>> irregular(stat.S_IFLNK)
    'a symbolic link'
    """
    if stat.S_ISREG(mode):
        return ""
    return _KINDS.get(stat.S_IFMT(mode), "a special file")


_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
NOT_FOLLOWED = "put the file itself there: a migration follows no links and waits for no pipes"


# What is below knows every kind of source, and each kind knows what is above.


def find_sources(
    path: str | os.PathLike[str] | None,
    *,
    user: str | None = None,
    users: str | os.PathLike[str] | None = None,
    accept: Mapping[str, Sequence[str]] | None = None,
) -> Found:
    """The sources under a file or folder; only beginnings of files are read.

    ``user`` is the uid of a single file, ``users`` a CSV of path,uid; ``accept`` maps a
    uid to damage that an operator has accepted.  See ``meshlab.migrate.sources.discovery``.
    """
    from meshlab.migrate.sources.discovery import find

    return find(path, user, users, accept or {})


def source_of(planned: PlannedUser, accept: Mapping[str, Sequence[str]] | None = None) -> Source:
    """The source that a plan speaks of; its files need not be there any more.

    Raises ``PlanRefused`` for a plan that no planner makes: an unknown kind, a refused
    uid, paths that are not absolute, not below ``base``, of names the kind does not
    have, or no regular files.
    """
    from meshlab.migrate.sources.discovery import rebuild

    return rebuild(planned, accept or {})
