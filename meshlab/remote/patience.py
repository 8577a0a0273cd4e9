"""Requests to a bucket: counted, and made again when that may help.

Every request may be made twice: a put of the same bytes under the same key, a get, a
list, a delete.  So whatever the bucket calls ``RemoteUnavailable`` is tried again, after
a wait that doubles and is drawn at random below its bound, so that many machines which
lost one server do not come back together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from random import Random
from typing import NamedTuple, TypeVar

from meshlab.errors import RemoteUnavailable
from meshlab.remote.bucket import PAGE, Bucket, Found

T = TypeVar("T")


class Patience(NamedTuple):
    """How often a request is made at most, and the bounds of the waits between (seconds)."""

    attempts: int = 6
    first: float = 0.25
    longest: float = 15.0

    def bound(self, failures: int) -> float:
        """The longest wait after so many failures in a row.

        >>> [Patience().bound(failures) for failures in (1, 2, 3, 20)]
        [0.25, 0.5, 1.0, 15.0]
        """
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 32))


PATIENT = Patience()
IMPATIENT = Patience(attempts=1)


class Traffic(NamedTuple):
    """What was asked of a bucket so far: requests by kind, those made again among them, and bytes of bodies."""

    puts: int = 0
    gets: int = 0
    lists: int = 0
    deletes: int = 0
    again: int = 0
    bytes_put: int = 0
    bytes_got: int = 0

    @property
    def requests(self) -> int:
        """All requests."""
        return self.puts + self.gets + self.lists + self.deletes

    def since(self, before: Traffic) -> Traffic:
        """What came after an earlier look."""
        return Traffic(*(now - then for now, then in zip(self, before, strict=True)))


class PatientBucket:
    """A bucket whose requests are counted and tried again.  ``stop`` ends all waits: what waits then fails."""

    def __init__(self, inner: Bucket, patience: Patience = PATIENT, *, seed: int | None = None) -> None:
        self.inner, self.patience, self.url = inner, patience, inner.url
        self._counts = dict.fromkeys(Traffic._fields, 0)
        self._mutex = threading.Lock()
        self._random = Random(seed)
        self._stopped = threading.Event()

    @property
    def traffic(self) -> Traffic:
        """What was asked so far."""
        with self._mutex:
            return Traffic(**self._counts)

    def stop(self) -> None:
        """Wait no more."""
        self._stopped.set()

    def put(self, key: str, data: bytes) -> None:
        """Put an object."""
        self._try("puts", lambda: self.inner.put(key, data))
        self._count(bytes_put=len(data))

    def get(self, key: str) -> bytes:
        """The bytes of an object.  Raises ``NotFound``."""
        data = self._try("gets", lambda: self.inner.get(key))
        self._count(bytes_got=len(data))
        return data

    def list(self, prefix: str) -> Iterator[Found]:
        """The objects below a prefix; a list that breaks off begins anew behind what it gave."""
        last, pages = "", None

        def page() -> list[Found]:
            nonlocal pages
            try:
                if pages is None:
                    pages = (found for found in self.inner.list(prefix) if found.key > last)
                return list(islice(pages, PAGE))
            except RemoteUnavailable:
                pages = None
                raise

        while found := self._try("lists", page):
            yield from found
            last = found[-1].key
            if len(found) < PAGE:
                return

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects."""
        rest = iter(keys)
        while doomed := list(islice(rest, PAGE)):
            self._try("deletes", lambda doomed=doomed: self.inner.delete(doomed))  # type: ignore[misc]

    def check(self) -> None:
        """Raise when the bucket cannot be used."""
        self._try("lists", self.inner.check)

    def _try(self, kind: str, request: Callable[[], T]) -> T:
        failures = 0
        while True:
            self._count(**{kind: 1})
            try:
                return request()
            except RemoteUnavailable:
                failures += 1
                if failures >= self.patience.attempts or self._stopped.wait(self._wait(failures)):
                    raise
                self._count(again=1)

    def _wait(self, failures: int) -> float:
        with self._mutex:
            return self._random.uniform(0.5, 1.0) * self.patience.bound(failures)

    def _count(self, **more: int) -> None:
        with self._mutex:
            for name, count in more.items():
                self._counts[name] += count
