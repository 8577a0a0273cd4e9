"""Which files under a path are sources, told by what is in them.

A bincode map has no magic.  Its first eight bytes are a count of records, which cannot
be larger than the file has room for; eight bytes of any text, read as a number, are far
larger than any file.  So the two are never taken for each other, and a map whose count
lies is still known for a map by the NUL bytes of its numbers, and refused by its reader.

In a folder a name alone makes no source either: it says what a file should be, and a
file that is something else is named.
"""

from __future__ import annotations

import csv
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from meshlab.errors import BadUserId, MeshlabError, NotFound, PlanRefused, storage_errors
from meshlab.migrate.sources.entries import family_of
from meshlab.migrate.sources.exports import ExportSource
from meshlab.migrate.sources.maps import MapSource
from meshlab.migrate.sources.phase1 import Phase1Source
from meshlab.migrate.sources.scoped import ScopedSource
from meshlab.migrate.sources.shape import Shape, shape_of
from meshlab.migrate.sources.source import (
    NOT_FOLLOWED,
    Found,
    Problem,
    Source,
    irregular,
    problem_at,
    told_of_rollback,
)
from meshlab.wal.paths import SNAPSHOT, check_uid, segment_day

if TYPE_CHECKING:
    from meshlab.migrate.plan import PlannedUser

_NEW_LAYOUT = ("layers", "history")
_QUIET = frozenset({"wal.lock", "checkpoint.lock"})
"""Files of a user's directory that hold nothing of the user's."""

_SAME_UID = "leave one of them out, or give it a uid of its own with --users"
_SAME_BUT_CASE = "uids must differ by more than case; give one of them another uid with --users"
_NO_UID = "give it with --user, or a CSV of path,uid with --users"


def find(
    path: str | os.PathLike[str] | None,
    user: str | None,
    users: str | os.PathLike[str] | None,
    accept: Mapping[str, Sequence[str]],
) -> Found:
    """The sources under a path, or those that a CSV of path,uid names.

    Raises ``NotFound`` for a path that is not there and ``StorageError`` for one that
    cannot be read; whatever is wrong behind it is a ``Problem``.
    """
    search = _Search(accept)
    top = None if path is None else _absolute(path)
    if users is not None:
        search.take_table(_absolute(users))
        if top is not None and _mode(top) is not None and stat.S_ISDIR(_mode(top) or 0):
            search.name_unclaimed(top, _absolute(users))
    elif top is None:
        raise NotFound("there is no source", hint="name a file or folder, or a CSV of path,uid")
    elif _mode(top) is None:
        raise NotFound(f"{top} does not exist", hint="check the path of the source")
    elif user is None and stat.S_ISDIR(_mode(top) or 0) and not _is_user(top):
        search.take_folder(top)
    else:
        search.take(top, user)
    return search.found()


def rebuild(planned: PlannedUser, accept: Mapping[str, Sequence[str]]) -> Source:
    """The source a plan speaks of; see ``meshlab.migrate.sources.source.source_of``."""
    who = f"user {planned.uid!r} of the plan"
    try:
        check_uid(planned.uid)
    except BadUserId as error:
        raise PlanRefused(f"the plan names a user that may not be: {error.message}") from None
    kind = _KINDS.get(planned.kind)
    if kind is None:
        raise PlanRefused(f"{who}: expected a kind of {', '.join(_KINDS)}, found {planned.kind!r}")
    base = Path(planned.base)
    paths = tuple(Path(one.path) for one in planned.inputs)
    for path in (base, *paths):
        if not path.is_absolute() or os.path.normpath(path) != str(path) or "\0" in str(path):
            raise PlanRefused(f"{who}: expected an absolute, plain path, found {str(path)!r}")
    for path in paths:
        if base not in path.parents:
            raise PlanRefused(f"{who}: expected a file below {base}, found {path}")
        mode = _mode(path)
        if mode is not None and (found := irregular(mode)):
            raise PlanRefused(f"{who}: expected a regular file at {path}, found {found}")
    source = kind(planned.uid, base, paths, tuple(accept.get(planned.uid, ())))
    wrong = source.misnamed()
    if wrong or not paths or len(set(paths)) < len(paths):
        raise PlanRefused(f"{who}: {wrong or 'expected each of its files once'}")
    return source


