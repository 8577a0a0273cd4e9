"""The changes of names that a disk has not got yet, in the order in which they were made.

A change (a name made, taken away, or moved) is on the medium once every directory it
touches has been synced since.  As on a journalled file system it is there whole or not
at all, and never without an earlier change of the same name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(eq=False)
class Change:
    """One change: the names it is about, the directories it waits for, and how it is undone.

    Names and directories are called what they are called now: they move when a directory
    above them does.  ``moved`` are the earlier changes that moved with this one.
    """

    names: list[Path]
    waiting: set[Path]
    undo: Callable[[list[Path]], None]
    moved: list[Change] = field(default_factory=list)

    def touches(self, others: Iterable[Change]) -> bool:
        """Whether one of the others is about one of its names."""
        return any(not set(self.names).isdisjoint(other.names) for other in others)

    def is_below(self, root: Path) -> bool:
        """Whether one of its names is the root or below it."""
        return any(is_at_or_below(name, root) for name in self.names)

    def move(self, source: Path, target: Path) -> bool:
        """Call what lies in a directory by the directory's new name; whether anything does."""
        names = [moved(name, source, target) if name != source else name for name in self.names]
        waiting = {moved(name, source, target) for name in self.waiting}
        changed = names != self.names or waiting != self.waiting
        self.names, self.waiting = names, waiting
        return changed


class Journal:
    """All changes of names that are not on the medium yet."""

    def __init__(self) -> None:
        self._changes: list[Change] = []

    def note(self, undo: Callable[[list[Path]], None], *names: Path) -> Change:
        """Add a change that has just been made."""
        change = Change(list(names), {name.parent for name in names}, undo)
        self._changes.append(change)
        return change

    def note_move(self, undo: Callable[[list[Path]], None], source: Path, target: Path) -> None:
        """Add the move of a file or directory; earlier changes in that directory go along."""
        along = [change for change in self._changes if change.move(source, target)]
        self.note(undo, source, target).moved = along

    def sync(self, directory: Path) -> None:
        """The names in a directory are on the medium now."""
        waiting: list[Change] = []
        for change in self._changes:
            change.waiting.discard(directory)
            if change.waiting or change.touches(waiting):
                waiting.append(change)
        self._changes = waiting

    def crash(self, root: Path, survives: Callable[[], bool]) -> None:
        """Undo the changes below a root that do not survive, and forget the others."""
        undone: list[Change] = []
        for change in [change for change in self._changes if change.is_below(root)]:
            if not survives() or change.touches(undone):
                undone.append(change)
        for change in reversed(undone):
            change.undo(change.names)
            for earlier in change.moved:
                earlier.move(change.names[1], change.names[0])
        self._changes = [change for change in self._changes if not change.is_below(root)]


def moved(path: Path, source: Path, target: Path) -> Path:
    """A path after the move of a directory at or above it."""
    return target / path.relative_to(source) if is_at_or_below(path, source) else path


def is_at_or_below(path: Path, top: Path) -> bool:
    """What ``is_relative_to`` says of resolved paths, in a tenth of its time."""
    text, above = os.fspath(path), os.fspath(top)
    return text.startswith(above) and (len(text) == len(above) or text[len(above)] == os.sep or above.endswith(os.sep))


def remove(path: Path) -> None:
    """Remove whatever has this name, if anything has."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def move_back(names: list[Path]) -> None:
    """Undo a move, unless somebody has taken away what was moved."""
    source, target = names
    if os.path.lexists(target) and source.parent.is_dir():
        target.replace(source)
