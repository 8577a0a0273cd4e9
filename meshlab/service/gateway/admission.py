"""How much may wait: events and bytes in memory, and events per second of each user.

What is over a limit is refused before anything is done for it.  So memory is bounded
by the limits, however many clients there are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from typing import NamedTuple

from meshlab.service.gateway.refusals import Overloaded, TooFast

MIB = 1 << 20
_SHARE = 4
_USERS = 10_000
"""Users whose rate is remembered; who is forgotten has not been heard of the longest."""


class Limits(NamedTuple):
    """What an operator may set; sizes in bytes, times in seconds."""

    body: int = MIB
    """A body with one event, or a line of a batch."""
    batch: int = 8 * MIB
    lines: int = 10_000
    rate: float | None = 10_000.0
    """Events per second of one user; as many may come at once."""
    waiting: int = 10_000
    """Events admitted and not yet answered, a quarter of them of one user at most; of their bytes too."""
    waiting_bytes: int = 64 * MIB
    """Their bytes, and those of bodies that are being received and of answers that are being sent."""
    keys: int = 32_000_000
    """Keys whose places are kept in memory, half of them of one user at most."""
    connections: int = 1_000
    request: float = 30.0
    """From the first byte of a request to its last."""
    idle: float = 65.0
    """Between two requests of one connection."""
    drain: float = 20.0
    """For the requests at work when the gateway is told to end."""
    min_free: int = 64 * MIB
    """Free space under which the gateway says it is not ready."""


class Admission:
    """Counts what waits and how fast users come; for the event loop's thread only."""

    def __init__(self, limits: Limits, steady: Callable[[], float]) -> None:
        self.limits = limits
        self.events = 0
        self.nbytes = 0
        self._steady = steady
        self._waiting: dict[str, list[int]] = {}
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take_bytes(self, count: int) -> None:
        """Make room for bytes of a body.  Raises ``Overloaded``."""
        if self.nbytes + count > self.limits.waiting_bytes:
            raise Overloaded("the gateway holds as many bytes as it may", retry_after=1)
        self.nbytes += count

    def charge(self, count: int) -> None:
        """Hold bytes of an answer, which must be given: when there is no room others wait for it."""
        self.nbytes += count

    def give_bytes(self, count: int) -> None:
        """They are held no more."""
        self.nbytes -= count

    def enter(self, uid: str, nbytes: int) -> None:
        """Admit one event.  Raises ``TooFast``, ``Overloaded``."""
        limits = self.limits
        if self.events >= limits.waiting or self.nbytes + nbytes > limits.waiting_bytes:
            raise Overloaded("as many events wait to be written as may", retry_after=1)
        has = self._waiting.get(uid)
        if has is not None and (has[0] >= limits.waiting // _SHARE or has[1] + nbytes > limits.waiting_bytes // _SHARE):
            raise Overloaded("as many events of this user wait to be written as may", retry_after=1)
        if limits.rate is not None:
            self._take_turn(uid, limits.rate)
        if has is None:
            has = self._waiting[uid] = [0, 0]
        has[0] += 1
        has[1] += nbytes
        self.events += 1
        self.nbytes += nbytes

    def leave(self, uid: str, nbytes: int) -> None:
        """An admitted event is answered."""
        has = self._waiting[uid]
        has[0] -= 1
        has[1] -= nbytes
        if not has[0]:
            del self._waiting[uid]
        self.events -= 1
        self.nbytes -= nbytes

    def _take_turn(self, uid: str, rate: float) -> None:
        bucket = self._buckets.get(uid)
        now = self._steady()
        if bucket is None:
            bucket = self._buckets[uid] = _Bucket(rate, now)
            if len(self._buckets) > _USERS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(uid)
        wait = bucket.take(now)
        if wait:
            raise TooFast(f"more than {rate:g} events per second for this user", retry_after=ceil(wait))


class _Bucket:
    """Fills at a rate up to what comes in a second (one at least); an event takes one."""

    __slots__ = ("_at", "_full", "_level", "_rate")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._full = self._level = max(rate, 1.0)
        self._at = now

    def take(self, now: float) -> float:
        """Zero, and one is taken; or the seconds until there is one."""
        self._level = min(self._full, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level < 1.0:
            return (1.0 - self._level) / self._rate
        self._level -= 1.0
        return 0.0
