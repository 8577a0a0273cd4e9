"""Every error meshlab raises on purpose.

    MeshlabError
      BadUserId          a uid that could leave the store, or clash with another
      BadEvent           an event that must not be written
      FrameTooLarge      a batch over the size of one frame
      NotFound           a store, user, segment or file that is not there
      StorageError       the operating system refused a read or a write
        NotAUser         a file stands where a user's directory should be
        WriteFailed      a write or sync failed: what was not acknowledged is unknown
        WalPoisoned      an earlier write or sync failed: nothing is written until reopened
      DamageFound        bytes no reader may skip without being told to
      SnapshotError      a snapshot that cannot be trusted
      NotRestorable      a moment or place no snapshot and log lead to any more
      CheckpointBusy     another checkpoint or vacuum of the same user is at work
      PlanRefused        a plan that must not be carried out as it is
        PlanStale        an input is not what it was when the plan was made
      MigrationBusy      another migration works on the same store
      RemoteError        an object store that is no use as it is
        RemoteRefused      wrong keys, no such bucket, not allowed: asking again does not help
        RemoteUnavailable  no answer, or one that says to come back later
        RemoteDamaged      what is in the bucket is missing or not what was put there
      InternalError      an invariant of meshlab itself does not hold

Each has a message (what, where, expected and found) and a hint (what to do
next).  ``str(error)`` gives both.

>>> str(NotFound("store /nowhere does not exist", hint="check the path"))
'store /nowhere does not exist (check the path)'
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class MeshlabError(Exception):
    """Base of all meshlab errors: a message, and a hint on what to do next.

    >>> from meshlab import open
    >>> try:
    ...     open("/nowhere").users()
    ... except MeshlabError as error:
    ...     print(error.message, error.hint, sep=": ")
    store /nowhere does not exist: check --store or $MESH_STORE; the first append creates a store
    """

    default_hint = "see docs/format.md"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})"


class BadUserId(MeshlabError, ValueError):
    """A user id that is not allowed as the name of a directory in the store."""

    default_hint = "use 1-128 of A-Z a-z 0-9 . _ - and start with a letter or digit"


class BadEvent(MeshlabError, ValueError):
    """An event refused before a byte was written."""

    default_hint = "nothing was written; correct the event and append again"


class FrameTooLarge(BadEvent):
    """A batch that does not fit in one frame."""

    default_hint = "nothing was written; split the batch"


class NotFound(MeshlabError, LookupError):
    """A store, user, segment or file that is not there."""

    default_hint = "check the path; the first append creates stores and users"


class StorageError(MeshlabError, OSError):
    """The operating system refused a read or a write."""

    default_hint = "check permissions, the file system and the free space, then try again"


class NotAUser(StorageError):
    """A file stands where the directory of a user should be."""

    default_hint = "a file stands where a user's directory should be: move it away"


class WriteFailed(StorageError):
    """A write or a sync failed; whether the events are in the log is unknown."""

    default_hint = (
        "earlier acknowledged events are safe; mend the disk, reopen the store, "
        "and look at the end of the log before sending these events again"
    )


class WalPoisoned(StorageError):
    """An earlier write or sync failed, so this log takes no appends."""

    default_hint = "mend the disk; the next append writes the lost bytes again, and then everything else goes on"


class DamageFound(MeshlabError):
    """Damaged bytes where only sound ones are allowed.

    ``places`` are all that stopped a checkpoint, as it takes them to be accepted; the
    message shows the first few.
    """

    default_hint = "run 'meshlab verify', then 'meshlab repair' or accept the damage by name"

    def __init__(self, message: str, *, hint: str | None = None, places: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.places = tuple(places)


class SnapshotError(MeshlabError):
    """A snapshot file that is cut, foreign, too new or damaged."""

    default_hint = "keep the file; the log itself is untouched and can be replayed alone"


class NotRestorable(MeshlabError, LookupError):
    """A moment, or a place in the log, that no snapshot and log lead to (any more)."""

    default_hint = "see 'meshlab windows' for the moments that can be restored"


class CheckpointBusy(MeshlabError):
    """Another checkpoint or vacuum of the same user holds ``checkpoint.lock``."""

    default_hint = "let it end, then try again; nothing was touched"


class PlanRefused(MeshlabError):
    """A plan that must not be carried out as it is."""

    default_hint = "make the plan anew with 'meshlab migrate plan'"


class PlanStale(PlanRefused):
    """An input of a plan is not what it was when the plan was made."""

    default_hint = "make the plan anew and rehearse it; nothing was changed"


class MigrationBusy(MeshlabError):
    """Another migration works on the same store."""

    default_hint = "let it end, then try again; nothing was touched"


class RemoteError(MeshlabError):
    """An object store that is no use as it is."""

    default_hint = "the local store is untouched; see docs/remote.md"


class RemoteRefused(RemoteError):
    """The object store said no: asking again does not help."""

    default_hint = "check the address of the bucket, the access keys and what they allow"


class RemoteUnavailable(RemoteError):
    """The object store did not answer, or asked to come back later."""

    default_hint = "check the network and the server, then run the same command again: it goes on where it was"


class RemoteDamaged(RemoteError):
    """Something in the bucket is missing, or is not what was put there."""

    default_hint = "'meshlab sync windows' tells what else can be restored; push from a sound copy to another prefix"


class InternalError(MeshlabError):
    """An invariant of meshlab does not hold; the result was withheld."""

    default_hint = "this is a defect in meshlab: please report it with the file named here"


@contextmanager
def storage_errors(action: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an ``OSError`` inside the block into a ``StorageError`` that names the path.

    >>> with storage_errors("read", "/nowhere/x"):  # doctest: +IGNORE_EXCEPTION_DETAIL
    ...     open("/nowhere/x")
    Traceback (most recent call last):
    meshlab.errors.NotFound: cannot read /nowhere/x: No such file or directory
    """
    try:
        yield
    except MeshlabError:
        raise
    except OSError as error:
        kind: type[MeshlabError] = NotFound if error.errno == errno.ENOENT else StorageError
        reason = error.strerror or str(error)
        raise kind(f"cannot {action} {os.fspath(path)}: {reason}", hint=_HINTS.get(error.errno or 0)) from error


_HINTS = {
    errno.ENOSPC: "the disk is full: free space, then reopen the store",
    errno.EDQUOT: "the quota is used up: free space, then reopen the store",
    errno.EROFS: "the file system is read-only: mount it for writing",
    errno.EACCES: "permission denied: check the owner and mode of the path",
    errno.EPERM: "permission denied: check the owner and mode of the path",
    errno.EISDIR: "a directory stands where a file should be: move it away",
    errno.ENOTDIR: "a file stands where a directory should be: move it away",
    errno.ELOOP: "a symbolic link stands where a file of the log should be: move it away",
    errno.EINVAL: "something else stands where a file should be: move it away",
    errno.EIO: "the device reports errors: check the disk before anything else",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
}
