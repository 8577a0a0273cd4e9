"""Putting files of the old layout in place of the originals, and taking that back.

Nothing is deleted: an original gets a name that tells, ``mesh_snapshot.bin`` becomes
``mesh_snapshot.bin.before-rollback-0123abcd``, and the directory ``ann`` becomes
``ann~before-rollback-0123abcd``, which is no uid: nobody takes it for a user.  What is to
be renamed is written down before the first rename, so that a swap which was cut short
can be undone; then it is begun anew from the state as it is by then.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from meshlab.errors import StorageError, storage_errors
from meshlab.migrate.build import remove_tree, sync_tree
from meshlab.migrate.plan import PlannedUser, hash_input
from meshlab.migrate.sources.source import LeftOver
from meshlab.wal.files import Files
from meshlab.wal.sink import SyncedFile

NEW, LEFT_OVER = "new", "left-over.ndjson"
"""What the hidden folder holds: the files to be put in place, and the list of what they do not hold."""


class Swap(msgspec.Struct, frozen=True):
    """The renames of one user: originals that step aside, and what takes their place.

    ``aside`` and ``into`` are pairs of paths, old name and new; ``sums`` are the SHA-256
    of the files that are put in place, by their final path.
    """

    hidden: str
    aside: list[tuple[str, str]]
    into: list[tuple[str, str]]
    sums: dict[str, str]

    def carry_out(self, files: Files) -> None:
        """Rename; all names are on the medium when this returns."""
        for source, target in (*self.aside, *self.into):
            files.rename(Path(source), Path(target))
        self._sync(files)

    def undo(self, files: Files) -> None:
        """Put the originals back, however far the renames had come; what was put in place is deleted.

        Raises ``StorageError`` when something that was put in place has been changed since.
        """
        placed = [pair for pair in self.into if self._is_placed(*pair)]
        for _, target in placed:
            self._refuse_changed(Path(target))
        for source, target in reversed(placed):
            if Path(source).parent.is_dir():
                files.rename(Path(target), Path(source))
            elif Path(target).is_dir():
                remove_tree(Path(target), files)
            else:
                files.unlink(Path(target))
        for source, target in reversed(self.aside):
            if os.path.lexists(target):
                files.rename(Path(target), Path(source))
        self._sync(files)
        self.clean(files)

    def clean(self, files: Files) -> None:
        """Delete the hidden folder."""
        remove_tree(Path(self.hidden), files)

    def _sync(self, files: Files) -> None:
        names = [Path(path) for pair in (*self.aside, *self.into) for path in pair]
        for folder in dict.fromkeys(path.parent for path in names):
            if folder.is_dir():
                files.sync_directory(folder)

    def _is_placed(self, source: str, target: str) -> bool:
        """Whether what has the name ``target`` is what was put there, and not the original."""
        original = dict(self.aside).get(target)
        if os.path.lexists(source) or not os.path.lexists(target):
            return False
        return original is None or os.path.lexists(original)

    def _refuse_changed(self, target: Path) -> None:
        for path in _files_of(target):
            expected = self.sums.get(str(path))
            if expected is None or hash_input(path).sha256 != expected:
                raise StorageError(
                    f"{path}: was written by a rollback that was interrupted, and has changed since",
                    hint="an old program has begun to write there: stop it, keep a copy of the file, "
                    "put back what the rollback wrote, and run the rollback again",
                )


def hidden_folder(user: PlannedUser, name: str) -> Path:
    """Where files of the old layout are written before they are put in place: beside the originals, unseen."""
    return (
        whole_directory(user).parent / f".{name}-{user.uid}"
        if is_whole(user)
        else Path(user.base, f".{name}-{user.uid}")
    )


def is_whole(user: PlannedUser) -> bool:
    """Whether the user has a directory of its own, which is put in place as one."""
    return user.kind == "phase1"


def whole_directory(user: PlannedUser) -> Path:
    """The directory of such a user."""
    return Path(user.base)


def plan_swap(user: PlannedUser, hidden: Path, tag: str) -> Swap:
    """The renames that put what stands in ``hidden`` in place; files that are as they were are left alone.

    Raises ``StorageError`` when a name is taken by something that is not of this user.
    """
    if is_whole(user):
        return _whole_swap(user, hidden, tag)
    originals = {Path(one.path) for one in user.inputs}
    new, base = hidden / NEW, Path(user.base)
    made = {base / path.relative_to(new): path for path in _files_of(new)}
    same = {path for path in originals & made.keys() if _equal(path, made[path])}
    for path in made.keys() - originals:
        if os.path.lexists(path):
            raise StorageError(
                f"{path} is there already, and no file of {user.uid}", hint="move it aside, then try again"
            )
    aside = [(str(path), str(_free_name(path, tag))) for path in sorted(originals - same) if os.path.lexists(path)]
    into = [(str(made[path]), str(path)) for path in sorted(made.keys() - same)]
    into += _left_over(hidden, base / Path(user.inputs[0].path).name)
    sums = {target: hash_input(Path(source)).sha256 for source, target in into}
    return Swap(str(hidden), aside, into, sums)


def _whole_swap(user: PlannedUser, hidden: Path, tag: str) -> Swap:
    home, new = whole_directory(user), hidden / NEW
    aside = [(str(home), str(_free_name(home, tag, joint="~")))] if os.path.lexists(home) else []
    beside = _left_over(hidden, home)
    sums = {str(home / path.relative_to(new)): hash_input(path).sha256 for path in _files_of(new)}
    sums |= {target: hash_input(Path(source)).sha256 for source, target in beside}
    return Swap(str(hidden), aside, [(str(new), str(home)), *beside], sums)


def _left_over(hidden: Path, beside: Path) -> list[tuple[str, str]]:
    """The rename of the list of what does not fit, if there is one."""
    listed = hidden / LEFT_OVER
    return [(str(listed), str(_free_name(beside, "left-over", ".ndjson")))] if listed.exists() else []


def write_left_over(left: Sequence[LeftOver], path: Path, files: Files) -> None:
    """List what the old layout cannot hold, one JSON object a line."""
    with storage_errors("write", path), SyncedFile(path, files) as sink:
        for one in left:
            row = {"id": one.id, "reason": one.reason, "json": msgspec.Raw(one.json.encode())}
            sink.write(msgspec.json.encode(row) + b"\n")


def prepare(hidden: Path, files: Files) -> Path:
    """Make the hidden folder anew; returns where the new files go."""
    with storage_errors("write", hidden):
        remove_tree(hidden, files)
        files.mkdir(hidden)
        files.mkdir(hidden / NEW)
    return hidden / NEW


def adopt(user: PlannedUser, hidden: Path) -> None:
    """Give new files the mode, and where that is allowed the owner, of those they stand for."""
    first = os.stat(user.inputs[0].path)
    for path in (hidden / NEW, *hidden.rglob("*")):
        original = Path(user.base) / path.relative_to(hidden / NEW) if path.is_relative_to(hidden / NEW) else None
        found = os.stat(original) if original is not None and original.exists() else None
        if found is None and path.is_dir():
            continue
        model = found or first
        os.chmod(path, stat.S_IMODE(model.st_mode) & 0o777)
        with suppress(PermissionError):
            os.chown(path, model.st_uid, model.st_gid)


def sync_hidden(hidden: Path, files: Files) -> None:
    """Bring what stands in the hidden folder to the medium."""
    with storage_errors("sync", hidden):
        sync_tree(hidden, files)
        files.sync_directory(hidden.parent)


def _files_of(path: Path) -> Iterator[Path]:
    """A file itself, or all files below a directory, sorted."""
    if path.is_dir():
        yield from sorted(one for one in path.rglob("*") if one.is_file())
    else:
        yield path


def _equal(one: Path, other: Path) -> bool:
    if not one.is_file() or one.stat().st_size != other.stat().st_size:
        return False
    return hash_input(one).sha256 == hash_input(other).sha256


def _free_name(path: Path, tag: str, end: str = "", joint: str = ".") -> Path:
    """A name beside a path that nothing has yet."""
    names = (
        path.with_name(f"{path.name}{joint}{tag}{number}{end}") for number in ("", *(f"-{n}" for n in range(2, 10_000)))
    )
    return next(name for name in names if not os.path.lexists(name))
