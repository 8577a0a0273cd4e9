"""The front door: one store and one bucket.

>>> import tempfile
>>> from meshlab.remote.bucket import MemoryBucket
>>> from meshlab.store import open
>>> bucket = MemoryBucket()
>>> store, copy = open(tempfile.mkdtemp()), open(tempfile.mkdtemp())
>>> _ = store["ann"].append({"Insert": {"id": "m1", "amplitude": 0.5}})
>>> [user.status for user in Remote(store.path, bucket).push(progress=False).users]
['pushed']
>>> [user.status for user in Remote(copy.path, bucket).pull(progress=False).users]
['pulled']
>>> copy["ann"].state(progress=False).to_pylist()
[{'id': 'm1', 'amplitude': 0.5}]
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec

from meshlab.bars import progress_bar
from meshlab.errors import RemoteRefused, storage_errors
from meshlab.plan import Lsn, moment_of
from meshlab.remote.bucket import Bucket, FolderBucket
from meshlab.remote.image import MARKS
from meshlab.remote.line import NONE, Images, Listed, list_images
from meshlab.remote.notes import Notes, machine_id
from meshlab.remote.patience import PATIENT, Patience, PatientBucket, Traffic
from meshlab.remote.prove import ProvedUser, Prover
from meshlab.remote.pull import PulledUser, Puller
from meshlab.remote.push import PushedUser, Pusher
from meshlab.remote.retention import Keeper, RetainedUser
from meshlab.remote.status import StandingUser, Watcher
from meshlab.remote.transfer import Lanes, in_turn
from meshlab.remote.windows import RemoteWindow, windows
from meshlab.tables.load import Moment
from meshlab.wal.files import REAL_FILES, Files
from meshlab.wal.paths import check_uid, existing_user, listed_uids, user_ids
from meshlab.wal.writer import sync_names, wall_clock

U = TypeVar("U")

_MARK = re.compile(r"[0-9a-f]{16}", re.ASCII)
"""What a mark is; it becomes the name of a directory here."""

_MANY = 100
"""Users without a note from which on all images are listed at once instead of one user at a time."""


class Report(msgspec.Struct, Generic[U], frozen=True, kw_only=True):
    """What was done, user by user, and what it asked of the bucket.

    ``foreign`` counts objects among the images that no push puts, as far as all were listed.
    """

    url: str
    users: list[U]
    traffic: Traffic
    seconds: float
    dry_run: bool = False
    foreign: int = 0


def open_bucket(url: str) -> Bucket:
    """The bucket at an address: ``s3://BUCKET/PREFIX``, ``file:///DIRECTORY``, or the path of a directory.

    Nothing is asked of it yet.  Raises ``RemoteRefused`` for an address of another kind.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3":
        from meshlab.remote.s3 import S3Bucket

        return S3Bucket(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return FolderBucket(Path(unquote(parts.path)))
    if parts.scheme or not url:
        raise RemoteRefused(
            f"{url!r} is no address of a bucket", hint="write s3://BUCKET/PREFIX, file:///DIRECTORY or a path"
        )
    return FolderBucket(Path(url))


class Remote:
    """A bucket, for the users of one store.  Opening asks nothing of it."""

    def __init__(
        self,
        store: str | os.PathLike[str],
        bucket: Bucket | str,
        *,
        patience: Patience = PATIENT,
        files: Files = REAL_FILES,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self.store = Path(store).absolute()
        self.bucket = PatientBucket(open_bucket(bucket) if isinstance(bucket, str) else bucket, patience)
        self.url = self.bucket.url
        self._files, self._clock = files, clock
        self._mark = ""
        self._foreign = 0

    def users(self) -> list[str]:
        """The uids in the bucket, sorted."""
        return sorted(self._all_images())

    def push(
        self,
        users: Iterable[str] | str | None = None,
        *,
        accept: Collection[str] = (),
        dry_run: bool = False,
        progress: bool = True,
        told: Callable[[PushedUser], object] = lambda user: None,
    ) -> Report[PushedUser]:
        """Put into the bucket what it has not of some users, or of all.

        ``accept`` names damage, as ``wal-20250707.log:1234``, that is to be pushed as it is.
        What goes wrong with one user is in the report and stops no other; what is wrong
        with the bucket as a whole is raised: ``RemoteRefused``, ``RemoteUnavailable``.
        """
        uids = user_ids(self.store) if users is None else listed_uids(users)
        roots = {uid: existing_user(self.store, uid) for uid in uids}
        with self._reported(dry_run) as told_of, Lanes() as lanes, progress_bar("push", shown=progress) as bar:
            if roots and not dry_run:
                with storage_errors("sync", self.store):
                    sync_names(next(iter(roots.values())), self._files)  # the names of all users stand in one directory
            notes = Notes(self.store, self.mark(make=not dry_run) or "none")
            pusher = Pusher(
                self.bucket,
                notes,
                lanes,
                "" if dry_run else machine_id(self.store),
                accept=accept,
                dry_run=dry_run,
                files=self._files,
                clock=self._clock,
                progress=bar.update,
                listed=self._listed_at_once(notes, uids),
            )
            for done in in_turn(lambda pair: pusher.push(pair[1], pair[0]), roots.items()):
                told(done)
                told_of.append(done)
        return self._report(told_of)

    def pull(
        self,
        users: Iterable[str] | str | None = None,
        *,
        at: Moment | Lsn | None = None,
        image: str | None = None,
        force: bool = False,
        dry_run: bool = False,
        progress: bool = True,
    ) -> Report[PulledUser]:
        """Restore some users of the bucket, or all, into the store, where they must not be yet.

        ``at`` is a time, inclusive, or the place of an event (``20250707:1234``); None is
        the newest push.  ``image`` names one by the beginning of its SHA-256.  ``force``
        moves a user who is there aside.  What goes wrong with one user is in the report.
        """
        moment = moment_of(at)
        with self._reported(dry_run) as told_of, Lanes() as lanes, progress_bar("pull", shown=progress) as bar:
            listed = self._all_images() if users is None else {}
            puller = Puller(
                self.bucket,
                self.store,
                lanes,
                at=moment,
                image=image,
                force=force,
                dry_run=dry_run,
                files=self._files,
                progress=bar.update,
                listed=listed,
            )
            told_of += in_turn(puller.pull, sorted(listed) if users is None else listed_uids(users))
        return self._report(told_of)

    def prove(
        self, users: Iterable[str] | str | None = None, *, image: str | None = None, progress: bool = True
    ) -> Report[ProvedUser]:
        """Restore some users of the bucket, or all, to scratch, replay them, and compare; see ``ProvedUser``."""
        with self._reported(False) as told_of, Lanes() as lanes, progress_bar("prove", shown=progress) as bar:
            listed = self._all_images() if users is None else {}
            puller = Puller(
                self.bucket, self.store, lanes, image=image, files=self._files, progress=bar.update, listed=listed
            )
            prover = Prover(puller, self._notes(), clock=self._clock)
            told_of += map(prover.prove, sorted(listed) if users is None else listed_uids(users))
        return self._report(told_of)

    def status(self, users: Iterable[str] | str | None = None) -> Report[StandingUser]:
        """How some users stand in the bucket, or all who are there or in the store."""
        with self._reported(False) as told_of:
            listed = self._all_images()
            here = user_ids(self.store) if self.store.is_dir() else []
            uids = sorted({*listed, *here}) if users is None else listed_uids(users)
            watcher = Watcher(self.bucket, self.store, self._notes(), clock=self._clock)
            told_of += in_turn(lambda uid: watcher.standing(uid, listed.get(uid, NONE)), uids)
        return self._report(told_of)

    def windows(self, uid: str) -> list[RemoteWindow]:
        """What can be restored of a user from the bucket alone, and why there are holes.  Raises ``NotFound``."""
        return windows(self.bucket, check_uid(uid))

    def retain(
        self, users: Iterable[str] | str | None = None, *, days: int | None = None, apply: bool = False
    ) -> Report[RetainedUser]:
        """Say what no moment of the last days needs in the bucket, and with ``apply`` delete it.

        ``days`` is the retention of each user unless it is given.
        """
        with self._reported(not apply) as told_of:
            uids = self.users() if users is None else listed_uids(users)
            told_of += map(Keeper(self.bucket, days=days, apply=apply, clock=self._clock).retain, uids)
        return self._report(told_of)

    def mark(self, *, make: bool = False) -> str:
        """What tells this bucket from any other; empty when nobody has pushed into it.  One request, or two."""
        found = self._first_mark()
        if not found and make:
            name = secrets.token_hex(8)
            self.bucket.put(f"{MARKS}/{name}", f"meshlab {name}\n".encode())
            found = self._first_mark()  # another machine may have been as quick
        return found

    def _first_mark(self) -> str:
        found = (one.key.partition("/")[2] for one in self.bucket.list(f"{MARKS}/"))
        return next((mark for mark in found if _MARK.fullmatch(mark)), "")

    def _notes(self) -> Notes | None:
        mark = self.mark() if self.store.is_dir() else ""
        return Notes(self.store, mark) if mark else None

    def _listed_at_once(self, notes: Notes, uids: list[str]) -> dict[str, Images] | None:
        unknown = sum(notes.note(uid) is None for uid in uids)
        return list_images(self.bucket) if unknown >= _MANY else None

    def _all_images(self) -> Listed:
        listed = list_images(self.bucket)
        self._foreign = listed.foreign
        return listed

    @contextmanager
    def _reported(self, dry_run: bool) -> Iterator[list[Any]]:
        self._began, self._before, self._dry_run = time.monotonic(), self.bucket.traffic, dry_run
        self._foreign = 0
        yield []

    def _report(self, users: list[Any]) -> Report[Any]:
        return Report(
            url=self.url,
            users=users,
            traffic=self.bucket.traffic.since(self._before),
            seconds=time.monotonic() - self._began,
            dry_run=self._dry_run,
            foreign=self._foreign,
        )

    def __repr__(self) -> str:
        return f"<Remote {self.url} of {self.store}>"