_KINDS: dict[str, type[Source]] = {kind.kind: kind for kind in (MapSource, Phase1Source, ScopedSource, ExportSource)}


class _Search:
    """Sources, problems and other files, as they are come upon."""

    def __init__(self, accept: Mapping[str, Sequence[str]]) -> None:
        self._accept = accept
        self._sources: list[tuple[Path, Source]] = []
        self._problems: list[Problem] = []
        self._left: list[Problem] = []
        self._named: set[Path] = set()
        self._families: dict[Path, dict[str, list[Path]]] = {}

    def found(self) -> Found:
        """All there is; of two sources of one uid the first, and a problem that names both."""
        first: dict[str, tuple[Path, Source]] = {}
        for where, source in self._sources:
            there, twin = first.setdefault(source.uid.lower(), (where, source))
            if twin is not source:
                same = f"user {twin.uid!r} twice" if twin.uid == source.uid else f"{twin.uid!r} and {source.uid!r}"
                what = f"{same}: at {there} and at {where}"
                hint = _SAME_UID if twin.uid == source.uid else _SAME_BUT_CASE
                self._problems.append(Problem(str(where), what, hint))
        return Found([source for _, source in first.values()], self._problems, self._left)

    # One source -----------------------------------------------------------------------

    def take(self, path: Path, uid: str | None) -> None:
        """Take a file, or the directory of a user."""
        with self._apart(path):
            mode = _mode(path)
            if mode is None:
                self._problem(path, "it does not exist", "check the path")
            elif stat.S_ISDIR(mode):
                self._take_directory(path, uid)
            elif found := irregular(mode):
                self._problem(path, f"{found}, no regular file", NOT_FOLLOWED)
            else:
                self._take_file(path, uid)

    @contextmanager
    def _apart(self, path: Path) -> Iterator[None]:
        """What cannot be read is a problem of its own: the others are looked at all the same."""
        try:
            with storage_errors("read", path):
                yield
        except MeshlabError as error:
            self._problem(path, error.message, error.hint)

    def _take_directory(self, path: Path, uid: str | None) -> None:
        if _is_user(path):
            self._take_user(path, path.name if uid is None else uid)
            return
        stems = sorted({stem for name in _names(path) if (stem := family_of(name)) is not None})
        if len(stems) == 1:
            self._take_family(path, stems[0], uid)
            for name in _names(path):
                if family_of(name) is None:
                    self._leave(path / name, f"no file of the scoped log {stems[0]}")
        else:
            what = f"expected the directory of one user, found one without {SNAPSHOT}, days of log or one scoped log"
            self._problem(path, what, "give a folder of many users without --user")

    def _take_file(self, path: Path, uid: str | None) -> None:
        stem = family_of(path.name)
        shape, found = shape_of(path)
        if stem is not None and shape in (Shape.ENTRIES, Shape.GZIP, Shape.EMPTY):
            self._take_family(path.parent, stem, uid)
        elif shape is Shape.EXPORT:
            self._add(path, ExportSource, path.stem if uid is None else uid, path.parent, (path,))
        elif shape is Shape.MAP and uid is None:
            self._problem(path, "a bincode map, which does not say whose it is", _NO_UID)
        elif shape is Shape.MAP and uid is not None:
            self._add(path, MapSource, uid, path.parent, (path,))
        else:
            self._problem(path, _told(shape, found), "see docs/format.md, 'Older layouts', for what can be migrated")

    def _take_user(self, path: Path, uid: str) -> None:
        """Take the directory of a phase-1 user."""
        names = _names(path)
        newer = [name for name in _NEW_LAYOUT if name in names]
        if newer and not self._is_manifest(path / SNAPSHOT):
            lost = "lost its snapshot" if SNAPSHOT not in names else "a snapshot of an older program over its own"
            what = f"a user of the new layout, as {' and '.join(newer)} show, that has {lost}"
            self._problem(path, what, "see 'meshlab windows' and 'meshlab verify'; nothing of it may be left behind")
            return
        mine = [path / name for name in names if name == SNAPSHOT or segment_day(name)]
        for name in names:
            if path / name not in mine and name not in (*_QUIET, *_NEW_LAYOUT):
                self._leave(path / name, told_of_rollback(name) or "no file of a phase-1 user")
        taken = [part for part in mine if self._is_taken(part)]
        if taken == mine:
            self._add(path, Phase1Source, uid, path, tuple(mine))

    def _is_manifest(self, path: Path) -> bool:
        return _mode(path) is not None and not irregular(_mode(path) or 0) and shape_of(path).shape is Shape.MANIFEST

    def _is_taken(self, part: Path) -> bool:
        """Whether a file of a phase-1 user may be read; a problem if not."""
        if found := irregular(_mode(part) or 0):
            self._problem(part, f"{found}, no regular file", NOT_FOLLOWED)
            return False
        if part.name == SNAPSHOT and shape_of(part).shape is Shape.MANIFEST:
            self._problem(part, "its user is in the new layout already", "there is nothing to migrate: leave it out")
            return False
        return True

    def _families_of(self, folder: Path) -> dict[str, list[Path]]:
        """The files of a folder by the scoped log they belong to; it is listed once."""
        if folder not in self._families:
            found: dict[str, list[Path]] = {}
            for name in _names(folder):
                if (stem := family_of(name)) is not None:
                    found.setdefault(stem, []).append(folder / name)
            self._families[folder] = found
        return self._families[folder]

    def _take_family(self, folder: Path, stem: str, uid: str | None) -> None:
        """Take a scoped log with its rotated parts and checkpoints."""
        parts = self._families_of(folder)[stem]
        before = len(self._problems)
        for part in parts:
            if found := irregular(_mode(part) or 0):
                self._problem(part, f"{found}, no regular file", NOT_FOLLOWED)
        if len(self._problems) > before:
            return
        if not any(part.stat().st_size for part in parts):
            self._problem(parts[0], "a scoped log without a byte", "leave it out if it never held anything")
            return
        for part in (part for part in parts if ".wal" in part.name[len(stem) :]):
            shape, found = shape_of(part)
            if shape not in (Shape.ENTRIES, Shape.EMPTY):
                self._problem(part, f"expected a scoped log, found {_told(shape, found)}", "move it aside, or mend it")
                return
        self._add(folder / f"{stem}.wal", ScopedSource, stem if uid is None else uid, folder, tuple(parts))

    # Many -----------------------------------------------------------------------------

    def take_folder(self, folder: Path) -> None:
        """Take what is in a folder: directories of users, scoped logs, exports."""
        stems = set[str]()
        for name in _names(folder):
            stem = family_of(name)
            with self._apart(folder / name):
                self._take_named(folder / name, stem, stems)

    def _take_named(self, path: Path, stem: str | None, stems: set[str]) -> None:
        """Take what has a name in a folder; a scoped log with all its parts is added to ``stems``."""
        mode = _mode(path)
        if mode is None:
            return
        if told := told_of_rollback(path.name):
            self._leave(path, told)
        elif stem is not None and not stat.S_ISDIR(mode):
            if stem not in stems:
                stems.add(stem)
                self._take_family(path.parent, stem, None)
        elif stat.S_ISDIR(mode):
            self._take_entry(path)
        elif found := irregular(mode):
            note = self._problem if _may_be_source(path.name) else self._leave
            note(path, f"{found}, no regular file", NOT_FOLLOWED)
        else:
            self._take_loose(path)

    def _take_entry(self, path: Path) -> None:
        """A directory in a folder: a user's, or none."""
        if not _is_user(path):
            self._leave(path, "a directory that is no user's", "if there are sources in it, make a plan for it alone")
        else:
            self._take_user(path, path.name)

    def _take_loose(self, path: Path) -> None:
        """A file in a folder that no user's directory and no scoped log holds."""
        shape, found = shape_of(path)
        if shape is Shape.EXPORT and path.suffix == ".json":
            self._add(path, ExportSource, path.stem, path.parent, (path,))
        elif shape is Shape.MAP:
            self._leave(path, "a bincode map, which does not say whose it is", _NO_UID)
        elif shape is Shape.EMPTY and path.suffix == ".json":
            self._problem(path, "expected an export, found an empty file", "leave it out if it never held anything")
        else:
            self._leave(path, _told(shape, found))

    def take_table(self, table: Path) -> None:
        """Take what a CSV of path,uid names; its relative paths are relative to itself."""
        known: dict[Path, int] = {}
        for line, row in self._rows(table):
            if len(row) != 2 or not row[0].strip() or not row[1].strip():
                self._problem(table, f"line {line}: expected path,uid, found {','.join(row)[:200]!r}", "mend the line")
                continue
            path = _absolute(table.parent / row[0].strip())
            if known.setdefault(path, line) != line:
                self._problem(path, f"named twice in {table}: on lines {known[path]} and {line}", "keep one of them")
            elif "\0" in str(path):
                self._problem(table, f"line {line}: a path with a NUL", "mend the line")
            else:
                self._named.add(path)
                self.take(path, row[1].strip())

    def _rows(self, table: Path) -> Iterator[tuple[int, list[str]]]:
        """The rows of a CSV with their lines, but blank ones and a header."""
        with storage_errors("read", table):
            mode = os.lstat(table).st_mode
        if found := irregular(mode):
            self._problem(table, f"{found}, no regular file", NOT_FOLLOWED)
            return
        with storage_errors("read", table), open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            try:
                for row in reader:
                    is_header = reader.line_num == 1 and [name.strip().lower() for name in row] == ["path", "uid"]
                    if row and not is_header:
                        yield reader.line_num, row
            except (csv.Error, UnicodeDecodeError) as error:
                self._problem(table, f"line {reader.line_num + 1}: no CSV in UTF-8: {error}", "mend the file")

    def name_unclaimed(self, folder: Path, table: Path) -> None:
        """Name the files of a folder that the CSV says nothing of."""
        claimed = {*self._named, table}
        for _, source in self._sources:
            claimed |= {source.base, *source.paths}
        for name in _names(folder):
            path = folder / name
            if not any(path == one or path in one.parents for one in claimed - {folder}):
                self._leave(path, f"{table.name} does not name it", "add it with its uid if it is a user's")

    # Notes ----------------------------------------------------------------------------

    def _add(self, where: Path, kind: type[Source], uid: str, base: Path, paths: tuple[Path, ...]) -> None:
        try:
            check_uid(uid)
        except BadUserId as error:
            self._problem(where, error.message, error.hint)
            return
        source = kind(uid, base, paths, tuple(self._accept.get(uid, ())))
        try:
            source.glance()
        except MeshlabError as error:
            self._problem(where, error.message, error.hint)
        else:
            self._sources.append((where, source))

    def _problem(self, path: Path, what: str, hint: str = "") -> None:
        self._named.add(path)
        self._problems.append(problem_at(path, what, hint))

    def _leave(self, path: Path, what: str, hint: str = "") -> None:
        self._left.append(Problem(str(path), what, hint))


def _told(shape: Shape, found: str) -> str:
    return f"{shape.value}: {found}" if found else shape.value


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.abspath(path))


def _mode(path: Path) -> int | None:
    """The mode of what stands at a path, links not followed; None when nothing does."""
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        with storage_errors("look at", path):
            raise


def _names(folder: Path) -> list[str]:
    with storage_errors("list", folder):
        return sorted(os.listdir(folder))


def _is_user(path: Path) -> bool:
    """Whether a directory has the files of a user, of whatever layout."""
    return any(name == SNAPSHOT or segment_day(name) or name in _NEW_LAYOUT for name in _names(path))


_UID_LIKE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", re.ASCII)


def _may_be_source(name: str) -> bool:
    """Whether what has a name could be a user's: links of such names stop a plan."""
    return name.endswith(".json") or _UID_LIKE.fullmatch(name) is not None
