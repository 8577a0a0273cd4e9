"""A store: a directory of users, and what can be asked of all of them.

>>> import tempfile
>>> store = open(tempfile.mkdtemp())
>>> store["ann"].append({"Insert": {"id": "m1", "amplitude": 0.5}}).last_seq
1
>>> store.users()
['ann']
>>> store["ann"].state().to_pylist()
[{'id': 'm1', 'amplitude': 0.5}]
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshlab.errors import SnapshotError, StorageError
from meshlab.markup import SHOWN, headline, table
from meshlab.store.user import UserStore, log_size
from meshlab.wal import paths
from meshlab.wal.files import REAL_FILES, Files
from meshlab.wal.writer import Durability, Writer
from meshlab.wording import counted, size_text

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from meshlab.fleet.fleet import Fleet
    from meshlab.growth.growth import Growth
    from meshlab.remote.remote import Remote
    from meshlab.tables.events import Events
    from meshlab.tables.load import Log, Moment
    from meshlab.tables.sql import Result


class Store:
    """A directory of users.  Opening touches nothing; the first append creates it.

    Closing lets go of the files; a store that was closed may be used again, which also
    is how to go on after ``WalPoisoned``.

    >>> import tempfile
    >>> with Store(tempfile.mkdtemp(), durability="os") as store:
    ...     _ = store["ann"].append({"Delete": "m0"})
    ...     "ann" in store, "bob" in store, len(store)
    (True, False, 1)
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        durability: Durability = "commit",
        files: Files = REAL_FILES,
    ) -> None:
        self.path = paths.store_root(path).absolute()
        self.durability = durability
        self._files = files
        self._writers: dict[str, Writer] = {}
        self._mutex = threading.Lock()

    def users(self) -> list[str]:
        """The uids in the store, sorted.  Raises ``NotFound`` when there is no store.

        >>> import meshlab, tempfile
        >>> store = meshlab.open(tempfile.mkdtemp())
        >>> _ = store["ann"].append({"Insert": {"id": "m1", "amplitude": 0.5}})
        >>> store.users()
        ['ann']
        """
        return paths.user_ids(self.path)

    def __getitem__(self, uid: str) -> UserStore:
        """One user, who need not exist yet.  Raises ``BadUserId``."""
        return UserStore(self, paths.check_uid(uid))

    def __contains__(self, uid: object) -> bool:
        return isinstance(uid, str) and self.path.is_dir() and uid in self.users()

    def __iter__(self) -> Iterator[str]:
        return iter(self.users())

    def __len__(self) -> int:
        return len(self.users())

    def events(
        self,
        users: Iterable[str] | str | None = None,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        ops: Collection[str] | str | None = None,
        ids: Collection[str] | str | None = None,
        columns: Iterable[str] | None = None,
        progress: bool = True,
    ) -> Events:
        """The events of some users (all when none is named), as one Arrow-native result.

        ``since`` and ``until`` (a datetime, RFC 3339 text or µs since 1970) bound the
        effective time, inclusive; ``ops`` and ``ids`` choose rows, ``columns`` columns.

        >>> import meshlab, tempfile
        >>> store = meshlab.open(tempfile.mkdtemp())
        >>> _ = store["ann"].append({"Insert": {"id": "m1", "amplitude": 0.5}})
        >>> events = store.events(ops="insert", columns=("uid", "id", "amplitude"))
        >>> events.to_pylist(), events.rejects.num_rows
        ([{'uid': 'ann', 'id': 'm1', 'amplitude': 0.5}], 0)
        """
        from meshlab.tables.events import load_users

        return load_users(
            self._logs(users), since=since, until=until, ops=ops, ids=ids, columns=columns, progress=progress
        )

    def sql(self, query: str, *, users: Iterable[str] | str | None = None, progress: bool = True) -> Result:
        """A DuckDB query over the tables ``events``, ``rejects`` and ``segments``.

        Only columns the query reads are loaded.  The query is one statement and can read
        nothing but these tables.

        >>> import meshlab, tempfile
        >>> store = meshlab.open(tempfile.mkdtemp())
        >>> _ = store["ann"].append({"Insert": {"id": "m1", "amplitude": 0.5}})
        >>> store.sql("select op, count(*) as n from events group by op").to_arrow().to_pylist()
        [{'op': 'insert', 'n': 1}]
        """
        from meshlab.tables.sql import query as run

        return run(self._logs(users), query, progress=progress)

    def growth(
        self, users: Iterable[str] | str | None = None, *, executor: Executor | None = None, progress: bool = True
    ) -> Growth:
        """What the logs are full of, why, until when, and which checkpoint policy to set.

        Nothing is read yet.  ``executor`` is anything with the ``map`` of
        ``concurrent.futures``: users are read side by side.

        >>> import meshlab, tempfile
        >>> store = meshlab.open(tempfile.mkdtemp())
        >>> _ = store["ann"].append({"Insert": {"id": "m1", "amplitude": 0.5}})
        >>> store.growth().by("user").to_arrow()["key"].to_pylist()
        ['ann']
        """
        from meshlab.growth.growth import Growth

        return Growth(self._logs(users), executor=executor, progress=progress)

    def remote(self, url: str) -> Remote:
        """A bucket to push this store to and to pull users from: ``s3://BUCKET/PREFIX``, ``file:///DIRECTORY``.

        Asks nothing of it yet.  Raises ``RemoteRefused`` for an address of another kind.

        >>> import meshlab, tempfile
        >>> store = meshlab.open(tempfile.mkdtemp())
        >>> _ = store["ann"].append({"Insert": {"id": "m1", "amplitude": 0.5}})
        >>> remote = store.remote(tempfile.mkdtemp())
        >>> [user.status for user in remote.push(progress=False).users]
        ['pushed']
        """
        from meshlab.remote.remote import Remote

        return Remote(self.path, url)

    def fleet(self, executor: Any = None, *, progress: bool = True) -> Fleet:
        """Many users at once: jobs that run in processes, over any executor, or on a Dask cluster.

        ``executor`` is a number of processes (None: one for each core), anything with the
        ``submit`` of ``concurrent.futures``, or a Dask ``Client``, whose workers must see
        the store under the same path.  Nothing is started yet.

        >>> import meshlab, tempfile
        >>> store = meshlab.open(tempfile.mkdtemp())
        >>> _ = store["ann"].append({"Insert": {"id": "m1", "amplitude": 0.5}})
        >>> store.fleet(1, progress=False).stats().to_arrow()["events"].to_pylist()
        [1]
        """
        from meshlab.fleet.fleet import Fleet

        return Fleet(self.path, executor, progress=progress)

    def close(self) -> None:
        """Close all files this store appends to.

        >>> import meshlab
        >>> meshlab.open("mesh_store").close()
        """
        with self._mutex:
            for writer in self._writers.values():
                writer.close()
            self._writers.clear()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Store {self.path}: {self._summary()}>"

    def _repr_html_(self) -> str:
        uids = self.users() if self.path.is_dir() else []
        rows = [[uid, self[uid]._summary(), size_text(log_size(self[uid].root))] for uid in uids[:SHOWN]]
        return headline("Store", str(self.path), self._summary()) + table(("uid", "log", "bytes"), rows, len(uids))

    def _summary(self) -> str:
        return counted(len(self), "user") if self.path.is_dir() else "not created yet"

    def _logs(self, users: Iterable[str] | str | None) -> list[Log]:
        """The logs of the users named, of all when none is."""
        from meshlab.timeline import log_of

        uids = self.users() if users is None else [users] if isinstance(users, str) else users
        return [log_of(paths.existing_user(self.path, uid), uid) for uid in uids]

    def _close_writer(self, uid: str) -> None:
        with self._mutex:
            writer = self._writers.pop(uid, None)
        if writer is not None:
            writer.close()

    def _writer(self, uid: str) -> Writer:
        """The one writer of a user in this store: threads that share it share its syncs."""
        writer = self._writers.get(uid)
        if writer is None:
            with self._mutex:
                writer = self._writers.get(uid)
                if writer is None:
                    root = paths.user_root(self.path, uid)
                    writer = Writer(
                        root,
                        durability=self.durability,
                        files=self._files,
                        least_seq=lambda: _folded_seq(root, uid),
                    )
                    self._writers[uid] = writer
        return writer


def open(store: str | os.PathLike[str] | None = None, *, durability: Durability = "commit") -> Store:
    """Open a store: the one named, else ``$MESH_STORE``, else ``./mesh_store``.

    Touches nothing: reading a store or user that is not there is an error, the first
    append creates both.

    >>> import tempfile
    >>> store = open(tempfile.mkdtemp())
    >>> store["ann"].append({"Insert": {"id": "m1"}}).last_seq
    1
    """
    return Store(store, durability=durability)


def _folded_seq(root: Path, uid: str) -> int:
    """The last seq that a checkpoint has folded: its segment may have been lost since."""
    if not (root / paths.SNAPSHOT).exists():
        return 0
    from meshlab.snapshot.manifest import Manifest, current

    try:
        found = current(root, uid)
    except (SnapshotError, StorageError):
        return 0
    return found.seq if isinstance(found, Manifest) else 0
