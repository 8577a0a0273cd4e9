"""What every user of a store has beyond the newest checkpoint, by looking at names and sizes.

A round over a store reads no log.  It lists each user's directory, takes the sizes of
the segments, and reads the manifest only when ``snapshot.bin`` is another file than in
the round before.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from meshlab.errors import MeshlabError
from meshlab.service.policy import DAY, Backlog
from meshlab.snapshot.manifest import HISTORY, LAYERS, Manifest, current
from meshlab.times import SECOND, day_of, midnight
from meshlab.wal.paths import SNAPSHOT, segment_day, user_ids

_NOTHING: Mapping[str, int] = MappingProxyType({})


class Problem(NamedTuple):
    """Why a user cannot be checkpointed without a person."""

    uid: str
    reason: str


class Newest(NamedTuple):
    """The newest checkpoint of a user: its generation, when it was made (seconds since 1970), its layers' bytes."""

    generation: int
    created: float
    layers: Mapping[str, int]


class Found(NamedTuple):
    """One user in one round: the backlog, or a problem, and whether vacuum may find something.

    ``log`` are the bytes of the segments by day, ``deleted`` those of segments that are gone;
    ``newest`` is None before the first checkpoint.
    """

    backlog: Backlog
    problem: str = ""
    vacuum: bool = False
    log: Mapping[str, int] = _NOTHING
    deleted: Mapping[str, int] = _NOTHING
    newest: Newest | None = None


class Scanner:
    """Scans a store again and again; what a manifest says is kept until the file changes."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._known: dict[str, _Known] = {}

    def scan(self, now: float) -> Iterator[Found]:
        """One round at ``now`` (seconds since 1970).  Raises ``NotFound`` when there is no store."""
        uids = user_ids(self.store)
        self._known = {uid: known for uid in uids if (known := self._known.get(uid))}
        for uid in uids:
            try:
                yield self._look(uid, now)
            except FileNotFoundError:
                continue  # a user who went while we looked
            except OSError as error:
                yield Found(Backlog(uid, 0), f"cannot look at {error.filename or uid}: {error.strerror}")

    def _look(self, uid: str, now: float) -> Found:
        root = self.store / uid
        files = _Files.of(root)
        known = self._known.get(uid)
        if known is None or known.mark != files.snapshot or known.folders != files.folders:
            known = self._known[uid] = _Known.read(root, uid, files)
        problem = known.problem or known.shrunk(files)
        if problem:
            return Found(Backlog(uid, 0), problem, log=files.sizes)
        backlog, deleted = _backlog(uid, known, files, now), known.deleted(files)
        return Found(backlog, vacuum=known.has_stale(files, now), log=files.sizes, deleted=deleted, newest=known.newest)


_day = lru_cache(4096)(segment_day)
"""The users of a store have segments of the same days."""


class _Files(NamedTuple):
    """What stands in a user's directory."""

    sizes: dict[str, int]
    changed: dict[str, float]
    snapshot: tuple[int, int, int] | None
    folders: bool

    @classmethod
    def of(cls, root: Path) -> _Files:
        sizes, changed, snapshot, folders = {}, {}, None, False
        with os.scandir(root) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("wal-") and (day := _day(name)):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        sizes[day], changed[day] = status.st_size, status.st_mtime
                elif name == SNAPSHOT:
                    status = entry.stat(follow_symlinks=False)
                    snapshot = (status.st_ino, status.st_size, status.st_mtime_ns)
                elif name in (HISTORY, LAYERS):
                    folders = True
        return cls(sizes, changed, snapshot, folders)


class _Known(NamedTuple):
    """What the snapshot of one user says; ``mark`` and ``folders`` tell of which files."""

    mark: tuple[int, int, int] | None
    folders: bool
    problem: str = ""
    ends: Mapping[str, int] = _NOTHING
    retired: Mapping[str, int] = _NOTHING
    created: float = 0.0
    event_bytes: float | None = None
    retain_days: int = 0
    newest: Newest | None = None

    @classmethod
    def read(cls, root: Path, uid: str, files: _Files) -> _Known:
        if files.snapshot is None and not files.folders:
            return cls(None, False)
        try:
            manifest = current(root, uid)
        except MeshlabError as error:
            return cls(files.snapshot, files.folders, str(error))
        if manifest is None:
            return cls(files.snapshot, files.folders)
        if not isinstance(manifest, Manifest):
            return cls(files.snapshot, files.folders, _UPGRADE)
        return cls(
            files.snapshot,
            files.folders,
            ends=manifest.folded_ends,
            retired={gone.segment: gone.nbytes for gone in manifest.retired},
            created=manifest.created_at / SECOND,
            event_bytes=_event_bytes(manifest),
            retain_days=manifest.retain_days,
            newest=Newest(
                manifest.generation,
                manifest.created_at / SECOND,
                {layer.name: layer.nbytes for layer in manifest.layers},
            ),
        )

    def shrunk(self, files: _Files) -> str:
        """Which segment is shorter than what was folded of it, if any."""
        for day, end in self.ends.items():
            if files.sizes.get(day, end) < end:
                return f"segment {day} has {files.sizes[day]} bytes, but {end} of it were folded"
        return ""

    def is_left(self, day: str, size: int) -> bool:
        """Whether a segment was deleted but for its file: a vacuum ended too early."""
        return day not in self.ends and self.retired.get(day) == size

    def deleted(self, files: _Files) -> Mapping[str, int]:
        """Bytes by day of the segments that were deleted, and whose files are gone."""
        return {day: size for day, size in self.retired.items() if day not in files.sizes}

    def has_stale(self, files: _Files, now: float) -> bool:
        """Whether a folded segment is older than retention: vacuum knows whether it may go."""
        limit = day_of(int((now - self.retain_days * DAY) * SECOND))
        return any((day in self.ends and day < limit) or self.is_left(day, size) for day, size in files.sizes.items())


_UPGRADE = "its snapshot is from phase 1: 'meshlab checkpoint --upgrade' makes the cut-over, by hand"


def _event_bytes(manifest: Manifest) -> float | None:
    """Bytes per line in the segments that are still listed."""
    ends = {piece.segment: piece for piece in sorted(manifest.folded)}.values()
    lines = sum(piece.lines for piece in ends)
    return sum(piece.stop for piece in ends) / lines if lines else None


def _backlog(uid: str, known: _Known, files: _Files, now: float) -> Backlog:
    """The unfolded bytes of a user, and since when there are any.

    Bytes came after the manifest was made and on the day of their segment or later, but
    before the file was last changed: the earliest moment that allows is taken.
    """
    newest = max(files.sizes, default="")
    total, closed, oldest = 0, 0, None
    for day, size in files.sizes.items():
        left = 0 if known.is_left(day, size) else size - known.ends.get(day, 0)
        if left:
            total += left
            closed += left if day != newest else 0
            since = min(max(known.created, midnight(day) / SECOND), files.changed[day], now)
            oldest = since if oldest is None else min(oldest, since)
    return Backlog(uid, total, closed, oldest, known.event_bytes, known.mark[1] if known.mark else 0)
