"""Where things are in a store, and which names are allowed.

>>> segment_name("20250707")
'wal-20250707.log'
>>> segment_day("wal-20250707.log")
'20250707'
>>> segment_day("wal-20250799.log") is None
True
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from meshlab.errors import BadUserId, NotAUser, NotFound, StorageError, storage_errors

DEFAULT_STORE = "mesh_store"
PRIVATE = ".meshlab"
LOCK = "wal.lock"
SNAPSHOT = "snapshot.bin"
SEALED = "sealed"

UID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
"""Which uids are allowed, as a regular expression."""

_UID = re.compile(UID, re.ASCII)
_SEGMENT = re.compile(r"wal-(\d{4})(\d{2})(\d{2})\.log", re.ASCII)


def store_root(store: str | os.PathLike[str] | None = None) -> Path:
    """The store named, else ``$MESH_STORE``, else ``./mesh_store``."""
    chosen = store if store is not None else os.environ.get("MESH_STORE") or DEFAULT_STORE
    if "\0" in os.fspath(chosen):
        raise NotFound(f"store path {os.fspath(chosen)!r} holds a NUL character")
    return Path(chosen)


def check_uid(uid: str) -> str:
    """The uid, if its characters are allowed; touches nothing.  Raises ``BadUserId``.

    >>> check_uid("../etc")
    Traceback (most recent call last):
    meshlab.errors.BadUserId: user id '../etc' is not allowed (use 1-128 of A-Z a-z 0-9 . _ - ...)
    """
    if not isinstance(uid, str) or not _UID.fullmatch(uid):
        shown = repr(uid) if len(repr(uid)) < 100 else repr(uid)[:96] + "...'"
        raise BadUserId(f"user id {shown} is not allowed")
    return uid


def listed_uids(users: Iterable[str] | str) -> list[str]:
    """Some users, or one, as a list in which each is once.  Raises ``BadUserId``.

    >>> listed_uids("ann"), listed_uids(["bob", "ann", "bob"])
    (['ann'], ['bob', 'ann'])
    """
    uids = [users] if isinstance(users, str) else list(dict.fromkeys(users))
    return [check_uid(uid) for uid in uids]


def user_root(store: Path, uid: str) -> Path:
    """The directory of a user, which need not exist yet; never one outside the store.

    Raises ``BadUserId`` for a name that is not allowed, is a symbolic link, or differs
    from an existing directory only by case (such pairs collide when a store is copied
    to a case-blind file system).
    """
    root = store / check_uid(uid)
    try:
        mode = os.lstat(root).st_mode
    except FileNotFoundError:
        _refuse_case_twin(store, uid)
        return root
    except OSError as error:
        raise StorageError(f"cannot look at {root}: {error.strerror}") from error
    if stat.S_ISLNK(mode):
        raise BadUserId(f"user id {uid!r}: {root} is a symbolic link", hint="a user's directory must be a real one")
    if not stat.S_ISDIR(mode):
        raise NotAUser(f"{root} is not a directory")
    if _is_case_blind(root):
        _refuse_case_twin(store, uid)
    return root


def existing_user(store: Path, uid: str) -> Path:
    """The directory of a user that must be there.  Raises ``NotFound``."""
    root = user_root(store, uid)
    if not store.is_dir():
        raise NotFound(
            f"store {store} does not exist", hint="check --store or $MESH_STORE; the first append creates a store"
        )
    if not root.is_dir():
        raise NotFound(
            f"user {uid!r} is not in {store}", hint="'meshlab stats' lists the users; the first append creates one"
        )
    return root


def user_ids(store: Path) -> list[str]:
    """The uids in a store, sorted.  Raises ``NotFound`` when there is no store."""
    if not store.exists():
        raise NotFound(
            f"store {store} does not exist", hint="check --store or $MESH_STORE; the first append creates a store"
        )
    with storage_errors("list", store), os.scandir(store) as entries:
        return sorted(e.name for e in entries if _UID.fullmatch(e.name) and e.is_dir(follow_symlinks=False))


def segment_name(day: str) -> str:
    """The file name of a day's segment."""
    return f"wal-{day}.log"


def segment_day(name: str) -> str | None:
    """The ``YYYYMMDD`` day a file name stands for, or None when it is no segment."""
    match = _SEGMENT.fullmatch(name)
    if match is None:
        return None
    try:
        date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return None
    return name[4:12]


def segment_days(root: Path) -> list[str]:
    """The days a user has segments for, oldest first."""
    with storage_errors("list", root):
        return sorted(day for name in os.listdir(root) if (day := segment_day(name)))


def _is_case_blind(root: Path) -> bool:
    """Whether the file system answers for another spelling of the same name."""
    try:
        return os.path.samestat(os.lstat(root), os.lstat(root.with_name(root.name.swapcase()))) and (
            root.name.swapcase() != root.name
        )
    except OSError:
        return False


def _refuse_case_twin(store: Path, uid: str) -> None:
    try:
        names = os.listdir(store)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"cannot list {store}: {error.strerror}") from error
    for name in names:
        if name != uid and name.lower() == uid.lower():
            raise BadUserId(
                f"user id {uid!r} differs only by case from the existing {name!r}", hint="use the existing spelling"
            )


def segment_size(root: Path, day: str) -> int:
    """Bytes of a segment.  Raises ``StorageError``."""
    path = root / segment_name(day)
    with storage_errors("read", path):
        return os.path.getsize(path)
