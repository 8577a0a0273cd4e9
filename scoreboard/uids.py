"""Hostile user ids: refused, or a directory of that very name in the store; nothing anywhere else."""

from __future__ import annotations

import os
import string
from pathlib import Path
from random import Random

import meshlab
from meshlab.errors import MeshlabError
from meshlab.wal import paths
from scoreboard.row import Task
from scoreboard.twins import either, put

NASTY = [
    *("", " ", ".", "..", "...", "/", "//", "\\", "~", "-", "_", "a/", "/a", "a//b", "a/../b", "../outside/u"),
    *("../../outside", "/etc/passwd", "C:\\x", "a\0b", "\0", "a\nb", "a\r", "\u202e", "é", "e\u0301", "ﬁ", "Å"),
    *("%2e%2e", "%00", "$(id)", "`id`", "a;b", "a|b", "a*", "?", "con:", ".meshlab", ".hidden", "a" * 128, "a" * 129),
    *("a" * 10_000, "wal.lock", "snapshot.bin", "ANN", "Ann", "link", "file", "\ud800", "\x7f", "a b", "a\tb", "١٢"),
]
ALLOWED = set(string.ascii_letters + string.digits + "._-")
PIECES = ("..", "/", ".", "a", "Z", "-", "\0", "\\", "outside", "ann", "é", " ", "\n", "%2e", "link", "/u")


def uids(count: int, seed: int) -> list[str]:
    """The nasty ones first, then words put together from what makes them nasty."""
    rng = Random(seed)
    more = ["".join(rng.choices(PIECES, k=rng.randint(1, 6))) for _ in range(max(0, count - len(NASTY)))]
    return (NASTY + more)[:count]


def scene(folder: Path) -> Path:
    """A store with a user, a link out of it and a file in a user's place; something precious beside it."""
    store = folder / "store"
    (folder / "outside" / "u").mkdir(parents=True)
    (folder / "outside" / "u" / "wal-20250701.log").write_bytes(b"precious\n")
    with meshlab.open(store) as opened:
        opened["ann"].append({"Delete": "m1"})
    (store / "link").symlink_to(folder / "outside" / "u")
    (store / "file").write_bytes(b"a file\n")
    return store


def beside(folder: Path) -> dict[str, bytes | None]:
    """All there is but the store."""
    found: dict[str, bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        if folder / "store" not in (path, *path.parents):
            found[str(path)] = path.read_bytes() if path.is_file() else None
    return found


def try_uid(store: Path, uid: str) -> bool:
    """Append and read under a uid; whether it was taken.  Raises when it got where it should not."""
    before = set(os.listdir(store))
    try:
        with meshlab.open(store, durability="os") as opened:
            opened[uid].append({"Delete": "m1"})
            opened[uid].events(progress=False).to_pylist()
    except MeshlabError:
        taken = False
    else:
        taken = True
        assert uid and set(uid) <= ALLOWED and uid[0] not in "._-" and len(uid) <= 128, f"{uid[:40]!r} was taken"
        assert not (store / uid).is_symlink(), "through a link"
    made = set(os.listdir(store)) - before
    assert made <= ({uid} if taken else set()), f"{uid[:40]!r} made {sorted(made)}"
    assert len({name.lower() for name in os.listdir(store)}) == len(os.listdir(store)), "two that differ by case"
    return taken


def no_check() -> object:
    """The twin: any text is a user id."""
    return put(paths, "check_uid", lambda uid: uid)


def run(task: Task) -> None:
    """Try them all on one store."""
    outcome, store = task.outcome, scene(task.folder)
    before = beside(task.folder)
    with either(task.broken, no_check):
        for uid in uids(task.count, task.seed):
            with outcome.round(repr(uid[:40])):
                outcome.notes["taken"] += try_uid(store, uid)
    with outcome.round("what is beside the store", 0):
        assert beside(task.folder) == before, "something outside of the store was touched"
