"""What a migration reads: one user's memories in one of the older layouts.

    map       ``mesh_snapshot.bin``, a bincode map from id to record
    phase1    a directory with a bincode ``snapshot.bin`` and days of bare event lines
    scoped    ``<id>.wal`` with its rotated parts and ``<id>.checkpoint[.gz]``
    export    JSON: a list of records, or a map from id to record

A source knows its files and its uid, and reads nothing before it is asked to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import pyarrow as pa

from meshlab.wal.files import Files


class Problem(NamedTuple):
    """Something that keeps a plan from being applied, or a file it does not take: where, what, and what to do."""

    where: str
    what: str
    hint: str = ""


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

    @abstractmethod
    def batches(self, *, progress: bool = True) -> Iterator[pa.RecordBatch]:
        """The live records in ``RECORD_SCHEMA``, each id once, in bounded memory.

        Raises ``MeshlabError`` for anything that is not as it should be; nothing a
        batch says is to be used before the iterator has ended.
        """

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
        """What a person should know of this source besides its records; may read it."""
        return []

    def operations(self) -> list[str]:
        """What the migration does for this user, one line a step."""
        raise NotImplementedError

    def relocated(self, base: Path, paths: Sequence[Path]) -> Source:
        """The same source over other files."""
        return replace(self, base=base, paths=tuple(paths))


class Found(NamedTuple):
    """What stands under a path: sources, what is wrong, and files nobody knows."""

    sources: list[Source]
    problems: list[Problem]
    left: list[Problem]
